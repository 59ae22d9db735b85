"""Lightning, without the words that are not for the user."""

import logging
import sys
import warnings
from typing import Any

from lightning import Trainer

from bench.runtime import devices

_NOISE = (  # (message, why it says nothing here)
    r".*does not have many workers.*",  # batches are slices of a memory map
    r".*`?isinstance\(treespec, LeafSpec\)`?.*",  # Lightning 2.6 on torch 2.14
    r".*in eval mode at the start of training.*",  # on purpose: there is no dropout
    r".*Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",  # resuming
    r".*your dataloader is not resumable.*",  # a resumed pretraining counts its own steps
)


def silence_lightning() -> None:
    """Silence what Lightning says of itself in this process."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)


def silence_hub(bars: bool = False) -> None:
    """Silence what the library of the hub says of downloads: their failures are told by us.

    Args:
        bars: let it show how far one is, if there is a terminal.
    """
    from huggingface_hub import utils

    utils.logging.set_verbosity_error()  # it tells of every download that it goes on with
    shown = bars and sys.stderr.isatty()
    with warnings.catch_warnings(action="ignore"):  # that the environment says otherwise
        utils.enable_progress_bars() if shown else utils.disable_progress_bars()


def make_trainer(**kwargs: Any) -> Trainer:
    """A Trainer that writes nothing: results go to the store, curves to the logger.

    It computes where the command was told to; see :mod:`bench.runtime.devices`. Inside a SLURM job
    it does not take the job's ranks and signals for its own: the processes of a job are ours, or
    those that Lightning itself starts for several devices. A caller may pass other ``plugins``.
    """
    from lightning.pytorch.plugins.environments import LightningEnvironment

    silence_lightning()
    quiet: dict[str, Any] = {
        **devices.for_trainer(),
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "plugins": [LightningEnvironment()],
    }
    return Trainer(**{**quiet, **kwargs})
