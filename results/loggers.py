"""Finished runs as Lightning's loggers write them beside W&B: TensorBoard's events, or CSV files.

Each run has a folder of its own, ``FOLDER/KIND/SWEEP/RUN``, which is written anew: its settings,
what it learned step by step, its means by severity, and its means and costs as single numbers.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import pandas as pd

from mergeshift import UserError
from results.wandb.summaries import by_severity, costs, line_of, means, steps

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

KINDS = ("tensorboard", "csv")


def require_logger(kinds: Sequence[str]) -> None:
    """Refuse a logger that cannot write, before the work.

    Raises:
        UserError: there is no such logger, or what it writes with is not installed.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--logger is {' or '.join(KINDS)}; got {kind!r}")
    if "tensorboard" in kinds and not (find_spec("tensorboard") or find_spec("tensorboardX")):
        raise UserError(
            "--logger tensorboard needs a package that writes its files: "
            "pip install tensorboardX, or take --logger csv"
        )


def log_run(
    kind: str,
    folder: Path,
    sweep: str,
    facts: Mapping[str, Any],
    rows: pd.DataFrame,
    curves: Mapping[str, Sequence[float]],
) -> Path:
    """Write one run.

    Args:
        kind: one of ``KINDS``.
        folder: of the results.
        sweep: its name.
        facts: settings and costs of the run, in one level.
        rows: every finished row of this run alone.
        curves: of learning, one value per step.

    Returns:
        Its folder.

    Raises:
        UserError: it cannot be written.
    """
    run = str(rows["run_id"].iloc[0])
    place = folder / kind / sweep / run
    try:
        if place.exists():
            rmtree(place)
        logger = _logger(kind, folder / kind, sweep, run)
        known = {name: value for name, value in facts.items() if value is not None}
        logger.log_hyperparams({**known, "line": line_of(rows)})
        for step, values in enumerate(steps(curves)):
            logger.log_metrics(values, step)
        for severity, values in by_severity(rows).items():
            logger.log_metrics(values, severity)
        logger.log_metrics(means(rows) | costs(facts), 0)
        logger.save()
        logger.finalize("success")
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror or error}") from error
    return place


def _logger(kind: str, root: Path, sweep: str, run: str) -> "Logger":
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    if kind == "csv":
        return CSVLogger(root, name=sweep, version=run)
    return TensorBoardLogger(root, name=sweep, version=run, default_hp_metric=False)
