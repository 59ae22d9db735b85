"""``python -m bench table``, ``plot`` and ``sanity``: read results, never measure."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from bench import learned
from bench.cli.options import OUT, Methods, Out, words
from bench.errors import UserError
from bench.files import atomic
from bench.leaderboard import method_order
from bench.lines import key, named
from bench.mirror import short
from bench.records import recorded, rows_of
from results.contrasts import monotone, null_cells, paired
from results.render import AnyTable, render, renderable, write_latex
from results.routing import breakdown
from results.schema import CEILING, METRICS, WORLDS
from results.store import Store
from results.tables import compare
from results.uncertainty import detection


class By(StrEnum):
    """What a column is."""

    shift = "shift"
    seen = "seen"
    task = "task"
    severity = "severity"
    corruption = "corruption"
    routing = "routing"
    uncertainty = "uncertainty"


class Format(StrEnum):
    """How a table is written."""

    text = "text"
    md = "md"
    csv = "csv"
    latex = "latex"


class Kind(StrEnum):
    """What is drawn."""

    severity = "severity"
    heatmap = "heatmap"
    routing = "routing"
    coefficients = "coefficients"


SweepName = Annotated[str, typer.Option("--sweep", help="which sweep; default: the latest")]
Metric = Annotated[str, typer.Option(help=" | ".join(METRICS))]


def selected(out: Path, sweep: str, methods: list[str]) -> pd.DataFrame:
    """The rows of a sweep, of all methods or of some."""
    return rows_of(out, recorded(out, sweep), words(methods))


def table(
    metric: Metric = "acc",
    by: By = By.shift,
    format: Format = Format.text,
    shift: Annotated[str, typer.Option(help="with --by task: under which shift")] = "clean",
    methods: Methods = [],  # noqa: B006
    paired_: Annotated[
        list[str], typer.Option("--paired", help="two methods, on the same images")
    ] = [],  # noqa: B006
    sweep: SweepName = "",
    out: Out = OUT,
    output: Annotated[Path | None, typer.Option("-o", help="a file; LaTeX adds a .bib")] = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="LaTeX: a whole document")
    ] = False,
) -> None:
    """Print a comparison: means, intervals, drops from clean, normalised accuracy, retention.

    By routing: the errors of routed methods, split into those of the experts, of compression and
    of the router. By uncertainty: how well methods know which of their answers are wrong, and
    which images are shifted, after a sweep with --uncertainty.
    """
    if by is By.routing and methods:
        methods = [*methods, CEILING]  # every error is told from its own
    rows = selected(out, sweep, methods)
    if paired_:
        if len(paired_) != 2:
            raise UserError(f"--paired takes two methods; got {len(paired_)}")
        Console().print(_paired(rows, key(paired_[0]), key(paired_[1]), by.value, shift))
        return
    result = _compared(rows, metric, by, shift, out, sweep)
    if output is not None and format is Format.latex:
        written = write_latex(result, output, standalone, label=f"tab:{metric}-{by.value}")
        Console().print(f"wrote {', '.join(map(str, written))}", highlight=False)
        return
    if format is Format.text and output is None:
        console = Console()
        console.print(renderable(result, min(console.width, 120)))
        return
    text = render(result, format.value)
    if output is None:
        print(text, end="")
    else:
        with atomic(output) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _compared(
    rows: pd.DataFrame, metric: str, by: By, shift: str, out: Path, sweep: str
) -> AnyTable:
    if by not in (By.routing, By.uncertainty):
        return compare(rows, metric, by.value, shift=shift, order=method_order())
    if metric != "acc":
        raise UserError(f"--by {by} is about accuracy; leave out --metric {metric}")
    if by is By.routing:
        return breakdown(rows, order=method_order())
    shifts = recorded(out, sweep)["shifts"]
    images = Store(out).read_images(rows["run_id"].unique(), shifts)
    return detection(rows, images, order=method_order())


def _paired(rows: pd.DataFrame, a: str, b: str, by: str, shift: str) -> RichTable:
    """Differences in points with their 95 % limits."""
    head = (by, f"{a} - {b} (points)", "95 % interval, paired", "better")
    shown = RichTable(*map(escape, head), box=None)
    for column, line in paired(rows, a, b, by, shift).iterrows():
        limits = f"[{100 * line['low']:+.1f}, {100 * line['high']:+.1f}]"
        difference, verdict = f"{100 * line['difference']:+.1f}", escape(line["verdict"])
        shown.add_row(str(column), difference, escape(limits), verdict)
    return shown


def plot(
    kind: Annotated[Kind, typer.Argument(help=" | ".join(Kind))],
    metric: Metric = "acc",
    methods: Methods = [],  # noqa: B006
    sweep: SweepName = "",
    out: Out = OUT,
    output: Annotated[Path | None, typer.Option("-o", help="a .png, .pdf or .svg file")] = None,
) -> None:
    """Draw accuracy against severity, methods against corruptions, or what a method learned.

    Routing: where the images of each task are sent. Coefficients: those of the first seed. Both
    are of one method; choose it with --methods.
    """
    from results import drawing, heatmaps, plots

    rows = selected(out, sweep, methods)
    if kind is Kind.routing:
        figure, name = heatmaps.routing(rows), kind.value
    elif kind is Kind.coefficients:
        values, title = _coefficients(rows, Store(out))
        tasks = list(rows["task"].unique())
        figure, name = heatmaps.coefficients(values, title, tasks), kind.value
    else:
        draw = {Kind.severity: plots.severity, Kind.heatmap: plots.heatmap}[kind]
        figure, name = draw(rows, metric, order=method_order()), f"{kind.value}-{metric}"
    path = drawing.save(figure, output or Path(f"{name.replace(':', '-')}.png"))
    Console().print(f"wrote {path}", highlight=False)


def _coefficients(rows: pd.DataFrame, store: Store) -> tuple[dict[str, dict[str, float]], str]:
    """What the first run of the one method with coefficients learned, and what to call it."""
    from results.heatmaps import only

    found = {}
    for (method, variant, run), part in rows.groupby(["method", "variant", "run_id"], sort=False):
        known = [learned.load(file)[1] for file in learned.files(store, str(run))]
        known = [facts for facts in known if facts["coefficients"]]
        if known:
            line = named(str(method), str(variant))
            found[line, int(part["seed"].iloc[0])] = (known[0], part.iloc[0])
    if not found:
        raise UserError("no method here learned coefficients; choose a sweep with adamerging")
    only((line for line, _ in found), "learned coefficients")
    facts, row = found[min(found)]
    under = f", under {short(facts['shift'])}" if facts["shift"] else ""
    world = WORLDS.get(row["world"], row["world"])
    title = f"{named(row['title'], row['variant'])}: coefficients on {row['suite']} ({world}), "
    title += f"seed {row['seed']}{under}"
    return facts["coefficients"], title


def sanity(sweep: SweepName = "", out: Out = OUT) -> None:
    """Check a sweep against what must hold: the order of the references, and severities that bite.

    The order on clean images is pretrained < average < the best of the other merges < individual,
    each step with a paired 95 % interval. Exit code 1 if a step does not hold.
    """
    rows, console = selected(out, sweep, []), Console()
    rows = rows[rows["variant"] == ""]  # of methods as they are
    clean = rows[(rows["corruption"] == "clean") & (rows["metric"] == "acc")]
    means = clean.groupby("method")["value"].mean()
    plain = clean[(clean["stores"] == "one model") & ~clean["knows_task"]]
    merges = sorted(set(plain["method"]) - {"pretrained", "average"})
    if not merges:
        raise UserError("no merge was measured on clean images; see `python -m bench table`")
    best = max(merges, key=means.__getitem__)
    holds = True
    console.print("[bold]order on clean images[/] (paired, 95 %)")
    for low, high in (("pretrained", "average"), ("average", best), (best, "individual")):
        line = paired(clean, high, low).iloc[0]
        holds &= bool(line["low"] > 0)
        console.print(
            f"  {low} {100 * means[low]:.1f} < {high} {100 * means[high]:.1f}: "
            f"{100 * line['difference']:+.1f} [{100 * line['low']:+.1f}, {100 * line['high']:+.1f}]"
            f"  {'holds' if line['low'] > 0 else 'DOES NOT HOLD'}",
            highlight=False,
        )
    curves = monotone(rows, "individual")
    console.print("[bold]individual, accuracy by severity[/] (0 = clean)")
    for name, curve in curves.iterrows():
        severities = [c for c in curves.columns if isinstance(c, int)]
        line = " ".join(f"{100 * curve[s]:5.1f}" for s in severities)
        rise = 100 * curve["largest_rise"]
        remark = "" if curve["falls"] or len(severities) < 3 else "  DOES NOT FALL"
        remark += f"  rises by {rise:.1f}" if rise > 1 else ""
        holds &= not remark
        console.print(f"  {name:<18} {line}{remark}", highlight=False)
    console.print("[bold]null cells[/]: the fall of individual from clean is within its interval")
    for _, cell in null_cells(rows, "individual").iterrows():
        console.print(
            f"  {cell['corruption']}@{cell['severity']}: {100 * cell['fall']:+.2f} "
            f"[{100 * cell['low']:+.2f}, {100 * cell['high']:+.2f}]",
            highlight=False,
        )
    if not holds:
        raise typer.Exit(1)
