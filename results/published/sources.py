"""Numbers from papers and repositories, in the columns of our tables: ``results/published/``."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from corruptions.base import LEVELS
from mergeshift import Registry, UserError
from results.schema import CEILING, FLOOR

FOLDER = Path(__file__).parent
INDEX, METHODS = "sources.toml", "methods.csv"
MEAN, UNSEEN_MEAN = "mean", "mean unseen"  # over the tasks; over those whose experts are left out
PAPER_LEVEL = "paper_level"  # a corruption: the level of a paper, at 1 2 3; never one of ours
AS_PUBLISHED = "published"  # vision8@published: the test images of the field
OWN_EXPERTS = ("-finetuned", "-imported")  # how encoders with other experts than the hub's end

COLUMNS = (
    "source", "world", "suite", "encoder", "checkpoints", "unseen", "method", "title", "config",
    "adapt_on", "task", "seen", "corruption", "severity", "constants", "placement", "metric",
    "value", "decimals", "note",
)  # fmt: skip
KEY = ["suite", "encoder", "checkpoints", "unseen", "method", "config", "corruption", "severity",
       "task"]  # fmt: skip
DEFAULTS = {"checkpoints": "", "unseen": "", "config": "", "corruption": "clean", "severity": "0"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place where numbers were published."""

    key: str  # its name here, and of its file
    title: str  # as tables print it
    where: str  # address, and what to look at there
    decimals: int  # of a percentage, as published
    note: str = ""  # what a reader must know before quoting a number
    adapt_on: str = ""  # what methods that learn from images learned from
    constants: str = ""  # of its corruptions; empty if it has none
    placement: str = ""
    same: Mapping[str, str] = field(default_factory=dict)  # columns that are equal in every row

    @property
    def rounding(self) -> float:
        """How far a number may be from what was measured, as a share."""
        return 0.5 * 10 ** -(self.decimals + 2)


def sources(folder: Path | None = None) -> Registry[Source]:
    """Every source, in the order of the index of a folder; default: the one that comes along.

    Raises:
        UserError: the index is damaged, or a source lacks a title or a file.
    """
    folder = folder or FOLDER
    try:
        index = tomllib.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {folder / INDEX}: {error}") from None
    found: Registry[Source] = Registry("published source")
    own = {one.name for one in fields(Source)} - {"key", "same"}
    for key, facts in index.items():
        same = {name: facts.pop(name) for name in KEY if name in facts}
        if lacking := {"title", "where", "decimals"} - set(facts):
            raise UserError(f"[{key}] of {INDEX} lacks {', '.join(sorted(lacking))}")
        if unknown := set(facts) - own:
            raise UserError(f"[{key}] of {INDEX} has no field {sorted(unknown)[0]!r}")
        if not (folder / f"{key}.csv").exists():
            raise UserError(f"[{key}] of {INDEX} has no file {key}.csv beside it")
        found.add(key, Source(key=key, same=same, **facts))
    return found


def read(names: Sequence[str] = (), folder: Path | None = None) -> pd.DataFrame:
    """Published rows, checked: of some sources, or of all.

    Columns: those of ``results.schema`` that a publication can know, and ``source``,
    ``checkpoints`` (whose experts), ``unseen`` (tasks whose experts were left out), ``decimals``
    and ``note``. ``config`` is JSON of the constants that the source states. The task ``mean`` is
    a mean that the source states; what can be computed from other rows is not stored.

    Raises:
        UnknownNameError: no such source.
        UserError: a file breaks a rule.
    """
    known = sources(folder)
    parts = [_rows(known[name], folder or FOLDER) for name in names or known]
    return pd.concat(parts, ignore_index=True)


def _rows(source: Source, folder: Path) -> pd.DataFrame:
    modified = (folder / f"{source.key}.csv").stat().st_mtime_ns
    return _cached(source.key, str(folder), modified, json.dumps(dict(source.same))).assign(
        **{name: getattr(source, name) for name in ("decimals", "note", "constants", "placement")},
        adapt_on=lambda rows: rows["learns"].map({"yes": source.adapt_on}).fillna(""),
    )[list(COLUMNS)]


@lru_cache(maxsize=64)
def _cached(key: str, folder: str, modified: int, same: str) -> pd.DataFrame:
    """The rows of one file, without what its source says."""
    path = Path(folder) / f"{key}.csv"
    rows = _text(path).assign(**json.loads(same))
    if unknown := set(rows) - {*KEY, "value"}:
        raise UserError(f"{path.name} may not have a column {sorted(unknown)[0]!r}")
    rows = rows.assign(**{k: v for k, v in DEFAULTS.items() if k not in rows})
    if lacking := {*KEY, "value"} - set(rows):
        raise UserError(f"{path.name} lacks the column {sorted(lacking)[0]!r}")
    known = _text(Path(folder) / METHODS).set_index("name")
    _refuse(path, rows, ~rows["method"].isin(known.index), f"its method is in {METHODS}")
    _refuse(path, rows, rows.duplicated(KEY), "no number is given twice")
    clean = (rows["corruption"] == "clean") == (rows["severity"] == "0")
    _refuse(path, rows, ~clean, "clean has severity 0 and nothing else has")
    _refuse(path, rows, ~rows["severity"].isin(list("012345")), "severity is 0..5")
    level = rows["corruption"].isin(LEVELS)
    _refuse(path, rows, level, f"levels are ours; those of a paper are called {PAPER_LEVEL}")
    for name in ("suite", "encoder", "method", "task"):
        _refuse(path, rows, rows[name] == "", f"every row has a {name}")
    value = pd.to_numeric(rows["value"], errors="coerce")
    _refuse(path, rows, ~value.between(0, 1), "value is a share in [0, 1]")
    unseen = [task == UNSEEN_MEAN or task in left_out.split()
              for task, left_out in zip(rows["task"], rows["unseen"], strict=True)]  # fmt: skip
    return rows.assign(
        source=key,
        world=[re.split(r"[^a-z]", suite, maxsplit=1)[0] for suite in rows["suite"]],
        title=rows["method"].map(known["title"]),
        learns=rows["method"].map(known["learns"]),
        config=[json.dumps(constants(text), sort_keys=True) for text in rows["config"]],
        task=rows["task"].replace(UNSEEN_MEAN, MEAN),
        seen=[not one for one in unseen],
        severity=rows["severity"].astype(int),
        metric="acc",
        value=value,
    )


def _text(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def _refuse(path: Path, rows: pd.DataFrame, wrong: pd.Series, rule: str) -> None:
    if wrong.any():
        line = int(wrong.to_numpy().argmax())
        raise UserError(
            f"{path.name}, line {line + 2}: {rule}; got {','.join(map(str, rows.iloc[line]))}"
        )


def constants(text: str) -> dict[str, Any]:
    """The constants of a method as a file writes them.

    >>> constants("keep=0.2, merge=sum, router=false")
    {'keep': 0.2, 'merge': 'sum', 'router': False}
    """
    found: dict[str, Any] = {}
    for part in filter(None, text.split(", ")):
        name, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"constants are written NAME=VALUE, NAME=VALUE; got {text!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def base_of(name: str) -> str:
    """A suite or task without what says which of its images: ``vision8@published``.

    >>> base_of("vision8@published"), base_of("vision8_tall")
    ('vision8', 'vision8_tall')
    """
    return name.partition("@")[0]


def family_of(suite: str) -> str:
    """Whose experts a suite takes from the hub.

    >>> family_of("vision14_tall@published"), family_of("vision8")
    ('tall_masks', 'tanganke')
    """
    return "tall_masks" if base_of(suite).endswith("_tall") else "tanganke"


def experts_of(suite: str, encoder: str) -> str:
    """Whose experts were merged; empty if they are somebody's own."""
    return "" if encoder.endswith(OWN_EXPERTS) else family_of(suite)


def plain(encoder: str) -> str:
    """An encoder's name without that of its family of experts.

    >>> plain("ViT-B-32-finetuned"), plain("ViT-B-32")
    ('ViT-B-32', 'ViT-B-32')
    """
    for family in OWN_EXPERTS:
        encoder = encoder.removesuffix(family)
    return encoder


def within(rows: pd.DataFrame, suite: str, encoder: str, tasks: Sequence[str]) -> pd.DataFrame:
    """The published rows that tell something of a suite and an encoder.

    Of a larger suite of the same family, task by task, what does not depend on the other tasks:
    the pretrained model and the individual experts.

    Raises:
        UserError: there are none; the message lists the suites there are.
    """
    base, wanted = base_of(suite), {base_of(task) for task in tasks}
    same = rows["suite"] == base
    wider = (
        rows["suite"].map(lambda name: _contains(name, base)).astype(bool)
        & rows["method"].isin((FLOOR, CEILING))
        & rows["task"].isin(wanted)
    )
    encoder = plain(encoder)
    found = rows[(rows["encoder"] == encoder) & (same | wider)]
    if found.empty:
        there = rows[["suite", "encoder"]].drop_duplicates().agg(" with ".join, axis=1)
        raise UserError(
            f"no published numbers of {base} with {encoder}; there are: {', '.join(there)}"
        )
    return found


def _contains(large: str, small: str) -> bool:
    """Whether one suite is made of another and more.

    >>> _contains("vision20_tall", "vision8_tall"), _contains("vision20", "vision8_tall")
    (True, False)
    """
    sizes = [re.search(r"\d+", name) for name in (large, small)]
    alike = re.sub(r"\d+", "", large) == re.sub(r"\d+", "", small)
    return alike and all(sizes) and int(sizes[0][0]) > int(sizes[1][0])  # type: ignore[index]
