"""Experts of one's own, brought in; and weights of ours, written as other programs have them."""

import json
import warnings
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.zoo.conversion import config_of, fitted, to_transformers
from bench.zoo.encoders import Encoder
from bench.zoo.experts import Expert, keep
from bench.zoo.model_config import of_encoder, require_fit
from bench.zoo.open_clip_models import PREPROCESSING, OpenClip
from mergeshift import Notice, UserError, atomic, sha256_of
from methods.common.state_dicts import load_checkpoint, of_task_vector, same
from methods.common.weights import Weights, save_checkpoint
from tasks import Task

MODEL, CONFIG = "model.safetensors", "config.json"  # what transformers looks for in a folder
PREPROCESSOR, CARD = "preprocessor_config.json", "README.md"
OPEN_CLIP_MODEL, OPEN_CLIP_CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
HF, OPEN_CLIP = "hf", "open_clip"
FORMATS = {  # how a model is written -> its files
    HF: (MODEL, CONFIG, PREPROCESSOR, CARD),
    OPEN_CLIP: (OPEN_CLIP_MODEL, OPEN_CLIP_CONFIG, CARD),
}
VISUAL = "visual."  # in front of the names of the image tower in a whole CLIP


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


def targets(folder: Path, form: str) -> list[Path]:
    """The files of an export.

    Raises:
        UserError: there is no such format.
    """
    if form not in FORMATS:
        raise UserError(f"--format is {' or '.join(FORMATS)}; got {form!r}")
    return [folder / name for name in FORMATS[form]]


def write_out(
    weights: Mapping[str, Tensor], encoder: Encoder, folder: Path, form: str = HF, card: str = ""
) -> Path:
    """Write an image tower as other programs read it.

    Args:
        weights: the tower, in open_clip's names.
        encoder: what it is.
        folder: where the files go.
        form: ``hf``, a ``CLIPVisionModelWithProjection`` of transformers and what prepares its
            images; or ``open_clip``, a whole CLIP with the encoder's own text tower.
        card: its README.md.

    Returns:
        The file of weights.

    Raises:
        UserError: the folder cannot be written, or the encoder has no text tower of open_clip's.
    """
    if form == HF:
        path, tensors = folder / MODEL, to_transformers(weights)
        configs = {CONFIG: config_of(encoder.vit), PREPROCESSOR: preprocessor_of(encoder)}
    else:
        path, tensors = folder / OPEN_CLIP_MODEL, whole_clip(weights, encoder)
        configs = {OPEN_CLIP_CONFIG: open_clip_config(encoder)}
    save_checkpoint(path, tensors, {"format": "pt"})
    texts = {name: json.dumps(config, indent=2) + "\n" for name, config in configs.items()}
    for name, text in {**texts, CARD: card}.items() if card else texts.items():
        with atomic(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path


def preprocessor_of(encoder: Encoder) -> dict[str, Any]:
    """The ``preprocessor_config.json`` of transformers: how CLIP prepares an image."""
    size = encoder.vit.image_size
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(encoder.mean),
        "image_std": list(encoder.std),
    }


def whole_clip(weights: Mapping[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's CLIP with another image tower.

    Raises:
        UserError: it has no text tower of open_clip's.
    """
    clip = _clip_of(encoder)
    clip.facts()  # it is fetched, if need be
    whole = Weights.open(clip.path)
    return {
        name: weights[name.removeprefix(VISUAL)] if name.startswith(VISUAL) else whole[name]
        for name in whole
    }


def open_clip_config(encoder: Encoder) -> dict[str, Any]:
    """The ``open_clip_config.json``: both towers, and how an image is prepared."""
    preprocess = {"mean": list(encoder.mean), "std": list(encoder.std), **PREPROCESSING}
    return {"model_cfg": _clip_of(encoder).facts()["config"], "preprocess_cfg": preprocess}


def _clip_of(encoder: Encoder) -> OpenClip:
    if encoder.clip is None:
        raise UserError(
            f"a model of open_clip has a text tower, and {encoder.plain} has none of open_clip's; "
            "take --format hf"
        )
    return encoder.clip
