"""The leaderboard as a W&B Report: written anew at every call, under the same address."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from mergeshift import UserError
from results.plots.style import line_styles
from results.render.text import render
from results.schema import METRICS, ROUTE
from results.tables.columns import MEAN
from results.tables.comparison import Table
from results.tables.entries import keys_by_run
from results.wandb.login import wandb_folder
from results.wandb.runs import BOARD, run_id
from results.wandb.summaries import line_of, safe_id

LONGEST = 128  # letters of a title
WIDE = 24  # units across a report
ROUTING = "Where the images of each task are sent: mean weight in %; rows are true tasks."
COEFFICIENTS = "What the methods that learn coefficients chose, layer by layer."
MISSING = "a W&B Report needs wandb-workspaces; run `pip install wandb-workspaces`"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a sweep was logged."""

    project: str
    entity: str
    sweep: str  # name of the group
    board: str  # address of the leaderboard's run

    def address(self, run: str) -> str:
        """The page of a run of this sweep."""
        return f"{self.board.rpartition('/')[0]}/{run_id(self.sweep, run)}"

    @property
    def title(self) -> str:
        """The report's, by which it is found again."""
        return f"MergeShift: {self.sweep}"[:LONGEST]


def require_workspaces() -> None:
    """Find out before the work whether reports can be written.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2  # noqa: F401
    except ImportError as error:
        raise UserError(MISSING) from error


def save(
    place: Place, table: Table, rows: pd.DataFrame, folder: Path, with_coefficients: int = 0
) -> str:
    """Write the report of a sweep, or write it anew, and return its address.

    Args:
        place: where the runs are.
        table: the comparison.
        rows: what it was made from.
        folder: for wandb's own files.
        with_coefficients: runs that have a picture of learned coefficients.

    Raises:
        UserError: wandb-workspaces is not installed, or the service refused the report.
    """
    require_workspaces()
    import wandb
    from wandb_workspaces.reports import v2

    try:
        with (
            wandb_folder(folder, "online"),
            redirect_stdout(StringIO()),
            redirect_stderr(StringIO()),
        ):
            report = v2.Report(
                project=place.project,
                entity=place.entity,
                title=place.title,
                description=f"{table.title}. {table.notes['world']}",
                blocks=list(blocks(place, table, rows, with_coefficients)),
                width="fluid",
            )
            known = wandb.Api().reports(f"{place.entity}/{place.project}")
            report.id = next((one.id for one in known if one.display_name == place.title), "")
            return str(report.save().url)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"W&B took no report: {' '.join(str(error).split())}") from error


def blocks(
    place: Place, table: Table, rows: pd.DataFrame, with_coefficients: int = 0
) -> Iterator[Any]:
    """What the report consists of, from top to bottom."""
    from wandb_workspaces.reports import v2

    yield v2.P([
        "Written by ", v2.InlineCode("python -m bench leaderboard"),
        f" for the sweep {place.sweep}; the next call replaces what is here.",
    ])  # fmt: skip
    yield v2.H2("Leaderboard")
    yield v2.MarkdownBlock(text=render(table, "md"))
    yield v2.P("The same with the limits of each interval and with costs, to be sorted:")
    yield _grid(place, BOARD, [v2.WeavePanelSummaryTable(table_name=BOARD, layout=_size(12))])
    if curves := _curves(table.metric, rows):
        yield v2.H2("Severity curves")
        yield v2.P(f"{table.spec.title}, mean over tasks; bands: from the least seed to the best.")
        yield _grid(place, "run", curves, _colours(table, rows))
    routed = rows.loc[rows["metric"].str.startswith(ROUTE), "run_id"].nunique()
    for title, text, key, runs in (
        ("Routing", ROUTING, "routing_map", routed),
        ("Coefficients", COEFFICIENTS, "coefficients_map", with_coefficients),
    ):
        if runs:
            yield v2.H2(title)
            yield v2.P(text)
            panel = v2.MediaBrowser(
                media_keys=[key], num_columns=1, layout=_size(6 + 8 * min(runs, 3))
            )
            yield _grid(place, "run", [panel])
    yield v2.H2("Runs")
    yield v2.UnorderedList(items=list(_links(place, table, rows)))


def _grid(place: Place, job: str, panels: Sequence[Any], colours: Mapping[str, str] | None = None
          ) -> Any:  # fmt: skip
    """Panels over the runs of this sweep alone; of several seeds of a line as one where coloured.

    The runs are chosen by a safe form of the sweep's name: a filter is itself a piece of code.
    """
    from wandb_workspaces.reports import v2

    runs = v2.Runset(
        project=place.project,
        entity=place.entity,
        name=job,
        filters=f"Config('sweep') == {safe_id(place.sweep)!r} and Metric('JobType') == {job!r}",
        groupby=["config.line"] if colours else [],
    )
    groups: dict[Any, Any] = {
        v2.RunsetGroup(runset_name=job, keys=(v2.RunsetGroupKey(v2.Config("line"), line),)): colour
        for line, colour in (colours or {}).items()
    }
    return v2.PanelGrid(runsets=[runs], panels=list(panels), custom_run_colors=groups)


def _size(height: int) -> Any:
    from wandb_workspaces.reports import v2

    return v2.Layout(w=WIDE, h=height)


def _curves(metric: str, rows: pd.DataFrame) -> list[Any]:
    """A plot of the mean over corruptions, and one per corruption, where there are severities."""
    from wandb_workspaces.reports import v2

    shifted = rows[(rows["metric"] == metric) & (rows["severity"] > 0)]
    found = shifted.groupby("corruption", sort=False)["severity"].agg(frozenset)
    names = [str(name) for name, severities in found.items() if len(severities) > 1]
    if not names:
        return []
    same = shifted.groupby("severity")["corruption"].agg(frozenset).nunique() == 1
    spec = METRICS[metric]
    return [
        v2.LinePlot(
            title=name if name != MEAN else f"{MEAN} over {len(found)} corruptions",
            x="severity",
            y=[f"by_severity/{metric}/{name}"],
            title_x="severity",
            title_y=spec.title,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            max_runs_to_show=100,
            layout=v2.Layout(w=WIDE, h=10) if name == MEAN else v2.Layout(w=8, h=7),
        )
        for name in [MEAN] * same + names
    ]


def _colours(table: Table, rows: pd.DataFrame) -> dict[str, str]:
    """Line -> its colour, the same as in figures."""
    runs, styles = _runs(table, rows), line_styles(table.entries)
    return {
        line_of(rows[rows["run_id"] == runs[entry.key][0]]): styles[entry.key].colour
        for entry in table.entries
    }


def _links(place: Place, table: Table, rows: pd.DataFrame) -> Iterator[Any]:
    """A line per method: its runs, seed by seed."""
    from wandb_workspaces.reports import v2

    runs = _runs(table, rows)
    yield ["all: ", v2.Link(text=BOARD, url=place.board)]
    for entry in table.entries:
        text: list[Any] = [f"{entry.title}: "]
        for run in runs[entry.key]:
            seed = rows.loc[rows["run_id"] == run, "seed"].iloc[0]
            text += [v2.Link(text=f"seed {seed}", url=place.address(run)), " "]
        yield text


def _runs(table: Table, rows: pd.DataFrame) -> dict[str, list[str]]:
    """Key of an entry -> its runs."""
    found = keys_by_run(rows, table.metric)
    return {e.key: [run for run, key in found.items() if key == e.key] for e in table.entries}
