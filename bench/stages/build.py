"""What a run stands for: its tasks, experts and images, and its method, built and ready.

A :class:`bench.config.Run` is names and numbers, so that it can be stored and sent to workers.
:func:`bind` looks up what they mean here, once in each process; all stages ask the
:class:`BoundRun` that it returns.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from lightning import seed_everything
from torch import Tensor

from bench.config import HIDDEN, MIXED, Run, digest
from bench.runtime.memory import peak_memory
from bench.stages import artifacts
from bench.stages.label_space import LabelSpace
from bench.zoo.conversion import fitted
from bench.zoo.encoders import ENCODERS, Encoder
from bench.zoo.experts import Expert, checkpoints, experts_of
from corruptions.base import CLEAN, Shift
from mergeshift import UserError, atomic, home, seed_of, sha256_of
from methods import METHODS, Checkpoints, MergingMethod, Needs
from methods.base import JOINT, NO_PAPER
from methods.common.config import BaseConfig
from methods.common.data_access import AdaptationSchedule
from methods.common.state_dicts import load_checkpoint
from methods.common.weights import TensorBuffers, Weights, save_checkpoint
from methods.routing.method import RoutedMethod
from results.schema import FLOOR
from results.store import Store
from tasks import SUITES, TASKS, Suite, Task
from tasks.datamodule import SuiteDataModule
from tasks.settings import DATA_DIR
from tasks.sources.hub import Hub


@dataclass(frozen=True)
class Cost:
    """What building a method took."""

    merge_s: float
    peak_mb: float  # of the process above what it held before, learning included
    parameters: int  # stored to predict
    adapt_s: float = 0.0  # one learning from images, beyond the merge that it ends in


class ImportedWeights(MergingMethod):
    """theta = what the file says: weights that were merged elsewhere, evaluated like any method."""

    name = "external"
    title = "External"
    paper = NO_PAPER
    stores = "one model"

    class Config(MergingMethod.Config):
        """Which weights."""

        file: str = ""  # in the folder of kept weights, named by its content

    cfg: Any

    @staticmethod
    def folder() -> Path:
        """Where evaluated weights are kept."""
        return home() / "external"

    @classmethod
    def keep(cls, path: Path, tower: Mapping[str, Tensor] | None = None) -> Path:
        """Copy a checkpoint to where results can find it again, whatever becomes of ``path``.

        Args:
            path: a file.
            tower: what to keep in its place, where one file does not say what is measured.
        """
        if tower is not None:
            with TemporaryDirectory() as folder:
                save_checkpoint(Path(folder, "tower.safetensors"), tower)
                return cls.keep(Path(folder, "tower.safetensors"))
        kept = cls.folder() / f"{sha256_of(path)[:16]}{path.suffix}"
        if not kept.exists():
            with atomic(kept) as temporary:
                shutil.copyfile(path, temporary)
        return kept

    def merge(self, ckpts: Checkpoints) -> Weights:
        path = self.folder() / self.cfg.file
        assert ckpts.vit, "it is of an encoder"
        state = load_checkpoint(path).weights
        return Weights(fitted(state, ckpts.vit, str(path), ckpts.base["proj"]))


class BoundRun:
    """A run and all that it stands for in this process; made by :func:`bind`.

    Everything is looked up when it is first asked for. What other commands may change while this
    process lives (hashes of experts, revisions of data) is read anew each time.
    """

    def __init__(self, run: Run):
        self.run = run

    # -- tasks and experts

    @cached_property
    def suite(self) -> Suite:
        """Its suite."""
        return SUITES[self.run.suite]

    @cached_property
    def tasks(self) -> list[Task]:
        """All tasks that are measured, in suite order."""
        return self.suite.tasks

    @cached_property
    def seen(self) -> list[Task]:
        """The tasks whose experts are merged, in suite order."""
        return [task for task in self.tasks if task.name not in self.run.unseen]

    @cached_property
    def merged(self) -> list[Task]:
        """The tasks whose experts are merged: those that are seen, then extra ones."""
        return [*self.seen, *(TASKS[name] for name in self.run.extra_experts)]

    @cached_property
    def encoder(self) -> Encoder:
        """Its encoder."""
        return ENCODERS[self.run.encoder]

    @cached_property
    def experts(self) -> list[Expert]:
        """The experts that are merged, made or not, in suite order."""
        return experts_of(self.run.encoder, self.merged, self.run.expert_seed)

    @property
    def checkpoints(self) -> Checkpoints:
        """What its method is given, of all that is merged; opened once for a whole sweep."""
        names = tuple(task.name for task in self.merged)
        return _checkpoints(self.run.encoder, names, self.run.expert_seed, self.run.extra_experts)

    @property
    def expert_hashes(self) -> list[str]:
        """What its experts are now: the hash of each one's tensors, in suite order."""
        return [expert.facts()["tensors"] for expert in self.experts]

    @property
    def data_revisions(self) -> dict[str, dict[str, str]]:
        """What is stored with a run: ``{"data": part -> commit}``; empty where all is pinned."""
        sources = [task.source for task in self.tasks if isinstance(task.source, Hub)]
        found = {part: commit for hub in sources for part, commit in hub.commits.items()}
        return {"data": found} if found else {}

    # -- its images

    def data(self, shifts: Sequence[Shift]) -> SuiteDataModule:
        """Its cells: all tasks under ``shifts``."""
        return self._datamodule(shifts, mixed=self.run.protocol == MIXED)

    @property
    def space(self) -> LabelSpace | None:
        """The labels of all tasks, if nobody is told the task of a test image."""
        return LabelSpace.of(self.tasks) if self.run.protocol == HIDDEN else None

    def validation_data(self) -> SuiteDataModule:
        """What its constants are chosen on: the val splits of seen tasks."""
        return self._datamodule([], tasks=[task.name for task in self.seen])

    def calibration_data(self) -> SuiteDataModule:
        """All val images of seen tasks: the same for every method, tuned on some of them or not."""
        names = [task.name for task in self.seen]
        return self.suite.datamodule([], data_seed=self.run.data_seed, tasks=names)

    def adaptation_data(
        self, shift: Shift | None, schedule: AdaptationSchedule | None
    ) -> SuiteDataModule:
        """The images of seen tasks that its method may learn from.

        Args:
            shift: under which they are, if the run learns under each.
            schedule: of a Trainer, if the method has one.
        """
        return self._datamodule(
            [],
            tasks=[task.name for task in self.seen],
            adapt_on="test" if self.run.adapt_on in ("test", "shifted") else "adapt",
            adapt_shift=shift or CLEAN,
            adapt_batch=schedule.batch if schedule else 1,
            adapt_steps=schedule.steps if schedule else 1,
            seed=self.run.seed,
        )

    def _datamodule(self, shifts: Sequence[Shift], **settings: Any) -> SuiteDataModule:
        return self.suite.datamodule(
            shifts,
            limit=self.run.limit,
            val_limit=self.run.val_limit,
            data_seed=self.run.data_seed,
            **settings,
        )

    # -- its method, as declared: what it needs and how it adapts are not tuned

    @property
    def method_class(self) -> type[MergingMethod]:
        """The class of its method; imported weights are one, too."""
        return ImportedWeights if self.run.weights else METHODS[self.run.method]

    @cached_property
    def declared(self) -> MergingMethod:
        """Its method, not built."""
        cls = self.method_class
        return cls(cls.Config.make(json.loads(self.run.config)), self.run.seed)

    @property
    def learns(self) -> bool:
        """Whether its method looks at images before it can predict."""
        return self.declared.needs != Needs.NOTHING

    @property
    def routes(self) -> bool:
        """Whether its method weighs its experts image by image."""
        return isinstance(self.declared, RoutedMethod)

    @property
    def passes(self) -> int:
        """Validation passes that its method makes by itself, in one learning."""
        return self.declared.num_validation_passes

    @property
    def steps(self) -> int:
        """Steps and validation passes of one learning; 1 where there are neither."""
        schedule = self.declared.adaptation
        return (schedule.steps if schedule else 0) + self.passes or 1

    @property
    def images_shown(self) -> int:
        """Images of every task that a Trainer shows in one training; 0 where none is run."""
        schedule = self.declared.adaptation
        return schedule.steps * schedule.batch if schedule else 0

    @property
    def candidates(self) -> list[str]:
        """The configs that tuning tries, as canonical JSON."""
        config = self.declared.cfg
        fixed = set(config.grid) - set(json.loads(self.run.grid))
        return [canonical(candidate) for candidate in config.candidates(fixed)]

    # -- its method, built

    def create(self, config: str) -> MergingMethod:
        """Its method with ``config`` (canonical JSON), not built; chance is seeded."""
        seed_everything(seed_of("method", self.run.method, self.run.seed), verbose=False)
        return self.method_class(self.method_class.Config.make(json.loads(config)), self.run.seed)

    def build(self, config: str, artifact: Path | None = None) -> tuple[MergingMethod, Cost]:
        """Its method with ``config`` (canonical JSON), merged and ready to predict.

        Args:
            config: its settings, chosen or declared.
            artifact: where that lies which it learned; none for a method that looks at no image.

        Raises:
            UserError: it was learned by an earlier version, with other settings, or from other
                experts than those that are there now.
        """
        state, facts = artifacts.load(artifact) if artifact else (None, {})
        if artifact:
            self._check(artifact, facts, config)
        method, ckpts = self.create(config), self.checkpoints
        start = perf_counter()
        with peak_memory() as peak:
            method.build(ckpts, learned=state)
        seconds = perf_counter() - start
        self._show_heads(method)
        beyond = max(0.0, facts.get("seconds", 0.0) - seconds)  # learning ended in a merge, too
        most = max(peak.megabytes, facts.get("peak_mb", 0.0))
        return method, Cost(seconds, most, method.num_stored, beyond)

    def method(self, config: str, shift: Shift, store: Store) -> tuple[MergingMethod, Cost]:
        """Its method, ready for ``shift`` and kept in memory; what it has to learn was learned."""
        if not self.learns:
            return _built(self, config)
        if self.run.adapt_on == "shifted":  # for this shift alone: not worth keeping
            return self.build(config, artifacts.path(store, self.run.id, shift))
        artifact = artifacts.path(store, self.run.id)
        changed = artifact.stat().st_mtime_ns if artifact.exists() else 0
        return _restored(self, config, artifact, changed)

    @property
    def floor(self) -> MergingMethod | None:
        """The pretrained model, which answers for experts of unseen tasks; none if all are seen."""
        return _floor(self) if self.run.unseen else None

    def journal(self, config: str, shift: Shift | None, store: Store) -> Path:
        """Where a learning keeps a record of itself: other experts, data, constants: another."""
        made_of = digest((config, self.expert_hashes, *self.data_revisions.values()))
        name = f"study-{made_of}" + (f"-{shift.key}" if shift else "")
        return store.folder / "cells" / self.run.id / f"{name}.journal"

    def _show_heads(self, method: MergingMethod) -> None:
        """Give a built method the heads that it knew nothing of: of unseen tasks, of all in one."""
        if not self.run.unseen and self.run.protocol != HIDDEN:
            return
        extra = [task for task in self.merged if task not in self.tasks]
        heads = dict(self.encoder.heads([*self.tasks, *extra]))
        if self.run.protocol == HIDDEN:
            heads[JOINT] = torch.cat([heads[task.name] for task in self.tasks])
        method.heads = TensorBuffers(heads)

    def _check(self, artifact: Path, facts: Mapping[str, Any], config: str) -> None:
        """Refuse what another learning left there."""
        if lacking := [name for name in ("config", "experts") if name not in facts]:
            why = f"{artifact} is of an earlier version, which did not keep its {lacking[0]}"
        elif facts["config"] != config:
            why = f"{artifact} was learned with other settings ({facts['config']})"
        elif facts["experts"] != self.expert_hashes:
            why = f"the experts were made anew since {artifact} was learned"
        else:
            return
        raise UserError(f"{why}; run again with --force")


def bind(run: Run) -> BoundRun:
    """What ``run`` stands for: looked up once in a process, and again in another data folder."""
    return _bind(run, home(), os.environ.get(DATA_DIR))


@lru_cache(maxsize=1024)
def _bind(run: Run, folder: Path, data_dir: str | None) -> BoundRun:
    return BoundRun(run)


@lru_cache(maxsize=4)
def _checkpoints(
    encoder: str, tasks: tuple[str, ...], expert_seed: int, extra: tuple[str, ...]
) -> Checkpoints:
    return checkpoints(encoder, [TASKS[name] for name in tasks], expert_seed, extra)


@lru_cache(maxsize=64)
def _built(bound: BoundRun, config: str) -> tuple[MergingMethod, Cost]:
    """A method that learns nothing, built once per process."""
    return bound.build(config)


@lru_cache(maxsize=64)
def _restored(
    bound: BoundRun, config: str, artifact: Path, changed: int
) -> tuple[MergingMethod, Cost]:
    """A method that has learned, restored once per process and file (``changed`` tells when)."""
    return bound.build(config, artifact)


@lru_cache(maxsize=4)
def _floor(bound: BoundRun) -> MergingMethod:
    method = METHODS[FLOOR]().build(bound.checkpoints)
    bound._show_heads(method)
    return method


def canonical(config: BaseConfig) -> str:
    """A config as JSON with sorted keys."""
    return json.dumps(config.as_dict(), sort_keys=True)
