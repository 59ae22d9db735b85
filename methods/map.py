"""MAP: coefficients of the task vectors from a quadratic model of each task's accuracy."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mergeshift import seed_of
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


@METHODS.register("map")
class Map(MergingMethod):
    """theta = theta_0 + sum_t c_t tau_t, c = argmax mean_i acc_i(c), acc_i = sigmoid(q_i(c)).

    q_i is a quadratic in c that is fitted to the val accuracies of task i at some points, by least
    squares on their logits. A full quadratic has (K + 1)(K + 2) / 2 coefficients, more than the
    common budget of passes can tell at K = 8; without its mixed terms it has 2 K + 1, which is ours
    [R] and the default. The points are of Sobol's sequence in a box [R: from K = 8 on, the authors'
    grid has two values along each axis, at which a square is no other than its root], after the
    plain sum at 0.3. Fewer points than coefficients are told as a problem. The optimum in the box
    is measured in one more pass, and the best of all that was measured is taken [R]. The authors'
    Pareto front is not drawn: every task has the same weight.
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
        heads = {task: self.heads()[task] for task in self.tasks}
        validation = Validation(access, heads, self.vit, self.cfg.val_images)
        counts = [len(labels) for _, labels in validation.data.values()]
        points = design(len(self.tasks), self.cfg.points, seed_of(self.name, self.seed))
        points = np.vstack([np.full((1, len(self.tasks)), self.cfg.start), self.cfg.high * points])
        points = points[: self.cfg.points]
        held = ckpts.base.materialise(), [ckpts.experts[task] for task in self.tasks]

        def measured(point: np.ndarray) -> list[float]:
            model = combined(*held, torch.as_tensor(point, dtype=torch.float32)).materialise()
            found = list(validation.accuracies(model).values())
            access.count_pass()
            return found

        seen = np.array([measured(point) for point in points])
        fits = [
            fit(points, logit(accuracy, count), self.cfg.quadratic)
            for accuracy, count in zip(seen.T, counts, strict=True)
        ]
        best = maximise(np.array(fits), points, self.cfg.quadratic, self.cfg.high)
        reached = np.array(measured(best))
        every = np.vstack([points, best]), np.vstack([seen, reached])
        chosen = int(every[1].mean(1).argmax())
        self.learned()["coefficients"].copy_(torch.as_tensor(every[0][chosen]))
        told = predicted(np.array(fits), every[0], self.cfg.quadratic)
        few = f"{len(fits[0])} coefficients from {len(points)} points"
        self.report = {
            "problems": [few] if len(points) < len(fits[0]) else [],
            "terms": len(fits[0]),
            "error at the points": float(np.abs(told[:-1] - seen).mean()),
            "error at the optimum": float(np.abs(told[-1] - reached).mean()),
            "points": every[0].tolist(),
            "accuracies": every[1].tolist(),
        }

    def merge(self, ckpts: Checkpoints) -> Weights:
        experts = [ckpts.experts[task] for task in self.tasks]
        return combined(ckpts.base, experts, self.learned()["coefficients"])


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


def maximise(fits: np.ndarray, starts: np.ndarray, kind: str, high: float) -> np.ndarray:
    """The point of the box with the highest mean accuracy, by L-BFGS-B from every start."""
    from scipy.optimize import minimize

    def loss(point: np.ndarray) -> float:
        return -float(predicted(fits, point[None], kind).mean())

    box = [(0.0, high)] * starts.shape[1]
    found: list[Any] = [
        minimize(loss, np.clip(start, 0, high), method="L-BFGS-B", bounds=box) for start in starts
    ]
    return np.asarray(min(found, key=lambda one: one.fun).x)
