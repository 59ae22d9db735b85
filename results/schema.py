"""The one row type of the benchmark: one number, and everything needed to know what it means."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from corruptions.base import shows_others
from mergeshift import Registry, UserError


class Column(NamedTuple):
    """What one column holds."""

    kind: str  # "text" | "integer" | "number" | "truth" | "bytes"
    meaning: str


COLUMNS: dict[str, Column] = {
    "run_id": Column("text", "hash of everything that decides the value, except the shift"),
    "sweep": Column("text", "name of the sweep that measured it"),
    "world": Column("text", "pocket | toy | vision ...: where pictures and encoder come from"),
    "suite": Column("text", "e.g. pocket8"),
    "encoder": Column("text", "e.g. pocket-vit, ViT-B-32"),
    "method": Column("text", "registry name"),
    "title": Column("text", "the method's name as tables print it"),
    "cite": Column("text", "BibTeX key of the method's paper; empty if there is none"),
    "config": Column("text", "canonical JSON of the method's constants"),
    "tuned": Column("truth", "whether the constants were chosen on val (else declared defaults)"),
    "needs": Column("text", "data the method saw beyond weights; 'nothing' if none"),
    "stores": Column("text", "what has to be kept to predict, e.g. 'one model'"),
    "knows_task": Column("truth", "whether predict is told the task of each image"),
    "adapt_on": Column("text", "adapt | test | shifted; empty for methods that do not adapt"),
    "seeded": Column("truth", "whether the seed changes anything (else one seed was measured)"),
    "seed": Column("integer", "the method's seed"),
    "expert_seed": Column("integer", "which set of experts"),
    "limit": Column("integer", "at most so many test images a task; 0 = all of them"),
    "precision": Column("text", "float32 | bf16: what matrices were multiplied in to predict"),
    "extra_experts": Column("text", "tasks that are not measured, whose experts were merged too"),
    "protocol": Column("text", "task | mixed-task | hidden-task: how test images are shown"),
    "task": Column("text", "registry name"),
    "seen": Column("truth", "whether the task's expert was merged (else the task is unseen)"),
    "corruption": Column("text", "registry name, or 'clean', 'prior', 'domain:NAME'"),
    "severity": Column("integer", "1..5; 0 where no pixel is changed: clean, prior, domain:NAME"),
    "constants": Column("text", "imagenet-c | cifar10-c: whose corruption constants"),
    "placement": Column("text", "input | native: corrupted after or before resizing"),
    "metric": Column("text", "a name in METRICS"),
    "value": Column("number", "in the metric's natural unit: shares in [0, 1], nats, seconds"),
    "n": Column("integer", "images counted, not assumed"),
    "hits": Column("bytes", "one bit per image, of acc, oracle_acc and attack_rate"),
}

WORLDS = {
    "pocket": "pocket (small ViT, 32 px; not CLIP)",
    "toy": "toy (synthetic images)",
    "vision": "vision (CLIP)",
    "vision-pocket": "vision tasks with the pocket ViT (32 px; not CLIP)",
    "vision-toy": "vision tasks with the toy ViT (random start; not CLIP)",
}


USUAL = "task"  # the usual protocol: test images come task by task, each under its own head


def world_name(world: str, protocol: str = USUAL) -> str:
    """A world as tables and figures print it, with the protocol if it is not the usual one.

    >>> world_name("toy"), world_name("toy", "hidden-task")
    ('toy (synthetic images)', 'toy (synthetic images), protocol hidden-task')
    """
    name = WORLDS.get(world, world)
    return name if protocol == USUAL else f"{name}, protocol {protocol}"


def splits_of(suite: str) -> str:
    """The splits in the name of a suite, empty for our own; a size of pictures is none.

    >>> splits_of("vision8@published"), splits_of("vision_local@32"), splits_of("vision8@a@32")
    ('published', '', 'a')
    """
    return next((part for part in suite.split("@")[1:] if not part.isdigit()), "")


def pixels_of(suite: str) -> str:
    """The size in the name of a suite whose pictures are resized to another than the usual.

    >>> pixels_of("vision_local@32"), pixels_of("vision8@published")
    ('32', '')
    """
    return next((part for part in suite.split("@")[1:] if part.isdigit()), "")


FLOOR, CEILING = "pretrained", "individual"  # the two references that every table is read against
ORACLE = "oracle_router"  # the ceiling of everything that routes
NO_NEEDS = ("", "nothing", "weights only")
FULL = "float32"  # the usual precision


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a measured quantity is named, printed and ranked."""

    title: str
    unit: str  # as printed behind a number or in a caption; "" if none
    scale: float = 1.0  # printed = stored * scale
    decimals: int = 1
    higher_is_better: bool | None = True  # None: neither, so nothing is ranked
    counted: bool = False  # a share of the images, so that it has an interval
    of: str = ""  # the stored metric that it is computed from, over all lines of a table
    sign: str = ""  # "+": printed with its sign
    later: bool = False  # not in the first stored results: a line without it is shown with a dash


FLOOR_OF = "floor:"  # floor:ece is what ece is on average of a perfectly calibrated method
ROUTE = "route:"  # route:mnist is the mean weight on the route of mnist
AUROC = (
    "auroc_wrong:"  # auroc_wrong:entropy: how well entropy separates errors from correct answers
)


class Metrics(Registry[Metric]):
    """The registry of metrics; it knows ``route:NAME`` for any name, as there is ``route:*``.

    >>> METRICS["route:mnist"].title
    'Mean weight on the route mnist'
    """

    def __getitem__(self, name: str) -> Metric:
        kind, _, one = name.partition(":")
        if name not in self._items and one and f"{kind}:*" in self._items:
            pattern = self._items[f"{kind}:*"]
            return replace(pattern, title=pattern.title.replace("*", one))
        return super().__getitem__(name)


METRICS = Metrics("metric")
METRICS.add("acc", Metric(title="Accuracy", unit="%", scale=100, counted=True))
METRICS.add(
    "nll", Metric(title="Negative log-likelihood", unit="nats", decimals=3, higher_is_better=False)
)
METRICS.add(
    "ece",
    Metric(title="Expected calibration error", unit="%", scale=100, higher_is_better=False),
)
_error = partial(Metric, higher_is_better=False, later=True)
METRICS.add("aece", _error(title="Adaptive calibration error (equal mass)", unit="%", scale=100))
METRICS.add(
    "dece",
    _error(title="Debiased calibration error (root mean square)", unit="%", scale=100),
)
METRICS.add("brier", _error(title="Brier score", unit="", decimals=3))
METRICS.add(
    "aurc",
    _error(title="Area under the risk-coverage curve", unit="%", scale=100, decimals=2),
)
METRICS.add("bacc", Metric(title="Balanced accuracy", unit="%", scale=100, later=True))
METRICS.add(
    "worst_acc", Metric(title="Accuracy of the worst class", unit="%", scale=100, later=True)
)
# Of sweeps with --temperature: logits divided by one number, which was fitted on clean val.
SCALED = "_ts"  # behind the name of a metric: after temperature scaling
for _name in ("nll", "ece", "aece", "brier"):
    _raw = METRICS[_name]
    METRICS.add(
        f"{_name}{SCALED}",
        replace(_raw, title=f"{_raw.title}, after temperature scaling", later=True),
    )
METRICS.add(
    "temperature",
    Metric(title="Temperature", unit="", decimals=2, higher_is_better=None, later=True),
)
METRICS.add(
    f"{FLOOR_OF}*",
    Metric(title="Floor of * (perfectly calibrated)", unit="%", scale=100, higher_is_better=None),
)
METRICS.add("eval_s", Metric(title="Time to predict", unit="s", decimals=2, higher_is_better=False))

# Of routed methods alone.
METRICS.add(
    "oracle_acc",
    Metric(title="Accuracy with all weight on the true task", unit="%", scale=100, counted=True),
)
# Under the trigger of a backdoor alone.
METRICS.add(
    "attack_rate",
    Metric(title="Attack success rate", unit="%", scale=100, higher_is_better=False, counted=True),
)
METRICS.add("route_acc", Metric(title="Routing accuracy", unit="%", scale=100, counted=True))
METRICS.add(
    "route_entropy",
    Metric(title="Entropy of the routing weights", unit="nats", decimals=3, higher_is_better=None),
)
METRICS.add(
    "route_max",
    Metric(title="Largest routing weight", unit="%", scale=100, higher_is_better=None),
)
METRICS.add(
    f"{ROUTE}*",
    Metric(title="Mean weight on the route *", unit="%", scale=100, higher_is_better=None),
)
# Of sweeps that keep how sure methods are; where some answers are right and some are wrong.
METRICS.add(
    f"{AUROC}*", Metric(title="Misclassification detection (AUROC) by *", unit="%", scale=100)
)
# Computed from accuracies when a table is made, never stored.
METRICS.add(
    "norm_chance",
    Metric(title="Normalised accuracy, corrected for chance", unit="%", scale=100, of="acc"),
)
METRICS.add(
    "robustness",
    Metric(title="Effective robustness", unit="points", scale=100, of="acc", sign="+"),
)
WITH_HITS = ("acc", "oracle_acc", "attack_rate")  # what is kept of every single image


def pack(hits: np.ndarray) -> bytes:
    """Pack ``[N]`` right-or-wrong answers, one bit each, first image first.

    >>> pack(np.array([True, False, True])).hex()
    'a0'
    """
    return np.packbits(np.asarray(hits, dtype=bool)).tobytes()


def unpack(packed: bytes, n: int) -> np.ndarray:
    """Give back the ``bool [n]`` that :func:`pack` was given."""
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=n).astype(bool)


def with_later(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that rows did not have at first, where they are missing.

    ``seeded``: what looks at data depends on its seed. ``seen``: every expert was merged.
    ``precision``: float32. ``extra_experts``: none. ``protocol``: task by
    task.
    """
    if "seeded" not in rows and "needs" in rows:
        rows = rows.assign(seeded=~rows["needs"].isin(NO_NEEDS))
    usual = {"seen": True, "precision": FULL, "extra_experts": "", "protocol": USUAL}
    return rows.assign(**{name: value for name, value in usual.items() if name not in rows})


_CASTS: dict[str, Any] = {"text": str, "integer": np.int64, "number": np.float64, "truth": bool}


def check(rows: pd.DataFrame) -> pd.DataFrame:
    """Put the columns in order and of one type; refuse rows that contradict themselves.

    ``limit`` may be missing (= all images), and columns that are newer than the rows (see
    :func:`with_later`); nothing else may.

    Raises:
        UserError: columns are missing or unknown, a value has the wrong type, a clean row has a
            severity (or the reverse), or the bits per image do not add up to the accuracy.
    """
    rows = with_later(rows)
    missing, unknown = set(COLUMNS) - set(rows), set(rows) - set(COLUMNS)
    if missing or unknown:
        raise UserError(
            f"rows need {len(COLUMNS)} columns: missing {sorted(missing)}, "
            f"unknown {sorted(unknown)}; see results/schema.py"
        )
    rows = rows[list(COLUMNS)].reset_index(drop=True)
    rows["limit"] = pd.to_numeric(rows["limit"], errors="coerce").fillna(0)
    for name, column in COLUMNS.items():
        if column.kind != "bytes":
            rows[name] = _cast(rows[name], column)
    for name in rows["metric"].unique():
        METRICS[name]
    _refuse(
        rows,
        rows["corruption"].map(_corrupts_nothing) != (rows["severity"] == 0),
        "what corrupts nothing (clean, prior, domain:NAME) has severity 0 and nothing else has",
    )
    _refuse(rows, ~rows["severity"].between(0, 5), "severity is 0..5")
    _refuse(rows, rows["n"] <= 0, "n is at least one image")
    _refuse(rows, ~np.isfinite(rows["value"]), "value is a finite number")
    accuracy = rows["metric"].isin(WITH_HITS)
    _refuse(
        rows, ~accuracy & (rows["hits"].map(len) > 0), f"only {', '.join(WITH_HITS)} carry hits"
    )
    wrong = [not _adds_up(*row) for row in rows[["hits", "n", "value"]].itertuples(index=False)]
    _refuse(rows, accuracy & np.array(wrong, bool), "hits are n bits and their share is the value")
    return rows


def _corrupts_nothing(name: str) -> bool:
    return name == "clean" or shows_others(name)


def _cast(values: pd.Series, column: Column) -> pd.Series:
    if values.isna().any():
        raise UserError(
            f"column {values.name!r} has {values.isna().sum()} missing values; "
            f"it means: {column.meaning}"
        )
    try:
        cast = values.astype(_CASTS[column.kind])
    except (TypeError, ValueError) as error:
        raise UserError(f"column {values.name!r} holds {column.kind}s: {error}") from error
    if column.kind != "number" and not (same := cast == values).all():  # 1.5 -> 1, "no" -> True
        raise UserError(
            f"column {values.name!r} holds {column.kind}s; got {values[~same].iloc[0]!r}"
        )
    return cast


def _refuse(rows: pd.DataFrame, wrong: pd.Series, rule: str) -> None:
    if wrong.any():
        first = rows[wrong].iloc[0]
        got = {key: first[key] for key in ("method", "task", "corruption", "severity", "metric")}
        got |= {"value": float(first["value"]), "n": int(first["n"])}
        raise UserError(f"{int(wrong.sum())} rows break a rule ({rule}), e.g. {got}")


def _adds_up(hits: bytes, n: int, value: float) -> bool:
    if not hits:
        return True  # a published number: the answers to single images are not known
    if len(hits) != (n + 7) // 8:
        return False
    return abs(int(np.unpackbits(np.frombuffer(hits, np.uint8)).sum()) - value * n) < 0.01
