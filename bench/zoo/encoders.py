"""The pretrained encoders that experts start from."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.config import digest
from bench.errors import UserError
from bench.files import home, sha256_of
from bench.registry import Registry
from bench.seeds import seed_of
from bench.zoo.clip import FILE, POCKET, load_model, text_features
from bench.zoo.finetune import FineTune
from methods.vit import ViT, init_weights
from methods.weights import Weights, save_checkpoint
from tasks import Task


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A pretrained image encoder with its zero-shot heads and its way of making experts."""

    name: str
    title: str  # as printed in tables
    vit: ViT
    recipe: FineTune
    base: Callable[[], Weights]  # the pretrained image tower
    identity: Callable[[], str]  # 16 hex digits of all that is pretrained
    make_heads: Callable[[Sequence[Task]], dict[str, Tensor]]  # task -> [C, D], scaled unit rows

    @property
    def base_hash(self) -> str:
        """What the pretrained model is, text tower included: the start of its file's sha256."""
        return self.identity()

    def expert_key(self, task: Task, seed: int) -> str:
        """What decides an expert: base, recipe, seed, the task with its pixels and prompts."""
        data = (task.name, task.version, task.pixels, task.prompts)
        return digest((self.base_hash, asdict(self.recipe), seed, data))

    def heads(self, tasks: Sequence[Task]) -> dict[str, Tensor]:
        """Zero-shot heads, cached by encoder and prompts.  task -> ``[C, D]``."""
        prompts = [(task.name, task.prompts) for task in tasks]
        path = home() / "heads" / f"{self.name}-{digest((self.base_hash, prompts))}.safetensors"
        try:
            stored = Weights.open(path)
        except UserError:  # absent, or damaged: it is a cache
            save_checkpoint(path, self.make_heads(tasks))
            stored = Weights.open(path)
        return {task.name: stored[task.name] for task in tasks}


ENCODERS: Registry[Encoder] = Registry("encoder")
OF_WORLD = {"pocket": "pocket-vit", "toy": "toy-vit"}  # the encoder of a suite's world


@lru_cache(maxsize=1)
def _pocket_identity() -> str:
    return sha256_of(FILE)[:16]


def _pocket_heads(tasks: Sequence[Task]) -> dict[str, Tensor]:
    model, vocabulary = load_model()
    with torch.inference_mode():
        scale = model.logit_scale.exp().clamp(max=100)
        return {
            task.name: (scale * text_features(model, vocabulary, task.prompts)).clone()
            for task in tasks
        }


ENCODERS.add(
    "pocket-vit",
    Encoder(
        name="pocket-vit",
        title="pocket ViT (32 px, 1.2 M; not CLIP)",
        vit=POCKET,
        recipe=FineTune(),
        base=lambda: Weights.open(FILE, prefix="visual."),
        identity=_pocket_identity,
        make_heads=_pocket_heads,
    ),
)

_TOY = ViT(image_size=32, patch_size=16, width=32, layers=2, heads=2, output_dim=16)


def _toy_base() -> Weights:
    return init_weights(_TOY, torch.Generator().manual_seed(seed_of("toy-vit")))


def _toy_heads(tasks: Sequence[Task]) -> dict[str, Tensor]:
    return {
        task.name: 20
        * F.normalize(
            torch.randn(
                task.num_classes,
                _TOY.output_dim,
                generator=torch.Generator().manual_seed(seed_of("toy head", task.name)),
            ),
            dim=-1,
        )
        for task in tasks
    }


ENCODERS.add(
    "toy-vit",
    Encoder(
        name="toy-vit",
        title="toy ViT (random start)",
        vit=_TOY,
        recipe=FineTune(steps=30, batch=32, lr=3e-3),
        base=_toy_base,
        identity=lambda: digest(("toy-vit", 1)),  # drawn, not trained: raise when that changes
        make_heads=_toy_heads,
    ),
)
