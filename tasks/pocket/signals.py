"""Speech, measured and drawn as pictures."""

import numpy as np
from PIL import Image

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


def speaker() -> Pool:
    """JapaneseVowels: cepstra of two vowels by nine men, a picture of 12 x T."""
    series, labels, tested = _series("JapaneseVowels")
    grey = [np.clip((one + 1.5) / 3 * 255, 0, 255).astype(np.uint8) for one in series]
    later = by_class(labels, key="speaker", shares=(0.0, 0.15, 0.15, 0.7)).clip(min=1)
    splits = np.where(tested, later, TRAIN).astype(np.int8)  # the official train part
    return Pool(shrink(grey, Image.Resampling.BILINEAR), labels - 1, splits)


TASKS.add(
    "speaker",
    Task(
        name="speaker",
        title="Speaker",
        kind="measurement",
        noun="a picture of a vowel",
        classes=tuple(f"speaker {i}" for i in range(1, 10)),
        template="a picture of a vowel of {}",
        sizes=(270, 59, 51, 174),
        reserved=86,
        pixels="0b10f61a7c686765",
        source=Built(speaker, wheels=("aeon",)),
        note="640 utterances, official train part",
        version=2,
    ),
)
