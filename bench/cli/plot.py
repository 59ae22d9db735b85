"""``python -m bench table`` and ``plot``: read results, never measure."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import OUT, Methods, Metric, Out, SweepName, selected
from bench.index import method_order
from bench.variants import display_name
from mergeshift import UserError

if TYPE_CHECKING:
    import pandas as pd

    from results.store import Store


class Kind(StrEnum):
    """What is drawn."""

    severity = "severity"
    heatmap = "heatmap"
    routing = "routing"
    coefficients = "coefficients"
    tuning = "tuning"
    scale = "scale"


def plot(
    kind: Annotated[Kind, typer.Argument(help=" | ".join(Kind))],
    metric: Metric = "acc",
    methods: Methods = [],  # noqa: B006
    sweep: SweepName = "",
    out: Out = OUT,
    output: Annotated[Path | None, typer.Option("-o", help="a .png, .pdf or .svg file")] = None,
) -> None:
    """Draw accuracy against severity, methods against corruptions, or what a method learned.

    Routing: where the images of each task are sent. Coefficients: those of the first seed. Tuning:
    what was tried on val, and which constants mattered. Each of one method: see --methods. Scale:
    accuracy against the scale of methods, on val from their tuning, on test from a sweep over it.
    """
    from rich.console import Console

    from bench.reporting.tuning_history import history_of, trials_of
    from results.plots import (
        comparison,
        style,
    )
    from results.plots import (
        learned as heatmaps,
    )
    from results.plots import (
        scale as scale_plot,
    )
    from results.plots import (
        search as search_plot,
    )
    from results.store import Store

    rows = selected(out, sweep, methods)
    if kind is Kind.routing:
        figure, name = heatmaps.routing(rows), kind.value
    elif kind is Kind.tuning:
        figure, name = search_plot.history(history_of(rows, Store(out))), kind.value
    elif kind is Kind.scale:
        trials = trials_of(rows, Store(out))
        figure = scale_plot.scale(rows, trials, metric, order=method_order())
        name = f"{kind.value}-{metric}"
    elif kind is Kind.coefficients:
        values, title = _coefficients(rows, Store(out))
        tasks = list(rows["task"].unique())
        figure, name = heatmaps.coefficients(values, title, tasks), kind.value
    else:
        draw = {Kind.severity: comparison.severity, Kind.heatmap: comparison.heatmap}[kind]
        figure, name = draw(rows, metric, order=method_order()), f"{kind.value}-{metric}"
    path = style.save(figure, output or Path(f"{name.replace(':', '-')}.png"))
    Console().print(f"wrote {path}", highlight=False)


def _coefficients(rows: pd.DataFrame, store: Store) -> tuple[dict[str, dict[str, float]], str]:
    """What the first run of the one method with coefficients learned, and what to call it."""
    from bench.reporting.wandb import short
    from bench.stages import artifacts
    from results.plots.learned import only
    from results.schema import WORLDS

    found = {}
    for (method, variant, run), part in rows.groupby(["method", "variant", "run_id"], sort=False):
        known = [
            one for one in artifacts.adaptation_records(store, str(run)) if one["coefficients"]
        ]
        if known:
            line = display_name(str(method), str(variant))
            found[line, int(part["seed"].iloc[0])] = (known[0], part.iloc[0])
    if not found:
        raise UserError("no method here learned coefficients; choose a sweep with adamerging")
    only((line for line, _ in found), "learned coefficients")
    facts, row = found[min(found)]
    under = f", under {short(facts['shift'])}" if facts["shift"] else ""
    world = WORLDS.get(row["world"], row["world"])
    title = (
        f"{display_name(row['title'], row['variant'])}: coefficients on {row['suite']} ({world}), "
    )
    title += f"seed {row['seed']}{under}"
    return facts["coefficients"], title
