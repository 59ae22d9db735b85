"""The published setting that a small one is put beside: CLIP ViT-B/32, one family of experts."""

import json
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pandas as pd

from results.diagnosis import Diagnosis, ExpertSet, MergedLine
from results.published.sources import FOLDER, MEAN, constants, read
from results.schema import CEILING, FLOOR

CHOICE = "diagnosis.toml"
ROLES = ("development", "held_out")


@lru_cache(maxsize=1)
def choice() -> dict[str, Any]:
    """Which rows: ``suite``, ``encoder``, ``checkpoints``, and role -> method -> source, config."""
    return tomllib.loads((FOLDER / CHOICE).read_text(encoding="utf-8"))


def lines_of(role: str) -> list[str]:
    """The methods of a role, in the order of the file."""
    return list(choice()[role])


def reference(*, held_out: bool = False) -> Diagnosis:
    """The published setting, as far as it is known: no probe, no own line, no task vectors.

    Args:
        held_out: with the lines that may not steer how a setting is made.
    """
    rows, chosen = _rows(), choice()
    floor = _tasks(_part(rows, FLOOR, chosen["reference"][FLOOR]))
    experts = _part(rows, "expert", chosen["reference"]["expert"], any_config=True)
    cross = {str(json.loads(str(config))["of"]): _tasks(part)
             for config, part in experts.groupby("config", sort=False)}  # fmt: skip
    own = _tasks(_part(rows, CEILING, chosen["reference"][CEILING]))
    lines = {}
    for role in ROLES[: 1 + held_out]:
        for method, where in chosen[role].items():
            part = _part(rows, method, where)
            accuracy = _tasks(part) or dict(zip(part["task"], part["value"], strict=True))
            lines[method] = MergedLine(
                title=part["title"].iloc[0],
                accuracy=accuracy,
                config=constants(where.get("config", "")),
            )
    return Diagnosis(
        label="CLIP ViT-B/32, published",
        world="vision",
        suite=chosen["suite"],
        encoder=chosen["encoder"],
        zero_shot=floor,
        sets={
            "0": ExpertSet(
                cross={task: cross[task] | {task: own[task]} for task in floor}, lines=lines
            )
        },
    )


def _rows() -> pd.DataFrame:
    rows = read()
    for name in ("suite", "encoder", "checkpoints"):
        rows = rows[rows[name] == choice()[name]]
    return rows[(rows["corruption"] == "clean") & (rows["unseen"] == "")]


def _part(
    rows: pd.DataFrame, method: str, where: Mapping[str, str], any_config: bool = False
) -> pd.DataFrame:
    """The rows of one line, which is there and has one value for every task."""
    config = json.dumps(constants(where.get("config", "")), sort_keys=True)
    found = rows[(rows["source"] == where["source"]) & (rows["method"] == method)]
    found = found if any_config else found[found["config"] == config]
    assert len(found), f"{CHOICE} names {method} of {where['source']}, which is not there"
    return found


def _tasks(part: pd.DataFrame) -> dict[str, float]:
    """Task -> value, without the mean that a source states."""
    known = part[part["task"] != MEAN]
    return {str(task): float(value)
            for task, value in zip(known["task"], known["value"], strict=True)}  # fmt: skip
