"""Coefficients of task vectors that are learned: the parts of AdaMerging.

Axes: ``G`` rows of tensors that share their coefficients, ``K`` tasks.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from methods.base import Checkpoints
from methods.mixing import group_of
from methods.ties import agreeing, trim
from methods.vit import ViT
from methods.weights import Weights

BATCH = 16  # images of a task whose mean entropy is one term of the loss
TOGETHER = 64  # images in one pass forward and back: as fast as any number, and small in memory


class Coefficients(nn.Module):
    """lambda, one per row and task.

    Args:
        granularity: what a row is: "layer" (one tensor), "block" (a residual block, or all that is
            before or after the blocks), "task" (all tensors: there is one row).
        names: of the tensors.
        tasks: in the order in which they are shown. Their columns, and every sum over them, are
            in the order of the alphabet, so that the suite's does not matter.
        vit: the architecture, where rows are blocks.
        init: the value that all of them start from.
        clamp: whether they are used clamped to [0, 1].
    """

    def __init__(
        self,
        granularity: str,
        names: Sequence[str],
        tasks: Sequence[str],
        vit: ViT | None = None,
        *,
        init: float = 0.3,
        clamp: bool = True,
    ):
        super().__init__()
        self.shown, self.tasks, self.clamp = list(tasks), sorted(tasks), clamp
        self.row, self.rows = rows_of(granularity, names, vit)
        self.raw = nn.Parameter(torch.full((len(self.rows), len(tasks)), init))

    def forward(self) -> Tensor:
        """What is merged with.  ``[G, K]``."""
        if not self.clamp:
            return self.raw.clone()
        within = (self.raw >= 0) & (self.raw <= 1)  # torch's versions differ on clamp's gradient
        return torch.where(within, self.raw, self.raw.detach().clamp(0, 1))  # at 0 and at 1

    def merged(
        self, base: Mapping[str, Tensor], taus: Mapping[str, Tensor], weights: Tensor
    ) -> Weights:
        """theta_0 + sum_t lambda_t tau_t, lazily and differentiable in ``weights``.

        Args:
            base: name -> ``[*shape]``.
            taus: name -> ``[K, *shape]``.
            weights: ``[G, K]``.
        """

        def read(name: str) -> Tensor:
            tau = taus[name]
            return base[name] + torch.tensordot(weights[self.row[name]].to(tau), tau, 1)

        held = base if isinstance(base, Weights) else Weights(base)
        return Weights.lazy({name: held.shape(name) for name in self.row}, read)

    def contract(self, model: Mapping[str, Tensor], taus: Mapping[str, Tensor]) -> Tensor:
        """<d loss / d theta, tau_t>, summed over the tensors of a row.  ``-> [G, K]``.

        Args:
            model: merged tensors that carry their gradients.
            taus: name -> ``[K, *shape]``.
        """
        found = torch.zeros_like(self.raw)
        for name, row in self.row.items():
            gradient = model[name].grad
            assert gradient is not None, f"{name} takes no part in the loss"
            found[row] += taus[name].flatten(1) @ gradient.flatten()
        return found

    def means(self) -> dict[str, Tensor]:
        """The mean over the rows, for a curve: "coef/TASK" -> lambda."""
        means = self().detach().mean(0)
        return {f"coef/{task}": mean for task, mean in zip(self.tasks, means, strict=True)}

    def table(self) -> dict[str, dict[str, float]]:
        """Row -> task -> lambda."""
        column = {task: self.tasks.index(task) for task in self.shown}
        return {
            row: {task: values[i] for task, i in column.items()}
            for row, values in zip(self.rows, self().tolist(), strict=True)
        }


def rows_of(
    granularity: str, names: Sequence[str], vit: ViT | None
) -> tuple[dict[str, int], list[str]]:
    """The row of every tensor, and the names of the rows; see :class:`Coefficients`."""
    if granularity == "layer":
        return {name: i for i, name in enumerate(names)}, list(names)
    if granularity == "task":
        return dict.fromkeys(names, 0), ["all"]
    assert vit, "blocks are those of an architecture"
    return {name: group_of(name, vit) for name in names}, ["input", *vit.blocks, "output"]


def stack(ckpts: Checkpoints, tasks: Sequence[str], keep: float) -> Weights:
    """tau_1 .. tau_K one above the other, read tensor by tensor.  name -> ``[K, *shape]``.

    Args:
        ckpts: where they come from.
        tasks: the order.
        keep: share of each that is kept before signs are elected and what disagrees is dropped
            (TIES, steps 1 and 2); at 1 neither is done.
    """
    taus = [ckpts.experts[task] - ckpts.base for task in tasks]
    if keep < 1:
        taus = [trim(tau, keep) for tau in taus]

    def read(name: str) -> Tensor:
        found = torch.stack([tau[name] for tau in taus])
        return agreeing(found) if keep < 1 else found

    return Weights.lazy({k: (len(taus), *ckpts.base.shape(k)) for k in ckpts.base}, read)


def groups(images: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Tasks in the order of the alphabet, some at a time: about 64 images, or one task.

    >>> [list(some) for some in groups(dict.fromkeys("edcba", torch.zeros(32, 3, 8, 8)))]
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    tasks = sorted(images)
    count = max(1, TOGETHER // max(map(len, images.values())))
    for start in range(0, len(tasks), count):
        yield {task: images[task] for task in tasks[start : start + count]}


def entropy(logits: Tensor) -> Tensor:
    """Of the softmax, in nats.  ``[B, C] -> [B]``.

    >>> entropy(torch.zeros(1, 2))
    tensor([0.6931])
    """
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)
