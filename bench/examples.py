"""Test images under a few shifts, and what the methods of a sweep say they are."""

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from bench.config import Run
from bench.devices import device
from bench.errors import UserError
from bench.evaluate import data_of, member
from bench.members import floor_of
from bench.panel import Panel
from bench.seeds import rng_of
from bench.zoo.encoders import ENCODERS
from corruptions.base import Shift
from methods import MergingMethod
from results.report_parts import Example
from results.store import Store
from tasks import Task

SMALL = 64  # pixels: so small a picture is kept as it is
SHOWN = 112  # pixels that a larger one keeps
MOST = 32  # images of a task under one shift


def examples(
    runs: Sequence[tuple[Run, str]], shifts: Sequence[Shift], count: int, store: Store
) -> list[Example]:
    """Ask every method about ``count`` test images of each task, the same under every shift.

    Args:
        runs: of one sweep, each with its chosen config, canonical JSON.
        shifts: under which images are shown.
        count: images of each task; drawn by chance, always the same.
        store: where that lies which methods learned.

    Raises:
        UserError: so many images are not for a page, or experts or what was learned is missing.
    """
    if not 0 < count <= MOST:
        raise UserError(f"a page shows 1 to {MOST} examples of a task; got {count}")
    found = []
    for shift in shifts:
        members = {run.id: member(run, config, shift, store)[0] for run, config in runs}
        first = runs[0][0]  # all see the same tasks
        panel = Panel(
            members,
            first.unseen,
            floor_of(first) if first.unseen else None,
            normalise=ENCODERS[first.encoder].normalise,
        ).to(device())
        data = data_of(first, [shift])
        for task in data.tasks:
            rows = drawn(task, data.count(task, "test"), count)
            pixels = np.array(data.pixels(task, "test", shift)[rows])
            found += asked(panel, task, shift, rows, pixels, data.labels(task, "test")[rows])
    return found


def drawn(task: Task, there: int, count: int) -> np.ndarray:
    """Numbers of the images that are shown, sorted: they depend on the task alone."""
    chosen = rng_of("examples", task.name).permutation(there)[:count]
    return np.sort(chosen)


def asked(
    panel: Panel,
    task: Task,
    shift: Shift,
    rows: np.ndarray,
    pixels: np.ndarray,
    labels: np.ndarray,
) -> list[Example]:
    """What every member says of some images, uint8 ``[N, H, W, 3]``."""
    with torch.inference_mode():
        images = panel.normalise(torch.from_numpy(pixels).to(device()))
        said = {
            key: panel.ask(method, images, task.name).logits.double().softmax(-1).cpu()
            for key, method in zip(panel.keys, panel.members, strict=True)
            if isinstance(method, MergingMethod)
        }
    return [
        Example(
            task=task.name,
            shift=str(shift),
            image=int(row),
            label=task.classes[int(labels[i])],
            picture=picture(pixels[i]),
            answers={
                key: (task.classes[int(shares[i].argmax())], float(shares[i].max()))
                for key, shares in said.items()
            },
        )
        for i, row in enumerate(rows)
    ]


def picture(pixels: np.ndarray) -> str:
    """A picture as a data URI: a small one exactly, a large one smaller and compressed."""
    image, file = Image.fromarray(pixels), BytesIO()
    if max(image.size) <= SMALL:
        image.save(file, "PNG", optimize=True)
        kind = "png"
    else:
        image.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
        image.save(file, "WEBP", quality=85)
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
