"""Weights & Biases as a mirror: finished runs are copied there, nothing is read back.

A run has its numbers and what it learned: curves with axes of their own, coefficients, routing
weights. Runs are offline unless the user is logged in and the service can be reached: there is
never a prompt, and a sweep never fails because of a network. All files lie under the folder given.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mergeshift import UserError
from results.schema import ROUTE
from results.tables.comparison import Table
from results.wandb.login import mode, settings, stop_service, unreachable, wandb_folder
from results.wandb.summaries import (
    best,
    by_severity,
    cells,
    coefficient_lines,
    costs,
    line_of,
    means,
    safe_id,
    steps,
    wide,
)
from results.wandb.sweep import Trial, trial

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger


__all__ = ["WandbUploader", "mode"]

PROJECT = "mergeshift"

LONGEST_TAG, LONGEST_NAME = 64, 128  # letters that W&B takes

BOARD = "leaderboard"  # a run's job type, and its table

CELL_COLUMNS = ["task", "corruption", "severity", "metric", "value", "n"]


class WandbUploader:
    """Writes the runs of one sweep, and their comparison, as runs of one W&B group.

    Args:
        folder: everything is written below it.
        sweep: name of the group.
        mode: ``online``, ``offline`` or ``off`` (every call then does nothing).
        project: W&B project.
        entity: W&B user or team; None = the default of the account.
        say: told in one line when the service cannot be reached.
    """

    def __init__(
        self,
        folder: Path,
        sweep: str,
        mode: str,
        project: str = PROJECT,
        entity: str | None = None,
        say: Callable[[str], object] = lambda line: None,
    ):
        self.folder, self.sweep, self.mode = folder, sweep, mode
        self.project, self.entity, self.say = project, entity, say
        self.num_logged = 0
        self.owner, self.address = "", ""  # of the run that was written last, online

    def log_run(
        self,
        facts: Mapping[str, Any],
        rows: pd.DataFrame,
        curves: Mapping[str, Sequence[float]] | None = None,
        coefficients: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    ) -> None:
        """Write one run: config, means by severity, every cell, costs, and what it learned.

        A method that routes adds a picture of where it sends the images of each task.

        Args:
            facts: becomes the config; its numbers (seconds to merge, ...) the summary as well.
            rows: every finished row of this run alone.
            curves: of learning, one value per step, e.g. ``{"loss": [...]}``.
            coefficients: shift they were learned under, or "" -> layer -> task -> number.
        """
        if self.mode == "off":
            return
        first = rows.iloc[0]
        variant = f" [{told}]" if (told := first.get("variant", "")) else ""
        name = f"{first['method']}{variant} seed {first['seed']} experts {first['expert_seed']}"
        tags = [first["world"], first["suite"], first["method"]]

        def write(logger: "WandbLogger") -> None:
            logger.log_hyperparams({**facts, "line": line_of(rows), "sweep": safe_id(self.sweep)})
            define(logger)
            for step, values in enumerate(steps(curves or {})):
                logger.log_metrics({"adapt/step": step, **values})
            for severity, values in by_severity(rows).items():
                logger.log_metrics({"severity": severity, **values})
            logger.log_table("cells", CELL_COLUMNS, rows[CELL_COLUMNS].values.tolist())
            log_learned(logger, rows, coefficients or {})
            logger.experiment.summary.update(cells(rows) | means(rows) | costs(facts))

        self._write(run_id(self.sweep, first["run_id"]), name, "run", tags, write)

    def log_comparison(self, table: Table, name: str = "comparison") -> None:
        """Write a comparison as two W&B tables: as printed, and one line per number.

        Under an agent of a W&B Sweep this run is the trial: its config has the parameters that the
        agent chose, its summary the numbers that a search can rank by, e.g. ``best/acc/L2``.
        """
        if self.mode == "off":
            return
        identity = f"{self.sweep}-{name}-{table.metric}-{table.by}"
        tags, tried = [table.setting["world"], table.setting["suite"], "comparison"], trial()

        def write(logger: "WandbLogger") -> None:
            logger.log_hyperparams({"title": table.title, "notes": table.notes, **table.setting})
            if tried:
                logger.log_hyperparams(tried.parameters)
            logger.log_table(name, dataframe=wide(table))
            logger.log_table(f"{name}_numbers", dataframe=table.frame())
            logger.experiment.summary.update(
                {
                    f"{table.metric}/{key}/{at}": cell.value
                    for (key, at), cell in table.cells.items()
                }
                | best(table)
            )

        self._write(identity, f"{self.sweep} {name}", "comparison", tags, write, tried)

    def log_board(self, board: pd.DataFrame, table: Table) -> None:
        """Write the leaderboard: one table, whose run is the same at every call.

        Args:
            board: a line per method, from :func:`results.tables.leaderboard.board`.
            table: what it was made from.
        """
        tags = [table.setting["world"], table.setting["suite"], BOARD]

        def write(logger: "WandbLogger") -> None:
            about = {"title": table.title, "notes": table.notes, "sweep": safe_id(self.sweep)}
            logger.log_hyperparams(about | table.setting)
            logger.log_table(BOARD, dataframe=board)
            logger.experiment.summary.update(best(table))

        self._write(run_id(self.sweep, BOARD), f"{self.sweep} {BOARD}", BOARD, tags, write)

    def advice(self) -> str:
        """One line: where the runs are, and how to upload those that are offline."""
        if self.mode == "off" or not self.num_logged:
            return "W&B: nothing logged"
        if self.mode == "online":
            return f"W&B: {self.num_logged} runs in project {self.project}, group {self.sweep}"
        runs = self.folder / "wandb" / "offline-run-*"
        return f"W&B: {self.num_logged} runs logged offline; upload: wandb sync {runs}"

    def _write(
        self,
        identity: str,
        name: str,
        job: str,
        tags: Sequence[str],
        write: Callable[["WandbLogger"], None],
        tried: Trial | None = None,
    ) -> None:
        """Write one run; if anything goes wrong online, once more and from then on offline."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror or error}") from error
        identity = tried.run if tried else safe_id(identity)
        tags = [tag[:LONGEST_TAG] for tag in tags]
        who = {"id": identity, "name": name[:LONGEST_NAME], "job_type": job, "tags": tags}
        with wandb_folder(self.folder, self.mode):
            if self.mode == "online" and (why := unreachable()):
                self._go_offline(why)
            try:
                self._once(who, write, tried)
            except Exception as error:
                if self.mode != "online":
                    raise
                self._go_offline(str(error) or type(error).__name__)
                stop_service()  # it still holds the id of the run that failed
                self._once(who, write, tried)
        self.num_logged += 1

    def _once(
        self,
        who: dict[str, Any],
        write: Callable[["WandbLogger"], None],
        tried: Trial | None,
    ) -> None:
        import wandb
        from lightning.pytorch.loggers import WandbLogger

        run = wandb.init(
            dir=self.folder,
            project=self.project,
            entity=self.entity,
            group=self.sweep[:LONGEST_NAME],
            resume=None,  # a run of this id that is there already is written over
            reinit="create_new",  # leaves a run of the user's own alone
            settings=settings(self.mode, **({"sweep_id": tried.sweep} if tried else {})),
            **who,
        )
        try:
            write(WandbLogger(experiment=run))
        except BaseException:
            with suppress(Exception):  # what went wrong first is what matters
                run.finish(exit_code=1)
            raise
        self.owner, self.address = run.entity or "", run.url or ""
        run.finish()

    def _go_offline(self, why: str) -> None:
        self.mode = "offline"
        self.say(f"W&B cannot be reached ({' '.join(why.split())}); the rest is logged offline")


def run_id(sweep: str, identity: str) -> str:
    """The id of a run in W&B."""
    return safe_id(f"{sweep}-{identity}")


def define(logger: "WandbLogger") -> None:
    """Curves have their own axes; only those of learning leave numbers in the summary.

    The means by severity are in the summary already, with intervals and drops.
    """
    metric = logger.experiment.define_metric
    for axis in ("adapt/step", "severity"):
        metric(axis, hidden=True, summary="none")
    metric("adapt/*", step_metric="adapt/step")
    metric("adapt/search_best", step_metric="adapt/step", summary="max")
    metric("by_severity/*", step_metric="severity", summary="none")


def log_learned(
    logger: "WandbLogger",
    rows: pd.DataFrame,
    coefficients: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> None:
    """Coefficients and routing weights, each as a table and as a picture."""
    from results.plots import learned
    from results.plots.style import picture

    title, tasks = str(rows["title"].iloc[0]), list(rows["task"].unique())
    names, lines = coefficient_lines(coefficients)
    if lines:
        logger.log_table("coefficients", names, lines)
        shift, layers = next((s, layers) for s, layers in coefficients.items() if layers)
        about = f"{title}: coefficients" + (f" under {shift}" if shift else "")
        logger.log_image("coefficients_map", [picture(learned.coefficients(layers, about, tasks))])
    if rows["metric"].str.startswith(ROUTE).any():
        _, panels = learned.weights(rows)
        routes = [
            [level, task, route, float(weight)]
            for level, frame in panels.items()
            for task, line in frame.iterrows()
            for route, weight in line.items()
        ]
        logger.log_table("routing", ["shift", "task", "route", "weight"], routes)
        logger.log_image("routing_map", [picture(learned.routing(rows))])
