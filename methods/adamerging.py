"""AdaMerging: learn the coefficients of the task vectors from unlabelled images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import METHODS, Checkpoints, MergingMethod, Needs, Paper
from methods.coefficients import BATCH, Coefficients, entropy, groups, stack
from methods.support import Adaptation, Support
from methods.vit import PlainOps, encode
from methods.weights import Held, Weights


@METHODS.register("adamerging")
class AdaMerging(MergingMethod):
    """theta^l = theta_0^l + sum_t lambda_t^l tau_t^l, lambda = argmin of the predictions' entropy.

    "Layer-wise" is one coefficient per task and parameter tensor, as in the authors' code. They
    learn from the test images; by default those of the adapt split are shown here.
    """

    title = "AdaMerging (layer-wise)"
    paper = Paper("yang2024adamerging", "2310.02575", "Sec. 3.2, layer-wise", 2024)
    needs = Needs.IMAGES
    lone_expert_at = {"init": 1.0, "lr": 0.0, "keep": 1.0}

    @dataclass(frozen=True, kw_only=True)
    class Config(MergingMethod.Config):
        """The defaults are those of the authors' code, preset ``original``."""

        granularity: Literal["layer", "block", "task"] = "layer"  # what shares a coefficient
        keep: Annotated[float, "(0, 1]"] = 1.0  # of tau_t, before signs are elected; 1: neither
        init: Annotated[float, "(-inf, inf)"] = 0.3  # lambda at the start
        lr: Annotated[float, "[0, inf)"] = 1e-3  # Adam's; betas 0.9 and 0.999
        steps: Annotated[int, "[1, inf)"] = 500
        batches: Annotated[int, "[1, inf)"] = 2  # of 16 images, of every task, in a step
        clamp: bool = True  # lambda to [0, 1] wherever it is used

        presets = {  # images are drawn anew for each step, which FusionBench's do not do
            "original": {"init": 0.3, "lr": 1e-3, "steps": 500, "batches": 2, "clamp": True},
            "fusionbench": {"init": 0.3, "lr": 1e-3, "steps": 1000, "batches": 1, "clamp": False},
        }

    learned: Coefficients

    @property
    def adaptation(self) -> Adaptation:
        return Adaptation(self.cfg.steps, BATCH * self.cfg.batches)

    @property
    def coefficients(self) -> dict[str, dict[str, float]]:
        return self.learned.table() if self.learned is not None else {}

    def prepare(self, ckpts: Checkpoints) -> None:
        self.learned = Coefficients(
            self.cfg.granularity, list(ckpts.base), list(ckpts.experts), ckpts.vit,
            init=self.cfg.init, clamp=self.cfg.clamp,
        )  # fmt: skip

    def merge(self, ckpts: Checkpoints) -> Weights:
        taus = stack(ckpts, self.learned.tasks, self.cfg.keep)
        return self.learned.merged(ckpts.base, taus, self.learned().detach())

    def learn(self, ckpts: Checkpoints, support: Support) -> None:
        self.automatic_optimization = False
        self.base = Held(ckpts.base)
        self.taus = Held(stack(ckpts, self.learned.tasks, self.cfg.keep))

    def encode(self, images: Tensor, model: Mapping[str, Tensor]) -> Tensor:
        """Unit features.  ``[B, 3, H, W] -> [B, D]``."""
        return F.normalize(encode(images, PlainOps(model), self.vit), dim=-1)

    def loss(self, images: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Tensor:
        """The mean entropy of a batch of 16, summed over batches and tasks. Scalar."""
        tasks, heads = sorted(images), self.heads()
        features = self.encode(torch.cat([images[task] for task in tasks]), model)
        parts = features.split([len(images[task]) for task in tasks])
        means = [entropy(x @ heads[t].T).mean() for t, x in zip(tasks, parts, strict=True)]
        return self.cfg.batches * torch.stack(means).sum()

    def adapt_loss(self, images: Mapping[str, Tensor]) -> Tensor:
        """The loss as a function of the coefficients, by autograd alone."""
        model = self.learned.merged(self.base(), self.taus(), self.learned())
        return self.loss(images, model.materialise())

    def descend(self, images: Mapping[str, Tensor]) -> Tensor:
        """``adapt_loss``, its gradient left in the coefficients; no graph through the merge.

        d loss / d lambda_t^l = <d loss / d theta^l, tau_t^l>: the gradients of all tasks gather in
        the merged weights, which are made once, and meet the task vectors once.
        """
        weights, taus = self.learned(), self.taus()
        model = self.learned.merged(self.base(), taus, weights.detach())
        leaves = {name: leaf.requires_grad_() for name, leaf in model.items()}
        total = weights.new_zeros(())
        for some in groups(images):
            loss = self.loss(some, leaves)
            loss.backward()
            total += loss.detach()
        weights.backward(self.learned.contract(leaves, taus))
        return total

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        optimizer: Any = self.optimizers()  # one, which Lightning has wrapped
        optimizer.zero_grad()
        curves = self.learned.means()
        curves["loss"] = self.descend(batch)
        optimizer.step()
        self.log_dict(curves)
        return curves["loss"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.learned.parameters(), lr=self.cfg.lr)

    def on_fit_end(self) -> None:
        del self.base, self.taus
