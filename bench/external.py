"""Weights that were merged elsewhere, evaluated like any method."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.files import atomic, home, sha256_of
from bench.zoo.convert import fitted
from methods.base import NO_PAPER, Checkpoints, MergingMethod
from methods.weights import Weights, load_checkpoint


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
        path = folder() / self.cfg.file
        assert ckpts.vit, "it is of an encoder"
        return Weights(fitted(load_checkpoint(path)[0], ckpts.vit, str(path), ckpts.base["proj"]))


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
