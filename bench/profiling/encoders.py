"""Encoders at full size with random weights: are they open_clip's, and what do they cost."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.runtime import devices
from bench.runtime.memory import own_memory
from bench.zoo.encoders import ENCODERS
from bench.zoo.open_clip_models import MEAN, STD
from bench.zoo.pocket_clip import normalise
from corruptions.base import Shift, parse_shifts
from mergeshift import UserError
from methods import METHODS, Checkpoints
from methods.common.vit import ViT, encode_plain
from methods.common.weights import Weights, save_checkpoint

NAMES = ("ViT-B-32", "ViT-B-16", "ViT-L-14")  # as open_clip has them, but for "-quickgelu"
CLASSES = 100  # rows of the one head
SHIFTS = "L3"  # the seven corruptions of the protocol, in the batch that is timed
LIKE = 1e-4  # how far features may be from open_clip's, relative to the largest


@dataclass(frozen=True)
class Facts:
    """What one encoder costs."""

    parameters: int
    megabytes: float  # of one set of weights
    difference: float  # from open_clip's forward, relative to its largest feature
    merge_seconds: float
    merge_megabytes: float  # peak of own memory, above what was held before
    images_a_second: float  # of the merged model
    encode_megabytes: float  # the same
    corrupt: float  # seconds an image, mean over the corruptions


def profile_encoders(console: Console, names: Sequence[str] = NAMES, num_experts: int = 8) -> None:
    """Print a line for every encoder.

    Raises:
        UserError: open_clip has no such encoder.
    """
    if odd := [name for name in names if name not in NAMES]:
        raise UserError(f"encoders are timed at full size: {', '.join(NAMES)}; got {odd[0]!r}")
    console.print(
        f"random weights; Task Arithmetic of {num_experts} experts; batch 8; merged on the CPU, "
        f"run on {devices.described()}; torch on {torch.get_num_threads()} threads",
        highlight=False,
    )
    table = Table("encoder", "weights", "error", "merge", "memory", "encode", "memory", "corrupt",
                  box=None)  # fmt: skip
    for name in names:
        visual, vit = tower(name)
        with tempfile.TemporaryDirectory(prefix="mergeshift-") as folder:
            facts = timed(visual, vit, Path(folder), num_experts)
        table.add_row(
            name,
            f"{facts.megabytes:,.0f} MB",
            f"{facts.difference:.1e}" + ("" if facts.difference <= LIKE else " (!)"),
            f"{facts.merge_seconds:.1f} s",
            f"{facts.merge_megabytes:,.0f} MB",
            f"{facts.images_a_second:.1f} / s",
            f"{facts.encode_megabytes:,.0f} MB",
            f"{1e3 * facts.corrupt:.1f} ms",
        )
    console.print(table, highlight=False)
    console.print(
        "error: of features, from open_clip's, relative to the largest. memory: peak above what "
        "was held before, without pages of mapped files, which the system may take back. "
        "encode: images. corrupt: an image, mean of seven corruptions at severity 3.",
        highlight=False,
    )


def tower(name: str) -> tuple[Any, ViT]:
    """open_clip's own image tower, drawn at random, and our description of it.

    Raises:
        UserError: it is not the architecture that the encoder of that name says.
    """
    import open_clip
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    config = open_clip.get_model_config(f"{name}-quickgelu")
    visual = _build_vision_tower(
        config["embed_dim"], CLIPVisionCfg(**config["vision_cfg"]), config["quick_gelu"]
    )
    vit = ViT.of(visual)
    if vit != ENCODERS[name].vit:
        raise UserError(f"open_clip's {name} is {vit}; this encoder says {ENCODERS[name].vit}")
    return visual.eval().requires_grad_(False), vit


@torch.inference_mode()
def timed(
    visual: Any, vit: ViT, folder: Path, num_experts: int, batch: int = 8, repeats: int = 3
) -> Facts:
    """Compare, merge, encode, corrupt.

    Args:
        visual: an untrained tower of open_clip's; its weights are changed.
        vit: what it is.
        folder: for two files of weights. All experts are one file, opened once for each: to merge
            them takes the time and the memory that others would take.
        num_experts: to merge.
        batch: images.
        repeats: of the encoding; the best is given.
    """
    random = torch.Generator().manual_seed(0)
    for tensor in visual.parameters():  # no bias is 0, as in trained weights
        tensor.add_(0.02 * torch.randn(tensor.shape, generator=random))
    pictures = np.random.default_rng(0).integers(
        0, 256, (batch, vit.image_size, vit.image_size, 3), np.uint8
    )
    images = normalise(torch.from_numpy(pictures), MEAN, STD)
    base = {name: tensor.detach() for name, tensor in visual.named_parameters()}
    wanted, found = visual(images), encode_plain(images, base, vit)
    difference = float((found - wanted).abs().max() / wanted.abs().max())
    parameters = sum(tensor.numel() for tensor in base.values())
    ckpts = checkpoints(base, vit, folder, num_experts, random)
    del base, visual

    start = perf_counter()
    with own_memory() as merging:
        method = METHODS["task_arithmetic"]().build(ckpts)
    merge_seconds = perf_counter() - start
    device = devices.device()
    method.to(device).eval()
    corrupt, hard = corrupted(pictures)
    images = normalise(torch.from_numpy(hard).to(device), MEAN, STD)
    seconds = []
    with own_memory() as encoding:
        for _ in range(repeats + 1):  # the first warms up
            start = perf_counter()
            logits = method.predict(images, "task 0").cpu()
            seconds.append(perf_counter() - start)
    check(logits, batch)
    return Facts(
        parameters, 4e-6 * parameters, difference, merge_seconds, merging.megabytes,
        batch / min(seconds[1:]), encoding.megabytes, corrupt,
    )  # fmt: skip


def checkpoints(
    base: dict[str, Tensor], vit: ViT, folder: Path, num_experts: int, random: torch.Generator
) -> Checkpoints:
    """Base and experts in files, memory-mapped, as they come from the zoo; random heads."""
    save_checkpoint(folder / "base.safetensors", base)
    moved = {k: t + 1e-3 * torch.randn(t.shape, generator=random) for k, t in base.items()}
    save_checkpoint(folder / "expert.safetensors", moved)
    tasks = [f"task {i}" for i in range(num_experts)]
    heads = torch.randn(CLASSES, vit.output_dim, generator=random)
    return Checkpoints(
        vit=vit,
        base=Weights.open(folder / "base.safetensors"),
        experts={task: Weights.open(folder / "expert.safetensors") for task in tasks},
        heads=dict.fromkeys(tasks, 100 * torch.nn.functional.normalize(heads, dim=-1)),
    )


def corrupted(pictures: np.ndarray) -> tuple[float, np.ndarray]:
    """Seconds an image, and the pictures under one corruption after the other."""
    constants = "cifar10-c" if pictures.shape[1] <= 32 else "imagenet-c"
    shifts: list[Shift] = parse_shifts([SHIFTS], constants)
    for shift in shifts:  # what is imported and read from disk at first use
        shift.apply(pictures[0], "warm", 0)
    start = perf_counter()
    parts = [
        [shift.apply(picture, 0, "task", i) for i, picture in enumerate(pictures)]
        for shift in shifts
    ]
    seconds = (perf_counter() - start) / (len(shifts) * len(pictures))
    return seconds, np.stack([parts[i % len(shifts)][i] for i in range(len(pictures))])


def check(logits: Tensor, batch: int) -> None:
    """Refuse what no encoder can give.

    Raises:
        UserError: logits that are not finite, or not one row for each image.
    """
    if logits.shape != (batch, CLASSES) or not logits.isfinite().all():
        raise UserError(f"the merged model gave {list(logits.shape)}, not all of it finite")
