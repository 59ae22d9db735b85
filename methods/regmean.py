"""RegMean: weights whose outputs are nearest to those of every expert on its own inputs."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mergeshift import UserError
from methods.base import (
    METHODS,
    Checkpoints,
    DataAccess,
    MergingMethod,
    Needs,
    Paper,
    Setting,
    TensorBuffers,
    Weights,
    mean,
)
from methods.common.linear_layers import LinearLayer, modules_of, with_layers
from methods.common.regression import SufficientStatistics, image_grams

NOISE = torch.finfo(torch.float32).eps  # of the products that Grams are added up from


@METHODS.register("regmean")
class RegMean(MergingMethod):
    """W = [sum_t W_t G_t] [sum_t G_t]^-1, G_t = shrink(X_t^T X_t / tokens), X_t the inputs of W_t.

    For the linear weights of the residual blocks; all else is averaged. Expert t sees unlabelled
    images of task t, and shrinking multiplies what is off the diagonal. Directions in which no
    expert has an input, where the authors' inverse does not exist, keep the average. As q, k and v
    have the same input, taking them apart would change nothing.
    """

    title = "RegMean"
    version = 2  # images are drawn by the seed
    paper = Paper(
        key="jin2023regmean",
        arxiv="2212.09849",
        where="RegMean, for transformers",
        year=2023,
        title="Dataless Knowledge Fusion by Merging Weights of Language Models",
        authors="Jin, Xisen and Ren, Xiang and Preotiuc-Pietro, Daniel and Cheng, Pengxiang",
        venue="International Conference on Learning Representations",
    )
    needs = Needs.IMAGES
    identity_config = {}
    learned: TensorBuffers  # the merged matrices
    learns_weights = True

    class Config(MergingMethod.Config):
        """The defaults are FusionBench's for CLIP."""

        images: int = Setting(256, low=1)  # of each task, at most
        off_diagonal: float = Setting(  # what is off the diagonal, times this
            0.95, low=0, high=1,
            grid=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0),
        )  # fmt: skip

    def prepare(self, ckpts: Checkpoints) -> None:
        names = [module.name for module in modules_of(ckpts.base, split=False)]
        self.learned = TensorBuffers({name: torch.zeros(ckpts.base.shape(name)) for name in names})

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        modules, means = modules_of(ckpts.base, split=False), average(ckpts)
        sums = [SufficientStatistics.start(means[module.name]) for module in modules]
        for task in sorted(ckpts.experts):
            expert = TensorBuffers(ckpts.experts[task])()
            seen = image_grams(expert, access.unlabeled(task), self.vit, self.cfg.images)
            if not seen.images:
                raise UserError(f"{self.name} learns from images of every task; {task} has none")
            for module, one in zip(modules, sums, strict=True):
                one.add(
                    shrink(seen.grams[module.layer], self.cfg.off_diagonal), expert[module.name], 1
                )
        held = self.learned()
        for module, one in zip(modules, sums, strict=True):
            held[module.name].copy_(least_squares(one))

    def merge(self, ckpts: Checkpoints) -> Weights:
        held: Mapping[str, Tensor] = self.learned()

        def make(name: str, parts: list[LinearLayer]) -> Tensor:
            return held[name]

        return with_layers(average(ckpts), modules_of(ckpts.base, split=False), make)


def average(ckpts: Checkpoints) -> Weights:
    """The mean of the experts, in the order of the alphabet."""
    return mean([ckpts.experts[task] for task in sorted(ckpts.experts)])


def shrink(gram: Tensor, share: float) -> Tensor:
    """Multiply what is off the diagonal.  ``[n, n]``.

    >>> shrink(torch.tensor([[2.0, 4.0], [4.0, 9.0]]), 0.5).tolist()
    [[2.0, 2.0], [2.0, 9.0]]
    """
    return share * gram + (1 - share) * gram.diagonal().diag()


def least_squares(sums: SufficientStatistics) -> Tensor:
    """The minimum next to the anchor: as it is in directions without inputs.  ``-> [out, in]``."""
    values, basis = torch.linalg.eigh(sums.gram)
    seen = values > NOISE * values[-1]
    shares = values.reciprocal().where(seen, 0)
    return sums.anchor + (sums.cross_moment @ basis * shares) @ basis.T
