"""Weights & Biases as a mirror: finished runs are copied there, nothing is read back.

Offline unless logged in, and then too if the service cannot be reached: there is never a prompt,
and a sweep never fails because a network is away. Everything lies under the folder given.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.errors import UserError
from results.login import contained, mode, settings, stop_service, unreachable
from results.schema import ROUTE
from results.summaries import (
    by_severity,
    cells,
    coefficient_lines,
    costs,
    means,
    safe_id,
    steps,
    wide,
)
from results.tables import Table

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger

__all__ = ["Mirror", "mode"]

PROJECT = "mergeshift"
CELL_COLUMNS = ["task", "corruption", "severity", "metric", "value", "n"]


class Mirror:
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
            logger.log_hyperparams(dict(facts))
            logger.experiment.define_metric("adapt/*", step_metric="adapt/step")
            for step, values in enumerate(steps(curves or {})):
                logger.log_metrics({"adapt/step": step, **values})
            logger.experiment.define_metric("by_severity/*", step_metric="severity")
            for severity, values in by_severity(rows).items():
                logger.log_metrics({"severity": severity, **values})
            logger.log_table("cells", CELL_COLUMNS, rows[CELL_COLUMNS].values.tolist())
            _log_learned(logger, rows, coefficients or {})
            logger.experiment.summary.update(cells(rows) | means(rows) | costs(facts))

        self._write(f"{self.sweep}-{first['run_id']}", name, "run", tags, write)

    def log_comparison(self, table: Table, name: str = "comparison") -> None:
        """Write a comparison as two W&B tables: as printed, and one line per number."""
        if self.mode == "off":
            return
        identity = f"{self.sweep}-{name}-{table.metric}-{table.by}"
        tags = [table.setting["world"], table.setting["suite"], "comparison"]

        def write(logger: "WandbLogger") -> None:
            logger.log_hyperparams({"title": table.title, "notes": table.notes, **table.setting})
            logger.log_table(name, dataframe=wide(table))
            logger.log_table(f"{name}_numbers", dataframe=table.frame())
            logger.experiment.summary.update(
                {
                    f"{table.metric}/{key}/{at}": cell.value
                    for (key, at), cell in table.cells.items()
                }
            )

        self._write(identity, f"{self.sweep} {name}", "comparison", tags, write)

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
    ) -> None:
        """Write one run; if anything goes wrong online, once more and from then on offline."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror or error}") from error
        who = {"id": safe_id(identity), "name": name, "job_type": job, "tags": list(tags)}
        with contained(self.folder, self.mode):
            if self.mode == "online" and (why := unreachable()):
                self._go_offline(why)
            try:
                self._once(who, write)
            except Exception as error:
                if self.mode != "online":
                    raise
                self._go_offline(str(error) or type(error).__name__)
                stop_service()  # it still holds the id of the run that failed
                self._once(who, write)
        self.num_logged += 1

    def _once(self, who: dict[str, Any], write: Callable[["WandbLogger"], None]) -> None:
        import wandb
        from lightning.pytorch.loggers import WandbLogger

        run = wandb.init(
            dir=self.folder,
            project=self.project,
            entity=self.entity,
            group=self.sweep,
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",  # leaves a run of the user's own alone
            settings=settings(self.mode),
            **who,
        )
        try:
            write(WandbLogger(experiment=run))
        except BaseException:
            with suppress(Exception):  # what went wrong first is what matters
                run.finish(exit_code=1)
            raise
        run.finish()

    def _go_offline(self, why: str) -> None:
        self.mode = "offline"
        self.say(f"W&B cannot be reached ({' '.join(why.split())}); the rest is logged offline")


def _log_learned(
    logger: "WandbLogger",
    rows: pd.DataFrame,
    coefficients: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> None:
    """Coefficients and routing weights, each as a table and as a picture."""
    from results import heatmaps
    from results.drawing import picture

    title, tasks = str(rows["title"].iloc[0]), list(rows["task"].unique())
    names, lines = coefficient_lines(coefficients)
    if lines:
        logger.log_table("coefficients", names, lines)
        shift, layers = next((s, layers) for s, layers in coefficients.items() if layers)
        about = f"{title}: coefficients" + (f" under {shift}" if shift else "")
        logger.log_image("coefficients_map", [picture(heatmaps.coefficients(layers, about, tasks))])
    if rows["metric"].str.startswith(ROUTE).any():
        _, panels = heatmaps.weights(rows)
        routes = [
            [level, task, route, float(weight)]
            for level, frame in panels.items()
            for task, line in frame.iterrows()
            for route, weight in line.items()
        ]
        logger.log_table("routing", ["shift", "task", "route", "weight"], routes)
        logger.log_image("routing_map", [picture(heatmaps.routing(rows))])
