"""Pictures of a folder at 224 pixels: one pass for all methods against one pass for each."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bench.runtime import devices
from bench.stages.scoring import score
from bench.zoo.encoders import ENCODERS, Encoder
from corruptions.base import Shift, parse_shifts
from mergeshift import UserError
from methods import METHODS, Checkpoints, MergingMethod
from methods.common.vit import init_weights
from methods.common.weights import Weights
from tasks import SUITES, Suite, Task
from tasks.settings import using
from tasks.sources.folder import SUITE

NAMES = ("ViT-B-32", "ViT-B-16", "ViT-L-14")
METHODS_SHOWN = ("pretrained", "average", "task_arithmetic", "ties", "individual")
SHIFTS = ("clean", "gaussian_noise@3", "motion_blur@3")
TASKS = {"first": 4, "second": 3}  # -> classes
SIDES = (320, 256)  # pixels of a stored picture


@dataclass(frozen=True)
class Way:
    """What one way of showing the images took."""

    work: Counter[str]  # pictures decoded and corrupted
    predicted: int  # images times methods
    encoders: float  # seconds in the methods
    seconds: float  # of all


def profile_streaming(console: Console, encoder: str = "ViT-B-32", images: int = 4) -> None:
    """Print what each way decodes, corrupts and takes.

    Args:
        console: to print on.
        encoder: whose architecture; its weights are random.
        images: of each class in the test folder.

    Raises:
        UserError: it is no encoder of that size.
    """
    if encoder not in NAMES:
        raise UserError(f"streaming is timed for {', '.join(NAMES)}; got {encoder!r}")
    with folder_suite(images) as suite:
        ways = measured(ENCODERS[encoder], suite)
    count = len(METHODS_SHOWN)
    one, many = ways
    table = Table("", "decoded", "corrupted", "encoders", "data", "all", box=None)
    for name, way in zip(("one pass", f"{count} passes"), ways, strict=True):
        table.add_row(
            f"{name}, {way.predicted:,} predictions",
            f"{way.work['decoded']:,}",
            f"{way.work['corrupted']:,}",
            f"{way.encoders:.1f} s",
            f"{way.seconds - way.encoders:.1f} s",
            f"{way.seconds:.1f} s",
        )
    data = (many.seconds - many.encoders) / (one.seconds - one.encoders)
    console.print(
        f"{encoder}, random weights; {count} methods, {len(suite.names)} tasks of JPEG files of "
        f"{SIDES[0]} x {SIDES[1]}, {len(SHIFTS)} shifts; run on {devices.described()}, torch on "
        f"{torch.get_num_threads()} threads",
        highlight=False,
    )
    console.print(table, highlight=False)
    console.print(
        f"{count} passes take {many.seconds / one.seconds:.2f} x the time of one, "
        f"{data:.1f} x of it for the data",
        highlight=False,
    )


@contextmanager
def folder_suite(images: int) -> Iterator[Suite]:
    """A suite of drawn pictures in a folder, and a data folder of its own, for this block."""
    with tempfile.TemporaryDirectory(prefix="mergeshift-") as name:
        folder, before = Path(name), os.environ.get("MERGESHIFT_HOME")
        for task, classes in TASKS.items():
            for part, count in (("train", 1), ("test", images)):
                for label in range(classes):
                    draw(folder / "data" / task / part / f"class {label}", count)
        os.environ["MERGESHIFT_HOME"] = str(folder / "home")
        try:
            with using(folder / "data", workers=0):
                yield SUITES[SUITE]
        finally:
            del os.environ["MERGESHIFT_HOME"]
            os.environ.update({} if before is None else {"MERGESHIFT_HOME": before})


def draw(folder: Path, count: int) -> None:
    """Write some pictures: blurred noise, as large as those of a camera after JPEG."""
    from PIL import Image

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = rng.integers(0, 256, (12, 15, 3), np.uint8)
        picture = Image.fromarray(coarse).resize(SIDES, Image.Resampling.BICUBIC)
        picture.save(folder / f"{i}.jpg", quality=90)


def measured(encoder: Encoder, suite: Suite) -> tuple[Way, Way]:
    """One pass over everything for all methods; then one for each."""
    members = built(encoder, suite.tasks)
    shifts = parse_shifts(SHIFTS, "imagenet-c")
    first = suite.datamodule(shifts, limit=1)
    score(members, first, "test", normalise=encoder.normalise)  # warms up
    one = shown(members, encoder, suite, shifts)
    each = [shown({name: member}, encoder, suite, shifts) for name, member in members.items()]
    many = Way(
        sum((way.work for way in each), Counter()),
        sum(way.predicted for way in each),
        sum(way.encoders for way in each),
        sum(way.seconds for way in each),
    )
    return one, many


def shown(
    members: Mapping[str, MergingMethod], encoder: Encoder, suite: Suite, shifts: list[Shift]
) -> Way:
    """Show every cell to some methods, in one pass."""
    data, start = suite.datamodule(shifts), perf_counter()
    panel, scorer = score(members, data, "test", normalise=encoder.normalise)
    seconds = perf_counter() - start
    predicted = sum(len(part) for parts in scorer.labels.values() for part in parts)
    return Way(data.work, predicted, sum(panel.seconds.values()), seconds)


def built(encoder: Encoder, tasks: list[Task]) -> dict[str, MergingMethod]:
    """Five methods on random weights."""
    random, vit = torch.Generator().manual_seed(0), encoder.vit
    base = init_weights(vit, random)
    experts = {}
    for task in tasks:
        moved = {k: base[k] + 1e-3 * torch.randn(base.shape(k), generator=random) for k in base}
        experts[task.name] = Weights(moved)
    heads = {
        task.name: torch.randn(task.num_classes, vit.output_dim, generator=random) for task in tasks
    }
    ckpts = Checkpoints(vit=vit, base=base, experts=experts, heads=heads)
    return {name: METHODS[name]().build(ckpts) for name in METHODS_SHOWN}
