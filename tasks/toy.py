"""Three synthetic tasks that need no download: the suite of the tests."""

from functools import partial

import numpy as np

from mergeshift import rng_of
from tasks.sources.built import Built, Pool
from tasks.splits import by_class
from tasks.task import TASKS, Task

COUNTS = (96, 24, 24, 48)  # images in train, adapt, val, test
SIZE = 32  # pixels


def _stripes(name: str, num_classes: int) -> Pool:
    """Noisy gratings; the class is the direction of the stripes, the task their wavelength."""
    rng = rng_of("toy", name)
    labels = np.arange(sum(COUNTS)) % num_classes
    angle = np.pi * (labels + 0.5 * rng.random(len(labels)) - 0.25) / num_classes
    phase = rng.uniform(0, 2 * np.pi, len(labels))
    row, column = np.mgrid[:SIZE, :SIZE] / SIZE
    across = np.cos(angle)[:, None, None] * row + np.sin(angle)[:, None, None] * column
    waves = np.sin(2 * np.pi * (1 + num_classes) * across + phase[:, None, None])
    noise = rng.normal(0, 1.0, (len(labels), SIZE, SIZE, 3))
    images = 127 + 40 * (waves[..., None] + noise)
    shares = np.array(COUNTS) / sum(COUNTS)
    splits = by_class(labels, key=name, shares=tuple(shares))
    return Pool(images.clip(0, 255).astype(np.uint8), labels, splits)


for _name, _classes, _pixels in (
    ("toy_two", 2, "fc53762bf0d8c771"),
    ("toy_three", 3, "8cedc37d40d1fb0c"),
    ("toy_four", 4, "6a46ad1618d46cce"),
):
    TASKS.add(
        _name,
        Task(
            name=_name,
            title=_name.replace("_", " ").title(),
            kind="synthetic",
            noun="stripes",
            classes=tuple(f"direction {k}" for k in range(_classes)),
            template="stripes in {}",
            sizes=COUNTS,
            pixels=_pixels,
            source=Built(partial(_stripes, _name, _classes)),
        ),
    )
