"""Pictures that are drawn by chance, as files and folders have them."""

import io
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from tasks.settings import DATA_DIR

CLASSES = ["ant hill", "bee", "Cow"]  # folders; in the order of the alphabet: Cow, ant hill, bee


def random(height: int, width: int, *seed: int) -> np.ndarray:
    """``uint8 [height, width, 3]``."""
    return np.random.default_rng(seed or 0).integers(0, 256, (height, width, 3), np.uint8)


def cell(picture: np.ndarray) -> dict[str, bytes | None]:
    """A picture as a data set keeps it."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def save(picture: np.ndarray, path: Path) -> None:
    """Write a PNG file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, "PNG")


def picture(part: str, label: str, number: int) -> np.ndarray:
    """A picture of a part and class; each is of its own."""
    return random(34, 36, len(part), len(label), number)


def tree(folder: Path, classes: list[str], **counts: int) -> Path:
    """Pictures by class below a folder for each part; ``whole`` lies at the top."""
    for part, count in counts.items():
        for label in classes:
            for i in range(count):
                below = folder / label if part == "whole" else folder / part / label
                save(picture(part, label, i), below / f"{i:03}.png")
    return folder


def table(classes: list[str], part: str, count: int) -> datasets.Dataset:
    pairs = [(label, i) for label in range(len(classes)) for i in range(count)]
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=classes)}
    columns = {
        "image": [cell(picture(part, classes[label], i)) for label, i in pairs],
        "label": [label for label, _ in pairs],
    }
    return datasets.Dataset.from_dict(columns, datasets.Features(kinds))


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder of this test's own, and in use."""
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv(DATA_DIR, str(folder))
    return folder
