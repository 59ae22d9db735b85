"""Fisher merging: experts averaged by entry, by how much their predictions depend on it."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

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
)
from methods.common.data_access import take_images
from methods.common.vit import PlainOps, ViT, encode

EPSILON = 1e-6  # where no expert depends on an entry, it is the mean that c_t weighs


class CurvatureWeighted(MergingMethod):
    """theta = f(sum_t w_t x_t / sum_t w_t), entry by entry: w_t is made of expert t's curvature.

    Where no weight is above 0, the average is 0.
    """

    needs = Needs.IMAGES
    learned: TensorBuffers  # the average
    learns_weights = True

    class Config(MergingMethod.Config):
        """An average of many experts moves little: the scale is ours."""

        scale: float = Setting(1.0, low=0, grid=(0.5, 1.0, 1.5, 2.0, 2.5, 3.0))  # [R]

    def curvature(
        self, task: str, expert: Mapping[str, Tensor], ckpts: Checkpoints, access: DataAccess
    ) -> Mapping[str, Tensor]:
        """How much the expert's loss bends along each entry: squared gradients, of images."""
        batches = take_images(zip(access.unlabeled(task)), self.cfg.images)
        images = [batch for (batch,) in batches]
        if not images:
            raise UserError(f"{self.name} learns from images of every task; {task} has none")
        parts = torch.cat(images).split(self.cfg.batch)
        return diagonal_fisher(expert, self.heads()[task], parts, self.vit)

    @abstractmethod
    def weighed(
        self, curvature: Mapping[str, Tensor], expert: Mapping[str, Tensor], base: Weights
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of every tensor of an expert its name, w_t and x_t."""

    def prepare(self, ckpts: Checkpoints) -> None:
        self.learned = TensorBuffers({k: torch.zeros(ckpts.base.shape(k)) for k in ckpts.base})

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        above, below = ({k: torch.zeros_like(t) for k, t in self.learned().items()} for _ in "ab")
        for task in sorted(ckpts.experts):
            expert = TensorBuffers(ckpts.experts[task])()
            curvature = self.curvature(task, expert, ckpts, access)
            for name, weight, value in self.weighed(curvature, expert, ckpts.base):
                above[name] += weight * value
                below[name] += weight
        for name, held in self.learned().items():
            held.copy_(above[name] / below[name].where(below[name] > 0, 1))


@METHODS.register("fisher")
class Fisher(CurvatureWeighted):
    """theta = theta_0 + scale (sum_t c_t F_t theta_t / sum_t c_t F_t - theta_0).

    F_t is D_t + 1e-6, D_t the diagonal of the Fisher information of expert t on unlabelled images
    of its task, and c_t = 1 / (||D_t|| + 1e-6). As in FusionBench D_t is estimated by batches: the
    square of the gradient of sum_x sum_c sqrt(p_c) log p_c, sqrt(p_c) held fixed; a batch of one
    image is nearer to the definition and slower.
    """

    title = "Fisher merging"
    version = 2  # images are drawn by the seed
    paper = Paper(
        key="matena2022fisher",
        arxiv="2111.09832",
        where="Eq. 5",
        year=2022,
        title="Merging Models with {Fisher}-Weighted Averaging",
        authors="Matena, Michael S. and Raffel, Colin",
        venue="Advances in Neural Information Processing Systems",
        volume=35,
    )
    identity_config = {"scale": 1.0}

    class Config(CurvatureWeighted.Config):
        """The defaults are FusionBench's."""

        images: int = Setting(256, low=1)  # of each task, at most
        batch: int = Setting(32, low=1)  # images whose gradients are summed before they are squared

    def weighed(
        self, curvature: Mapping[str, Tensor], expert: Mapping[str, Tensor], base: Weights
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        size = torch.stack([one.square().sum() for one in curvature.values()]).sum().sqrt()
        for name, one in curvature.items():
            yield name, (one + EPSILON) / (size + EPSILON), expert[name]

    def merge(self, ckpts: Checkpoints) -> Weights:
        average = Weights(self.learned())
        return ckpts.base + self.cfg.scale * (average - ckpts.base)


def diagonal_fisher(
    expert: Mapping[str, Tensor], head: Tensor, batches: tuple[Tensor, ...], vit: ViT
) -> dict[str, Tensor]:
    """sum_batches (gradient of a batch)^2 / images.

    Args:
        expert: the weights.
        head: of its task, ``[C, D]``.
        batches: unlabelled images, ``[B, 3, H, W]`` each.
        vit: the architecture.
    """
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in expert.items()}
    found = {name: torch.zeros_like(tensor) for name, tensor in expert.items()}
    count = sum(map(len, batches))
    for batch in batches:
        with torch.enable_grad():
            features = F.normalize(encode(batch, PlainOps(leaves), vit), dim=-1)
            logs = (features @ head.T).log_softmax(-1)
            score = ((logs / 2).exp().detach() * logs).sum()
            gradients = torch.autograd.grad(score, list(leaves.values()))
        for held, gradient in zip(found.values(), gradients, strict=True):
            held += gradient.square() / count
    return found
