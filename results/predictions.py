"""External predictions: read, checked against the labels, and measured."""

import codecs
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mergeshift import UserError
from results.metrics import brier, by_class, of_confidence
from results.prediction_columns import OPTIONAL, WANTED

CELL = ["method", "seed", "task", "shift"]
SMALLEST = float(np.finfo(np.float32).tiny)  # probability of the right class in nll, at least
TEXT = ("method", "task", "shift", "prediction")  # columns of a .csv that are taken as they stand
UNTYPED = "untyped"  # what a frame is marked with whose file does not tell numbers from texts
WHOLE = re.compile(r"(0|[1-9][0-9]*)(\.0+)?")
NEAR = 1e-3  # probabilities add up to 1 as nearly as half precision writes them


@dataclass(frozen=True)
class Truth:
    """What the predictions for one task are checked against."""

    labels: np.ndarray  # int [N], of the test images that the sweep measures
    classes: Sequence[str]


@dataclass(frozen=True)
class Answers:
    """Predictions of one method, seed, task and shift, in the order of the images."""

    predicted: np.ndarray  # int [N]
    confidence: np.ndarray | None = None  # [N]
    probabilities: np.ndarray | None = None  # [N, C]


Cells = dict[tuple[str, int], dict[tuple[str, str], Answers]]  # (method, seed) -> (task, shift)


def read(path: Path) -> pd.DataFrame:
    """A parquet or CSV file of predictions, all columns there, ``seed`` added.

    Texts are as they stand in the file: ``None``, ``NA`` and ``null`` are names like any other.

    Raises:
        UserError: it cannot be read, or lacks a column, or has one that means nothing here.
    """
    frame = _loaded(path)
    missing = [name for name in WANTED if name not in frame]
    unknown = [str(name) for name in frame if name not in WANTED | OPTIONAL]
    if missing or unknown:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing)
        parts += [f"has {', '.join(unknown)}, which mean nothing here"] * bool(unknown)
        raise UserError(f"{path} {' and '.join(parts)}; columns: {', '.join(WANTED | OPTIONAL)}")
    if frame.empty:
        raise UserError(f"{path} holds no predictions")
    frame = frame if "seed" in frame else frame.assign(seed=0)
    for name in ("seed", "image"):
        frame[name] = _whole(frame[name], name)
    for name in ("method", "task", "shift"):
        frame[name] = frame[name].astype(object).fillna("").astype(str).str.strip()
        if (frame[name] == "").any():
            raise UserError(f"column {name!r} has missing values; it is {WANTED[name]}")
    return frame


def answers(
    frame: pd.DataFrame, truths: Mapping[str, Truth], shifts: Sequence[str]
) -> tuple[Cells, list[str]]:
    """The predictions cell by cell, and the shifts among them that are not asked for.

    Args:
        frame: from :func:`read`.
        truths: task -> labels and classes.
        shifts: those that every method must have.

    Raises:
        UserError: a task is unknown, a cell is missing, or what is there does not fit the labels.
    """
    if unknown := [task for task in frame["task"].unique() if task not in truths]:
        raise UserError(f"no task {unknown[0]!r} in this sweep; it has: {', '.join(truths)}")
    others = [shift for shift in frame["shift"].unique() if shift not in shifts]
    frame = frame.assign(prediction=_numbered(frame, truths))
    found: Cells = {}
    for key, part in frame[frame["shift"].isin(list(shifts))].groupby(CELL, sort=False):
        method, seed, task, shift = key
        one = _answers(part, truths[task], f"{method}, task={task} shift={shift} seed={seed}")
        found.setdefault((method, seed), {})[task, shift] = one
    every = [(task, shift) for shift in shifts for task in truths]
    for method, seed in frame[["method", "seed"]].drop_duplicates().itertuples(index=False):
        mine = found.get((method, seed), {})
        if lacking := [cell for cell in every if cell not in mine]:
            (task, shift), more = lacking[0], f"; it has no shift {', '.join(others)}"
            raise UserError(
                f"{method} (seed {seed}) lacks {len(lacking)} of {len(every)} cells of this sweep, "
                f"e.g. task={task} shift={shift}{more if others else ''}"
            )
    return found, others


def measure(given: Answers, labels: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Metrics of one cell, as those of methods that are run here, and which images were right.

    Accuracy, also class by class, always; calibration and ``aurc`` where the confidence is known,
    ``nll`` (nats) and ``brier`` where all probabilities are. A probability of the right class below
    the smallest float32 counts as that.
    """
    right = given.predicted == labels
    found = {"acc": float(right.mean()), **by_class(given.predicted, labels)}
    if given.probabilities is not None:
        mine = given.probabilities[np.arange(len(labels)), labels]
        found["nll"] = float(-np.log(np.maximum(mine, SMALLEST)).mean())
        found["brier"] = brier(given.probabilities, labels)
    if given.confidence is not None:
        found |= of_confidence(given.confidence, right)
    return found, right


def uncertainty_scores(given: Answers) -> dict[str, np.ndarray] | None:
    """``max_prob`` and ``entropy`` (nats) of every image; NaN what is not known; or nothing."""
    if given.confidence is None:
        return None
    entropy = np.full(len(given.confidence), math.nan)
    if (p := given.probabilities) is not None:
        entropy = -(p * np.log(np.maximum(p, SMALLEST))).sum(axis=1)
    return {"max_prob": given.confidence, "entropy": entropy}


def _loaded(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise UserError(f"no file {path}; give a parquet file of predictions")
    text = path.suffix.lower() == ".csv"
    try:
        frame = _texts(path) if text else pd.read_parquet(path)
    except UserError:
        raise
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"cannot read {path} as parquet (or .csv): {first}") from error
    if text and "probabilities" in frame:
        raise UserError(f"{path} cannot hold lists of probabilities; write it as .parquet")
    return frame


def _texts(path: Path) -> pd.DataFrame:
    """A .csv whose cells are texts; only those of columns that hold numbers may be missing."""
    with path.open("rb") as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    frame = pd.read_csv(
        path, dtype=str, keep_default_na=False, encoding="utf-16" if wide else "utf-8-sig"
    )
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the first cells for names of rows
        raise UserError(
            f"lines of {path} have more cells than its first line has names; write a cell for each "
            "column, and no comma behind the last"
        )
    for name in frame.columns.difference(TEXT):
        cells = frame[name].str.strip()
        frame[name] = cells.mask(cells == "")
    frame.attrs[UNTYPED] = True
    return frame


def _numbered(frame: pd.DataFrame, truths: Mapping[str, Truth]) -> np.ndarray:
    """Predictions as numbers of classes, read alike in all cells of a method and a task.

    Raises:
        UserError: they are neither numbers nor names, or may be either and mean two things.
    """
    found = np.zeros(len(frame), np.int64)
    values, untyped = _unpacked(frame["prediction"]), bool(frame.attrs.get(UNTYPED))
    for (method, task), rows in frame.groupby(["method", "task"], sort=False).indices.items():
        where = f"{method}, task={task}"
        found[rows] = _classes(values.iloc[rows], truths[task].classes, untyped, where)
    return found


def _unpacked(values: pd.Series) -> pd.Series:
    """The values themselves where a column holds places in a list of them."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.astype(values.cat.categories.dtype)
    return values


def _answers(part: pd.DataFrame, truth: Truth, where: str) -> Answers:
    n = len(truth.labels)
    images = part["image"].to_numpy()
    if odd := [i for i in images if not 0 <= i < n]:
        raise UserError(f"{where}: image {odd[0]} does not exist; there are {n}, 0 to {n - 1}")
    if len(images) != n or len(set(images)) != n:
        twice = len(images) - len(set(images))
        what = f"{twice} images stand there twice" if twice else f"{n - len(images)} are missing"
        raise UserError(f"{where}: one prediction for each of {n} images is needed; {what}")
    part = part.sort_values("image")
    predicted = part["prediction"].to_numpy(np.int64)
    confidence = _column(part, "confidence", where)
    probabilities = _probabilities(part, predicted, len(truth.classes), where)
    if confidence is None and probabilities is not None:
        confidence = probabilities[np.arange(n), predicted]
    return Answers(predicted, confidence, probabilities)


def _classes(values: pd.Series, classes: Sequence[str], untyped: bool, where: str) -> np.ndarray:
    """Numbers of classes, given as numbers or by name.

    Args:
        values: of one task.
        classes: names, in the order of their numbers.
        untyped: whether a text may also be a number, as in a .csv.
        where: they stand, for a message.
    """
    if pd.api.types.is_bool_dtype(values):
        raise UserError(f"{where}: true and false are no classes; write their numbers or names")
    if pd.api.types.is_numeric_dtype(values):
        return _in_range(_whole(values, "prediction").to_numpy(), classes, where)
    if values.isna().any():
        raise UserError(f"{where}: {int(values.isna().sum())} predictions are missing")
    if strange := [value for value in values if not isinstance(value, str)]:
        raise UserError(
            f"{where}: no class {strange[0]!r}; write numbers as integers, or names as text"
        )
    texts = [value.strip() for value in values]
    names = {name: number for number, name in enumerate(classes)}
    by_name = None if set(texts) - names.keys() else [names[text] for text in texts]
    by_number = _as_numbers(texts)
    if by_name is None and by_number is None:
        odd = next(text for text in texts if text not in names)
        raise UserError(f"{where}: no class {odd!r}; classes: {', '.join(classes)}")
    if by_name is None:
        return _in_range(np.array(by_number), classes, where)
    fits = by_number is not None and max(by_number) < len(classes)
    if untyped and fits and by_number != by_name:
        odd = next(t for t, a, b in zip(texts, by_name, by_number or (), strict=True) if a != b)
        raise UserError(
            f"{where}: {odd!r} is the name of a class and the number of another, and a .csv does "
            "not say which; write .parquet, names as text, numbers as integers"
        )
    return np.array(by_name, np.int64)


def _as_numbers(texts: Sequence[str]) -> list[int] | None:
    """Whole numbers from 0 that all the texts are; None where one is not."""
    found = [WHOLE.fullmatch(text) for text in texts]
    return [int(match[1]) for match in found if match] if all(found) else None


def _in_range(numbers: np.ndarray, classes: Sequence[str], where: str) -> np.ndarray:
    if odd := [one for one in numbers if not 0 <= one < len(classes)]:
        raise UserError(
            f"{where}: prediction {odd[0]} is no class; there are {len(classes)}, "
            f"0 to {len(classes) - 1}"
        )
    return np.asarray(numbers, np.int64)


def _column(part: pd.DataFrame, name: str, where: str) -> np.ndarray | None:
    if name not in part or part[name].isna().all():
        return None
    try:
        values = pd.to_numeric(part[name]).to_numpy(float)
    except (TypeError, ValueError):
        values = np.full(len(part), math.nan)
    if not ((values >= 0) & (values <= 1)).all():  # NaN is not
        raise UserError(f"{where}: every {name} is a number in [0, 1]; leave the column out, else")
    return values


def _probabilities(
    part: pd.DataFrame, predicted: np.ndarray, classes: int, where: str
) -> np.ndarray | None:
    if "probabilities" not in part or part["probabilities"].isna().all():
        return None
    try:
        found = np.array([np.asarray(row, float) for row in part["probabilities"]])
    except (TypeError, ValueError):  # no numbers, or not equally many
        found = np.empty(0)
    if found.shape != (len(part), classes):
        raise UserError(f"{where}: probabilities are lists of {classes} numbers, one per class")
    if not (found >= 0).all() or not (abs(found.sum(axis=1) - 1) < NEAR).all():
        raise UserError(f"{where}: probabilities are at least 0 and add up to 1; apply softmax")
    if (found[np.arange(len(found)), predicted] < found.max(axis=1) - NEAR).any():
        raise UserError(f"{where}: a prediction is not the class of its largest probability")
    return found


def _whole(values: pd.Series, name: str) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any() or (numbers != numbers.round()).any():
        raise UserError(f"column {name!r} holds whole numbers; it is {(WANTED | OPTIONAL)[name]}")
    return numbers.astype(np.int64)
