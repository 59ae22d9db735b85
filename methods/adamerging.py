"""AdaMerging: coefficients of the task vectors, learned from unlabelled images.

Layer-wise and task-wise, and AdaMerging++, which trims the task vectors and elects signs as TIES
does before. Axes: ``G`` rows of tensors that share their coefficients, ``K`` tasks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import (
    METHODS,
    AdaptationSchedule,
    Checkpoints,
    DataAccess,
    MergingMethod,
    Needs,
    Paper,
    Setting,
    TensorBuffers,
    Weights,
)
from methods.common.losses import entropy
from methods.common.vit import PlainOps, ViT, encode, group_of
from methods.ties import agreeing, trim

BATCH = 16  # images of a task whose mean entropy is one term of the loss

TOGETHER = 64  # images in one pass forward and back: as fast as any number, and small in memory


@METHODS.register("adamerging")
class AdaMerging(MergingMethod):
    """theta^l = theta_0^l + sum_t lambda_t^l tau_t^l, lambda = argmin of the predictions' entropy.

    "Layer-wise" is one coefficient per task and parameter tensor, as in the authors' code. They
    learn from the test images; by default those of the adapt split are shown here.
    """

    title = "AdaMerging (layer-wise)"
    paper = Paper(
        key="yang2024adamerging",
        arxiv="2310.02575",
        where="Sec. 3.2, layer-wise",
        year=2024,
        title="{AdaMerging}: Adaptive Model Merging for Multi-Task Learning",
        authors="Yang, Enneng and Wang, Zhenyi and Shen, Li and Liu, Shiwei and Guo, Guibing and "
        "Wang, Xingwei and Tao, Dacheng",
        venue="International Conference on Learning Representations",
    )
    needs = Needs.IMAGES
    identity_config = {"init": 1.0, "lr": 0.0, "keep": 1.0}

    class Config(MergingMethod.Config):
        """The defaults are those of the authors' code, preset ``original``."""

        granularity: Literal["layer", "block", "task"] = "layer"  # what shares a coefficient
        keep: float = Setting(1.0, above=0, high=1)  # of tau_t, before signs are elected
        init: float = Setting(0.3)  # lambda at the start
        lr: float = Setting(1e-3, low=0)  # Adam's; betas 0.9 and 0.999
        steps: int = Setting(500, low=1)
        batches: int = Setting(2, low=1)  # of 16 images, of every task, in a step
        clamp: bool = True  # lambda to [0, 1] wherever it is used

        presets = {  # images are drawn anew for each step, which FusionBench's do not do
            "original": {"init": 0.3, "lr": 1e-3, "steps": 500, "batches": 2, "clamp": True},
            "fusionbench": {"init": 0.3, "lr": 1e-3, "steps": 1000, "batches": 1, "clamp": False},
        }

    learned: "Coefficients"

    @property
    def adaptation(self) -> AdaptationSchedule:
        return AdaptationSchedule(self.cfg.steps, BATCH * self.cfg.batches)

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

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        self.automatic_optimization = False
        self.base = TensorBuffers(ckpts.base)
        self.taus = TensorBuffers(stack(ckpts, self.learned.tasks, self.cfg.keep))

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


@METHODS.register("adamerging_pp")
class AdaMergingPP(AdaMerging):
    """theta^l = theta_0^l + sum_t lambda_t^l phi_t(tau)^l, phi: trim and elect of TIES.

    What agrees with the elected signs is kept apart for every task, not merged. Where the kept
    entries cancel exactly none agrees, as in our TIES.
    """

    title = "AdaMerging++"
    paper = replace(AdaMerging.paper, where="Sec. 3.2, AdaMerging++, layer-wise")

    class Config(AdaMerging.Config):
        """The authors' constants."""

        keep: float = Setting(0.2, above=0, high=1)  # share of each task vector kept, by magnitude


@METHODS.register("adamerging_task")
class AdaMergingTask(AdaMerging):
    """theta = theta_0 + sum_t lambda_t tau_t, lambda = argmin of the predictions' entropy."""

    title = "AdaMerging (task-wise)"
    paper = replace(AdaMerging.paper, where="Sec. 3.2, task-wise")

    class Config(AdaMerging.Config):
        """The authors' constants."""

        granularity: Literal["layer", "block", "task"] = "task"


# -- parts -----------------------------------------------------------------------------------------


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
