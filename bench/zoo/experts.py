"""Experts on disk: made when missing, one task at a time, each with a manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

from filelock import FileLock
from lightning import seed_everything
from torch import Tensor

from bench.engines import Engine, Watch, step_done
from bench.errors import DamagedFileError
from bench.files import home, read_json, sha256_of, write_json
from bench.seeds import seed_of
from bench.zoo.encoders import ENCODERS
from bench.zoo.finetune import finetune
from methods.base import Checkpoints
from methods.weights import Weights, save_checkpoint
from tasks import TASKS, Task


@dataclass(frozen=True)
class Expert:
    """One fine-tuned image tower: where it lies, and what is known of it."""

    encoder: str
    task: str
    seed: int

    @property
    def path(self) -> Path:
        """The safetensors file; its manifest lies beside it and is written last."""
        key = ENCODERS[self.encoder].expert_key(TASKS[self.task], self.seed)
        return home() / "experts" / self.encoder / f"{self.task}-{self.seed}-{key}.safetensors"

    @property
    def manifest(self) -> Path:
        """JSON: recipe, seed, data hash, accuracy on val, seconds, sha256 of the file."""
        return self.path.with_suffix(".json")

    @property
    def exists(self) -> bool:
        """Whether it was made, to the end."""
        return self.manifest.exists() and self.path.exists()

    def facts(self) -> dict[str, Any]:
        """The manifest."""
        return read_json(self.manifest)


def hash_of(weights: Mapping[str, Tensor]) -> str:
    """First 16 hex digits of the sha256 of names and entries: the model, however it is stored."""
    digest = sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def make(expert: Expert) -> None:
    """Fine-tune one expert unless it is there (a unit of work of an engine)."""
    expert.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{expert.path}.lock"):
        if expert.exists:
            return
        encoder, task = ENCODERS[expert.encoder], TASKS[expert.task]
        seed_everything(seed_of("expert", expert.seed, task.name), verbose=False)
        start = perf_counter()
        head = encoder.heads([task])[task.name]
        weights, facts = finetune(
            task, encoder.vit, encoder.base(), head, encoder.recipe, expert.seed, step_done
        )
        save_checkpoint(expert.path, weights, {"task": task.name, "encoder": encoder.name})
        facts |= {
            "encoder": encoder.name,
            "base": encoder.base_hash,
            "task": task.name,
            "data": task.pixels,
            "seed": expert.seed,
            "recipe": asdict(encoder.recipe),
            "seconds": round(perf_counter() - start, 2),
            "sha256": sha256_of(expert.path),
            "tensors": hash_of(weights),
        }
        write_json(expert.manifest, facts)


def damaged(experts: Sequence[Expert]) -> list[Path]:
    """Files of finished experts that are not what their manifests say."""
    found = []
    for expert in experts:
        if expert.exists:
            try:
                intact = sha256_of(expert.path) == expert.facts()["sha256"]
            except DamagedFileError:
                intact = False
            if not intact:
                found.append(expert.path)
    return found


def experts_of(encoder: str, tasks: Sequence[Task], seed: int) -> list[Expert]:
    """One expert per task, in suite order."""
    return [Expert(encoder, task.name, seed) for task in tasks]


def build(
    encoder: str, tasks: Sequence[Task], seed: int, engine: Engine, watch: Watch | None = None
) -> None:
    """Make what is missing. A killed build loses the experts in flight and no other."""
    missing = [(expert,) for expert in experts_of(encoder, tasks, seed) if not expert.exists]
    for _ in engine.run(make, missing, watch):
        pass


def checkpoints(encoder_name: str, tasks: Sequence[Task], seed: int) -> Checkpoints:
    """Base, experts and heads of a suite, memory-mapped."""
    encoder = ENCODERS[encoder_name]
    return Checkpoints(
        vit=encoder.vit,
        base=encoder.base(),
        experts={e.task: Weights.open(e.path) for e in experts_of(encoder_name, tasks, seed)},
        heads=encoder.heads(tasks),
        classes={task.name: task.classes for task in tasks},
    )
