"""What a run learned, in W&B: curves with axes of their own, coefficients, routing weights."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from results.schema import ROUTE
from results.summaries import coefficient_lines

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger


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
