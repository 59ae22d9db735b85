"""Experts of one's own, brought in; and weights of ours, written as transformers has them."""

import json
import warnings
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from torch import Tensor

from bench.zoo.conversion import config_of, fitted, to_transformers
from bench.zoo.encoders import Encoder
from bench.zoo.experts import Expert, keep
from bench.zoo.model_config import of_encoder, require_fit
from mergeshift import Notice, UserError, atomic, sha256_of
from methods.common.state_dicts import load_checkpoint, of_task_vector, same
from methods.common.weights import Weights, save_checkpoint
from tasks import Task

MODEL, CONFIG = "model.safetensors", "config.json"  # what transformers looks for in a folder


def bring_in(
    path: Path,
    encoder: Encoder,
    task: Task,
    seed: int = 0,
    *,
    again: bool = False,
    wanted: str = "",
) -> Expert:
    """Convert a checkpoint of one's own and keep it among the imported experts of an encoder.

    Args:
        path: safetensors, or a file of torch that holds tensors alone; see
            :func:`bench.zoo.conversion.image_tower`.
        encoder: of any family: what is imported is a family of its own.
        task: what it was trained on.
        seed: of which set of experts.
        again: put it in the place of one that is there.
        wanted: of several towers in the file that whose names begin so.

    Warns:
        Notice: it is the encoder itself, or as small as a task vector.

    Raises:
        UserError: the file cannot be read or is no such encoder, or there is an expert.
    """
    expert = Expert(encoder.of("imported").name, task.name, seed)
    if expert.exists and not again:
        raise UserError(
            f"an expert of {task.name} was imported for {encoder.plain}, set {seed}; "
            "replace it with --force, or give another --expert-seed"
        )
    weights, files = tower(path, encoder, wanted)
    if same(Weights(weights), encoder.base()):
        warnings.warn(
            f"{path} holds the weights of {encoder.plain} itself: it is no expert", Notice,
            stacklevel=2,
        )  # fmt: skip
    expert.manifest.unlink(missing_ok=True)  # it is written last: half an import is none
    source = {"source": str(files[0].resolve()), "source_sha256": sha256_of_all(files)}
    keep(expert, weights, source | ({"tower": wanted} if wanted else {}))
    return expert


def tower(
    path: Path, encoder: Encoder, wanted: str = ""
) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
    """The image tower in a checkpoint, checked against the encoder; and the files it is from.

    Warns:
        Notice: it is as small as a task vector.

    Raises:
        UserError: the file cannot be read, is no such encoder, or holds NaN or infinity; or the
            configuration beside it is that of another.
    """
    found, base = load_checkpoint(path), encoder.base()
    require_fit(found.files[0], of_encoder(encoder.vit, encoder.mean, encoder.std))
    tensors = fitted(found.weights, encoder.vit, str(path), base["proj"], wanted)
    if hint := of_task_vector(Weights(tensors), base):
        warnings.warn(f"{path} {hint}", Notice, stacklevel=2)
    return tensors, found.files


def sha256_of_all(files: Sequence[Path]) -> str:
    """Hex digest of a file's bytes; of several files that of their digests."""
    if len(files) == 1:
        return sha256_of(files[0])
    return sha256("".join(map(sha256_of, files)).encode()).hexdigest()


def write_out(weights: Mapping[str, Tensor], encoder: Encoder, folder: Path) -> Path:
    """Write an image tower as a ``CLIPVisionModelWithProjection`` of transformers.

    Raises:
        UserError: the folder cannot be written.
    """
    path = folder / MODEL
    save_checkpoint(path, to_transformers(weights), {"format": "pt"})
    with atomic(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(config_of(encoder.vit), indent=2) + "\n")
    return path
