"""The smallest encoder that takes images of 224 pixels, as those of vision suites are."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from bench.zoo.encoders import ENCODERS, Encoder
from bench.zoo.recipes import FineTune
from methods.common.vit import ViT, init_weights
from tests.helpers.toy_sweep import forget

NAME = "small-224"
VIT = ViT(image_size=224, patch_size=112, width=16, layers=1, heads=2, output_dim=8)


@pytest.fixture
def small_encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Encoder]:
    """It is registered for this test."""

    def heads(tasks):
        random = torch.Generator().manual_seed(1)
        return {t.name: torch.randn(t.num_classes, 8, generator=random) for t in tasks}

    encoder = replace(
        ENCODERS["toy-vit"], name=NAME, title="small", vit=VIT, plain=NAME,
        recipe=FineTune(steps=2, batch=4), make_heads=heads, identity=lambda: "0" * 16,
        base=lambda: init_weights(VIT, torch.Generator().manual_seed(0)),
    )  # fmt: skip
    monkeypatch.setitem(ENCODERS._items, encoder.name, encoder)
    yield encoder
    forget()
