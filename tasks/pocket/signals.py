"""Real one-dimensional measurements, drawn as pictures."""

import numpy as np
from PIL import Image, ImageDraw

from tasks.pocket.common import shrink
from tasks.sources.built import Built, Pool
from tasks.sources.wheels import WHEELS
from tasks.splits import TRAIN, by_class
from tasks.task import TASKS, Task


def _series(name: str) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """A data set of the UCR archive: series ``[channels, T]``, labels, and who is in TEST."""
    series, labels, tested = [], [], []
    for part in ("TRAIN", "TEST"):
        text = WHEELS["aeon"].member(f"/{name}/{name}_{part}.ts").decode()
        for line in text.split("@data")[1].strip().splitlines():
            *channels, label = line.strip().split(":")
            series.append(np.array([[float(v) for v in c.split(",")] for c in channels]))
            labels.append(int(label))
            tested.append(part == "TEST")
    return series, np.array(labels), np.array(tested)


def _outline(distances: np.ndarray) -> np.ndarray:
    """Fill the outline given by distances from its centroid.  ``[T] -> uint8 [64, 64]``."""
    radius = 122 * (0.25 + 0.75 * (distances - distances.min()) / np.ptp(distances))
    angle = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    corners = np.stack([128 + radius * np.cos(angle), 128 + radius * np.sin(angle)], 1)
    page = Image.new("L", (256, 256))
    ImageDraw.Draw(page).polygon([(float(x), float(y)) for x, y in corners], fill=255)
    return np.array(page.resize((64, 64), Image.Resampling.BOX))


def leaf() -> Pool:
    """OSULeaf: outlines of leaves of six species."""
    series, labels, _ = _series("OSULeaf")
    splits = by_class(labels, key="leaf", shares=(0.55, 0.1, 0.1, 0.25))
    return Pool(shrink([_outline(one[0]) for one in series]), labels - 1, splits)


def arrowhead() -> Pool:
    """ArrowHead: outlines of projectile points of three kinds."""
    series, labels, _ = _series("ArrowHead")
    splits = by_class(labels, key="arrowhead", shares=(0.55, 0.1, 0.1, 0.25))
    return Pool(shrink([_outline(one[0]) for one in series]), labels, splits)


def speaker() -> Pool:
    """JapaneseVowels: cepstra of two vowels by nine men, a picture of 12 x T."""
    series, labels, tested = _series("JapaneseVowels")
    grey = [np.clip((one + 1.5) / 3 * 255, 0, 255).astype(np.uint8) for one in series]
    later = by_class(labels, key="speaker", shares=(0.0, 0.15, 0.15, 0.7)).clip(min=1)
    splits = np.where(tested, later, TRAIN).astype(np.int8)  # the official train part
    return Pool(shrink(grey, Image.Resampling.BILINEAR), labels - 1, splits)


TASKS.add(
    "leaf",
    Task(
        name="leaf",
        title="Leaf",
        kind="measurement",
        noun="an outline of a leaf",
        classes=(
            "vine maple",
            "douglas maple",
            "bigleaf maple",
            "boxelder",
            "white oak",
            "black oak",
        ),
        template="an outline of a {} leaf",
        sizes=(242, 46, 44, 110),
        pixels="38af44ebf856f356",
        source=Built(leaf, wheels=("aeon",)),
        note="442 outlines; species in the order of the UCR description",
    ),
)
TASKS.add(
    "arrowhead",
    Task(
        name="arrowhead",
        title="ArrowHead",
        kind="measurement",
        noun="an outline of an arrowhead",
        classes=("avonlea", "clovis", "mix"),
        template="an outline of a {} arrowhead",
        sizes=(117, 20, 22, 52),
        pixels="905e5b5843d949eb",
        source=Built(arrowhead, wheels=("aeon",)),
        note="211 outlines",
    ),
)
TASKS.add(
    "speaker",
    Task(
        name="speaker",
        title="Speaker",
        kind="measurement",
        noun="a picture of a vowel",
        classes=tuple(f"speaker {i}" for i in range(1, 10)),
        template="a picture of a vowel of {}",
        sizes=(270, 59, 51, 260),
        pixels="0b10f61a7c686765",
        source=Built(speaker, wheels=("aeon",)),
        note="640 utterances, official train part",
    ),
)
