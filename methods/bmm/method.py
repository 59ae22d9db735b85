"""Bayesian Model Merging: regression on what the experts compute, with an anchor as its prior.

With Grams of calibration images, of task vectors in their place (data-free), or of both (hybrid).
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Literal

from torch import Tensor, float32

from mergeshift import UserError
from methods.base import METHODS, Checkpoints, DataAccess, Needs, Paper, Weights
from methods.bmm.base import AnchoredMethod
from methods.bmm.config import BMMConfig
from methods.bmm.inner import data_sums, solved_once, vector_sums
from methods.common.linear_layers import LinearLayer
from methods.common.regression import EXACT, ROUNDED, MatrixNormalPosterior
from methods.common.timer import Timer


@METHODS.register("bmm")
class BMM(AnchoredMethod):
    """M = W_A + [sum_t beta_t (W_t - W_A) G_t] (sum_t beta_t G_t + alpha I)^-1, G_t = X_t^T X_t.

    X_t are the inputs that expert t gives the module on unlabelled images of its own task, and W_A
    is another merged model, the anchor. Each group of modules has an alpha and an assembly scale,
    W = W_0 + s (M - W_0); both are searched on labelled validation images. No code is public: this
    is a reconstruction, and what had to be chosen is a setting (see ``BMMConfig``).
    """

    title = "BMM (reimpl.)"
    version = 2  # images are drawn by the seed
    paper = Paper(
        key="li2026bayesian",
        arxiv="2605.12843",
        where="reconstructed from public notes on it",
        year=2026,
        title="Bayesian Model Merging",
        authors="Li, Kaiyang and Han, Shaobo and Su, Qing and Ji, Shihao",
    )
    identity_config = {"anchor": "ta", "anchor_scale": 1.0, "trials": 0}
    quick_config = {"trials": 4, "startup": 2}
    trial_seed_key = "bmm"  # of all its variants: what differs between them is not luck

    class Config(BMMConfig):
        """Grams of inputs."""

    cfg: BMMConfig

    @property
    def needs(self) -> Needs:
        images = Needs.IMAGES if self.cfg.sees_images else Needs.NOTHING
        return super().needs | images

    @property
    def default_hyperparameters(self) -> dict[str, float]:
        return {"alpha": self.cfg.alpha, **super().default_hyperparameters}

    def regressions(
        self,
        ckpts: Checkpoints,
        anchor: Mapping[str, Tensor],
        modules: Sequence[LinearLayer],
        access: DataAccess,
        clock: Timer,
    ) -> list[MatrixNormalPosterior]:
        sums = []
        with clock("grams"):
            if self.cfg.sees_images:
                sums = data_sums(ckpts, anchor, modules, self.cfg, access.unlabeled, self.vit)
            else:
                for name, some in groupby(modules, lambda module: module.name):
                    sums += vector_sums(ckpts, anchor[name], list(some), self.cfg)
        found, noise = [], ROUNDED if self.cfg.sees_images else EXACT
        with clock("eigh"):
            while sums:  # one at a time: what has been decomposed is let go
                found.append(MatrixNormalPosterior.decompose(sums.pop(), noise).to(float32))
        return found[::-1]

    def merge_without_data(self, ckpts: Checkpoints, rest: Weights) -> Weights:
        if self.cfg.sees_images:
            raise UserError(f"{self.name} merges what it learned from images: build it first")
        return solved_once(ckpts, rest, self.cfg)


@METHODS.register("bmm_datafree")
class BMMDataFree(BMM):
    """M = W_A + [sum_t beta_t (W_t - W_A) G_t] (sum_t beta_t G_t + alpha I)^-1, G = tau^T tau.

    With ``trials`` = 0 it needs nothing but weights, and merges them tensor by tensor.
    """

    title = "BMM, data-free (reimpl.)"
    version = 2  # trials drawn as those of bmm

    class Config(BMMConfig):
        """Grams of task vectors."""

        gram: Literal["data", "taskvector", "hybrid"] = "taskvector"


@METHODS.register("bmm_hybrid")
class BMMHybrid(BMM):
    """G_t = (1 - rho) X_t^T X_t / tr + rho tau_t^T tau_t / tr, and the rest as in BMM."""

    title = "BMM, hybrid (reimpl.)"
    version = 3  # images are drawn by the seed

    class Config(BMMConfig):
        """Grams of both."""

        gram: Literal["data", "taskvector", "hybrid"] = "hybrid"
