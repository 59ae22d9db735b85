"""Concrete subspaces: a mask over all parameters, shared by the tasks and learned without labels.

Concrete TA learns it for Task Arithmetic, Concrete AdaMerging for coefficients that are learned
themselves. Axes: ``G`` rows of tensors that share their coefficients, ``K`` tasks.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from methods.adamerging import Coefficients, stack
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
from methods.common.losses import task_entropy

BATCH = 16  # images of a task whose mean entropy is one term of the loss

TOGETHER = 64  # images in one pass forward and back

Loss = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]  # images, model -> scalar


@METHODS.register("concrete_ta")
class ConcreteTA(MergingMethod):
    """theta = theta_0 + scale * m sum_t tau_t, m ~ RelaxedBernoulli(logits) / its mean per tensor.

    The logits, one per parameter, start at 0 and minimise the entropy of predictions on unlabelled
    images, a new mask in every step; the authors take test images. One last mask is drawn from the
    seed, and is merged with.
    """

    title = "Concrete TA"
    paper = Paper(
        key="tang2023concrete",
        arxiv="2312.06173",
        where="Concrete Task Arithmetic",
        year=2023,
        title="Concrete Subspace Learning based Interference Elimination for Multi-task Model "
        "Fusion",
        authors="Tang, Anke and Shen, Li and Luo, Yong and Ding, Liang and Hu, Han and Du, Bo and "
        "Tao, Dacheng",
    )
    needs = Needs.IMAGES
    learns_weights = True  # the logits are as many as the weights, and not kept to predict

    class Config(MergingMethod.Config):
        """The defaults are those of the authors' code."""

        scale: float = Setting(0.3, low=0)  # lambda
        temperature: float = Setting(0.5, above=0)  # of the relaxation
        lr: float = Setting(1e-3, low=0)  # Adam's, of the logits
        steps: int = Setting(2000, low=1)

    learned: nn.ModuleDict  # "mask": the logits

    @property
    def adaptation(self) -> AdaptationSchedule:
        return AdaptationSchedule(self.cfg.steps, BATCH)

    @property
    def mask(self) -> "Mask":
        """The logits."""
        mask = self.learned["mask"]
        assert isinstance(mask, Mask)
        return mask

    def prepare(self, ckpts: Checkpoints) -> None:
        shapes = {name: ckpts.base.shape(name) for name in ckpts.base}
        self.learned = nn.ModuleDict({"mask": Mask(shapes, self.cfg.temperature)})
        self.tasks = sorted(ckpts.experts)

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        self.automatic_optimization = False
        self.base = TensorBuffers(ckpts.base)
        self.taus = TensorBuffers(self.task_vectors(ckpts))
        self.done = 0  # steps

    # -- what Concrete AdaMerging does in another way ----------------------------------------

    def task_vectors(self, ckpts: Checkpoints) -> Weights:
        """What is masked: ``[1, *shape]`` or ``[K, *shape]`` of every tensor."""
        taus = stack(ckpts, self.tasks, 1.0)

        def read(name: str) -> Tensor:
            return taus[name].sum(0, keepdim=True)

        return Weights.lazy({name: (1, *ckpts.base.shape(name)) for name in taus}, read)

    def shares(self, name: str) -> Tensor:
        """The coefficients of one tensor's task vectors.  ``[1]`` or ``[K]``."""
        return torch.full((1,), self.cfg.scale)

    def step(self, images: Mapping[str, Tensor], optimizer: Any) -> Tensor:
        """One step on one batch per task; the loss."""
        return self.mask_step(images, optimizer)

    # -- the rest ----------------------------------------------------------------------------

    def merged(
        self, base: Mapping[str, Tensor], taus: Mapping[str, Tensor], mask: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """theta_0 + m sum_t lambda_t tau_t, differentiable in both."""
        return {
            name: held + mask[name] * torch.tensordot(self.shares(name).to(held), taus[name], 1)
            for name, held in base.items()
        }

    def mask_step(self, images: Mapping[str, Tensor], optimizer: Any) -> Tensor:
        """The logits go down, with a mask of this step."""
        mask = self.mask.sample(self.generator("mask", self.done))
        return self.descend(images, mask, optimizer, self.mask_loss)

    def mask_loss(self, images: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Tensor:
        """What the logits minimise, of some tasks. Scalar."""
        return self.entropy(images, model)

    def entropy(self, images: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Tensor:
        """The sum over some tasks of the mean entropy of predictions. Scalar."""
        return task_entropy(images, model, self.heads(), self.vit)

    def descend(
        self, images: Mapping[str, Tensor], mask: Mapping[str, Tensor], optimizer: Any, loss: Loss
    ) -> Tensor:
        """One step of an optimizer on a loss at a mask.

        The gradients of all tasks gather in the merged weights, and go back through the merge once.
        """
        optimizer.zero_grad()
        with torch.enable_grad():
            model = self.merged(self.base(), self.taus(), mask)
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in model.items()}
        value = gathered(images, leaves, loss)
        moved = [(tensor, leaves[name].grad) for name, tensor in model.items()]
        torch.autograd.backward([m for m, _ in moved], [gradient for _, gradient in moved])
        optimizer.step()
        return value

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.step(batch, self.optimizers())
        self.done += 1
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.learned.parameters(), lr=self.cfg.lr)

    def on_fit_end(self) -> None:
        del self.base, self.taus

    def merge(self, ckpts: Checkpoints) -> Weights:
        taus = self.task_vectors(ckpts)
        mask = self.mask

        def read(name: str) -> Tensor:
            one = mask.draw(name, self.generator("last", name)).detach()
            shares = self.shares(name).detach()
            return ckpts.base[name] + one * torch.tensordot(shares.to(one), taus[name], 1)

        return Weights.lazy({name: ckpts.base.shape(name) for name in ckpts.base}, read)


@METHODS.register("concrete_adamerging")
class ConcreteAdaMerging(ConcreteTA):
    """theta^l = theta_0^l + m^l sum_t lambda_t^l tau_t^l, both learned: m, then lambda under it.

    A meta-step draws one mask. Under it, lambda moves once from 0.3 by Adam at an inner step, and
    then the mask's logits move on other images. As published, that inner gradient is taken at the
    lambda that the step before has left, and the inner step is 1, whose first move is by exactly 1;
    ``inner=clean`` takes it at 0.3, with a small step [R]. After the meta-steps one mask is kept,
    and lambda is learned under it as AdaMerging does, from 0.3.
    """

    title = "Concrete AdaMerging"
    version = 2  # one mask for both parts of a meta-step
    paper = replace(ConcreteTA.paper, where="Concrete AdaMerging, layer-wise")

    class Config(ConcreteTA.Config):
        """The defaults are those of the authors' code."""

        granularity: Literal["layer", "block", "task"] = "layer"  # what shares a coefficient
        steps: int = Setting(1000, low=1)  # of the mask
        more_steps: int = Setting(1000, low=0)  # of the coefficients, under the last mask
        inner: Literal["published", "clean"] = "published"
        inner_lr: float = Setting(1.0, low=0)  # of Adam; 1e-3 is sane with ``clean`` [R]
        coefficient_lr: float = Setting(1e-3, low=0)  # of the last part

        presets = {"clean": {"inner": "clean", "inner_lr": 1e-3}}

    @property
    def adaptation(self) -> AdaptationSchedule:
        return AdaptationSchedule(self.cfg.steps + self.cfg.more_steps, 2 * BATCH)

    @property
    def coefs(self) -> Coefficients:
        """Lambda."""
        found = self.learned["coefficients"]
        assert isinstance(found, Coefficients)
        return found

    @property
    def coefficients(self) -> dict[str, dict[str, float]]:
        return self.coefs.table() if self.learned is not None else {}

    def prepare(self, ckpts: Checkpoints) -> None:
        super().prepare(ckpts)
        self.learned["coefficients"] = Coefficients(
            self.cfg.granularity, list(ckpts.base), list(ckpts.experts), ckpts.vit,
            init=self.cfg.scale, clamp=False,
        )  # fmt: skip

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        super().learn(ckpts, access)
        self.inner_adam = torch.optim.Adam(self.coefs.parameters(), lr=self.cfg.inner_lr)

    def task_vectors(self, ckpts: Checkpoints) -> Weights:
        return stack(ckpts, self.tasks, 1.0)

    def shares(self, name: str) -> Tensor:
        return self.coefs.raw[self.coefs.row[name]]

    def reset(self) -> None:
        """Lambda is what it was at the start."""
        self.coefs.raw.data.fill_(self.cfg.scale)

    def step(self, images: Mapping[str, Tensor], optimizer: Any) -> Tensor:
        first = {task: batch[: (len(batch) + 1) // 2] for task, batch in images.items()}
        if self.done < self.cfg.steps:
            others = {task: batch[len(batch) // 2 :] for task, batch in images.items()}
            return self.meta_step(first, others, optimizer)
        if self.done == self.cfg.steps:
            self.reset()
        logits = self.mask.requires_grad_(False)
        mask = {name: logits.draw(name, self.generator("last", name)) for name in logits.names}
        return self.descend(first, mask, optimizer, self.entropy)

    def meta_step(
        self, first: Mapping[str, Tensor], others: Mapping[str, Tensor], optimizer: Any
    ) -> Tensor:
        """Lambda once from 0.3, on some images; then the mask's logits, on others."""
        if self.cfg.inner == "clean":
            self.reset()
        drawn = self.mask.sample(self.generator("mask", self.done))
        mask = {name: one.detach() for name, one in drawn.items()}
        published = self.cfg.inner == "published"
        with torch.enable_grad():
            model = self.merged(self.base(), self.taus(), mask)
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in model.items()}
        gathered(first, leaves, self.entropy)
        self.coefs.raw.grad = None
        torch.autograd.backward(list(model.values()), [leaves[name].grad for name in model])
        if published:
            self.reset()
        self.inner_adam.step()
        self.coefs.requires_grad_(False)
        self.before_mask_step(first, mask)
        loss = self.descend(others, drawn, optimizer, self.mask_loss)
        self.coefs.requires_grad_(True)
        return loss

    def before_mask_step(self, images: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> None:
        """What else a meta-step does, the coefficients having moved. Nothing."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        parts = [
            {"params": list(self.mask.parameters()), "lr": self.cfg.lr},
            {"params": list(self.coefs.parameters()), "lr": self.cfg.coefficient_lr},
        ]
        return torch.optim.Adam(parts)

    def on_fit_end(self) -> None:
        super().on_fit_end()
        del self.inner_adam
        if self.done <= self.cfg.steps:  # none was learned under the last mask
            self.reset()


def gathered(images: Mapping[str, Tensor], leaves: Mapping[str, Tensor], loss: Loss) -> Tensor:
    """A loss of all tasks; its gradient is added to that of the leaves, some tasks at a time."""
    total = torch.zeros(())
    tasks = sorted(images)
    count = max(1, TOGETHER // max(len(images[task]) for task in tasks))
    for start in range(0, len(tasks), count):
        some = {task: images[task] for task in tasks[start : start + count]}
        with torch.enable_grad():
            value = loss(some, leaves)
            value.backward()
        total = total.to(value) + value.detach()
    return total


class Mask(nn.Module):
    """Logits of a mask, 0 at first: one per parameter of a model.

    Args:
        shapes: of the tensors.
        temperature: of the relaxation; the lower, the nearer are masks to 0 and 1.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], temperature: float):
        super().__init__()
        self.names, self.temperature = list(shapes), temperature
        self.place = {name: i for i, name in enumerate(self.names)}
        self.logits = nn.ParameterList([torch.zeros(shape) for shape in shapes.values()])

    def draw(self, name: str, generator: torch.Generator) -> Tensor:
        """One tensor's mask, its mean 1: a relaxed Bernoulli sample, made of the logits."""
        logits = self.logits[self.place[name]]
        chance = torch.rand(logits.shape, generator=generator).clamp(1e-6, 1 - 1e-6).to(logits)
        mask = ((logits + chance.logit()) / self.temperature).sigmoid()
        return mask / mask.mean()

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        """A whole mask, its tensors one after the other out of one stream."""
        return {name: self.draw(name, generator) for name in self.names}
