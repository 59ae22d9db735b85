"""Bayesian Model Merging: regression on what the experts compute, with an anchor as its prior."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor, float32

from bench.errors import UserError
from methods.base import METHODS, Checkpoints, Paper
from methods.bmm_base import Anchored
from methods.bmm_config import BMMConfig
from methods.bmm_merge import data_sums, solved_once, vector_sums
from methods.clock import Clock
from methods.matrices import Module
from methods.regression import EXACT, ROUNDED, Regression
from methods.support import Needs, Support
from methods.weights import Weights


@METHODS.register("bmm")
class BMM(Anchored):
    """M = W_A + [sum_t beta_t (W_t - W_A) G_t] (sum_t beta_t G_t + alpha I)^-1, G_t = X_t^T X_t.

    X_t are the inputs that expert t gives the module on unlabelled images of its own task, and W_A
    is another merged model, the anchor. Each group of modules has an alpha and an assembly scale,
    W = W_0 + s (M - W_0); both are searched on labelled validation images. No code is public: this
    is a reconstruction, and what had to be chosen is a setting (see ``BMMConfig``).
    """

    title = "BMM (reimpl.)"
    paper = Paper("li2026bayesian", "2605.12843", "reconstructed from public notes on it", 2026)
    lone_expert_at = {"anchor": "ta", "anchor_scale": 1.0, "trials": 0}
    drawn_as = "bmm"  # of all its variants: what differs between them is not luck

    @dataclass(frozen=True, kw_only=True)
    class Config(BMMConfig):
        """Grams of inputs."""

    cfg: BMMConfig

    @property
    def needs(self) -> Needs:
        images = Needs.IMAGES if self.cfg.sees_images else Needs.NOTHING
        return super().needs | images

    @property
    def fixed(self) -> dict[str, float]:
        return {"alpha": self.cfg.alpha, **super().fixed}

    def regressions(
        self,
        ckpts: Checkpoints,
        anchor: Mapping[str, Tensor],
        modules: Sequence[Module],
        support: Support,
        clock: Clock,
    ) -> list[Regression]:
        sums = []
        with clock("grams"):
            if self.cfg.sees_images:
                sums = data_sums(ckpts, anchor, modules, self.cfg, support.images, self.vit)
            else:
                for name, some in groupby(modules, lambda module: module.name):
                    sums += vector_sums(ckpts, anchor[name], list(some), self.cfg)
        found, noise = [], ROUNDED if self.cfg.sees_images else EXACT
        with clock("eigh"):
            while sums:  # one at a time: what has been decomposed is let go
                found.append(Regression.decompose(sums.pop(), noise).to(float32))
        return found[::-1]

    def unlearned(self, ckpts: Checkpoints, rest: Weights) -> Weights:
        if self.cfg.sees_images:
            raise UserError(f"{self.name} merges what it learned from images: build it first")
        return solved_once(ckpts, rest, self.cfg)
