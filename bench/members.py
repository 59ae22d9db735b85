"""Built methods: what a run's method is made of, and how it is made ready to predict."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

from lightning import seed_everything

from bench import learned
from bench.config import Run
from bench.errors import UserError
from bench.external import External
from bench.memory import peak_memory
from bench.rows import Cost, weights_of
from bench.seeds import seed_of
from bench.unseen import seen_of, show_heads
from bench.zoo.experts import checkpoints
from methods import METHODS, Checkpoints, MergingMethod, Needs
from methods.routed import RoutedMethod
from results.schema import FLOOR
from tasks import TASKS


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
    return (method.adaptation.steps if method.adaptation else 0) + method.passes or 1


def passes_of(run: Run) -> int:
    """Validation passes that the method makes by itself, in one learning."""
    return _unbuilt(run).passes


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
    state, facts = learned.load(artifact) if artifact else (None, {})
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
