"""The HTML page: one file that shows everything about a sweep and asks no network for anything."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mergeshift import UserError, atomic
from results.plots.style import line_styles
from results.report import panels
from results.report.panels import Example
from results.report.tables import described, entries_of, grids_of, metrics_of, views
from results.schema import world_name

FOLDER = Path(__file__).parent
SCRIPTS = ("base.js", "table.js", "chart.js", "panels.js", "more.js", "page.js")
NO_IMAGES = "no per-image results are stored; run the sweep with --uncertainty"
NO_EXAMPLES = "no examples were requested; make the page with --examples 4"


def page(
    rows: pd.DataFrame,
    *,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
    images: pd.DataFrame | str = NO_IMAGES,
    examples: Sequence[Example] = (),
    order: Sequence[str] = (),
) -> str:
    """The page, as text. The same rows give the same page.

    Args:
        rows: a frame of the columns in ``results.schema``.
        costs: run -> what it cost (see :mod:`results.tables.leaderboard`).
        images: a line per image, of some of the runs (see ``results.store.Store.read_images``); or
            why there are none.
        examples: pictures with predictions.
        order: methods to put first, in this order.

    Raises:
        UserError: the methods were not measured on the same cells, or there are none.
    """
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    data = payload(rows, costs or {}, images, examples, order)
    # Ours, and free of "</": it is put in as it stands. Whatever is given is in ``data``.
    style = Markup(_file("style.css"))
    script = Markup("\n".join(map(_file, SCRIPTS)))
    environment = Environment(autoescape=True, loader=FileSystemLoader(FOLDER), trim_blocks=True)
    return environment.get_template("page.html").render(
        data=Markup(embedded(data)),
        style=style,
        script=script,
        **data["about"],
    )


def write(path: Path, text: str) -> Path:
    """Save the page, all or nothing."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def payload(
    rows: pd.DataFrame,
    costs: Mapping[str, Mapping[str, Any]],
    images: pd.DataFrame | str,
    examples: Sequence[Example],
    order: Sequence[str],
) -> dict[str, Any]:
    """All that the page shows; see :func:`page`. A section that cannot be says ``why``."""
    rows = rows.reset_index(drop=True)
    grids = grids_of(rows, order)
    entries = entries_of(grids)
    keys, styles = list(entries), line_styles(entries.values())
    accuracy = {group: grid for (metric, group), grid in grids.items() if metric == "acc"}
    return {
        "about": about(rows),
        "metrics": metrics_of(grids),
        "entries": [described(entry, styles[key]) for key, entry in entries.items()],
        "groups": list(accuracy),
        "views": views(grids, keys),
        "cubes": {group: panels.cube(grid, keys) for group, grid in accuracy.items()},
        "costs": panels.costs(rows, costs, keys),
        "routing": _or_why(lambda: panels.routing(rows, keys, order)),
        "reliability": {"why": images}
        if isinstance(images, str)
        else {
            group: panels.reliability(grid, rows[rows["task"].isin(grid.tasks)], images, keys)
            for group, grid in accuracy.items()
        },
        "examples": panels.examples(examples, rows, keys) or {"why": NO_EXAMPLES},
    }


def about(rows: pd.DataFrame) -> dict[str, str]:
    """Which sweep it is, in words."""
    first = rows.iloc[0]
    return {
        "suite": str(first["suite"]),
        "encoder": str(first["encoder"]),
        "sweep": str(first["sweep"]),
        "world": world_name(str(first["world"]), str(first["protocol"])),
        "extent": ", ".join(
            f"{count} {noun}{'s' if count > 1 else ''}"
            for noun, count in (
                ("method", rows["method"].nunique()),
                ("task", rows["task"].nunique()),
                ("shift", len(rows[["corruption", "severity"]].drop_duplicates())),
                ("seed", rows["seed"].nunique()),
            )
        ),
    }


def embedded(data: Any) -> str:
    r"""JSON that may stand in a script element: nothing in it can end one.

    >>> embedded({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _or_why(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return make()
    except UserError as error:
        return {"why": str(error)}


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
