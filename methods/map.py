"""MAP: coefficients of the task vectors from a quadratic model of each task's accuracy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mergeshift import UserError, seed_of
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
)
from methods.bmm.outer import Validation

RIDGE = 1e-6  # a coefficient that nothing tells of stays at 0
SHARES = (0.0, 0.125, 0.25, 0.5, 0.75, 0.9, 1.0)  # weights of a task along the front
STARTS = 3  # of every optimum of the front: the best points that were measured


@METHODS.register("map")
class Map(MergingMethod):
    """theta = theta_0 + sum_t c_t tau_t, c = argmax mean_i acc_i(c), acc_i = sigmoid(q_i(c)).

    q_i is a quadratic in c that is fitted to the val accuracies of task i at some points, by least
    squares on their logits. A full quadratic has (K + 1)(K + 2) / 2 coefficients, more than the
    common budget of passes can tell at K = 8; without its mixed terms it has 2 K + 1, which is ours
    [R] and the default. The points are of Sobol's sequence in a box [R: from K = 8 on, the authors'
    grid has two values along each axis, at which a square is no other than its root], after the
    plain sum at 0.3. Fewer points than coefficients are told as a problem. The optimum in the box
    is measured in one more pass, and the best of all that was measured is taken [R]. Every task has
    the same weight; what other weights would give, :func:`front` says, without another pass
    (``plot pareto``). The quadratics are fitted to points in the box: the report says how far they
    are off at these, at each of them when it is left out, and at the optimum. The accuracies are of
    the tasks that are measured; extra experts have coefficients as well.
    """

    title = "MAP (diagonal quadratic)"
    paper = Paper(
        key="li2025map",
        arxiv="2406.07529",
        where="Algorithm 1, one preference",
        year=2025,
        title="{MAP}: Low-compute Model Merging with Amortized {Pareto} Fronts via Quadratic "
        "Approximation",
        authors="Li, Lu and Zhang, Tianyu and Bu, Zhiqi and Wang, Suyuchen and He, Huan and Fu, "
        "Jie and Wu, Yonghui and Bian, Jiang and Chen, Yong and Bengio, Yoshua",
        venue="International Conference on Learning Representations",
    )
    needs = Needs.VAL_LABELS
    quick_config = {"points": 6}
    learned: TensorBuffers  # "coefficients": c, [K], in the order of the alphabet

    class Config(MergingMethod.Config):
        """The points and the optimum are 32 passes, the common budget."""

        points: int = Setting(31, low=1)
        quadratic: Literal["diagonal", "full"] = "diagonal"
        high: float = Setting(0.6, above=0)  # the box is [0, high]^K [R: the authors' is 1]
        start: float = Setting(0.3, low=0)  # all coefficients of the first point
        val_images: int = Setting(0, low=0)  # of each task; 0: all there are

    @property
    def num_validation_passes(self) -> int:
        return self.cfg.points + 1

    @property
    def coefficients(self) -> dict[str, dict[str, float]]:
        if self.learned is None:
            return {}
        return {"all": dict(zip(self.tasks, self.learned()["coefficients"].tolist(), strict=True))}

    def prepare(self, ckpts: Checkpoints) -> None:
        self.tasks = sorted(ckpts.experts)
        self.learned = TensorBuffers({"coefficients": torch.zeros(len(self.tasks))})

    @torch.no_grad()
    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        validation = self.validation(ckpts, access)
        held = ckpts.base.materialise(), [ckpts.experts[task] for task in self.tasks]
        points = design(len(self.tasks), self.cfg.points, seed_of(self.name, self.seed))
        points = np.vstack([np.full((1, len(self.tasks)), self.cfg.start), self.cfg.high * points])

        def measured(point: np.ndarray) -> list[float]:
            model = combined(*held, torch.as_tensor(point, dtype=torch.float32)).materialise()
            found = list(validation.accuracies(model).values())
            access.count_pass()
            return found

        counts = [len(labels) for _, labels in validation.data.values()]
        found = search(
            measured, points[: self.cfg.points], counts, self.cfg.quadratic, self.cfg.high
        )
        self.learned()["coefficients"].copy_(torch.as_tensor(found.best))
        self.report = found.report() | {
            "tasks": list(validation.data), "experts": self.tasks, "high": self.cfg.high,
        }  # fmt: skip

    def validation(self, ckpts: Checkpoints, access: DataAccess) -> Validation:
        """The labelled images of the tasks that are measured."""
        heads = {task: self.heads()[task] for task in sorted(ckpts.measured)}
        return Validation(access, heads, self.vit, self.cfg.val_images)

    def merge(self, ckpts: Checkpoints) -> Weights:
        experts = [ckpts.experts[task] for task in self.tasks]
        return combined(ckpts.base, experts, self.learned()["coefficients"])


@METHODS.register("map_nested")
class MapNested(Map):
    """theta = theta_0 + sum_t c_t tau_t, c = products of pairs' coefficients: MAP of two, nested.

    Models are joined two by two: first experts, then what became of them, those first whose val
    accuracies are closest. theta_0 + a (theta_A - theta_0) + b (theta_B - theta_0) has a full
    quadratic in a and b for each task of the two, of 6 coefficients, and is a model of all of these
    tasks from then on. In each round every model is joined but one that is left over, which waits
    [R: the authors join pair by pair, in any tree], so that a round is as many looks at val of all
    tasks as a pair has points. The first pass measures the experts. An extra expert, which has no
    val images, is left out.
    """

    title = "Nested MAP"
    version = 1
    paper = replace(Map.paper, where="Nested MAP")
    quick_config = {"passes": 13}

    class Config(MergingMethod.Config):
        """All passes are the common budget: with 8 tasks, 10 for each pair of a round."""

        passes: int = Setting(32, low=1)
        high: float = Setting(1.0, above=0)  # the box is [0, high]^2
        start: float = Setting(0.5, low=0)  # both coefficients of the first point
        val_images: int = Setting(0, low=0)  # of each task; 0: all there are

    @property
    def num_validation_passes(self) -> int:
        return int(self.cfg.passes)

    @torch.no_grad()
    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        validation = self.validation(ckpts, access)
        held = ckpts.base.materialise(), [ckpts.experts[task] for task in self.tasks]

        def measured(shares: np.ndarray, tasks: Sequence[str]) -> list[float]:
            model = combined(*held, torch.as_tensor(shares, dtype=torch.float32)).materialise()
            return [validation.accuracy(model, task) for task in tasks]

        groups: list[Group] = []
        for task in validation.data:
            shares = np.array([float(one == task) for one in self.tasks])
            groups.append(Group((task,), shares, measured(shares, [task])[0]))
        access.count_pass()
        rounds = rounds_of(len(groups), self.cfg.passes - 1)
        if rounds and rounds[0] < 2:
            raise UserError(
                f"{self.name} measures the experts in one pass and joins {len(groups)} of them in "
                f"{len(rounds)} rounds of at least two; got passes={self.cfg.passes}, the least is "
                f"{1 + 2 * len(rounds)}"
            )
        told: list[dict[str, Any]] = []
        for passes in rounds:
            pairs, left = closest(groups)
            groups = list(left)
            for first, second in pairs:
                found = self.join(first, second, passes, measured, validation)
                shares = found.best @ np.stack([first.shares, second.shares])
                tasks = (*first.tasks, *second.tasks)
                groups.append(Group(tasks, shares, float(found.reached.mean())))
                told.append({"tasks": list(tasks), **found.report()})
            for _ in range(passes):
                access.count_pass()
        for _ in range(self.cfg.passes - 1 - sum(rounds)):  # there was nothing to join
            access.count_pass()
        self.learned()["coefficients"].copy_(torch.as_tensor(groups[0].shares))
        few = [one["problems"][0] for one in told if one["problems"]]
        self.report = {"problems": few[:1], "joined": told}

    def join(
        self,
        first: "Group",
        second: "Group",
        passes: int,
        measured: Callable[[np.ndarray, Sequence[str]], list[float]],
        validation: Validation,
    ) -> "Found":
        """The best of a combination of two models, of so many that are measured."""
        tasks, both = (*first.tasks, *second.tasks), np.stack([first.shares, second.shares])
        points = design(2, passes - 1, seed_of(self.name, self.seed, *sorted(tasks)))
        points = np.vstack([np.full((1, 2), self.cfg.start), self.cfg.high * points])
        counts = [len(validation.data[task][1]) for task in tasks]
        return search(
            lambda c: measured(c @ both, tasks), points[: passes - 1], counts, "full", self.cfg.high
        )


@dataclass(frozen=True)
class Group:
    """A model that stands for some tasks."""

    tasks: tuple[str, ...]
    shares: np.ndarray  # of each expert in it, [K]
    accuracy: float  # mean over its tasks, on val


def rounds_of(count: int, passes: int) -> list[int]:
    """How many passes each round of joining two by two has, until one of ``count`` is left.

    >>> rounds_of(8, 31), rounds_of(3, 31), rounds_of(1, 31)
    ([10, 10, 11], [15, 16], [])
    """
    rounds = max(count - 1, 0).bit_length()
    each = passes // rounds if rounds else 0
    return [each] * (rounds - 1) + [passes - each * (rounds - 1)] * (rounds > 0)


def closest(groups: Sequence[Group]) -> tuple[list[tuple[Group, Group]], list[Group]]:
    """Pairs, those of the closest accuracies first; and the one that is left over."""
    left = sorted(groups, key=lambda group: (group.accuracy, group.tasks))
    pairs = []
    while len(left) > 1:
        gaps = [b.accuracy - a.accuracy for a, b in pairwise(left)]
        place = int(np.argmin(gaps))
        pairs.append((left.pop(place), left.pop(place)))
    return pairs, left


@dataclass(frozen=True)
class Found:
    """What a fit of quadratics found: the points that were measured, the optimum last."""

    points: np.ndarray  # [n + 1, K]
    accuracies: np.ndarray  # [n + 1, T]
    fits: np.ndarray  # [T, terms]
    kind: str  # of quadratic
    left_out: float  # mean error at the points, each when it is left out of the fit; NaN: no fit

    @property
    def chosen(self) -> int:
        """The best of all that was measured."""
        return int(self.accuracies.mean(1).argmax())

    @property
    def best(self) -> np.ndarray:
        """Its coefficients."""
        return np.asarray(self.points[self.chosen])

    @property
    def reached(self) -> np.ndarray:
        """Its accuracies."""
        return np.asarray(self.accuracies[self.chosen])

    def report(self) -> dict[str, Any]:
        """Ready for JSON."""
        told, terms = predicted(self.fits, self.points, self.kind), self.fits.shape[1]
        count = len(self.points) - 1
        errors = np.abs(told - self.accuracies)
        found: dict[str, Any] = {
            "problems": [f"{terms} coefficients from {count} points"] * (count < terms),
            "terms": terms,
            "quadratic": self.kind,
            "error at the points": float(errors[:count].mean()),
            "error at the optimum": float(errors[-1].mean()),
            "fits": self.fits.tolist(),
            "points": self.points.tolist(),
            "accuracies": self.accuracies.tolist(),
        }
        if self.left_out == self.left_out:
            found["error at points left out"] = self.left_out
        return found


def search(
    measured: Callable[[np.ndarray], Sequence[float]],
    points: np.ndarray,
    counts: Sequence[int],
    kind: str,
    high: float,
) -> Found:
    """Fit quadratics to what is measured at some points, and measure their optimum.

    Args:
        measured: the accuracies of every task at a point of the box.
        points: ``[n, K]``.
        counts: images behind each accuracy.
        kind: ``diagonal`` or ``full``.
        high: the box is [0, high]^K.
    """
    seen = np.array([measured(point) for point in points])
    values = np.stack([logit(one, n) for one, n in zip(seen.T, counts, strict=True)], axis=1)
    fits = np.stack([fit(points, column, kind) for column in values.T])
    best = maximise(fits, points, kind, high)
    every, reached = np.vstack([points, best]), np.vstack([seen, measured(best)])
    error = np.abs(left_out(points, values, kind) - seen).mean()
    return Found(every, reached, fits, kind, float(error))


def left_out(points: np.ndarray, values: np.ndarray, kind: str) -> np.ndarray:
    """What a fit without a point says of it, for every point.  ``[n, K], [n, T] -> [n, T]``.

    By the diagonal of the projection, h_i: the residual of a point that is left out is the usual
    one over 1 - h_i. NaN where the points are no more than the coefficients.
    """
    rows = terms(points, kind)
    if len(rows) <= rows.shape[1]:
        return np.full_like(values, np.nan)
    inverse = np.linalg.inv(rows.T @ rows + RIDGE * np.eye(rows.shape[1]))
    hat = rows @ inverse @ rows.T
    gap = (values - hat @ values) / (1 - np.diag(hat))[:, None]
    return np.asarray(1 / (1 + np.exp(gap - values)))


@dataclass(frozen=True)
class TradeOff:
    """A point of the front: what one task gets where it has a share of all weight."""

    task: str
    share: float  # of the weight; the others share the rest
    coefficients: tuple[float, ...]
    accuracies: tuple[float, ...]  # of every task, by the quadratics


def front(report: Mapping[str, Any], shares: Sequence[float] = SHARES) -> list[TradeOff]:
    """The convex part of the Pareto front that the quadratics of a report have, task by task.

    The authors look for the whole front by NSGA-III; weighted sums of accuracies reach its convex
    part alone, and take no chance [R].

    Args:
        report: of MAP.
        shares: weights of a task; the other tasks have equal parts of the rest.
    """
    fits, points = np.array(report["fits"]), np.array(report["points"])
    tasks, kind, high = report["tasks"], report["quadratic"], report["high"]
    ranked = points[np.argsort(-np.array(report["accuracies"]).mean(1))[:STARTS]]
    found = []
    for i, task in enumerate(tasks):
        best = ranked
        for share in shares:
            rest = (1 - share) / max(len(tasks) - 1, 1)
            weights = np.where(np.arange(len(tasks)) == i, share, rest)
            point = maximise(fits, np.vstack([ranked, best]), kind, high, weights)
            best = point[None]
            told = predicted(fits, best, kind)[0]
            found.append(TradeOff(task, share, tuple(point.tolist()), tuple(told.tolist())))
    return found


def combined(base: Weights, experts: Sequence[Weights], shares: Tensor) -> Weights:
    """theta_0 + sum_t c_t tau_t, lazily."""

    def read(name: str) -> Tensor:
        held = base[name]
        found = held.clone()
        for share, expert in zip(shares, experts, strict=True):
            found += share.to(held) * (expert[name] - held)
        return found

    return Weights.lazy({name: base.shape(name) for name in base}, read)


def design(axes: int, count: int, seed: int) -> np.ndarray:
    """Points of a scrambled Sobol sequence in the unit cube.  ``[count, axes]``."""
    from scipy.stats import qmc

    whole = 1 << max(count - 1, 0).bit_length()  # it is balanced at powers of 2
    return np.asarray(qmc.Sobol(axes, seed=seed % 2**32).random(whole)[:count])


def terms(points: np.ndarray, kind: str) -> np.ndarray:
    """1, c and c^2, and with ``full`` the products.  ``[n, K] -> [n, terms]``.

    >>> terms(np.array([[2.0, 3.0]]), "full").tolist()
    [[1.0, 2.0, 3.0, 4.0, 9.0, 6.0]]
    """
    parts = [np.ones((len(points), 1)), points, points**2]
    if kind == "full":
        rows, columns = np.triu_indices(points.shape[1], 1)
        parts.append(points[:, rows] * points[:, columns])
    return np.hstack(parts)


def logit(accuracies: np.ndarray, count: int) -> np.ndarray:
    """log(p / (1 - p)), half an image away from 0 and 1."""
    shares = np.clip(accuracies, 0.5 / count, 1 - 0.5 / count)
    return np.asarray(np.log(shares / (1 - shares)))


def fit(points: np.ndarray, values: np.ndarray, kind: str) -> np.ndarray:
    """A quadratic by least squares.  ``[n, K], [n] -> [terms]``."""
    rows = terms(points, kind)
    return np.asarray(
        np.linalg.solve(rows.T @ rows + RIDGE * np.eye(rows.shape[1]), rows.T @ values)
    )


def predicted(fits: np.ndarray, points: np.ndarray, kind: str) -> np.ndarray:
    """Accuracies by the quadratics.  ``[T, terms], [n, K] -> [n, T]``."""
    return np.asarray(1 / (1 + np.exp(-terms(points, kind) @ fits.T)))


def maximise(
    fits: np.ndarray,
    starts: np.ndarray,
    kind: str,
    high: float,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """The point of the box with the highest mean accuracy, by L-BFGS-B from every start.

    Args:
        fits: of the tasks, ``[T, terms]``.
        starts: ``[n, K]``.
        kind: of quadratic.
        high: the box is [0, high]^K.
        weights: of the tasks in the mean, ``[T]``; ``None``: equal.
    """
    from scipy.optimize import minimize

    def loss(point: np.ndarray) -> float:
        return -float(np.average(predicted(fits, point[None], kind)[0], weights=weights))

    box = [(0.0, high)] * starts.shape[1]
    found: list[Any] = [
        minimize(loss, np.clip(start, 0, high), method="L-BFGS-B", bounds=box) for start in starts
    ]
    return np.asarray(min(found, key=lambda one: one.fun).x)
