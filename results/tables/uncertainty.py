"""Misclassification and shift detection: do a method's uncertainty scores tell errors and shifts?

As a table it has a line per score under each method.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from mergeshift import UserError
from results.statistics import auroc
from results.tables.columns import ColumnCells, spans
from results.tables.entries import keys_by_run
from results.tables.grid import Grid, arrange
from results.tables.layout import GroupedTable, Layout, points
from results.tables.notes import notes_of

NAN = math.nan


class Score(NamedTuple):
    """A number per image that may tell errors and shifts."""

    sign: int  # makes it larger for images to be suspected
    title: str
    meaning: str


SCORES = {  # stored name -> what it is
    "max_prob": Score(-1, "maximum softmax probability", "probability of the predicted class"),
    "entropy": Score(1, "predictive entropy", "entropy of the predicted probabilities"),
    "u": Score(
        1, "evidential uncertainty (u)", "belief mass that the evidential head gives to no class"
    ),
    "ads": Score(
        1,
        "adjacency discrepancy (ADS)",
        "mean disagreement with the nearest neighbours within a test batch",
    ),
}

WRONG, SHIFTED = "wrong", "shifted"  # as CSV files name the columns
DETECTED = {WRONG: "errors", SHIFTED: "shift"}  # as tables print them

AGAIN = (  # for methods that ran here, and for external predictions
    "run `python -m bench evaluate` again with --uncertainty, or `results add` with confidence or "
    "probabilities"
)

KINDS = ("seen", "unseen")  # as columns by seen end


class Auroc(NamedTuple):
    """How well one score of one method tells something, in one column. NaN if there is none."""

    value: float  # area under the ROC curve, mean over tasks, shifts and seeds
    spread: float = NAN  # standard deviation of it over seeds; NaN if there is one


@dataclass(frozen=True, kw_only=True)
class DetectionTable(GroupedTable):
    """The areas under the curve of every method and score, ready to be printed in any format.

    Columns are ``wrong clean``, ``wrong L1`` ..., ``shifted L1`` ...; where tasks are unseen, each
    is there twice, ``wrong clean seen`` and ``wrong clean unseen``.
    """

    percent = ("value", "spread")

    areas: dict[tuple[str, str, str], Auroc]  # (entry key, score, column)
    kinds: tuple[str, ...] = ()  # "seen" and "unseen" where there are both

    def scores_of(self, key: str) -> list[str]:
        """The scores that an entry has."""
        return [name for name in SCORES if (key, name, self.columns[0]) in self.areas]

    def layout(self) -> Layout:
        """A line per score; where tasks are unseen, one for each kind of tasks.

        The spread over seeds stands in the CSV alone.
        """
        ends = [f" {kind}" for kind in self.kinds] or [""]
        names = {end: f",{end} tasks" if end else "" for end in ends}
        headers = [name.removesuffix(ends[0]) for name in self.columns if name.endswith(ends[0])]
        return Layout(
            what="score",
            headers=[_header(name) for name in headers],
            lines={
                entry.key: [
                    (SCORES[score].title + names[end],
                     [points(self.areas[entry.key, score, head + end].value) for head in headers])
                    for score in self.scores_of(entry.key)
                    for end in ends
                ]
                for entry in self.entries
            },
            caption=("areas", "images"),
            below=("scores", "unseen", "left out", "levels", "shifts"),
        )  # fmt: skip

    def frame(self) -> pd.DataFrame:
        """Every number, unrounded: one row per method, score and column."""
        entries = {entry.key: entry for entry in self.entries}
        return pd.DataFrame(
            [
                {
                    **{"entry": key, "method": entries[key].method, "title": entries[key].title},
                    **{"score": score, "column": column, **found._asdict()},
                }
                for (key, score, column), found in self.areas.items()
            ]
        )


def _header(column: str) -> str:
    """``wrong L1`` -> ``errors, L1``."""
    kind, _, rest = column.partition(" ")
    return f"{DETECTED[kind]}, {rest}"


def uncertainty_score(images: pd.DataFrame, score: str) -> np.ndarray:
    """A score of images, such that it is larger for those to be suspected.  ``[N]``."""
    return SCORES[score].sign * images[score].to_numpy(float)


def detection(
    rows: pd.DataFrame,
    images: pd.DataFrame,
    order: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> DetectionTable:
    """Areas under the ROC curve, for wrong answers and for shifted images against clean ones.

    Each is of one task under one shift; then they are averaged. Wrong answers: over those cells
    where every method has right and wrong answers, so that no two means are over different cells.

    Args:
        rows: a frame of the columns in ``results.schema``.
        images: of the same runs (see :meth:`results.store.Store.read_images`).
        order: methods to put first, in this order.
        left_out: methods in the rows of which there are no images; a note says so.

    Raises:
        UserError: the methods were not measured on the same cells.
    """
    accuracy = rows[(rows["metric"] == "acc") & ~rows["method"].isin(left_out)]
    grid = arrange(accuracy, order=order)
    of_run = keys_by_run(accuracy)
    found = {run: _areas(grid, part) for run, part in images.groupby("run_id", sort=False)}
    if lacking := sorted(set(of_run) - set(found)):
        raise UserError(f"no scores of single images of {lacking[0]}; run with --uncertainty")
    known = np.all([~np.isnan(one[WRONG, "max_prob"]) for one in found.values()], axis=0)  # [T, S]
    columns = _columns(grid)
    areas = {}
    for entry in grid.entries:
        mine = [found[run] for run, key in of_run.items() if key == entry.key]
        for score in SCORES:
            if np.isnan(mine[0][SHIFTED, score]).all() and np.isnan(mine[0][WRONG, score]).all():
                continue
            for column, (kind, span) in columns.items():
                means = [_mean(one[kind, score], span, known, kind) for one in mine]
                spread = float(np.std(means, ddof=1)) if len(means) > 1 else NAN
                areas[entry.key, score, column] = Auroc(float(np.mean(means)), spread)
    return DetectionTable(
        title=f"Misclassification and shift detection (AUROC) on {grid.setting['suite']} with "
        f"{grid.setting['encoder']}",
        entries=grid.entries,
        columns=tuple(columns),
        areas=areas,
        kinds=KINDS if grid.unseen else (),
        setting=grid.setting,
        notes=_notes(grid, known, {score for _, score, _ in areas}, left_out),
    )


def _areas(grid: Grid, images: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """(what is told, score) -> area of every task and shift of one run.  ``[T, S]`` each."""
    shape = len(grid.tasks), len(grid.shifts)
    found = {(kind, name): np.full(shape, NAN) for kind in (WRONG, SHIFTED) for name in SCORES}
    cells = dict(list(images.groupby(["task", "corruption", "severity"], sort=False)))
    for t, task in enumerate(grid.tasks):
        clean = cells.get((task, "clean", 0))
        for s, shift in enumerate(grid.shifts):
            if not grid.counts[t, s]:
                continue
            here = cells[task, shift.corruption, shift.severity]
            for name in SCORES:
                suspicion = uncertainty_score(here, name)
                found[WRONG, name][t, s] = auroc(suspicion, ~here["right"].to_numpy(bool))
                if shift.severity and clean is not None:
                    both = np.concatenate([uncertainty_score(clean, name), suspicion])
                    found[SHIFTED, name][t, s] = auroc(both, np.arange(len(both)) >= len(clean))
    return found


def _columns(grid: Grid) -> dict[str, tuple[str, ColumnCells]]:
    levels = spans(grid, "seen" if grid.unseen else "shift")
    wrong = {f"{WRONG} {name}": (WRONG, span) for name, span in levels.items()}
    if grid.clean is None:
        return wrong
    shifted = {
        name: span
        for name, span in levels.items()
        if all(grid.shifts[s].severity for s in span.shifts)
    }
    return wrong | {f"{SHIFTED} {name}": (SHIFTED, span) for name, span in shifted.items()}


def _mean(areas: np.ndarray, span: ColumnCells, known: np.ndarray, kind: str) -> float:
    """Mean over a span; of wrong answers, over what is known of every method."""
    where = np.ix_(span.tasks, span.shifts)
    values = areas[where][known[where]] if kind == WRONG else areas[where]
    return float(values.mean()) if values.size else NAN


def _notes(
    grid: Grid, known: np.ndarray, scores: set[str], left_out: Sequence[str]
) -> dict[str, str]:
    general = notes_of(grid, "shift", tuple(spans(grid, "shift")), "clean")
    over, unseen = f"{len(grid.tasks)} tasks", len(grid.unseen)
    if unseen:
        over = f"{len(grid.tasks) - unseen} seen and over {unseen} unseen tasks"
    areas = (
        "Area under the ROC curve in %; 50 = chance. errors: misclassified against correctly "
        "classified images; shift: shifted images against the same images without the shift. "
        f"Computed for each task and shift, then averaged over {over}."
    )
    if gone := int((~known).sum()):
        areas += (
            f" Error detection leaves out {gone} of {known.size} cells, in which some method has "
            "only correct or only wrong predictions."
        )
    meaning = "; ".join(
        f"{score.title}: {score.meaning}" for name, score in SCORES.items() if name in scores
    )
    notes = {"world": general["world"], "areas": areas, "scores": f"{meaning}."}
    if left_out:
        notes["left out"] = (
            f"Not shown, because no per-image results are stored: {', '.join(left_out)}; {AGAIN}."
        )
    kept = ("images", "unseen", "levels", "shifts")
    return notes | {key: general[key] for key in kept if key in general}
