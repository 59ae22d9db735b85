"""``python -m bench table`` and ``plot``: read results, never measure."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import OUT, Methods, Metric, Out, Protocol, SweepName, selected
from bench.index import method_order
from bench.variants import display_name
from mergeshift import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from results.store import Store


class Kind(StrEnum):
    """What is drawn."""

    severity = "severity"
    heatmap = "heatmap"
    routing = "routing"
    coefficients = "coefficients"
    tuning = "tuning"
    scale = "scale"
    critical_difference = "critical-difference"
    effective_robustness = "effective-robustness"
    pareto = "pareto"


def plot(
    kind: Annotated[Kind, typer.Argument(help=" | ".join(Kind))],
    metric: Metric = "acc",
    methods: Methods = [],  # noqa: B006
    sweep: SweepName = "",
    protocol: Protocol = "",
    out: Out = OUT,
    output: Annotated[Path | None, typer.Option("-o", help="a .png, .pdf or .svg file")] = None,
) -> None:
    """Draw accuracy against severity, methods against corruptions, or what a method learned.

    Routing: where the images of each task are sent. Coefficients: those of the first seed. Tuning:
    what was tried on val, and which constants mattered. Each of one method: see --methods. Scale:
    accuracy against the scale of methods, on val from their tuning, on test from a sweep over it.
    Critical-difference: mean ranks over tasks, and which methods are not told apart.
    Effective-robustness: shifted against clean accuracy, and the line through the static merges.
    Pareto: what map can trade between a task and the others.
    """
    from rich.console import Console

    from results.plots import style

    rows = selected([out], sweep, methods, protocol)
    figure, name = DRAWN[kind](rows, out, metric)
    path = style.save(figure, output or Path(f"{name.replace(':', '-')}.png"))
    Console().print(f"wrote {path}", highlight=False)


def _comparison(kind: Kind, rows: pd.DataFrame, metric: str) -> tuple[Figure, str]:
    from results.plots import comparison

    draw = {Kind.severity: comparison.severity, Kind.heatmap: comparison.heatmap}[kind]
    return draw(rows, metric, order=method_order()), f"{kind.value}-{metric}"


def _routing(rows: pd.DataFrame, out: Path, metric: str) -> tuple[Figure, str]:
    from results.plots import learned

    return learned.routing(rows), "routing"


def _tuning(rows: pd.DataFrame, out: Path, metric: str) -> tuple[Figure, str]:
    from bench.reporting.tuning_history import history_of
    from results.plots import search
    from results.store import Store

    return search.history(history_of(rows, Store(out))), "tuning"


def _scale(rows: pd.DataFrame, out: Path, metric: str) -> tuple[Figure, str]:
    from bench.reporting.tuning_history import trials_of
    from results.plots import scale
    from results.store import Store

    trials = trials_of(rows, Store(out))
    return scale.scale(rows, trials, metric, order=method_order()), f"scale-{metric}"


def _learned(rows: pd.DataFrame, out: Path, metric: str) -> tuple[Figure, str]:
    from results.plots import learned
    from results.store import Store

    values, title = _coefficients(rows, Store(out))
    return learned.coefficients(values, title, list(rows["task"].unique())), "coefficients"


def _coefficients(rows: pd.DataFrame, store: Store) -> tuple[dict[str, dict[str, float]], str]:
    """What the first run of the one method with coefficients learned, and what to call it."""
    from bench.stages import artifacts
    from corruptions.base import ShiftName
    from results.plots.learned import only
    from results.schema import world_name

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
    under = f", under {ShiftName.of_key(facts['shift'])}" if facts["shift"] else ""
    world = world_name(row["world"])
    title = f"{display_name(row['title'], row['variant'])}: coefficients on {row['suite']}; "
    title += f"setting: {world}; seed {row['seed']}{under}"
    return facts["coefficients"], title


def _pareto(rows: pd.DataFrame, out: Path, metric: str) -> tuple[Figure, str]:
    from bench.reporting.pareto import fronts_of
    from results.plots import pareto
    from results.plots.learned import only
    from results.schema import world_name
    from results.store import Store
    from results.tables.pareto import pareto as tabled

    table = tabled(rows, fronts_of(Store(out), rows["run_id"]), order=method_order())
    only((entry.key for entry in table.entries), "have fronts")
    (entry,) = table.entries
    title = f"{entry.title}: what can be traded between tasks of {table.setting['suite']}; "
    title += f"setting: {world_name(table.setting['world'])}"
    return pareto.trade_offs(table.fronts[entry.key], title), "pareto"


def _ranks(rows: pd.DataFrame, out: Path, metric: str) -> tuple[Figure, str]:
    from results.plots import ranking

    figure = ranking.critical_difference(rows, metric, order=method_order())
    return figure, f"critical-difference-{metric}"


def _robustness(rows: pd.DataFrame, out: Path, metric: str) -> tuple[Figure, str]:
    from results.plots import robustness

    if metric not in ("acc", "robustness"):
        raise UserError(f"effective robustness is of accuracies; leave out --metric {metric}")
    return robustness.draw(rows, order=method_order()), "effective-robustness"


DRAWN: dict[Kind, Callable[[pd.DataFrame, Path, str], tuple[Figure, str]]] = {
    Kind.severity: lambda rows, out, metric: _comparison(Kind.severity, rows, metric),
    Kind.heatmap: lambda rows, out, metric: _comparison(Kind.heatmap, rows, metric),
    Kind.routing: _routing,
    Kind.coefficients: _learned,
    Kind.tuning: _tuning,
    Kind.scale: _scale,
    Kind.critical_difference: _ranks,
    Kind.effective_robustness: _robustness,
    Kind.pareto: _pareto,
}
