"""BD-Merging: a router that learns from where the evidence on neighbouring images disagrees."""

import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import METHODS, Checkpoints, Paper
from methods.bd_config import BDConfig
from methods.bd_routed import BDRouted
from methods.bd_stages import Merged, Step, stage_one, stage_two, step
from methods.coefficients import entropy
from methods.support import Adaptation, Needs, Support


@METHODS.register("bd_merging")
class BDMerging(BDRouted):
    """theta^l(x) = theta_0^l + sum_k w_k^l(x) tau_k^l, w^l(x) = softmax(MLP(tokens of f_0(x))).

    First a head learns evidence for the classes of all tasks from features of theta_0. Then the
    router learns: predictions shall be sure, and the merged features of neighbours close where
    their evidence agrees and apart where it does not. No code is public: this is a reconstruction,
    and what had to be chosen is a setting (see ``BDConfig``).
    """

    title = "BD-Merging (reimpl.)"
    paper = Paper("xie2026bd", "2603.03920", "reconstructed from public notes on it", 2026)
    needs = Needs.IMAGES
    lone_expert_at = {}

    @dataclass(frozen=True, kw_only=True)
    class Config(BDConfig):
        """Weights for each group of layers."""

    @property
    def adaptation(self) -> Adaptation | None:
        return Adaptation(self.cfg.steps, self.cfg.batch) if self.cfg.router else None

    def learn(self, ckpts: Checkpoints, support: Support) -> None:
        found = self.look_at_all(support.images)
        unit = {task: F.normalize(features, dim=-1) for task, features in found.items()}
        self.curves, report = stage_one(self.learned, unit, self.cfg, self.generator)
        for problem in report["problems"]:
            warnings.warn(f"{self.name}: {problem}", stacklevel=2)
        self.report, self.last = report, deque[Step](maxlen=10)

    def losses(self, images: Mapping[str, Tensor]) -> Step:
        """One batch of every task: once through theta_0, once through the mixed experts."""
        tasks, counts = sorted(images), [len(images[task]) for task in sorted(images)]
        every = torch.cat([images[task] for task in tasks])
        numbers = [
            self.order.index(t) for t, n in zip(tasks, counts, strict=True) for _ in range(n)
        ]
        number = torch.tensor(numbers, device=every.device)
        seen = self.see(every)
        weights = self.learned.shares(seen.tokens)
        mixed = self.held_back(weights, seen)[..., : self.mixer.num_routes]  # "null" is the last
        own = F.one_hot(number, self.mixer.num_routes).to(mixed)
        features = self.mixer(every, mixed, own if self.cfg.others == "task" else None)
        if self.cfg.entropy_over == "joint":
            unsure = entropy(F.normalize(features, dim=-1) @ self.learned.head.rows.T)
        else:
            parts = zip(features.split(counts), tasks, strict=True)
            unsure = torch.cat([entropy(self.classify(part, task)) for part, task in parts])
        merged = Merged(weights, features, unsure.mean())
        return step(seen, merged, number, self.learned.epsilon, self.cfg)

    def adapt_loss(self, images: Mapping[str, Tensor]) -> Tensor:
        return self.losses(images).loss

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        found = self.losses(batch)
        self.last.append(Step(*(tensor.detach() for tensor in found)))
        self.log_dict(found.curves())
        return found.loss

    def on_fit_end(self) -> None:
        found = stage_two(self.learned, list(self.last), self.cfg)
        problems = [*self.report["problems"], *found["problems"]]
        self.report = self.report | found | {"problems": problems}
        del self.last

    def configure_optimizers(self) -> torch.optim.Optimizer:
        router = self.learned.router
        assert router is not None, "equal weights are not trained"
        return torch.optim.Adam(router.parameters(), self.cfg.lr)
