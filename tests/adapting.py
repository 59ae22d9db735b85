"""Methods that learn, in tests: images to show, and fits that show them."""

from collections.abc import Callable, Iterable, Mapping

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from methods import METHODS, Checkpoints, MergingMethod
from methods.adamerging import AdaMerging
from methods.probe import TASKS, small_checkpoints

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
