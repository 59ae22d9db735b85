"""A very small zoo for tests: random experts, images, and a support that remembers."""

from collections.abc import Iterator

import torch
from lightning import Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from methods.base import Checkpoints, MergingMethod
from methods.support import Needs
from methods.vit import ViT, init_weights

VIT = ViT(image_size=32, patch_size=16, width=32, layers=2, heads=2, output_dim=16)
TASKS = {"two": 2, "three": 3, "four": 4}  # task -> classes


def small_checkpoints() -> Checkpoints:
    """Three experts at random distances from a random base, made anew: a check may spoil them."""
    random = torch.Generator().manual_seed(0)
    base = init_weights(VIT, random)
    experts = {task: (base + 0.3 * init_weights(VIT, random)).materialise() for task in TASKS}
    heads = {
        task: 10 * F.normalize(torch.randn(count, VIT.output_dim, generator=random), dim=-1)
        for task, count in TASKS.items()
    }
    return Checkpoints(VIT, base, experts, heads)


def images() -> Tensor:
    """Eight probe images.  ``[8, 3, 32, 32]``."""
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Recorder:
    """A support that gives probe images, and remembers what was asked of it."""

    journal = None

    def __init__(self) -> None:
        self.seen = Needs.NOTHING
        self.passes = 0

    def images(self, task: str) -> Iterator[Tensor]:
        """See :class:`methods.support.Support`."""
        self.seen |= Needs.IMAGES
        yield images()

    def test(self, task: str) -> Iterator[Tensor]:
        """See :class:`methods.support.Support`."""
        self.seen |= Needs.TEST_STREAM
        yield images()

    def labelled(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        """See :class:`methods.support.Support`."""
        self.seen |= Needs.VAL_LABELS
        yield images(), torch.arange(8) % TASKS[task]

    def passed(self) -> None:
        """See :class:`methods.support.Support`."""
        self.passes += 1


def few_steps(method: MergingMethod) -> None:
    """A fit of two steps on probe images, whatever the method asks for."""
    batches = [{task: images() for task in method.heads.names} for _ in range(2)]
    trainer = Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        trainer.fit(method, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]


def build(cls: type[MergingMethod], ckpts: Checkpoints, **config: object) -> MergingMethod:
    """A method built with everything that it may ask for."""
    return cls(cls.Config.make(config)).build(ckpts, Recorder(), few_steps)


def logits(method: MergingMethod) -> dict[str, Tensor]:
    """What a built method computes on the probe images."""
    with torch.no_grad():
        return {task: method.predict(images(), task) for task in method.heads.names}
