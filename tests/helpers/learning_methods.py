"""A method that learns, for tests of the interface.

Methods that learn, for tests of sweeps: registered while a test runs, by :func:`register`.

Methods that learn, in tests: images to show, and fits that show them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bench.config import Run, Sweep
from bench.plan import resolve
from bench.stages import artifacts as learned
from bench.sweeps import SWEEPS
from corruptions.base import Shift
from methods import METHODS, Checkpoints, MergingMethod, Needs
from methods.adamerging import AdaMerging
from methods.base import NO_PAPER, Setting
from methods.common.data_access import AdaptationSchedule
from methods.common.vit import PlainOps, encode
from methods.common.weights import TensorBuffers, Weights, total
from methods.contract import TASKS, small_checkpoints
from results.store import Store


class Coefficient(nn.Module):
    """One number."""

    def __init__(self) -> None:
        super().__init__()
        self.coef = nn.Parameter(torch.tensor(0.3))


class Learner(MergingMethod):
    """theta = theta_0 + coef * sum_t tau_t, coef learned by entropy minimisation."""

    name = "learner"
    title = "Learner"
    paper = NO_PAPER
    needs = Needs.IMAGES
    stores = "one model"
    adaptation = AdaptationSchedule(steps=3, batch=4)
    learned: Coefficient

    def prepare(self, ckpts: Checkpoints) -> None:
        self.learned = Coefficient()

    def learn(self, ckpts: Checkpoints, access) -> None:
        self.shown = sum(len(batch) for task in ckpts.experts for batch in access.unlabeled(task))
        self.base, self.sum = TensorBuffers(ckpts.base), TensorBuffers(total(ckpts.task_vectors))

    def merge(self, ckpts: Checkpoints) -> Weights:
        return ckpts.base + self.learned.coef.item() * total(ckpts.task_vectors)

    def adapt_loss(self, images: Mapping[str, Tensor]) -> Tensor:
        tau = Weights(self.sum()).map(lambda tensor: self.learned.coef * tensor)
        ops = PlainOps((Weights(self.base()) + tau).materialise())

        def entropy(x: Tensor, task: str) -> Tensor:
            features = nn.functional.normalize(encode(x, ops, self.vit), dim=-1)
            values = features @ self.heads()[task].T
            return -(values.softmax(-1) * values.log_softmax(-1)).sum(-1).mean()

        return torch.stack([entropy(x, task) for task, x in images.items()]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.learned.parameters(), lr=0.1)

    def on_fit_end(self) -> None:
        del self.base, self.sum


SWEEP = replace(SWEEPS["smoke"], name="learning", methods=("learner",))


class OnTest(Learner):
    """theta = theta_0 + coef * sum_t tau_t, learned from the test images whatever the protocol."""

    needs = Needs.TEST_STREAM
    adaptation = None

    def learn(self, ckpts, access) -> None:
        batches = [batch for task in ckpts.experts for batch in access.test_stream(task)]
        self.learned.coef.data.fill_(torch.cat(batches).std())


class Tuned(Learner):
    """theta = theta_0 + coef * sum_t tau_t, with something to tune."""

    class Config(Learner.Config):
        steps: int = Setting(1, low=1, grid=(1, 4))

    @property
    def adaptation(self) -> AdaptationSchedule:
        return AdaptationSchedule(self.cfg.steps, 4)


class Diverging(Learner):
    """theta = theta_0 + coef * sum_t tau_t, where coef becomes infinite."""

    def adapt_loss(self, images) -> torch.Tensor:
        return super().adapt_loss(images) * float("nan")


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the learners methods until the test ends."""
    found = {"learner": Learner, "on_test": OnTest, "tuned": Tuned, "diverging": Diverging}
    for name, cls in found.items():
        monkeypatch.setattr(cls, "name", name)
        monkeypatch.setitem(METHODS._items, name, cls)


def at_settings(cls: type[MergingMethod], settings: Mapping[str, object]) -> type[MergingMethod]:
    """The method with other defaults, for the contract."""
    cfg = cls.Config.make(dict(settings))

    class Variant(cls):
        def __init__(self, _: object = None, seed: int = 0) -> None:
            super().__init__(cfg, seed)

    return Variant


def run_of(sweep: Sweep) -> Run:
    """The first run of the first method."""
    return next(run for run in resolve(sweep).runs if run.method == sweep.methods[0])


def coefficient(out: Path, sweep: Sweep = SWEEP, shift: Shift | None = None) -> float:
    """What the learner has learned."""
    tensors, _ = learned.load(learned.path(Store(out), run_of(sweep).id, shift))
    return float(tensors["coef"])


def by_hand(images: np.ndarray) -> np.ndarray:
    """Pixels as the encoder wants them.  ``uint8 [N, H, W, 3] -> [N, 3, H, W]``."""
    return (images.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25


ADAMERGING = ("adamerging_task", "adamerging", "adamerging_pp")

Images = Mapping[str, Tensor]


class Curves(Callback):
    """What is logged, step by step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.steps.append({name: v.item() for name, v in trainer.callback_metrics.items()})


def fit_on(batches: list[Images], curves: Curves | None = None) -> Callable[[MergingMethod], None]:
    """A fit that shows these batches, one a step."""

    def fit(method: MergingMethod) -> None:
        trainer = Trainer(
            max_steps=len(batches), accelerator="cpu", callbacks=curves, logger=False,
            enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(method, DataLoader(batches, batch_size=None))

    return fit


def random_images(count: int, tasks: Iterable[str] = TASKS) -> dict[str, Tensor]:
    """``count`` images of each task."""
    random = torch.Generator().manual_seed(3)
    return {task: torch.randn(count, 3, 32, 32, generator=random) for task in tasks}


def ready(name: str = "adamerging", ckpts: Checkpoints | None = None, **config) -> AdaMerging:
    """AdaMerging as it is in front of its first step."""
    cls = METHODS[name]
    method = cls(cls.Config.make(config)).build(ckpts or small_checkpoints(), fit=lambda _: None)
    return method.requires_grad_()
