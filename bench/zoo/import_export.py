"""Experts of one's own, brought in; and weights of ours, written as transformers has them."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bench.zoo.conversion import config_of, fitted, to_transformers
from bench.zoo.encoders import Encoder
from bench.zoo.experts import Expert, keep
from mergeshift import UserError, atomic, sha256_of
from methods.common.weights import load_checkpoint, save_checkpoint
from tasks import Task


def bring_in(
    path: Path, encoder: Encoder, task: Task, seed: int = 0, *, again: bool = False
) -> Expert:
    """Convert a checkpoint of one's own and keep it among the imported experts of an encoder.

    Args:
        path: safetensors, or a file of torch that holds tensors alone; see
            :func:`bench.zoo.conversion.image_tower`.
        encoder: of any family: what is imported is a family of its own.
        task: what it was trained on.
        seed: of which set of experts.
        again: put it in the place of one that is there.

    Raises:
        UserError: the file cannot be read or is no such encoder, or there is an expert.
    """
    expert = Expert(encoder.of("imported").name, task.name, seed)
    if expert.exists and not again:
        raise UserError(
            f"an expert of {task.name} was imported for {encoder.plain}, set {seed}; "
            "replace it with --force, or give another --expert-seed"
        )
    weights = tower(path, encoder)
    expert.manifest.unlink(missing_ok=True)  # it is written last: half an import is none
    keep(expert, weights, {"source": str(path.resolve()), "source_sha256": sha256_of(path)})
    return expert


def tower(path: Path, encoder: Encoder) -> dict[str, Tensor]:
    """The image tower in a checkpoint, checked against the encoder.

    Raises:
        UserError: the file cannot be read, is no such encoder, or holds NaN or infinity.
    """
    return fitted(load_checkpoint(path)[0], encoder.vit, str(path), encoder.base()["proj"])


def write_out(weights: Mapping[str, Tensor], encoder: Encoder, folder: Path) -> Path:
    """Write an image tower as a ``CLIPVisionModelWithProjection`` of transformers.

    Raises:
        UserError: the folder cannot be written.
    """
    path = folder / "model.safetensors"
    save_checkpoint(path, to_transformers(weights), {"format": "pt"})
    with atomic(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(config_of(encoder.vit), indent=2) + "\n")
    return path
