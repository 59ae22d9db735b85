"""Files on the Hugging Face hub: where published checkpoints lie, and how they are fetched."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.runtime.lightning import silence_hub
from bench.zoo import model_config
from bench.zoo.conversion import fitted
from bench.zoo.model_config import require_same
from mergeshift import UserError, read_json, sha256_of
from methods.common.state_dicts import load_checkpoint
from methods.common.vit import ViT
from tasks import Task
from tasks.sources.folder import require_unseen
from tasks.sources.hub import first_line

FIELD = "tanganke/clip-vit-{size}_{task}"  # FusionBench's: CLIPVisionModel of transformers
TALL = "nik-dim/tall_masks"  # of TALL-masks, TSV, Iso: state dicts of open_clip, one repository
OTHER_NAMES = {  # of the same in older repositories
    "model.safetensors": "pytorch_model.bin",
    "open_clip_model.safetensors": "open_clip_pytorch_model.bin",
}


class NotThereError(UserError):
    """The repository has no such file."""


@dataclass(frozen=True)
class Place:
    """One file on the hub."""

    repository: str
    file: str
    revision: str = "main"  # a branch, a tag, or a commit: the last alone pins what it says

    def __str__(self) -> str:
        return f"{self.file} of {self.repository} at {self.revision}"


@dataclass(frozen=True)
class Published:
    """Where the published experts of one pretrained encoder lie.

    Tasks whose names begin with ``tall_`` are those of the other family: other checkpoints of
    partly other data, which are never mixed with the first.
    """

    size: str  # in FusionBench's names, e.g. "base-patch32"
    model: str  # in the names of TALL-masks, e.g. "ViT-B-32"
    revision: str = "main"
    tall_revision: str = "main"

    def __call__(self, task: Task) -> Place:
        """The expert of a task.

        Raises:
            UserError: there is none, or it may have seen what would be tested.
        """
        if not task.checkpoint:
            raise UserError(
                f"nobody has published an expert of {task.name}: make one (--experts finetuned), "
                "or import your own (python -m bench zoo import)"
            )
        require_unseen(task)
        if task.name.startswith("tall_"):
            file = f"single_task/{self.model}/{task.checkpoint}Val/nonlinear_finetuned.pt"
            return Place(TALL, file, self.tall_revision)
        name = FIELD.format(size=self.size, task=task.checkpoint)
        return Place(name, "model.safetensors", self.revision)


def fetch(place: Place, bars: bool = False) -> Path:
    """The file in the cache of the hub, downloaded if it is not there.

    Args:
        place: where it lies.
        bars: show how far the download is, on a terminal.

    Raises:
        UserError: it cannot be had; one line says why.
    """
    from huggingface_hub import hf_hub_download

    silence_hub(bars)
    try:
        return Path(hf_hub_download(place.repository, place.file, revision=place.revision))
    except Exception as error:  # of the hub, of the network, of the disk
        raise trouble(place, error) from error


def fetch_either(place: Place, bars: bool = False) -> tuple[Place, Path]:
    """:func:`fetch`, by the file's older name where a repository has only that."""
    try:
        return place, fetch(place, bars)
    except NotThereError:
        if place.file not in OTHER_NAMES:
            raise
    other = replace(place, file=OTHER_NAMES[place.file])
    return other, fetch(other, bars)


def trouble(place: Place, error: Exception) -> UserError:
    """What a user is told of a download that failed."""
    from huggingface_hub import errors

    kinds: list[tuple[type[Exception], type[UserError], str]] = [
        (errors.GatedRepoError, UserError, "its owner asks for consent: accept the terms on its "
         "page and log in with `hf auth login`"),
        (errors.RepositoryNotFoundError, UserError, "there is no such repository, or it is "
         "private: check the name, or log in with `hf auth login`"),
        (errors.RevisionNotFoundError, UserError, "there is no such revision: check it"),
        (errors.RemoteEntryNotFoundError, NotThereError, "there is no such file: it may have been "
         "renamed or removed; another revision may have it"),
        (errors.LocalEntryNotFoundError, UserError, f"it is not in the cache, and the hub "
         f"({os.environ.get('HF_ENDPOINT', 'https://huggingface.co')}) cannot be reached, or "
         "HF_HUB_OFFLINE is set"),
        (errors.OfflineModeIsEnabled, UserError, "it is not in the cache, and HF_HUB_OFFLINE is "
         "set"),
    ]  # fmt: skip
    for kind, raised, why in kinds:
        if isinstance(error, kind):
            return raised(f"cannot get {place}: {why}")
    return UserError(
        f"cannot get {place}: {first_line(error)}; run again (what was downloaded is kept)"
    )


def expert(place: Place, vit: ViT, projection: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A published expert in open_clip's names, and what to write in its manifest.

    Nothing in a file is executed: safetensors, or pickles of tensors alone.

    Raises:
        UserError: it cannot be had, or is no such encoder.
    """
    place, path = fetch_either(place)
    check_activation(place, vit)
    return fitted(load_checkpoint(path).weights, vit, str(place), projection), {
        "source": asdict(place),
        "commit": commit_of(path),
        "source_sha256": sha256_of(path),
    }


def check_activation(place: Place, vit: ViT) -> None:
    """Refuse a tower of transformers whose ``config.json`` names another activation.

    Weights do not tell: with the wrong one of the two all numbers are a little off.

    Raises:
        UserError: it does.
    """
    if place.repository == TALL:
        return
    try:
        config = read_json(fetch(replace(place, file="config.json")))
    except NotThereError:
        return
    require_same(model_config.of_transformers(config), model_config.of_encoder(vit), str(place))


def commit_of(path: Path) -> str:
    """The commit that a file in the cache belongs to; empty where its path does not tell."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else ""
