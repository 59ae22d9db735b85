"""Units of work: let a method learn from the images that its run may show to it, and keep that.

Which images those are is the run's ``adapt_on``: the adapt split; the clean test images
(transductive); or the test images under the very shift that is measured. They come without labels.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from bench.config import PROTOCOLS, Run
from bench.runtime import devices
from bench.runtime.lightning import make_trainer
from bench.runtime.memory import peak_memory
from bench.runtime.workers import report_progress
from bench.stages import artifacts
from bench.stages.build import BoundRun, bind
from bench.stages.source import SOURCE
from corruptions.base import CLEAN, Shift
from mergeshift import UserError, atomic, rng_of
from methods import MergingMethod, Needs
from methods.common.study import elapsed_seconds
from results.store import Store
from tasks import TASKS
from tasks.datamodule import SuiteDataModule


class RunDataAccess:
    """What a run may show to its method, always in the same order.

    It is a :class:`methods.common.data_access.DataAccess`.

    Args:
        data: the images.
        normalise: makes pixels what the encoder wants.
        seed: of the method, which draws the order of unlabelled images: a method that looks at some
            of them alone looks at others with another seed.
        journal: where the learning may keep a record of itself.
        count_pass: called after every validation pass that the method makes.

    All of it is given on the device that methods learn on.
    """

    def __init__(
        self,
        data: SuiteDataModule,
        normalise: Callable[[Tensor], Tensor],
        seed: int,
        journal: Path | None = None,
        count_pass: Callable[[], None] = lambda: None,
    ):
        self.data, self.normalise, self.seed = data, normalise, seed
        self.journal, self.count_pass = journal, count_pass
        self.device = devices.for_learning()

    def unlabeled(self, task: str) -> Iterator[Tensor]:
        """Unlabelled batches of the images that the run adapts on.  ``[B, 3, H, W]``.

        Their order is the same for all methods of one seed.
        """
        return self._batches(task, self.data.adapt_on, self.data.adapt_shift, drawn=True)

    def test_stream(self, task: str) -> Iterator[Tensor]:
        """Unlabelled batches of the test images; under the shift, if the run learns under it."""
        return self._batches(task, "test", self.data.adapt_shift)

    def validation(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the val split with their labels.  ``[B, 3, H, W], [B]``."""
        return self._labelled(task, "val")

    def training(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the train split with their labels.  ``[B, 3, H, W], [B]``."""
        return self._labelled(task, "train")

    def _labelled(self, task: str, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        labels = torch.from_numpy(self.data.labels(TASKS[task], split)).to(self.device)
        return zip(self._batches(task, split, CLEAN), labels.split(self.data.batch), strict=True)

    def _batches(
        self, task: str, split: str, shift: Shift, drawn: bool = False
    ) -> Iterator[Tensor]:
        pixels = self.data.pixels(TASKS[task], split, shift)
        order = np.arange(len(pixels))
        if drawn:
            rng_of("unlabeled", self.seed, task).shuffle(order)
        for start in range(0, len(pixels), self.data.batch):
            part = torch.from_numpy(np.array(pixels[order[start : start + self.data.batch]]))
            yield self.normalise(part.to(self.device))


class AdaptationData(LightningDataModule):
    """Unlabelled batches of all tasks for a Trainer, normalised where they are used."""

    def __init__(self, data: SuiteDataModule, normalise: Callable[[Tensor], Tensor]):
        super().__init__()
        self.data, self.normalise = data, normalise

    def train_dataloader(self) -> DataLoader:
        return self.data.train_dataloader()

    def on_after_batch_transfer(
        self, batch: Mapping[str, Tensor], dataloader_idx: int
    ) -> dict[str, Tensor]:
        return {task: self.normalise(images) for task, images in batch.items()}


class CurveCallback(Callback):
    """Keeps the loss and all numbers that a method logs; calls ``on_step`` after every step."""

    def __init__(self, on_step: Callable[[], None]) -> None:
        self.on_step, self.curves = on_step, defaultdict[str, list[float]](list)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        numbers = dict(trainer.callback_metrics)
        if isinstance(outputs, Mapping) and "loss" in outputs:
            numbers.setdefault("loss", outputs["loss"])
        for name, value in numbers.items():
            self.curves[name].append(float(value))
        self.on_step()


def learn(
    bound: BoundRun,
    config: str,
    shift: Shift | None,
    on_step: Callable[[], None] = lambda: None,
    journal: Path | None = None,
) -> tuple[MergingMethod, dict[str, Any]]:
    """The method of a run, built from scratch: it looks at images, then it is merged.

    Chance, images and their order depend on the run and the shift alone.

    Args:
        bound: the run.
        config: the settings of its method, canonical JSON.
        shift: under which the images are, if the run learns under each.
        on_step: called after every step of a Trainer and every validation pass of the method.
        journal: where a long learning keeps a record of itself, and goes on after a kill.

    Returns:
        The method, ready to predict, and facts about the learning.
    """
    method, curves = bound.create(config), CurveCallback(on_step)
    data, normalise = bound.adaptation_data(shift, method.adaptation), bound.encoder.normalise
    access = RunDataAccess(data, normalise, bound.run.seed, journal, on_step)

    def fit(learner: MergingMethod) -> None:
        where = devices.for_trainer(access.device)
        trainer = make_trainer(max_epochs=1, callbacks=[curves], **where)
        trainer.fit(learner, datamodule=AdaptationData(data, normalise))

    ckpts = bound.checkpoints
    before = elapsed_seconds(journal) if journal else 0.0  # by a process that was killed
    start = perf_counter()
    with peak_memory() as peak:
        method.build(ckpts, access, fit, device=access.device)
        devices.synchronize()
    found = {**curves.curves, **getattr(method, "curves", {})}  # a Trainer's, and its own
    return method, {
        "seconds": before + perf_counter() - start,
        "peak_mb": peak.megabytes,
        "steps": method.adaptation.steps if method.adaptation else 0,
        "adapt_on": bound.run.adapt_on,
        "shift": shift.key if shift else "",
        "config": config,
        "experts": bound.expert_hashes,
        "curves": {name: curve for name, curve in found.items() if curve},
        "coefficients": method.coefficients,
        "report": method.report,
        **bound.data_revisions,
    }


def adapt_run(run: Run, config: str, shift: Shift | None, store: Store) -> None:
    """Learn, and keep what was learned for whoever evaluates it (a unit of work).

    Raises:
        UserError: the loss diverged, or the disk is full; nothing is kept then.
    """
    bound, reported = bind(run), 0

    def on_step() -> None:
        nonlocal reported
        reported += 1
        report_progress()

    journal = bound.journal(config, shift, store)
    method, facts = learn(bound, config, shift, on_step, journal)
    if method.learned is None:
        raise TypeError(f"{run.method} learns from images, but keeps nothing in `learned`")
    state = {name: tensor.cpu() for name, tensor in method.learned.state_dict().items()}
    artifacts.save(artifacts.path(store, run.id, shift), state, facts)
    if left := bound.steps - reported:
        report_progress(left)  # of a method that does not tell of its steps


def adopt_learning(runs: Sequence[Run], store: Store) -> None:
    """Copy what the same runs of another protocol chose on val and learned.

    Neither depends on how test images are put before the model.
    """
    for run in runs:
        notes = store.path(run.id, "run").with_suffix(".json")
        others = {replace(run, protocol=other).id for other in PROTOCOLS.values()} - {run.id}
        for other in sorted(others):
            theirs = store.path(other, "run").with_suffix(".json")
            if notes.exists() or not theirs.exists():
                continue
            facts, learned = store.run(other), artifacts.files(store, other)
            if not learned and "tuning" not in facts:
                continue
            for file in learned:
                with atomic(notes.with_name(file.name)) as temporary:
                    shutil.copyfile(file, temporary)
            kept = {key: facts[key] for key in ("config", "tuning", SOURCE, "data") if key in facts}
            store.write_run(run.id, {"run": asdict(run), **kept})


def learn_to_tune(
    run: Run, config: str, on_step: Callable[[], None] = lambda: None
) -> MergingMethod:
    """The method for one validation pass: it learns on the adapt split, whatever the run does.

    Test images stay unseen, but for tasks in published splits: there adapt is test.

    Args:
        run: what is tuned.
        config: the settings to try, canonical JSON.
        on_step: called after every step of a Trainer and every validation pass of the method.

    Raises:
        UserError: the method looks at test images of its own accord.
    """
    if Needs.TEST_STREAM in bind(run).create(config).needs:
        raise UserError(
            f"{run.method} looks at test images, so it cannot be tuned before them; "
            "set its constants (--set), or --no-tune"
        )
    on_adapt = replace(run, adapt_on="adapt" if run.adapt_on else "")
    return learn(bind(on_adapt), config, None, on_step)[0]
