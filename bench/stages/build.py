"""Tasks whose experts are left out of merging: which, and how they are measured all the same.

Their heads and test images are used to evaluate what was merged from the others. Nothing else of
them is: they are not adapted on, not tuned on, and no method knows that they exist.

Weights that were merged elsewhere, evaluated like any method.

Built methods: what a run's method is made of, and how it is made ready to predict.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

from lightning import seed_everything

from bench.config import Run
from bench.runtime.memory import peak_memory
from bench.stages import artifacts
from bench.zoo.conversion import fitted
from bench.zoo.encoders import ENCODERS
from bench.zoo.experts import checkpoints, experts_of
from mergeshift import UserError, atomic, home, seed_of, sha256_of
from methods import METHODS, Checkpoints, MergingMethod, Needs
from methods.base import NO_PAPER
from methods.common.config import BaseConfig
from methods.common.weights import TensorBuffers, Weights, load_checkpoint
from methods.routing.method import RoutedMethod
from results.schema import FLOOR
from tasks import TASKS, Task, suite
from tasks.sources.hub import Hub


@dataclass(frozen=True)
class Cost:
    """What building a method took."""

    merge_s: float
    peak_mb: float  # of the process above what it held before, learning included
    parameters: int  # stored to predict
    adapt_s: float = 0.0  # one learning from images, beyond the merge that it ends in


def unseen_of(names: Sequence[str], tasks: Sequence[Task], suite_name: str) -> tuple[str, ...]:
    """``names`` in the order of ``tasks``.

    Raises:
        UserError: one is no task of the suite, or no task is left to merge.
    """
    known = [task.name for task in tasks]
    if odd := [name for name in names if name not in known]:
        raise UserError(
            f"unseen tasks are tasks of the suite; {suite_name} has no {odd[0]!r}, "
            f"it has: {', '.join(known)}"
        )
    if set(names) >= set(known):
        raise UserError(f"every task of {suite_name} is unseen: leave an expert to merge")
    return tuple(name for name in known if name in names)


def seen_of(run: Run) -> list[Task]:
    """The tasks of a run whose experts are merged, in suite order."""
    return [task for task in suite(run.suite) if task.name not in run.unseen]


def show_heads(method: MergingMethod, run: Run) -> None:
    """Give a built method the heads of the unseen tasks, of which it knew nothing till now."""
    if run.unseen:
        method.heads = TensorBuffers(ENCODERS[run.encoder].heads(suite(run.suite)))


class External(MergingMethod):
    """theta = what the file says."""

    name = "external"
    title = "External"
    paper = NO_PAPER
    stores = "one model"

    class Config(MergingMethod.Config):
        """Which weights."""

        file: str = ""  # in the folder of kept weights, named by its content

    cfg: Any

    def merge(self, ckpts: Checkpoints) -> Weights:
        path = folder() / self.cfg.file
        assert ckpts.vit, "it is of an encoder"
        return Weights(fitted(load_checkpoint(path)[0], ckpts.vit, str(path), ckpts.base["proj"]))


def folder() -> Path:
    """Where evaluated weights are kept."""
    return home() / "external"


def keep(path: Path) -> Path:
    """Copy a checkpoint to where results can find it again, whatever becomes of ``path``."""
    kept = folder() / f"{sha256_of(path)[:16]}{path.suffix}"
    if not kept.exists():
        with atomic(kept) as temporary:
            shutil.copyfile(path, temporary)
    return kept


@lru_cache(maxsize=4)
def _checkpoints(encoder: str, tasks: tuple[str, ...], expert_seed: int) -> Checkpoints:
    return checkpoints(encoder, [TASKS[name] for name in tasks], expert_seed)


def checkpoints_of(run: Run) -> Checkpoints:
    """What the method of ``run`` is given: of seen tasks alone; opened once per process."""
    names = tuple(task.name for task in seen_of(run))
    return _checkpoints(run.encoder, names, run.expert_seed)


def create(run: Run, config: str) -> MergingMethod:
    """The method of ``run`` with ``config`` (canonical JSON), not built; chance is seeded."""
    seed_everything(seed_of("method", run.method, run.seed), verbose=False)
    cls = class_of(run)
    return cls(cls.Config.make(json.loads(config)), run.seed)


def class_of(run: Run) -> type[MergingMethod]:
    """The method of ``run``; weights from elsewhere are one, too."""
    return External if run.weights else METHODS[run.method]


def learns(run: Run) -> bool:
    """Whether the method of ``run`` looks at images before it can predict."""
    return _unbuilt(run).needs != Needs.NOTHING


def routes(run: Run) -> bool:
    """Whether the method of ``run`` weighs its experts image by image."""
    return isinstance(_unbuilt(run), RoutedMethod)


def steps_of(run: Run) -> int:
    """Steps and validation passes of one learning; 1 where there are neither."""
    method = _unbuilt(run)
    return (method.adaptation.steps if method.adaptation else 0) + method.num_validation_passes or 1


def passes_of(run: Run) -> int:
    """Validation passes that the method makes by itself, in one learning."""
    return _unbuilt(run).num_validation_passes


def images_of(run: Run) -> int:
    """Images of every task that a Trainer shows in one training; 0 where none is run."""
    adaptation = _unbuilt(run).adaptation
    return adaptation.steps * adaptation.batch if adaptation else 0


def _unbuilt(run: Run) -> MergingMethod:
    """The method as declared: what it needs and how it adapts are not tuned."""
    return class_of(run)(class_of(run).Config.make(json.loads(run.config)), run.seed)


def build(run: Run, config: str, artifact: Path | None = None) -> tuple[MergingMethod, Cost]:
    """The method of ``run`` with ``config`` (canonical JSON), merged and ready to predict.

    Args:
        run: what is built.
        config: its settings, chosen or declared.
        artifact: where that lies which it learned; none for a method that looks at no image.

    Raises:
        UserError: it was learned by an earlier version, with other settings, or from other experts
            than those that are there now.
    """
    state, facts = artifacts.load(artifact) if artifact else (None, {})
    if artifact:
        _check(artifact, facts, run, config)
    method, ckpts = create(run, config), checkpoints_of(run)
    start = perf_counter()
    with peak_memory() as peak:
        method.build(ckpts, learned=state)
    seconds = perf_counter() - start
    show_heads(method, run)
    beyond = max(0.0, facts.get("seconds", 0.0) - seconds)  # learning ended in a merge, too
    most = max(peak.megabytes, facts.get("peak_mb", 0.0))
    return method, Cost(seconds, most, method.num_stored, beyond)


def _check(artifact: Path, facts: Mapping[str, Any], run: Run, config: str) -> None:
    """Refuse what another learning left there."""
    if lacking := [name for name in ("config", "experts") if name not in facts]:
        why = f"{artifact} is of an earlier version, which did not keep its {lacking[0]}"
    elif facts["config"] != config:
        why = f"{artifact} was learned with other settings ({facts['config']})"
    elif facts["experts"] != weights_of(run):
        why = f"the experts were made anew since {artifact} was learned"
    else:
        return
    raise UserError(f"{why}; run again with --force")


@lru_cache(maxsize=64)
def built(run: Run, config: str) -> tuple[MergingMethod, Cost]:
    """A method that learns nothing, built once per process."""
    return build(run, config)


@lru_cache(maxsize=64)
def restored(run: Run, config: str, artifact: Path, changed: int) -> tuple[MergingMethod, Cost]:
    """A method that has learned, restored once per process and file (``changed`` tells when)."""
    return build(run, config, artifact)


@lru_cache(maxsize=4)
def floor_of(run: Run) -> MergingMethod:
    """The pretrained model: it answers for experts of unseen tasks, which nobody has."""
    method = METHODS[FLOOR]().build(checkpoints_of(run))
    show_heads(method, run)
    return method


def commits_of(run: Run) -> dict[str, Any]:
    """What is stored with a run: ``{"data": part -> commit}``; nothing where all is pinned."""
    sources = [task.source for task in suite(run.suite)]
    found = {k: v for one in sources if isinstance(one, Hub) for k, v in one.commits.items()}
    return {"data": found} if found else {}


def candidates(run: Run) -> list[str]:
    """The configs that tuning tries, as canonical JSON."""
    config = METHODS[run.method].Config.make(json.loads(run.config))
    fixed = set(config.grid) - set(json.loads(run.grid))
    return [canonical(candidate) for candidate in config.candidates(fixed)]


def canonical(config: BaseConfig) -> str:
    """A config as JSON with sorted keys."""
    return json.dumps(config.as_dict(), sort_keys=True)


def weights_of(run: Run) -> list[str]:
    """What the merged experts of a run are: the hash of each one's tensors, in suite order."""
    experts = experts_of(run.encoder, seen_of(run), run.expert_seed)
    return [expert.facts()["tensors"] for expert in experts]
