"""Karcher mean: the mean of directions on the sphere, which for two is SLERP at its middle."""

from typing import Literal

import torch
from torch import Tensor

from methods.base import METHODS, NO_PAPER, Checkpoints, MergingMethod, Setting, Weights

STEPS = 100  # of the search for the mean, at most
STILL = 1e-10  # radians: it has arrived


@METHODS.register("karcher")
class Karcher(MergingMethod):
    """theta = theta_0 + scale * mean_t(||tau_t||) argmin_u sum_t angle(u, tau_t)^2, ||u|| = 1.

    Tensor by tensor. Task vectors are nearly orthogonal, so that their mean is shorter than each
    of them: here it keeps their length. With ``of=weights`` the directions are those of the
    experts' weights, as people average language models; those lie so near to each other that it
    hardly differs from averaging. A tensor of zeros has no direction, and takes part in the
    length alone; where directions cancel, the result is 0.
    """

    title = "Karcher mean (SLERP)"
    paper = NO_PAPER
    identity_config = {"scale": 1.0}
    duplicates = "averaged"

    class Config(MergingMethod.Config):
        """Of what, and how far."""

        of: Literal["task_vectors", "weights"] = "task_vectors"
        scale: float = Setting(1.0, low=0, grid=tuple(i / 10 for i in range(1, 31)))

    def merge(self, ckpts: Checkpoints) -> Weights:
        def mean_of(*tensors: Tensor) -> Tensor:
            return karcher_mean(torch.stack(tensors))

        of_weights = self.cfg.of == "weights"
        first, *others = list(ckpts.experts.values()) if of_weights else ckpts.task_vectors
        found = first.zip(mean_of, *others)
        return ckpts.base + self.cfg.scale * (found - ckpts.base if of_weights else found)


def karcher_mean(tensors: Tensor) -> Tensor:
    """The mean direction times the mean length.  ``[K, ...] -> [...]``.

    The mean is a combination of the K directions: all but the last step is done on its K
    coefficients, by the directions' Gram matrix.

    >>> karcher_mean(torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
    tensor([1.4142, 1.4142])
    """
    rows = tensors.flatten(1).double()
    lengths = rows.norm(dim=1)
    units = rows / lengths.where(lengths > 0, 1)[:, None]
    mean = lengths.mean() * (coefficients(units @ units.T, lengths > 0) @ units)
    return mean.to(tensors.dtype).view(tensors.shape[1:])


def coefficients(gram: Tensor, there: Tensor) -> Tensor:
    """The mean direction as a combination of directions; zeros if there is none.

    Args:
        gram: inner products of the directions, ``[K, K]``.
        there: which of them there are, ``[K]``.
    """
    shares = there.to(gram) / there.sum().clamp(min=1)
    size = (shares @ gram @ shares).clamp(min=0).sqrt()
    if size < STILL:
        return torch.zeros_like(shares)
    mean = shares / size
    for _ in range(STEPS):
        cosines = (gram @ mean).clamp(-1, 1)
        angles = cosines.acos()
        sines = angles.sin()  # 0 where it has arrived, and of an opposite, which pulls nowhere
        pull = shares * torch.where(sines > STILL, angles / sines, (cosines > 0).to(angles))
        step = pull - (pull @ cosines) * mean  # the mean of the logarithms at the present mean
        length = (step @ gram @ step).clamp(min=0).sqrt()
        if length < STILL:
            break
        mean = length.cos() * mean + length.sin() / length * step
    return mean
