"""Weights that were merged elsewhere, evaluated like any method."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods.base import NO_PAPER, Checkpoints, MergingMethod
from methods.weights import Weights, check_finite, load_checkpoint

PREFIX = "visual."  # of the image tower in a whole CLIP checkpoint


class External(MergingMethod):
    """theta = what the file says."""

    name = "external"
    title = "External"
    paper = NO_PAPER
    stores = "one model"

    @dataclass(frozen=True, kw_only=True)
    class Config(MergingMethod.Config):
        """Where the weights lie."""

        path: str = ""  # safetensors, or a torch file of tensors

    cfg: Any

    def merge(self, ckpts: Checkpoints) -> Weights:
        return image_tower(Path(self.cfg.path))


def image_tower(path: Path) -> Weights:
    """The image tower in a checkpoint: its own tensors, or those under ``visual.``.

    Raises:
        UserError: the file cannot be read, or holds NaN or infinity.
    """
    weights, _ = load_checkpoint(path)
    if any(name.startswith(PREFIX) for name in weights):
        inner = {n.removeprefix(PREFIX): weights[n] for n in weights if n.startswith(PREFIX)}
        weights = Weights(inner)
    check_finite(weights, str(path))
    return weights
