"""Lightning, without the words that are not for the user."""

import logging
import warnings
from typing import Any

from lightning import Trainer

_NOISE = (  # (message, why it says nothing here)
    r".*does not have many workers.*",  # batches are slices of a memory map
    r".*`?isinstance\(treespec, LeafSpec\)`?.*",  # Lightning 2.6 on torch 2.14
    r".*in eval mode at the start of training.*",  # on purpose: there is no dropout
    r".*Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",  # resuming
    r".*your dataloader is not resumable.*",  # a resumed pretraining counts its own steps
)


def hush() -> None:
    """Silence what Lightning says of itself in this process."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)


def quiet_trainer(**kwargs: Any) -> Trainer:
    """A CPU-or-GPU Trainer that writes nothing: results go to the store, curves to the logger."""
    hush()
    quiet: dict[str, Any] = {
        "accelerator": "auto",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{**quiet, **kwargs})
