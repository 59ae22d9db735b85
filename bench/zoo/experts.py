"""Experts on disk: made or fetched when missing, one task at a time, each with a manifest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from lightning import seed_everything
from torch import Tensor
from torch.nn import functional as F

from bench.config import digest
from bench.runtime.workers import Executor, OnProgress, report_progress
from bench.zoo import hub
from bench.zoo.encoders import ENCODERS, Encoder
from bench.zoo.finetune import Expert as Learner
from bench.zoo.finetune import Preserved, Spread, accuracy, finetune
from bench.zoo.heads import TEXT
from bench.zoo.recipes import Preserving
from mergeshift import DamagedFileError, UserError, home, read_json, seed_of, sha256_of, write_json
from methods.common.checkpoints import Checkpoints
from methods.common.vit import encode_plain
from methods.common.weights import Weights, save_checkpoint
from tasks import TASKS, Task, load
from tasks.datamodule import BATCH

LARGE = 100_000_000  # bytes; hashing twenty such files takes longer than a sweep should wait


@dataclass(frozen=True)
class Expert:
    """One fine-tuned image tower: where it lies, and what is known of it."""

    encoder: str
    task: str
    seed: int

    @property
    def path(self) -> Path:
        """The safetensors file; its manifest lies beside it and is written last."""
        stem = ENCODERS[self.encoder].expert_stem(TASKS[self.task], self.seed)
        shelf = ENCODERS[self.encoder].shelf
        return home() / "experts" / shelf / f"{stem}.safetensors"

    @property
    def manifest(self) -> Path:
        """JSON: where it is from or how it was made, sha256 of the file, hash of the tensors."""
        return self.path.with_suffix(".json")

    @property
    def exists(self) -> bool:
        """Whether it was made, to the end."""
        return self.manifest.exists() and self.path.exists()

    @property
    def curvature(self) -> Path:
        """Where Adam's second moments at the end of its fine-tuning lie, if they were kept."""
        return self.path.with_name(f"{self.path.stem}.curvature.safetensors")

    @property
    def has_curvature(self) -> bool:
        """Whether they were kept, of the expert that is there now."""
        facts = self.curvature.with_suffix(".json")
        if not (self.exists and facts.exists() and self.curvature.exists()):
            return False
        return bool(read_json(facts)["tensors"] == self.facts()["tensors"])

    def facts(self) -> dict[str, Any]:
        """The manifest."""
        return read_json(self.manifest)

    @property
    def val_key(self) -> str:
        """Which val split, under which head: an expert of the hub serves several."""
        task, head = TASKS[self.task], ENCODERS[self.encoder].head
        data = (task.name, task.version, task.pixels, task.prompts)
        return digest(data if head == TEXT else (*data, head))

    @property
    def val_accuracy(self) -> float | None:
        """On the val split of its task; nothing if that was not measured yet."""
        facts = self.facts()
        return facts.get("val_accuracy", facts.get("val", {}).get(self.val_key))


def hash_of(weights: Mapping[str, Tensor]) -> str:
    """First 16 hex digits of the sha256 of names and entries: the model, however it is stored."""
    digest = sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def make(expert: Expert, spread: Spread = Spread(), curvature: bool = False) -> None:  # noqa: B008
    """Fine-tune or fetch one expert unless it is there (a unit of work of an engine).

    An expert that lacks its second moments, where they are wanted, is fine-tuned once more, and has
    to come out as it is.

    Args:
        expert: which.
        spread: over devices and processes.
        curvature: keep Adam's second moments as well.

    Raises:
        UserError: it cannot be had, or it has become another.
    """
    expert.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{expert.path}.lock"):
        if expert.exists and (expert.has_curvature or not curvature):
            return
        start = perf_counter()
        moments: dict[str, Tensor] = {}
        weights, facts = MAKERS[ENCODERS[expert.encoder].experts](
            expert, spread, moments if curvature else None
        )
        if not expert.exists:
            keep(expert, weights, facts | {"seconds": round(perf_counter() - start, 2)})
        if curvature:
            keep_curvature(expert, weights, moments)


def keep_curvature(
    expert: Expert, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]
) -> None:
    """Write the second moments of an expert, and whose they are.

    Raises:
        UserError: the expert that is there ends elsewhere than ``weights``.
    """
    if (made := hash_of(weights)) != expert.facts()["tensors"]:
        raise UserError(
            f"fine-tuned here once more, the expert of {expert.task} is not what it was (another "
            f"machine or version made it); delete {expert.path} to make it anew"
        )
    save_checkpoint(expert.curvature, moments, {"task": expert.task, "encoder": expert.encoder})
    write_json(
        expert.curvature.with_suffix(".json"),
        {"sha256": sha256_of(expert.curvature), "tensors": made},
    )


Made = tuple[dict[str, Tensor], dict[str, Any]]  # weights, and facts for the manifest


def _finetuned(expert: Expert, spread: Spread, curvature: dict[str, Tensor] | None) -> Made:
    encoder, task = ENCODERS[expert.encoder], TASKS[expert.task]
    seed_everything(seed_of("expert", expert.seed, task.name), verbose=False)
    weights, facts = finetune(
        task, encoder.vit, encoder.base(), encoder.heads([task])[task.name], encoder.recipe,
        encoder.normalise, expert.seed, report_progress, spread, preserved(encoder), curvature,
    )  # fmt: skip
    made = {"data": task.pixels, "seed": expert.seed, "recipe": asdict(encoder.recipe)}
    return weights, facts | made


@torch.inference_mode()
def preserved(encoder: Encoder) -> Preserved | None:
    """Pictures of no task, and what the pretrained tower sees in them, computed once.

    Nothing for a recipe that holds no features in place.

    Raises:
        UserError: a source of the pictures cannot be downloaded.
    """
    recipe = encoder.recipe
    if encoder.pool is None or not isinstance(recipe, Preserving):
        return None
    images = torch.from_numpy(np.array(encoder.pool()))
    path = home() / "features" / f"{encoder.plain}-{encoder.base_hash}-{recipe.pool}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            base = encoder.base()
            found = [
                encode_plain(encoder.normalise(part), base, encoder.vit)
                for part in images.split(BATCH)
            ]
            features = F.normalize(torch.cat(found), dim=-1)
            save_checkpoint(path, {"features": features})
    return Preserved(images, Weights.open(path)["features"].clone())


def _downloaded(expert: Expert, spread: Spread, curvature: dict[str, Tensor] | None) -> Made:
    encoder, task = ENCODERS[expert.encoder], TASKS[expert.task]
    _require_trained_here(encoder, curvature)
    place = encoder.place(task, expert.seed)
    found = hub.expert(place, encoder.vit, encoder.base()["proj"])
    report_progress()
    return found


def _absent(expert: Expert, spread: Spread, curvature: dict[str, Tensor] | None) -> Made:
    _require_trained_here(ENCODERS[expert.encoder], curvature)
    ENCODERS[expert.encoder].expert_key(TASKS[expert.task], expert.seed)  # says what to do
    raise UserError(f"{expert.path} is gone; import it again")


def _require_trained_here(encoder: Encoder, curvature: dict[str, Tensor] | None) -> None:
    if curvature is not None:
        raise UserError(
            f"Adam's second moments are kept of experts that are fine-tuned here; those of "
            f"{encoder.name} are {encoder.experts}: take ota, which measures curvature on images, "
            "or --experts finetuned"
        )


MAKERS: dict[str, Callable[[Expert, Spread, dict[str, Tensor] | None], Made]] = {
    "finetuned": _finetuned,
    "hub": _downloaded,
    "imported": _absent,
}


def keep(expert: Expert, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write an expert, and then its manifest.

    Raises:
        UserError: the disk is full.
    """
    encoder, path = ENCODERS[expert.encoder], expert.path
    save_checkpoint(path, weights, {"task": expert.task, "encoder": encoder.name})
    known: dict[str, Any] = {
        "encoder": encoder.name,
        "base": encoder.base_hash,
        "task": expert.task,
        "sha256": sha256_of(path),
        "tensors": hash_of(weights),
    }
    if path.stat().st_size > LARGE:
        known["stat"] = _stat(path)
    write_json(path.with_suffix(".json"), {**facts, **known})


def assess(expert: Expert) -> None:
    """Measure an expert on val unless that was done, and note it (a unit of work)."""
    with FileLock(f"{expert.path}.lock"):
        facts = expert.facts()
        if expert.val_accuracy is not None:
            return
        encoder, task = ENCODERS[expert.encoder], TASKS[expert.task]
        head, weights = encoder.heads([task])[task.name], Weights.open(expert.path)
        model = Learner(encoder.vit, weights, head, encoder.recipe, encoder.normalise).eval()
        measured = facts.get("val", {}) | {expert.val_key: accuracy(model, load(task, "val"))}
        write_json(expert.manifest, facts | {"val": measured})


def damaged(experts: Sequence[Expert]) -> list[Path]:
    """Files of finished experts that are not what their manifests say."""
    return [expert.path for expert in experts if expert.exists and not intact(expert.path)]


def intact(path: Path, *, thoroughly: bool = False) -> bool:
    """Whether a file is what the manifest beside it says.

    Args:
        path: of a file that has one.
        thoroughly: read it all, also if it is large and nobody has written to it since.
    """
    try:
        facts = read_json(path.with_suffix(".json"))
    except DamagedFileError:
        return False
    if not thoroughly and facts.get("stat") == _stat(path):
        return True
    return sha256_of(path) == facts["sha256"]


def damaged_files(folder: Path) -> tuple[list[tuple[Path, int]], list[Path]]:
    """Every encoder and expert under the data folder with its size; and those that are damaged."""
    found = [path for kind in ("encoders", "experts")
             for path in sorted((folder / kind).rglob("*.safetensors"))
             if path.with_suffix(".json").exists()]  # fmt: skip
    wrong = [path for path in found if not intact(path, thoroughly=True)]
    return [(path, path.stat().st_size) for path in found], wrong


def _stat(path: Path) -> list[int]:
    """Size and time of the last change: as long as both are the same, so is the file."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def experts_of(encoder: str, tasks: Sequence[Task], seed: int) -> list[Expert]:
    """One expert per task, in suite order."""
    return [Expert(encoder, task.name, seed) for task in tasks]


def build(
    encoder: str,
    tasks: Sequence[Task],
    seed: int,
    engine: Executor,
    watch: OnProgress | None = None,
    spread: Spread = Spread(),  # noqa: B008
    curvature: bool = False,
) -> None:
    """Make the experts of one set that are missing; with their second moments, if wanted."""
    make_experts(experts_of(encoder, tasks, seed), engine, watch, spread, curvature)


def make_experts(
    experts: Sequence[Expert],
    engine: Executor,
    watch: OnProgress | None = None,
    spread: Spread = Spread(),  # noqa: B008
    curvature: bool = False,
) -> None:
    """Make what is missing. A killed build loses the experts in flight and no other."""
    missing = [
        (expert, spread, curvature)
        for expert in experts
        if not (expert.has_curvature if curvature else expert.exists)
    ]
    for _ in engine.run(make, missing, watch):
        pass


def checkpoints(
    encoder_name: str, tasks: Sequence[Task], seed: int, extra: Sequence[str] = ()
) -> Checkpoints:
    """Base, experts and heads of a suite, memory-mapped.

    Args:
        encoder_name: whose.
        tasks: that have an expert in it.
        seed: of the set of experts.
        extra: names of those among them that are not measured.
    """
    encoder, experts = ENCODERS[encoder_name], experts_of(encoder_name, tasks, seed)
    return Checkpoints(
        vit=encoder.vit,
        base=encoder.base(),
        experts={e.task: Weights.open(e.path) for e in experts},
        heads=encoder.heads(tasks),
        classes={task.name: task.classes for task in tasks},
        curvature={e.task: Weights.open(e.curvature) for e in experts if e.has_curvature},
        extra=frozenset(extra),
    )
