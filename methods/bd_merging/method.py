"""BD-Merging: a router that learns from where the evidence on neighbouring images disagrees.

With weights for each group of layers, or one for each task and image.
"""

import warnings
from collections import deque
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import METHODS, AdaptationSchedule, Checkpoints, DataAccess, Needs, Paper
from methods.bd_merging.config import BDConfig
from methods.bd_merging.discrepancy import mean_over
from methods.bd_merging.router import (
    BaseOutputs,
    Learned,
    TokenRouter,
    adjacency,
    encode_base,
    gated,
    new_head,
)
from methods.bd_merging.training import (
    MergedOutputs,
    RouterLosses,
    learn_head,
    router_loss,
    summarise_router,
)
from methods.common.losses import entropy
from methods.common.vit import num_groups
from methods.routing.method import NULL, RoutedMethod


class BDRouted(RoutedMethod):
    """A routed method with an evidential head on theta_0, and a router on its last tokens."""

    learned: Learned

    @property
    def stores(self) -> str:
        router = ", a router" if self.cfg.router else ""
        return super().stores.replace(" and a router", f"{router} and an evidential head")

    @property
    def coefficients(self) -> dict[str, dict[str, float]]:
        """Mean weights at the end of the training."""
        if self.learned is None or self.learned.router is None:
            return {}
        return self.learned.table(self.vit, self.routes)

    @property
    def groups(self) -> int:
        """Groups of layers with weights of their own; 0 if all share theirs."""
        return num_groups(self.vit) if self.cfg.granularity == "layer" else 0

    def new_router(self) -> nn.Module | None:
        if not self.cfg.router:
            return None
        return TokenRouter(self.vit.width, len(self.order), self.groups, self.cfg)

    def prepare(self, ckpts: Checkpoints) -> None:
        super().prepare(ckpts)  # which makes the router
        head = new_head(ckpts, self.cfg)
        self.learned = Learned(head, self.learned, self.groups, self.order)
        if self.cfg.gate and not self.cfg.null_route:  # what the gate holds back goes there
            self.routes, self.order = [*self.routes, NULL], [*self.order, NULL]

    def encode_base(self, images: Tensor) -> BaseOutputs:
        """One pass through theta_0 and the head."""
        return encode_base(images, self.router_encoder(), self.vit, self.learned.head)

    def route(self, images: Tensor, task: str) -> Tensor:
        seen = self.encode_base(images)
        weights = self.apply_gate(self.learned.shares(seen.tokens), seen)
        return weights[..., [self.order.index(name) for name in self.routes]]

    def apply_gate(self, weights: Tensor, seen: BaseOutputs) -> Tensor:
        """What the router gave, less what the gate keeps; both in the order of ``order``."""
        return gated(weights, seen.opinion, self.cfg.null_route) if self.cfg.gate else weights

    @torch.no_grad()
    def uncertainty(self, images: Tensor) -> Tensor:
        """u, the share of belief that no class got.  ``[B, 3, H, W] -> [B]``."""
        return self.encode_base(images).opinion.uncertainty

    @torch.no_grad()
    def discrepancy(self, images: Tensor) -> Tensor:
        """Mean discrepancy from the neighbours within the batch.  ``[B, 3, H, W] -> [B]``."""
        seen, cfg = self.encode_base(images), self.cfg
        assert isinstance(cfg, BDConfig)
        near, d = adjacency(seen.unit, seen.opinion, cfg)
        return mean_over(d, near)


@METHODS.register("bd_merging")
class BDMerging(BDRouted):
    """theta^l(x) = theta_0^l + sum_k w_k^l(x) tau_k^l, w^l(x) = softmax(MLP(tokens of f_0(x))).

    First a head learns evidence for the classes of all tasks from features of theta_0. Then the
    router learns: predictions shall be sure, and the merged features of neighbours close where
    their evidence agrees and apart where it does not. No code is public: this is a reconstruction,
    and what had to be chosen is a setting (see ``BDConfig``).
    """

    title = "BD-Merging (reimpl.)"
    paper = Paper(
        key="xie2026bd",
        arxiv="2603.03920",
        where="reconstructed from public notes on it",
        year=2026,
        title="{BD-Merging}: Bias-Aware Dynamic Model Merging with Evidence-Guided Contrastive "
        "Learning",
        authors="Xie, Yuhan and Lyu, Chen",
        venue="{IEEE/CVF} Conference on Computer Vision and Pattern Recognition",
    )
    needs = Needs.IMAGES
    identity_config = {}
    quick_config = {"head_steps": 10}

    class Config(BDConfig):
        """Weights for each group of layers."""

    @property
    def adaptation(self) -> AdaptationSchedule | None:
        return AdaptationSchedule(self.cfg.steps, self.cfg.batch) if self.cfg.router else None

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        found = self.collect_router_features(access.unlabeled)
        unit = {task: F.normalize(features, dim=-1) for task, features in found.items()}
        self.curves, report = learn_head(self.learned, unit, self.cfg, self.generator)
        for problem in report["problems"]:
            warnings.warn(f"{self.name}: {problem}", stacklevel=2)
        self.report, self.last = report, deque[RouterLosses](maxlen=10)

    def losses(self, images: Mapping[str, Tensor]) -> RouterLosses:
        """One batch of every task: once through theta_0, once through the mixed experts."""
        tasks, counts = sorted(images), [len(images[task]) for task in sorted(images)]
        every = torch.cat([images[task] for task in tasks])
        numbers = [
            self.order.index(t) for t, n in zip(tasks, counts, strict=True) for _ in range(n)
        ]
        number = torch.tensor(numbers, device=every.device)
        seen = self.encode_base(every)
        weights = self.learned.shares(seen.tokens)
        mixed = self.apply_gate(weights, seen)[..., : self.mixer.num_routes]  # "null" is the last
        own = F.one_hot(number, self.mixer.num_routes).to(mixed)
        features = self.mixer(every, mixed, own if self.cfg.others == "task" else None)
        if self.cfg.entropy_over == "joint":
            unsure = entropy(F.normalize(features, dim=-1) @ self.learned.head.rows.T)
        else:
            parts = zip(features.split(counts), tasks, strict=True)
            unsure = torch.cat([entropy(self.classify(part, task)) for part, task in parts])
        merged = MergedOutputs(weights, features, unsure.mean())
        return router_loss(seen, merged, number, self.learned.epsilon, self.cfg)

    def adapt_loss(self, images: Mapping[str, Tensor]) -> Tensor:
        return self.losses(images).loss

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        found = self.losses(batch)
        self.last.append(RouterLosses(*(tensor.detach() for tensor in found)))
        self.log_dict(found.curves())
        return found.loss

    def on_fit_end(self) -> None:
        found = summarise_router(self.learned, list(self.last), self.cfg)
        problems = [*self.report["problems"], *found["problems"]]
        self.report = self.report | found | {"problems": problems}
        del self.last

    def configure_optimizers(self) -> torch.optim.Optimizer:
        router = self.learned.router
        assert router is not None, "equal weights are not trained"
        return torch.optim.Adam(router.parameters(), self.cfg.lr)


@METHODS.register("bd_merging_task")
class BDMergingTask(BDMerging):
    """theta(x) = theta_0 + sum_k w_k(x) tau_k, w(x) = softmax(MLP(tokens of f_0(x)))."""

    title = "BD-Merging, task-wise (reimpl.)"

    class Config(BDMerging.Config):
        """Weights for all layers at once."""

        granularity: Literal["layer", "task"] = "task"
