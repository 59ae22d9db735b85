"""A vision suite as small as can be: three data sets and a CLIP, in the formats of the hub.

They differ as the field's do: sizes and modes of pictures, configs, names of columns and parts,
templates, one revision that is pinned. The encoder is registered as the field's are.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from bench.zoo.conversion import PROJECTION, config_of, to_transformers
from bench.zoo.encoders import ENCODERS, add, of_open_clip
from bench.zoo.hub import Published
from bench.zoo.open_clip_models import OpenClip
from mergeshift import rng_of
from methods.common.vit import ViT
from tasks.sources.hub import Hub as Source
from tasks.sources.hub import hub_task
from tasks.suites import SUITES, add_suite
from tasks.task import TASKS, Task
from tests.helpers.fake_hub import Hub
from tests.helpers.fake_hub_run import parquet
from tests.helpers.toy_sweep import Outcome, forget

VIT = ViT(48, 16, width=32, layers=2, heads=2, output_dim=16, quick_gelu=True)
NAME, SUITE, CLIP = "tiny-clip", "vision_tiny", "tests/tiny-clip"
CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 48, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1
    },
}  # fmt: skip
COUNTS = {"train": 20, "test": 30}
METHODS = ("pretrained", "average", "individual")
SHIFTS = ("clean", "contrast@5")


@dataclass(frozen=True)
class Data:
    """One data set: how it looks, and what it is called on the hub."""

    name: str
    shape: tuple[int, ...]  # of a picture
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    repository: str
    config: str = ""
    test: str = "test"  # name of the part
    columns: tuple[str, str] = ("image", "label")
    format: str = "PNG"

    def pictures(self, part: str) -> tuple[list[np.ndarray], np.ndarray]:
        """Noise of a colour that tells the class, and the labels."""
        rng = rng_of("tiny", self.name, part)
        labels = rng.integers(0, len(self.classes), COUNTS[part])
        labels[: len(self.classes)] = np.arange(len(self.classes))
        light = 40 + 170 * labels // len(self.classes)
        noise = rng.normal(0, 30, (COUNTS[part], *self.shape)) + light.reshape(
            -1, *[1] * len(self.shape)
        )
        return list(noise.clip(0, 255).astype(np.uint8)), labels

    @lru_cache  # noqa: B019 there are three of these
    def file(self, part: str, **changes: str) -> bytes:
        """A part as the hub has it; ``image`` and ``label`` name the columns."""
        pictures, labels = self.pictures(part)
        names = dict(zip(("image", "label"), self.columns, strict=True)) | changes
        return parquet(pictures, labels.tolist(), self.classes, format=self.format, **names)

    @property
    def place(self) -> str:
        """Folder in the repository."""
        return self.config or "data"

    def files(self, **parts: bytes) -> dict[str, bytes]:
        """The repository; ``train`` and ``test`` put other parts in the place of the own."""
        made = {part: parts.get(part) or self.file(part) for part in COUNTS}
        called = {"train": "train", "test": self.test}
        card = "---\nlicense: mit\n"
        if self.config:
            splits = [f"  - split: {n}\n    path: {self.config}/{n}-*\n" for n in called.values()]
            card += f"configs:\n- config_name: {self.config}\n  data_files:\n{''.join(splits)}"
            other = "- config_name: other\n  data_files:\n  - split: test\n    path: other/*\n"
            card += other
        found = {f"{self.place}/{called[p]}-00000-of-00001.parquet": made[p] for p in made}
        if self.config:
            found["other/test-00000-of-00001.parquet"] = made["train"]
        return {"README.md": f"{card}---\n".encode(), **found}

    def path(self, part: str) -> str:
        """The file of a part in the repository."""
        name = self.test if part == "test" else part
        return f"{self.place}/{name}-00000-of-00001.parquet"

    def task(self, revision: str = "main", **facts: Any) -> Task:
        """The entry."""
        image, label = self.columns
        source = Source(self.repository, self.config, revision, test=self.test, image=image,
                        label=label)  # fmt: skip
        return hub_task(
            source, **COUNTS, size=VIT.image_size, name=self.name, title=self.name,
            kind="synthetic", noun="noise", checkpoint=self.name, classes=self.classes,
            templates=self.templates, **facts,
        )  # fmt: skip


DATA = (
    Data("tiny_lights", (60, 50, 3), ("a dark field", "a grey field", "a bright field"),
         ("a photo of {}.", "{}, blurred"), "tests/lights"),
    Data("tiny_digits", (28, 28), ("zero", "one"), ('a photo of the number: "{}".',),
         "tests/digits", config="cropped", columns=("img", "cls")),
    Data("tiny_pets", (70, 90, 3), ("cat", "dog", "newt", "owl"), ("a {}, a pet.",),
         "tests/pets", test="validation", format="JPEG"),
)  # fmt: skip


@lru_cache(maxsize=1)
def clip() -> Any:
    """The pretrained model: an open_clip CLIP, drawn at random."""
    import open_clip

    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG)
    model.logit_scale.data.fill_(np.log(30.0))
    return model.eval().requires_grad_(False)


def tower(name: str = "") -> dict[str, torch.Tensor]:
    """The pretrained image tower, or the expert of a data set; experts keep the projection."""
    found = {k: tensor.clone() for k, tensor in clip().visual.named_parameters()}
    random = torch.Generator().manual_seed(sum(map(ord, name)))
    for key, tensor in found.items() if name else ():
        if key != "proj":
            tensor += 0.05 * torch.randn(tensor.shape, generator=random)
    return found


def expert_files(name: str) -> dict[str, bytes]:
    """The repository of an expert, as FusionBench's are: a CLIPVisionModel, no projection."""
    tensors = to_transformers(tower(name))
    del tensors[PROJECTION]
    return {
        "README.md": b"---\nlibrary_name: transformers\n---\n",
        "config.json": json.dumps(config_of(VIT)).encode(),
        "model.safetensors": save(tensors, {"format": "pt"}),
    }


def expert_of(name: str) -> str:
    """The repository's name."""
    return f"tanganke/clip-vit-tiny_{name}"


@lru_cache(maxsize=1)
def clip_files() -> dict[str, bytes]:
    """The repository of the pretrained model."""
    state = {k: t for k, t in clip().state_dict().items() if not k.endswith("attn_mask")}
    return {
        "open_clip_config.json": json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {}}).encode(),
        "open_clip_model.safetensors": save({k: t.contiguous() for k, t in state.items()}),
    }


def publish(hub: Hub) -> dict[str, str]:
    """Fill a hub with all of it.  Repository -> commit."""
    commits = {CLIP: hub.add("models", CLIP, clip_files())}
    for data in DATA:
        commits[data.repository] = hub.add("datasets", data.repository, data.files())
        name = expert_of(data.name)
        commits[name] = hub.add("models", name, expert_files(data.name))
    return commits


@contextmanager
def registered(**revisions: str) -> Iterator[None]:
    """Register tasks, suite and encoder for this block, in the place of those that are there.

    Args:
        revisions: name of a data set, or ``experts``, or ``clip`` -> revision; else main.
    """
    source = OpenClip(f"hf-hub:{CLIP}", "", VIT, revisions.get("clip", "main"))
    published = Published("tiny", "tiny", revisions.get("experts", "main"))
    registries: tuple[Any, ...] = (TASKS, SUITES, ENCODERS)
    before = [dict(registry._items) for registry in registries]
    for registry in registries:
        mine = (NAME, SUITE, *(data.name for data in DATA))
        registry._items = {k: v for k, v in registry._items.items() if not k.startswith(mine)}
    for data in DATA:
        TASKS.add(data.name, data.task(revisions.get(data.name, "main")))
    add_suite(SUITE, [data.name for data in DATA])
    tiny = of_open_clip(NAME, "tiny CLIP", source, published)
    add(replace(tiny, recipe=replace(tiny.recipe, steps=3, batch=4)), "finetuned", "imported")
    try:
        yield
    finally:
        for registry, items in zip(registries, before, strict=True):
            registry._items = items


@pytest.fixture
def tiny_hub(local_hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub has all of it, this machine nothing; everything is registered."""
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    forget()
    publish(local_hub)
    with registered():
        yield local_hub
    forget()


@pytest.fixture
def tiny_sweep(
    command: Callable[..., Outcome], tiny_hub: Hub, tmp_path: Path
) -> Callable[..., Outcome]:
    """Run a sweep of the suite, as a new process would, into a folder of this test."""

    def run(
        *words: object,
        out: str = "out",
        methods: tuple[str, ...] = METHODS,
        shifts: tuple[str, ...] = SHIFTS,
    ) -> Outcome:
        forget()
        return command(
            "sweep", "smoke", "--suite", SUITE, "--encoder", NAME, "--methods", *methods,
            "--shifts", *shifts, "--no-tune", "--limit", 0, "--jobs", 1, "--wandb", "off",
            "--out", tmp_path / out, *words,
        )  # fmt: skip

    return run
