"""``python -m bench table`` and ``plot``: read results, never measure."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from bench import learned
from bench.choices import choices_of
from bench.cli.options import OUT, Methods, Out, words
from bench.cli.presets import OWN_COLUMNS, Label, Preset, put, sheet
from bench.cli.publishing import Published, put_beside
from bench.errors import UserError
from bench.files import atomic
from bench.leaderboard import method_order
from bench.lines import named, spelled
from bench.mirror import short
from bench.records import images_of, recorded, rows_of
from results.contrasts import paired
from results.render import AnyTable, render, renderable, write_latex
from results.routing import breakdown
from results.schema import CEILING, METRICS, WORLDS
from results.store import Store
from results.tables import compare
from results.tuning import tuning
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
    tuning = "tuning"


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
    search = "search"
    scale = "scale"


SweepName = Annotated[str, typer.Option("--sweep", help="which sweep; default: the latest")]
Metric = Annotated[str, typer.Option(help=" | ".join(METRICS))]


def selected(out: Path, sweep: str, methods: list[str]) -> pd.DataFrame:
    """The rows of a sweep, of all methods or of some."""
    record = recorded(out, sweep)
    if record["left_out"]:
        typer.echo(
            f"not shown, as sweep {record['name']} has shifts or data that they did not see: "
            f"{', '.join(record['left_out'])}; `evaluate` or `results add` them again",
            err=True,
        )
    return rows_of(out, record, words(methods))


def table(
    metric: Metric = "acc",
    by: By = By.shift,
    format: Format = Format.text,
    shift: Annotated[str, typer.Option(help="with --by task: under which shift")] = "clean",
    methods: Methods = [],  # noqa: B006
    paired_: Annotated[
        list[str], typer.Option("--paired", help="two methods, on the same images")
    ] = [],  # noqa: B006
    published: Published = [],  # noqa: B006
    sweep: SweepName = "",
    out: Out = OUT,
    output: Annotated[Path | None, typer.Option("-o", help="a file; LaTeX adds a .bib")] = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="LaTeX: a whole document")
    ] = False,
    preset: Preset = "",
    label: Label = "",
) -> None:
    """Print a comparison: means, intervals, drops from clean, normalised accuracy, retention.

    By routing: the errors of routed methods, split into those of the experts, of compression and
    of the router. By uncertainty: how well methods know which of their answers are wrong, and
    which images are shifted, after a sweep with --uncertainty. By tuning: what was chosen on val,
    at what cost, and its val score less its test score. Published: numbers of papers and
    repositories beside ours. Preset: LaTeX laid out as in the papers.
    """
    _check_latex(format, output, standalone, label)
    if preset:
        alone = not (paired_ or published) and by is By.shift
        if format is not Format.latex or not alone:
            raise UserError(OWN_COLUMNS.format(preset))
        source = sheet(preset, out, sweep, words(methods), metric, shift)
        put(source, output, standalone, label)
        return
    if by is By.routing and methods:
        methods = [*methods, CEILING]  # every error is told from its own
    rows = selected(out, sweep, methods)
    if paired_:
        if len(paired_) != 2:
            raise UserError(f"--paired takes two methods; got {len(paired_)}")
        Console().print(_paired(rows, paired_[0], paired_[1], by.value, shift))
        return
    if published:
        result: AnyTable = put_beside(rows, words(published), metric, by.value, shift)
    else:
        result = _compared(rows, metric, by, shift, out, sweep)
    label = label or f"tab:{metric}-{by.value}{'-published' * bool(published)}"
    _put(result, format, output, standalone, label)


def _check_latex(format: Format, output: Path | None, standalone: bool, label: str) -> None:
    if (standalone or label) and format is not Format.latex:
        raise UserError(f"--standalone and --label are for LaTeX; got --format {format}")
    if standalone and output is None:
        raise UserError("--standalone is a whole document; give it a file, e.g. -o table.tex")


def _put(
    result: AnyTable, format: Format, output: Path | None, standalone: bool, label: str
) -> None:
    """Print a table, or write it to a file."""
    if output is not None and format is Format.latex:
        written = write_latex(result, output, standalone, label)
        Console().print(f"wrote {', '.join(map(str, written))}", highlight=False)
        return
    if format is Format.text and output is None:
        console = Console()
        console.print(renderable(result, min(console.width, 120)))
        return
    options = {"label": label} if format is Format.latex else {}
    text = render(result, format.value, **options)
    if output is None:
        print(text, end="")
    else:
        with atomic(output) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _compared(
    rows: pd.DataFrame, metric: str, by: By, shift: str, out: Path, sweep: str
) -> AnyTable:
    if by not in (By.routing, By.uncertainty, By.tuning):
        return compare(rows, metric, by.value, shift=shift, order=method_order())
    if metric != "acc":
        raise UserError(f"--by {by} is about accuracy; leave out --metric {metric}")
    if by is By.routing:
        return breakdown(rows, order=method_order())
    if by is By.tuning:
        return tuning(rows, choices_of(Store(out), rows["run_id"].unique()), order=method_order())
    images, left_out = images_of(out, recorded(out, sweep), rows)
    return detection(rows, images, order=method_order(), left_out=left_out)


def _paired(rows: pd.DataFrame, a: str, b: str, by: str, shift: str) -> RichTable:
    """Differences in points with their 95 % limits."""
    lines = [named(*one) for one in rows[["method", "variant"]].drop_duplicates().values.tolist()]
    a, b = spelled(a, lines), spelled(b, lines)
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

    Routing: where the images of each task are sent. Coefficients: those of the first seed. Search:
    what was tried on val, and which constants mattered. Each of one method: see --methods. Scale:
    accuracy against the scale of methods, on val from their tuning, on test from a sweep over it.
    """
    from bench.scales import trials_of
    from bench.searches import history_of
    from results import drawing, heatmaps, plots, scale_plot, search_plot

    rows = selected(out, sweep, methods)
    if kind is Kind.routing:
        figure, name = heatmaps.routing(rows), kind.value
    elif kind is Kind.search:
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
        draw = {Kind.severity: plots.severity, Kind.heatmap: plots.heatmap}[kind]
        figure, name = draw(rows, metric, order=method_order()), f"{kind.value}-{metric}"
    path = drawing.save(figure, output or Path(f"{name.replace(':', '-')}.png"))
    Console().print(f"wrote {path}", highlight=False)


def _coefficients(rows: pd.DataFrame, store: Store) -> tuple[dict[str, dict[str, float]], str]:
    """What the first run of the one method with coefficients learned, and what to call it."""
    from results.heatmaps import only

    found = {}
    for (method, variant, run), part in rows.groupby(["method", "variant", "run_id"], sort=False):
        known = [one for one in learned.lessons(store, str(run)) if one["coefficients"]]
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
