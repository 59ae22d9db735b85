"""Photographs of clothes: Fashion-MNIST."""

import gzip
import struct

import numpy as np

from tasks.pocket.common import shrink
from tasks.sources.built import Built, Pool
from tasks.sources.debian import DEBIAN
from tasks.splits import ADAPT, TRAIN, by_class
from tasks.task import TASKS, Task

GARMENTS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def _idx(file: str) -> np.ndarray:
    """An array in the format of MNIST: two zeros, type, number of axes; then the axes."""
    data = gzip.decompress(DEBIAN["dataset-fashion-mnist"].member(f"{file}-ubyte.gz"))
    axes = data[3]
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def fashion() -> Pool:
    """70,000 pictures of 28 x 28; train comes from the official train part, the rest from test."""
    images = np.concatenate([_idx("train-images-idx3"), _idx("t10k-images-idx3")])
    train, test = _idx("train-labels-idx1"), _idx("t10k-labels-idx1").astype(int)
    later = by_class(test, key="fashion", shares=(0.0, 0.1, 0.1, 0.8)).clip(min=ADAPT)
    splits = np.concatenate([np.full(len(train), TRAIN, np.int8), later])
    return Pool(shrink(images), np.concatenate([train.astype(int), test]), splits)


TASKS.add(
    "fashion",
    Task(
        name="fashion",
        title="Fashion",
        kind="photograph",
        noun="a photo of clothes",
        classes=GARMENTS,
        template="a photo of a {} for sale",
        sizes=(4000, 500, 500, 667),
        reserved=333,
        pixels="e09cb740a9032e61",
        source=Built(fashion, debian=("dataset-fashion-mnist",)),
        note="part of Fashion-MNIST, official train part",
    ),
)
