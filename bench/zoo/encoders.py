"""The encoders that there are."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.config import digest
from bench.files import sha256_of
from bench.seeds import seed_of
from bench.zoo import openai
from bench.zoo.clip import FILE, POCKET, load_model, text_features
from bench.zoo.encoder import ENCODERS as ENCODERS
from bench.zoo.encoder import Encoder as Encoder
from bench.zoo.encoder import add
from bench.zoo.hub import Place, Published
from bench.zoo.recipes import AsPublished, FineTune
from methods.vit import ViT, init_weights
from methods.weights import Weights
from tasks import Task

OF_WORLD = {  # the encoder of a suite's world
    "pocket": "pocket-vit",
    "toy": "toy-vit",
    "vision": "ViT-B-32",
}


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


add(
    Encoder(
        name="pocket-vit",
        title="pocket ViT (32 px, 1.2 M; not CLIP)",
        vit=POCKET,
        recipe=FineTune(),
        base=lambda: Weights.open(FILE, prefix="visual."),
        identity=_pocket_identity,
        make_heads=_pocket_heads,
    ),
    "imported",
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


add(
    Encoder(
        name="toy-vit",
        title="toy ViT (random start)",
        vit=_TOY,
        recipe=FineTune(steps=30, batch=32, lr=3e-3),
        base=_toy_base,
        identity=lambda: digest(("toy-vit", 1)),  # drawn, not trained: raise when that changes
        make_heads=_toy_heads,
    ),
    "imported",
)


def of_open_clip(
    name: str, title: str, source: openai.OpenClip, published: Callable[[Task], Place] | None
) -> Encoder:
    """An encoder of open_clip, with the experts of the hub where there are any."""
    return Encoder(
        name=name,
        title=title,
        vit=source.vit,
        recipe=AsPublished(),
        base=source.base,
        identity=source.identity,
        make_heads=source.heads,
        is_ready=source.is_ready,
        mean=openai.MEAN,
        std=openai.STD,
        experts="hub" if published else "finetuned",
        published=published,
    )


for _name, _title, _vit, _size in (
    ("ViT-B-32", "CLIP ViT-B/32", openai.B32, "base-patch32"),
    ("ViT-B-16", "CLIP ViT-B/16", openai.B16, "base-patch16"),
    ("ViT-L-14", "CLIP ViT-L/14", openai.L14, "large-patch14"),
):
    _source = openai.OpenClip(f"{_name}-quickgelu", "openai", _vit)
    _published = Published(_size, _name)
    add(of_open_clip(_name, _title, _source, _published), "finetuned", "imported")
