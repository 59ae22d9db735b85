"""Weights that were merged elsewhere, evaluated like any method."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.files import atomic, home, sha256_of
from bench.zoo.convert import MARK
from bench.zoo.convert import image_tower as convert
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
        """Which weights."""

        file: str = ""  # in the folder of kept weights, named by its content

    cfg: Any

    def merge(self, ckpts: Checkpoints) -> Weights:
        return image_tower(folder() / self.cfg.file, ckpts.base["proj"])


def folder() -> Path:
    """Where evaluated weights are kept."""
    return home() / "external"


def keep(path: Path) -> Path:
    """Copy a checkpoint to where results can find it again, whatever becomes of ``path``."""
    kept = folder() / f"{sha256_of(path)[:16]}{path.suffix}"
    if not kept.exists():
        with atomic(kept) as temporary:
            shutil.copyfile(path, temporary)
    return kept


def image_tower(path: Path, projection: Tensor | None = None) -> Weights:
    """The image tower in a checkpoint: its own tensors, or those under ``visual.``.

    One of transformers is converted; where it has no projection, it gets ``projection``.

    Raises:
        UserError: the file cannot be read, or holds NaN or infinity.
    """
    weights, _ = load_checkpoint(path)
    if any(name.endswith(MARK) for name in weights):
        weights = Weights(convert(weights, str(path), projection))
    elif any(name.startswith(PREFIX) for name in weights):
        inner = {n.removeprefix(PREFIX): weights[n] for n in weights if n.startswith(PREFIX)}
        weights = Weights(inner)
    check_finite(weights, str(path))
    return weights
