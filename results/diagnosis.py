"""What a setting is like as a merging problem: raw accuracies, and the shares made of them.

A setting is an encoder with experts of a suite. Its gap is the mean accuracy of the experts, each
on its own task, less that of the pretrained model. Means over tasks are unweighted; a share of the
gap is that of the means, not the mean of the tasks' shares.

Axes: ``T`` tasks, ``R`` sets of experts, ``M`` methods.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mergeshift import DamagedFileError, read_json, rng_of, write_json
from results.statistics import LEVEL, Interval

FOLDER = "diagnoses"  # in a folder of results
NAN = math.nan
MEAN = "mean"  # in place of tasks, where a publication states a mean alone
DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True, kw_only=True)
class MergedLine:
    """What one method makes of one set of experts."""

    title: str
    accuracy: Mapping[str, float]  # task -> share; or only "mean"
    config: Mapping[str, Any] = field(default_factory=dict)  # as chosen
    trials: Sequence[tuple[Mapping[str, Any], float]] = ()  # fields tried, mean accuracy


@dataclass(frozen=True, kw_only=True)
class ExpertSet:
    """One set of experts, and what becomes of it; what was not measured is empty."""

    cross: Mapping[str, Mapping[str, float]]  # expert -> task -> accuracy
    lines: Mapping[str, MergedLine]  # method -> ...
    norm: Mapping[str, float] = field(default_factory=dict)  # |tau| / |theta_0|
    cosine: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of task vectors
    own_line: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # s -> task -> acc.
    kept: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # rank share -> task ->


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A setting, measured."""

    label: str  # what tables call it
    world: str
    suite: str
    encoder: str
    zero_shot: Mapping[str, float]  # task -> accuracy, in suite order
    sets: Mapping[str, ExpertSet]  # expert seed -> ...
    probe: Mapping[str, float] = field(default_factory=dict)  # task -> accuracy
    penalty: Mapping[str, float] = field(default_factory=dict)  # of each probe
    images: Mapping[str, int] = field(default_factory=dict)  # of val, a task
    limit: int = 0  # 0: all of val
    base: str = ""  # hash of the pretrained model
    recipe: Mapping[str, Any] = field(default_factory=dict)  # of the experts
    key: str = ""  # hash of all that decides the numbers
    measured: str = ""  # date and time

    @property
    def tasks(self) -> list[str]:
        """In suite order."""
        return list(self.zero_shot)

    @property
    def methods(self) -> list[str]:
        """Of all lines."""
        return list(next(iter(self.sets.values())).lines)

    @property
    def titles(self) -> dict[str, str]:
        """Method -> name as tables print it."""
        return {name: one.title for name, one in next(iter(self.sets.values())).lines.items()}

    @property
    def floor(self) -> np.ndarray:
        """Zero-shot accuracy.  ``[T]``."""
        return self._array(self.zero_shot)

    def ceiling(self, one: ExpertSet) -> np.ndarray:
        """Accuracy of each expert on its own task.  ``[T]``."""
        return np.array([one.cross[task][task] for task in self.tasks])

    def _array(self, values: Mapping[str, float]) -> np.ndarray:
        return np.array([values.get(task, NAN) for task in self.tasks])

    def accuracy(self, one: ExpertSet, method: str) -> np.ndarray:
        """Of a merged model; ``[T]``, or ``[1]`` where the mean alone is known."""
        found = one.lines[method].accuracy
        return np.array([found[MEAN]]) if set(found) == {MEAN} else self._array(found)

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all; order of tasks and methods is kept in lists."""
        facts = asdict(self) | {"tasks": self.tasks, "methods": self.methods}
        write_json(path, facts)

    @classmethod
    def read(cls, path: Path) -> "Diagnosis":
        """Inverse of :meth:`write`.

        Raises:
            DamagedFileError: the file is not what :meth:`write` writes.
        """
        facts = read_json(path)
        try:
            tasks, methods = facts.pop("tasks"), facts.pop("methods")
            facts["zero_shot"] = {task: facts["zero_shot"][task] for task in tasks}
            facts["sets"] = {
                seed: ExpertSet(**one | {"lines": {
                    name: MergedLine(**one["lines"][name]) for name in methods}})
                for seed, one in facts["sets"].items()
            }  # fmt: skip
            return cls(**facts)
        except (AttributeError, KeyError, TypeError) as error:
            raise DamagedFileError(
                f"{path} is not a diagnosis ({error!r}); delete it and diagnose again"
            ) from error


def read_all(folder: Path) -> list[Diagnosis]:
    """The diagnoses in a folder of results, in the order in which they were measured."""
    found = [Diagnosis.read(path) for path in sorted((folder / FOLDER).glob("[!.]*.json"))]
    return sorted(found, key=lambda one: one.measured)


# -- shares


def recovered(accuracy: np.ndarray, floor: np.ndarray, ceiling: np.ndarray) -> float:
    """Share of the gap between two means that an accuracy has won; NaN if there is no gap.

    Args:
        accuracy: of any shape; its mean counts.
        floor: ``[T]``.
        ceiling: ``[T]``.

    >>> recovered(np.array([0.6, 0.8]), np.array([0.5, 0.5]), np.array([0.9, 0.9]))
    0.5
    """
    gap = ceiling.mean() - floor.mean()
    share = float((accuracy.mean() - floor.mean()) / gap) if gap > 0 else NAN
    return round(share, 12)  # what is equal stays equal, so that it has one rank


def shares(accuracy: np.ndarray, floor: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    """The same task by task.  ``[T] -> [T]``, NaN where a task has no gap."""
    gap = ceiling - floor
    return np.divide(accuracy - floor, gap, out=np.full(len(gap), NAN), where=gap > 0)


def harm(cross: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """What each expert does to the accuracy on the other tasks, on average.  ``[T]``.

    Args:
        cross: accuracy of expert (row) on task (column), ``[T, T]``, both in one order.
        floor: zero-shot accuracy, ``[T]``.

    >>> harm(np.array([[0.9, 0.4], [0.5, 0.9]]), np.array([0.5, 0.5]))
    array([-0.1,  0. ])
    """
    change, others = cross - floor, ~np.eye(len(floor), dtype=bool)
    if len(floor) < 2:
        return np.full(len(floor), NAN)
    mean: np.ndarray = (change * others).sum(1) / (len(floor) - 1)
    return mean


class Measure(NamedTuple):
    """One quantity of a setting: averaged over its sets of experts."""

    group: str  # what it belongs to, as tables print it
    name: str  # as tables print it
    form: str  # "%": printed in points; "+%": in points with a sign; else a format, ".2f"
    tasks: np.ndarray  # [T]
    mean: float  # of the tasks, or of the setting as a whole
    sd: float  # of the mean, over sets of experts; NaN where there is one set


ACCURACY, VECTORS, OWN = "Accuracy", "Task vectors", "Own line: share of the gap"
HARM, RANK, WON = (
    "Harm to the other tasks",
    "Low rank: share of the gap",
    "Merged: share of the gap",
)


def measures(setting: Diagnosis) -> list[Measure]:
    """Every quantity that the tables show, in their order."""
    found: dict[tuple[str, str, str], list[tuple[np.ndarray, float]]] = {}
    for one in setting.sets.values():
        for key, tasks, mean in _of_set(setting, one):
            found.setdefault(key, []).append((tasks, mean))
    return [
        Measure(
            *key,
            np.mean([tasks for tasks, _ in parts], axis=0),
            float(np.mean([mean for _, mean in parts])),
            float(np.std([mean for _, mean in parts], ddof=1)) if len(parts) > 1 else NAN,
        )
        for key, parts in found.items()
    ]


def _of_set(
    setting: Diagnosis, one: ExpertSet
) -> list[tuple[tuple[str, str, str], np.ndarray, float]]:
    tasks, floor, ceiling = setting.tasks, setting.floor, setting.ceiling(one)
    none, found = np.full(len(tasks), NAN), []

    def add(group: str, name: str, form: str, values: np.ndarray, mean: float) -> None:
        found.append(((group, name, form), values, float(mean)))

    def add_share(group: str, name: str, values: np.ndarray) -> None:
        known = len(values) == len(tasks)
        each = shares(values, floor, ceiling) if known else none
        add(group, name, ".2f", each, recovered(values, floor, ceiling))

    probe = setting._array(setting.probe)
    for name, values in (("zero-shot", floor), ("linear probe", probe), ("expert", ceiling)):
        add(ACCURACY, name, "%", values, values.mean())
    norm = setting._array(one.norm)
    cosines = np.array([[one.cosine.get(a, {}).get(b, NAN) for b in tasks] for a in tasks])
    others = _mean_of_others(cosines)
    add(VECTORS, "length / that of the base", ".3f", norm, norm.mean())
    add(VECTORS, "cosine with the others", ".2f", others, others.mean())
    for step, accuracies in one.own_line.items():
        add_share(OWN, f"s = {step}", setting._array(accuracies))
    cross = np.array([[one.cross[a][b] for b in tasks] for a in tasks])
    done = harm(cross, floor)
    add(HARM, "points", "+%", done, done.mean())
    gap = ceiling.mean() - floor.mean()
    add(HARM, "share of the gap", ".2f", done / gap, done.mean() / gap)
    for share, accuracies in one.kept.items():
        add_share(RANK, f"{100 * float(share):g} % of the rank", setting._array(accuracies))
    for method, line in one.lines.items():
        add_share(WON, line.title, setting.accuracy(one, method))
    return found


def _mean_of_others(square: np.ndarray) -> np.ndarray:
    """Mean of each row without its diagonal.  ``[T, T] -> [T]``."""
    count = len(square)
    if count < 2:
        return np.full(count, NAN)
    mean: np.ndarray = (square.sum(1) - square.diagonal()) / (count - 1)
    return mean


# -- beside published numbers


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the recovered shares of a setting stand to published ones, method by method."""

    methods: tuple[str, ...]  # that both have
    spearman: Interval  # rank correlation
    slope: Interval  # of ours on theirs, least squares; 1: methods differ by as much


def agreement(ours: Diagnosis, theirs: Diagnosis, draws: int = DRAWS) -> Agreement:
    """Compare the methods that two settings have in common.

    The intervals are a bootstrap over our tasks, and over our sets of experts where there are
    several: both are drawn anew with replacement, the chosen constants stay, and the published
    numbers are fixed. So they say what another choice of tasks might give; with so few methods,
    nothing about other methods.

    Args:
        ours: any setting.
        theirs: the published one.
        draws: of the bootstrap.
    """
    from scipy.stats import linregress, spearmanr

    methods = tuple(name for name in theirs.methods if name in ours.methods)
    if len(methods) < 2:
        nothing = Interval(NAN, NAN, NAN)
        return Agreement(methods=methods, spearman=nothing, slope=nothing)
    target = _won(theirs, methods).mean(1)
    found = _won(ours, methods).mean(1)
    rng = rng_of("diagnosis", "bootstrap")
    count, sets = len(ours.tasks), len(ours.sets)
    drawn = [
        _won(ours, methods, rng.integers(0, count, count), rng.integers(0, sets, sets)).mean(1)
        for _ in range(draws)
    ]
    return Agreement(
        methods=methods,
        spearman=_limits(
            float(spearmanr(found, target).statistic), _spearman(np.array(drawn), target)
        ),
        slope=_limits(float(linregress(target, found).slope), _slopes(np.array(drawn), target)),
    )


def _won(
    setting: Diagnosis,
    methods: Sequence[str],
    tasks: np.ndarray | None = None,
    sets: np.ndarray | None = None,
) -> np.ndarray:
    """Recovered shares of the methods, over the tasks and of the sets given.  ``-> [M, R]``."""
    every = list(setting.sets.values())
    chosen = every if sets is None else [every[i] for i in sets]
    rows = slice(None) if tasks is None else tasks
    floor = setting.floor[rows]
    return np.array(
        [
            [
                recovered(values if len(values) == 1 else values[rows], floor,
                          setting.ceiling(one)[rows])
                for one in chosen
                for values in [setting.accuracy(one, method)]
            ]
            for method in methods
        ]
    )  # fmt: skip


def _spearman(drawn: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rank correlation of every row with the target.  ``[B, M], [M] -> [B]``."""
    from scipy.stats import rankdata

    x, y = rankdata(drawn, axis=1), rankdata(target)
    x, y = x - x.mean(1, keepdims=True), y - y.mean()
    scale = np.sqrt((x**2).sum(1) * (y**2).sum())
    return np.divide(x @ y, scale, out=np.full(len(x), NAN), where=scale > 0)


def _slopes(drawn: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Slope of every row on the target.  ``[B, M], [M] -> [B]``."""
    x = target - target.mean()
    slopes: np.ndarray = (drawn - drawn.mean(1, keepdims=True)) @ x / (x @ x)
    return slopes


def _limits(value: float, drawn: np.ndarray) -> Interval:
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return Interval(value, NAN, NAN)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))
