"""How sure a method is of every single image: what is kept of it, and what it tells of a cell."""

import numpy as np
import pandas as pd
import torch

from bench.panel import Cell, Scorer
from corruptions.base import Shift
from results.schema import AUROC
from results.statistics import auroc
from results.uncertainty import SCORES, suspicion


def images_of(scorer: Scorer, cell: Cell, shift: Shift) -> pd.DataFrame:
    """A line per image of one cell.

    Columns: ``run_id``, ``task``, ``corruption``, ``severity``, ``image`` (its number in the test),
    ``right``, and the scores: ``max_prob`` and ``entropy`` (in nats) of the prediction, ``u`` and
    ``ads`` of methods that have them, else NaN.
    """
    run, task, _ = cell
    logits = scorer.all(cell, "logits")
    assert logits is not None
    log = logits.double().log_softmax(-1)
    found = {"max_prob": log.amax(-1).exp(), "entropy": -(log.exp() * log).nansum(-1)}
    doubts = {name: scorer.all(cell, name) for name in ("u", "ads")}
    missing = torch.full((len(logits),), torch.nan)
    found |= {name: missing if doubt is None else doubt for name, doubt in doubts.items()}
    return pd.DataFrame(
        {
            "run_id": run,
            "task": task,
            "corruption": shift.corruption,
            "severity": np.int64(shift.severity),
            "image": np.arange(len(logits)),
            "right": scorer.hits(cell)["acc"].numpy(),
            **{name: tensor.numpy().astype(np.float32) for name, tensor in found.items()},
        }
    )


def detects(images: pd.DataFrame) -> dict[str, float]:
    """``auroc_wrong:SCORE`` of one cell for every score; none where all answers are alike."""
    wrong = ~images["right"].to_numpy()
    found = {name: auroc(suspicion(images, name), wrong) for name in SCORES}
    return {f"{AUROC}{name}": value for name, value in found.items() if not np.isnan(value)}
