"""FW-Merging: walk from a merged model towards one expert at a time, as Frank and Wolfe would."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

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
    mean,
    total,
)
from methods.common.data_access import cycle_images
from methods.common.losses import entropy, task_entropy
from methods.common.vit import PlainOps, encode

TOGETHER = 64  # images in one pass forward and back
BATCH = 16  # images of a task in a step of AdaMerging


@METHODS.register("fw_merging")
class FWMerging(MergingMethod):
    """theta <- theta + gamma_k (s - theta), s = argmin over start and experts of <grad loss, s>.

    gamma_k = step_size * scaling * 2 / (k + 2), k = 0 .. iterations - 1. The loss is the mean over
    tasks of the entropy on unlabelled images, or of the cross-entropy on validation images [R: the
    authors use labelled training images]. As in their code the product is a sum over tensors of
    cosines (a tensor of zeros counts 0), or the inner product of whole models, which is Frank and
    Wolfe's. Every iteration goes on in the stream of images where the one before has stopped [R:
    the authors shuffle it], and after the last image comes the first. The result is an affine
    combination of the start and the experts, and that is kept. Experts of tasks that are not
    measured can be walked towards, and have no part in the loss.
    """

    title = "FW-Merging (hard)"
    version = 2  # images are drawn by the seed, and others in every iteration
    paper = Paper(
        key="chen2025fwmerging",
        arxiv="2503.12649",
        where="Algorithm 1, hard",
        year=2025,
        title="{FW-Merging}: Scaling Model Merging with {Frank-Wolfe} Optimization",
        authors="Chen, Hao Mark and Hu, Shell Xu and Luk, Wayne and Hospedales, Timothy and Fan, "
        "Hongxiang",
        venue="{IEEE/CVF} International Conference on Computer Vision",
    )
    identity_config = {"start": "average", "iterations": 0}

    class Config(MergingMethod.Config):
        """The defaults are FusionBench's, but for the loss."""

        loss: Literal["entropy", "cross_entropy"] = "entropy"  # on unlabelled images, or on val [R]
        oracle: Literal["cosine", "inner"] = "cosine"  # published; Frank and Wolfe's [R]
        granularity: Literal["task", "layer"] = "task"  # one expert for all, or for each tensor
        start: Literal["pretrained", "average", "ta"] = "ta"
        start_scale: float = Setting(0.3, low=0)  # of Task Arithmetic
        iterations: int = Setting(10, low=0)
        images: int = Setting(100, low=1)  # of each task in an iteration, at most
        step_size: float = Setting(0.1, above=0, high=1, grid=(0.1, 0.3, 1.0))
        scaling: float = Setting(0.3, above=0, high=1)

    learned: TensorBuffers  # "coefficients": of the start and of each expert, [tensors, 1 + K]

    @property
    def needs(self) -> Needs:
        return Needs.IMAGES if self.cfg.loss == "entropy" else Needs.VAL_LABELS

    @property
    def num_validation_passes(self) -> int:
        return 0 if self.cfg.loss == "entropy" else self.cfg.iterations

    @property
    def coefficients(self) -> dict[str, dict[str, float]]:
        if self.learned is None:
            return {}
        shares = self.table.mean(0).tolist()
        return {"all": dict(zip(("start", *self.tasks), shares, strict=True))}

    @property
    def table(self) -> Tensor:
        """What each tensor is made of.  ``[tensors, 1 + K]``."""
        return self.learned()["coefficients"]

    def prepare(self, ckpts: Checkpoints) -> None:
        self.tasks = sorted(ckpts.experts)  # one of them may be of a task that is not measured
        table = torch.zeros(len(ckpts.base), 1 + len(self.tasks))
        table[:, 0] = 1
        self.learned = TensorBuffers({"coefficients": table})

    def points(self, ckpts: Checkpoints) -> list[Weights]:
        """What is walked towards: the start and the experts."""
        experts = [ckpts.experts[task] for task in self.tasks]
        starts = {
            "pretrained": lambda: ckpts.base,
            "average": lambda: mean(experts),
            "ta": lambda: (
                ckpts.base
                + self.cfg.start_scale * total([expert - ckpts.base for expert in experts])
            ),
        }
        return [starts[self.cfg.start](), *experts]

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        points, table = self.points(ckpts), self.table
        streams = {task: self.shown(task, access) for task in sorted(ckpts.measured)}
        model = {name: points[0][name].clone() for name in ckpts.base}  # in the rows' order
        chosen: list[Any] = []
        for k in range(self.cfg.iterations):
            data = {task: next(stream) for task, stream in streams.items()}
            rows = self.products(self.gradient(model, data), points)
            best = rows if self.cfg.granularity == "layer" else rows.sum(0, keepdim=True)
            choice = [int(place.item()) for place in best.argmin(1)]
            choice *= len(model) // len(choice)
            chosen.append(choice if self.cfg.granularity == "layer" else choice[0])
            step = min(1.0, self.cfg.step_size * self.cfg.scaling * 2 / (k + 2))
            table *= 1 - step
            for row, ((name, tensor), to) in enumerate(zip(model.items(), choice, strict=True)):
                tensor += step * (points[to][name] - tensor)
                table[row, to] += step
            if self.cfg.loss != "entropy":
                access.count_pass()
        self.report = {"chosen": chosen, "points": ["start", *self.tasks]}

    def shown(self, task: str, access: DataAccess) -> Iterator[tuple[Tensor, Tensor | None]]:
        """What a task shows in each iteration, with labels if the loss has a use for them."""

        def batches() -> Iterator[tuple[Tensor, ...]]:
            if self.cfg.loss == "entropy":
                return zip(access.unlabeled(task))
            return access.validation(task)

        for images, *labels in cycle_images(batches, self.cfg.images):
            yield images, labels[0] if labels else None
        raise UserError(f"{self.name} learns from images of every task; {task} has none")

    def gradient(
        self, model: Mapping[str, Tensor], data: Mapping[str, tuple[Tensor, Tensor | None]]
    ) -> dict[str, Tensor]:
        """Of the mean loss of all tasks, at a model."""
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in model.items()}
        for task, (images, labels) in data.items():
            head, count = self.heads()[task], len(images) * len(data)
            for part, answers in in_parts(images, labels):
                with torch.enable_grad():
                    features = F.normalize(encode(part, PlainOps(leaves), self.vit), dim=-1)
                    logits = features @ head.T
                    losses = entropy(logits).sum() if answers is None else F.cross_entropy(
                        logits, answers, reduction="sum"
                    )  # fmt: skip
                    (losses / count).backward()
        return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}

    def products(self, gradient: Mapping[str, Tensor], points: Sequence[Weights]) -> Tensor:
        """The gradient with the start and the experts.  ``-> [tensors, 1 + K]``."""
        cosine = self.cfg.oracle == "cosine"
        return torch.stack(
            [
                torch.stack([product(one, point[name], cosine=cosine) for point in points])
                for name, one in gradient.items()
            ]
        )

    def merge(self, ckpts: Checkpoints) -> Weights:
        points, shares = self.points(ckpts), dict(zip(ckpts.base, self.table, strict=True))

        def read(name: str) -> Tensor:
            found = torch.zeros_like(ckpts.base[name])
            for share, point in zip(shares[name], points, strict=True):
                found += share * point[name]
            return found

        return Weights.lazy({name: ckpts.base.shape(name) for name in ckpts.base}, read)


@METHODS.register("fw_merging_soft")
class FWMergingSoft(FWMerging):
    """theta <- theta + sum_t lambda_t (theta_s(t) - theta), s(t) = argmin_s <grad loss_t, theta_s>.

    In every iteration each task in turn chooses the expert that lowers its own loss most, out of
    those that no other has chosen in it; then all that are chosen are merged around the model as it
    is. ``merge=adamerging``: lambda, one per tensor and expert, goes down the entropy of unlabelled
    images by Adam, from ``init`` in the first iteration and from ``later`` in the others; ``ta``:
    lambda is ``scaling`` * 2 / (k + 2). The authors take 500 steps in each of 5 iterations (the
    preset ``published``); by default all iterations have the steps of one AdaMerging [R]. They
    choose by labelled training images.
    """

    title = "FW-Merging (soft)"
    version = 1
    paper = replace(FWMerging.paper, where="Algorithm 1, soft")
    identity_config = {"start": "average", "iterations": 0}
    quick_config = {"iterations": 2, "steps": 2}

    class Config(MergingMethod.Config):
        """The defaults are the authors' commands', but for the steps and the loss."""

        loss: Literal["entropy", "cross_entropy"] = "entropy"  # which chooses; images, or val [R]
        oracle: Literal["cosine", "inner"] = "cosine"  # published; Frank and Wolfe's [R]
        start: Literal["pretrained", "average", "ta"] = "ta"
        start_scale: float = Setting(0.3, low=0)  # of Task Arithmetic
        iterations: int = Setting(5, low=0)
        images: int = Setting(100, low=1)  # of each task in an iteration, that choose
        merge: Literal["adamerging", "ta"] = "adamerging"
        steps: int = Setting(100, low=0)  # of Adam, in an iteration
        lr: float = Setting(1e-3, low=0)
        init: float = 0.3  # lambda, in the first iteration
        later: float = 0.01  # and in the others
        scaling: float = Setting(0.3, above=0, high=1)  # of merge=ta

        presets = {"published": {"steps": 500}}

    @property
    def needs(self) -> Needs:
        found = super().needs
        return found | Needs.IMAGES if self.cfg.merge == "adamerging" else found

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        points, table = self.points(ckpts), self.table
        streams = {task: self.shown(task, access) for task in sorted(ckpts.measured)}
        shown = {task: self.batches(task, access) for task in streams}
        model = {name: points[0][name].clone() for name in ckpts.base}  # in the rows' order
        every: list[list[int]] = []
        for k in range(self.cfg.iterations):
            chosen: list[int] = []
            for task, stream in streams.items():
                found = self.products(self.gradient(model, {task: next(stream)}), points).sum(0)
                found[[0, *chosen]] = torch.inf
                chosen.append(int(found.argmin()))
            every.append(chosen)
            taus = {
                name: torch.stack([points[place][name] - tensor for place in chosen])
                for name, tensor in model.items()
            }
            shares = self.shares(k, model, taus, shown)
            table *= 1 - shares.sum(1, keepdim=True)
            table[:, chosen] += shares
            for row, (name, tensor) in zip(shares, model.items(), strict=True):
                tensor += torch.tensordot(row, taus[name], 1)
            if self.cfg.loss != "entropy":
                access.count_pass()
        self.report = {"chosen": every, "points": ["start", *self.tasks]}

    def batches(self, task: str, access: DataAccess) -> Iterator[Tensor]:
        """Unlabelled images, a batch at a time and without end."""
        for (images,) in cycle_images(lambda: zip(access.unlabeled(task)), BATCH):
            yield images

    def shares(
        self,
        k: int,
        model: Mapping[str, Tensor],
        taus: Mapping[str, Tensor],
        shown: Mapping[str, Iterator[Tensor]],
    ) -> Tensor:
        """Lambda of an iteration.  ``[tensors, C]``.

        Args:
            k: its number.
            model: what is merged around.
            taus: name -> the chosen experts less the model, ``[C, *shape]``.
            shown: task -> batches.
        """
        count = len(next(iter(taus.values())))
        like = self.table.new_ones(len(taus), count)
        if self.cfg.merge == "ta":
            return like * self.cfg.scaling * 2 / (k + 2)
        shares = like * (self.cfg.init if k == 0 else self.cfg.later)
        adam = torch.optim.Adam([shares], lr=self.cfg.lr)
        for _ in range(self.cfg.steps):
            leaves = {
                name: (tensor + torch.tensordot(row, taus[name], 1)).requires_grad_()
                for row, (name, tensor) in zip(shares, model.items(), strict=True)
            }
            with torch.enable_grad():
                images = {task: next(stream) for task, stream in shown.items()}
                task_entropy(images, leaves, self.heads(), self.vit).backward()
            shares.grad = torch.stack(
                [taus[name].flatten(1) @ slope(leaf).flatten() for name, leaf in leaves.items()]
            )
            adam.step()
        return shares


def slope(leaf: Tensor) -> Tensor:
    """The gradient that a tensor carries; 0 where it took no part in the loss."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def product(gradient: Tensor, weight: Tensor, *, cosine: bool) -> Tensor:
    """The inner product, or the cosine; 0 where one of them is 0.

    >>> product(torch.tensor([2.0, 0.0]), torch.tensor([3.0, 4.0]), cosine=True)
    tensor(0.6000)
    """
    found = (gradient * weight).sum()
    size = gradient.norm() * weight.norm()
    return torch.where(size > 0, found / size.where(size > 0, 1), 0.0) if cosine else found


def in_parts(images: Tensor, labels: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Some images at a time, with their labels if there are any."""
    for start in range(0, len(images), TOGETHER):
        part = slice(start, start + TOGETHER)
        yield images[part], None if labels is None else labels[part]
