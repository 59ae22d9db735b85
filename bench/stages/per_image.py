"""How sure a method is of every single image: what is kept of it, and what it tells of a cell."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bench.stages.scoring import Cell, MetricsCallback
from corruptions.base import Shift
from results.schema import AUROC
from results.statistics import auroc
from results.tables.uncertainty import SCORES, uncertainty_score


def images_of(scorer: MetricsCallback, cell: Cell, shift: Shift) -> pd.DataFrame:
    """A line per image of one cell (see :func:`lines_of`).

    ``max_prob`` and ``entropy`` (in nats) are of the prediction, ``u`` and ``ads`` of methods that
    have them.
    """
    run, task, _ = cell
    logits = scorer.all(cell, "logits")
    assert logits is not None
    log = logits.double().log_softmax(-1)
    found = {"max_prob": log.amax(-1).exp(), "entropy": -(log.exp() * log).nansum(-1)}
    own = {name: scorer.all(cell, name) for name in ("u", "ads")}
    found |= {name: doubt for name, doubt in own.items() if doubt is not None}
    right = scorer.hits(cell)["acc"].numpy()
    return lines_of(run, task, shift, right, {name: one.numpy() for name, one in found.items()})


def lines_of(
    run: str, task: str, shift: Shift, right: np.ndarray, doubts: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """A line per image of one cell.

    Columns: ``run_id``, ``task``, ``corruption``, ``severity``, ``image`` (its number in the test),
    ``right``, and every score of :data:`results.tables.uncertainty.SCORES`, NaN where it is not
    known.

    Args:
        run: its id.
        task: its name.
        shift: that of the cell.
        right: which images were right.  bool ``[N]``.
        doubts: score -> that of every image.  ``[N]`` each.
    """
    missing = np.full(len(right), np.nan)
    return pd.DataFrame(
        {
            "run_id": run,
            "task": task,
            "corruption": shift.corruption,
            "severity": np.int64(shift.severity),
            "image": np.arange(len(right)),
            "right": right,
            **{name: doubts.get(name, missing).astype(np.float32) for name in SCORES},
        }
    )


def error_auroc(images: pd.DataFrame) -> dict[str, float]:
    """``auroc_wrong:SCORE`` of one cell for every score; none where all answers are alike."""
    wrong = ~images["right"].to_numpy()
    found = {name: auroc(uncertainty_score(images, name), wrong) for name in SCORES}
    return {f"{AUROC}{name}": value for name, value in found.items() if not np.isnan(value)}
