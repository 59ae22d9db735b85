"""``python -m bench table --format latex --preset NAME``: tables as papers print them.

``python -m bench table`` and ``plot``: read results, never measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from bench.cli.options import (
    OUT,
    Folders,
    Methods,
    Metric,
    Out,
    Protocol,
    SweepName,
    selected,
    whole,
    words,
)
from bench.index import method_order
from bench.variants import canonical_name, display_name, methods_of
from mergeshift import UserError, atomic, read_json

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table as RichTable

    from results.latex.paper_table import PaperTable
    from results.published.table import PublishedComparison
    from results.render.text import AnyTable

PRESET_NAMES = "bd-table1 | bd-table2 | bd-ablation | bmm-main | per-task | robustness7"
SUITES = "bmm-main"  # compares sweeps; the others print one

WITH_SHIFT = ("per-task", "robustness7")

OWN_COLUMNS = (
    "a preset is LaTeX and has columns of its own; write --format latex --preset {}, without --by, "
    "--paired and --published"
)

Preset = Annotated[str, typer.Option(help=f"LaTeX as papers print it: {PRESET_NAMES}")]

Label = Annotated[str, typer.Option(help="LaTeX: what references call the table")]


OWN = "own"

Published = Annotated[
    list[str],
    typer.Option(
        "--published",
        help="published numbers beside ours: alone, those with our experts; or sources, see "
        "list published: then with methods and shifts that we did not measure",
    ),
]


def sheet(
    name: str,
    out: Path,
    sweep: str,
    methods: Sequence[str],
    metric: str,
    shift: str,
    protocol: str = "",
) -> PaperTable:
    """The table of a preset.

    Args:
        name: of the preset.
        out: folder of the results.
        sweep: its name; empty for the latest. bmm-main takes the latest of every suite and
            encoder, of the sweeps that are called so or begin so.
        methods: some of them; none for all.
        metric: has to be acc.
        shift: under which one, for the presets that are of one.
        protocol: of the sweep; bmm-main is of one protocol, by default of the usual one.

    Raises:
        UserError: no such preset, or the results are not what it prints.
    """
    from bench.reporting.sweep_index import load_sweep, rows_of
    from results.latex.presets import PRESETS, Given
    from tasks import TASKS

    preset = PRESETS[name]
    if metric != "acc":
        raise UserError(f"presets print accuracy; leave out --metric {metric}")
    if shift != "clean" and name not in WITH_SHIFT:
        raise UserError(f"--shift is for {' and '.join(WITH_SHIFT)}; leave it out of {name}")
    found = suites_of(out, sweep, methods, protocol) if name == SUITES else []
    record = None if found else load_sweep(out, sweep, protocol=protocol)
    rows = found[0] if record is None else rows_of(out, record, methods)
    return preset.make(
        Given(
            rows=rows,
            order=method_order(),
            shift=shift,
            titles={task: TASKS[task].title for task in rows["task"].unique()},
            sweeps=found,
        )
    )


def put(source: PaperTable, output: Path | None, standalone: bool, label: str) -> None:
    """Print the float, or write a file with a ``.bib`` beside it."""
    from rich.console import Console

    from results.latex.document import write
    from results.latex.paper_table import paper_float

    if output is None:
        print(paper_float(source, label).source, end="")
        return
    written = write(paper_float(source, label), output, standalone)
    Console().print(f"wrote {', '.join(map(str, written))}", highlight=False)


def suites_of(
    out: Path, name: str = "", methods: Sequence[str] = (), protocol: str = ""
) -> list[pd.DataFrame]:
    """Rows of the latest sweep of every suite and encoder that has clean images.

    Args:
        out: folder of the results.
        name: of these sweeps, or what their names begin with, as ``main`` does
            ``main-pocket14``; empty for any.
        methods: some of them; a sweep that has none of these is left out.
        protocol: that of all of them.
    """
    from bench.config import stored_protocol
    from bench.reporting.sweep_index import load_sweep, rows_of

    latest: dict[tuple[str, str], dict[str, Any]] = {}
    records = [read_json(path) for path in sorted((out / "sweeps").glob("[!.]*.json"))]
    for record in sorted(records, key=lambda record: record["started"]):
        called = name in ("", record["name"]) or record["name"].startswith(f"{name}-")
        there = not methods or set(methods_of(methods)) & set(record["runs"].values())
        same = record["sweep"].get("protocol", "") == stored_protocol(protocol, "--protocol")
        called = called and same
        if record["kind"] == "sweep" and "clean" in record["shifts"] and called and there:
            latest[record["sweep"]["suite"], record["sweep"]["encoder"]] = record
    found = []
    for record in latest.values():
        whole = load_sweep(out, record["name"], run=next(iter(record["runs"])))
        mine = [one for one in methods if set(methods_of([one])) & set(whole["runs"].values())]
        found.append(rows_of(out, whole, mine))
    return found


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
    ranks = "ranks"
    leave_out = "leave-out"
    mce = "mce"
    pareto = "pareto"


class Format(StrEnum):
    """How a table is written."""

    text = "text"
    md = "md"
    csv = "csv"
    json = "json"
    html = "html"
    latex = "latex"


SUFFIXES = {  # of a file that -o names -> how it is written
    ".md": Format.md,
    ".csv": Format.csv,
    ".json": Format.json,
    ".html": Format.html,
    ".htm": Format.html,
    ".tex": Format.latex,
}
FormatName = Annotated[
    Format | None,
    typer.Option(help="By default what the suffix of -o says; else text.", show_default=False),
]


def format_of(format: Format | None, output: Path | None) -> Format:
    """How a table is written: as is said, else as the name of its file says.

    >>> format_of(None, Path("a.csv")).value, format_of(Format.md, Path("a.txt")).value
    ('csv', 'md')
    """
    by_name = SUFFIXES.get(output.suffix.lower(), Format.text) if output else Format.text
    return format or by_name


def table(
    metric: Metric = "acc",
    by: By = By.shift,
    format: FormatName = None,
    shift: Annotated[str, typer.Option(help="with --by task: under which shift")] = "clean",
    methods: Methods = [],  # noqa: B006
    paired_: Annotated[
        list[str], typer.Option("--paired", help="two methods, on the same images")
    ] = [],  # noqa: B006
    published: Published = [],  # noqa: B006
    reference: Annotated[
        str, typer.Option(help="with --by mce: the line whose errors are 100 %; pretrained")
    ] = "",
    sweep: SweepName = "",
    protocol: Protocol = "",
    out: Out = OUT,
    results: Folders = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option("-o", help="a file; LaTeX adds a .bib")] = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="LaTeX: a whole document")
    ] = False,
    preset: Preset = "",
    label: Label = "",
    left_out: Annotated[
        int,
        typer.Option(
            "--leave-out",
            parser=whole("--leave-out"),
            metavar="INTEGER",
            help="with --by leave-out: how many tasks were left out of the sweep in turn",
        ),
    ] = 1,
    notes: Annotated[
        bool, typer.Option("--notes", help="text: all notes, also those under every table")
    ] = False,
) -> None:
    """Print a comparison: means, intervals, drops from clean, normalised accuracy, retention.

    By routing: the errors of routed methods, split into those of the experts, of compression and
    of the router. By uncertainty: how well methods know which of their answers are wrong, and
    which images are shifted, after a sweep with --uncertainty. By tuning: what was chosen on val,
    at what cost, and its val score less its test score. By ranks: over tasks, with Friedman's test
    and the critical difference. By leave-out: over all choices of unseen tasks, after a sweep with
    --leave-out. By mce: mean corruption error and its relative form, against
    --reference. By pareto: what map can trade between tasks, by its quadratics, and how far these
    are off. Published: numbers of papers and
    repositories beside ours. Preset: LaTeX laid out as in the papers.
    """
    from rich.console import Console

    from bench.reporting.leave_out import rows_by_choice
    from results.schema import CEILING
    from results.tables.leave_out import leave_out as over_choices

    format, folders = format_of(format, output), results or [out]
    check_latex(format, output, standalone, label)
    check_reference(by, reference)
    if preset:
        alone = not (paired_ or published) and by is By.shift
        if format is not Format.latex or not alone:
            raise UserError(OWN_COLUMNS.format(preset))
        folder = one_folder(folders, "a preset")
        source = sheet(preset, folder, sweep, words(methods), metric, shift, protocol)
        put(source, output, standalone, label)
        return
    if by is By.leave_out:
        folder = one_folder(folders, f"--by {by}")
        of = rows_by_choice(folder, sweep or "main", left_out, words(methods), protocol or "task")
        found = over_choices(of, metric, order=method_order())
        show(found, format, output, standalone, label or f"tab:{metric}-leave-out", notes)
        return
    if by is By.routing and methods:
        methods = [*methods, CEILING]  # every error is told from its own
    rows = selected(folders, sweep, methods, protocol)
    if paired_:
        pair = words(paired_)
        if len(pair) != 2:
            raise UserError(f"--paired takes two methods; got {len(pair)}")
        Console().print(_paired(rows, pair[0], pair[1], by.value, shift))
        return
    if published:
        result: AnyTable = put_beside(rows, words(published), metric, by.value, shift)
    else:
        result = compared(rows, metric, by, shift, folders, sweep, reference, protocol)
    label = label or f"tab:{metric}-{by.value}{'-published' * bool(published)}"
    show(result, format, output, standalone, label, notes)


def check_latex(format: Format, output: Path | None, standalone: bool, label: str) -> None:
    """Refuse what is for LaTeX alone, in any other format."""
    if (standalone or label) and format is not Format.latex:
        raise UserError(f"--standalone and --label are for LaTeX; got --format {format}")
    if standalone and output is None:
        raise UserError("--standalone is a whole document; give it a file, e.g. -o table.tex")


def check_reference(by: By, reference: str) -> None:
    """Refuse a reference where nothing is compared with one."""
    if reference and by is not By.mce:
        raise UserError("--reference is the line that --by mce compares with; give that, too")


def show(
    result: AnyTable,
    format: Format,
    output: Path | None,
    standalone: bool,
    label: str,
    notes: bool = True,
) -> None:
    """Print a table, or write it to a file."""
    from rich.console import Console

    from results.render.text import render, renderable, write_latex

    if output is not None and format is Format.latex:
        written = write_latex(result, output, standalone, label)
        Console().print(f"wrote {', '.join(map(str, written))}", highlight=False)
        return
    if format is Format.text and output is None:
        console = Console()
        console.print(renderable(result, min(console.width, 120), brief=not notes))
        return
    options = {"label": label} if format is Format.latex else {}
    text = render(result, format.value, **options)
    if output is None:
        print(text, end="")
    else:
        with atomic(output) as temporary:
            temporary.write_text(text, encoding="utf-8")


def one_folder(folders: Sequence[Path], what: str) -> Path:
    """The folder of what reads more of it than its rows.

    Raises:
        UserError: there are several.
    """
    if len(folders) > 1:
        raise UserError(f"{what} is made of one folder of results; got {len(folders)}")
    return folders[0]


def compared(
    rows: pd.DataFrame,
    metric: str,
    by: By,
    shift: str,
    folders: Sequence[Path],
    sweep: str,
    reference: str = "",
    protocol: str = "",
) -> AnyTable:
    """The table of some rows.

    Args:
        rows: of a sweep, see :func:`bench.reporting.sweep_index.rows_of`.
        metric: a name in ``METRICS``.
        by: what a column is.
        shift: with by task, under which shift.
        folders: that the rows are of, for what is not among them.
        sweep: which sweep; empty for the latest.
        reference: with by mce, the line whose errors are 100 %; empty for pretrained.
        protocol: of the sweep; empty for the latest.

    Raises:
        UserError: the methods were not measured on the same cells, or lack what the table shows.
    """
    from bench.reporting.sweep_index import images_of, load_sweep, with_chance
    from results.schema import FLOOR
    from results.store import Store
    from results.tables.comparison import compare
    from results.tables.corruption_error import corruption_errors
    from results.tables.ranking import ranking
    from results.tables.routing import breakdown
    from results.tables.uncertainty import detection

    if by is By.ranks:
        return ranking(rows, metric, order=method_order())
    if by not in (By.routing, By.uncertainty, By.tuning, By.mce, By.pareto):
        rows = with_chance(rows) if metric == "norm_chance" else rows
        return compare(rows, metric, by.value, shift=shift, order=method_order())
    if metric != "acc":
        raise UserError(f"--by {by} is about accuracy; leave out --metric {metric}")
    if by is By.mce:
        every = rows[["method", "variant"]].drop_duplicates().values.tolist()
        named = canonical_name(reference or FLOOR, [display_name(*one) for one in every])
        return corruption_errors(rows, named, order=method_order())
    if by is By.routing:
        return breakdown(rows, order=method_order())
    if by is By.pareto:
        from bench.reporting.pareto import fronts_of
        from results.tables.pareto import pareto

        store = Store(one_folder(folders, f"--by {by}"))
        return pareto(rows, fronts_of(store, rows["run_id"]), order=method_order())
    if by is By.tuning:
        from bench.reporting.tuning_history import choices_of
        from results.tables.tuning import tuning

        store = Store(one_folder(folders, f"--by {by}"))
        return tuning(rows, choices_of(store, rows["run_id"].unique()), order=method_order())
    out = one_folder(folders, f"--by {by}")
    images, left_out = images_of(out, load_sweep(out, sweep, protocol=protocol), rows)
    return detection(rows, images, order=method_order(), left_out=left_out)


def _paired(rows: pd.DataFrame, a: str, b: str, by: str, shift: str) -> RichTable:
    """Differences in points with their 95 % limits."""
    from rich.table import Table as RichTable

    from results.tables.paired import paired

    lines = [
        display_name(*one) for one in rows[["method", "variant"]].drop_duplicates().values.tolist()
    ]
    a, b = canonical_name(a, lines), canonical_name(b, lines)
    found = paired(rows, a, b, by, shift)
    several = bool(found["df"].notna().any())
    over = "images and sets of experts" if several else "images alone"
    head = [by, f"{a} - {b} (points)", f"95 % interval over {over}, paired", "better"]
    head += ["degrees of freedom"] * several
    shown = RichTable(*map(escape, head), box=None)
    for column, line in found.iterrows():
        limits = f"[{100 * line['low']:+.1f}, {100 * line['high']:+.1f}]"
        difference, verdict = f"{100 * line['difference']:+.1f}", escape(line["verdict"])
        freedom = [f"{line['df']:.0f}" if line["df"] < 1000 else "over 1000"] * several
        shown.add_row(str(column), difference, escape(limits), verdict, *freedom)
    return shown


def put_beside(
    rows: pd.DataFrame, names: list[str], metric: str, by: str, shift: str
) -> PublishedComparison:
    """Published numbers beside ours.

    Args:
        rows: ours.
        names: of sources, or ``own``: all, as far as they merged the experts that our suite has.
        metric: has to be acc.
        by: what a column is.
        shift: with by task, under which shift.

    Raises:
        UserError: there is nothing to put beside ours.
    """
    from results.published import sources as published
    from results.published.table import beside

    if metric != "acc":
        raise UserError(f"what is published is accuracy; leave out --metric {metric}")
    own = names == [OWN]
    found = published.read(() if own else names)
    if own:
        suite = str(rows["suite"].iloc[0])
        found = found[found["checkpoints"] == published.family_of(suite)]
    return beside(rows, found, published.sources(), by, shift=shift, order=method_order(),
                  everything=not own)  # fmt: skip
