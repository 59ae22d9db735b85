"""Random folders of images, read by the product and by a plain oracle: ``--count 500``.

A folder is drawn as a list of pictures, each with its part and class, and written in a random
layout: names of parts, wrappers, links, suffixes, modes and junk. What the product reads has to be
the pictures of that list: never a traceback, never a hang, never another picture. The oracle knows
the list and converts the pixels by arithmetic; it opens no file.
"""

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mergeshift import UserError
from tasks.images import fit
from tasks.sources.folder import Folder
from tasks.sources.folder_scan import scan_folder

SIZE = 32
PARTS = [
    ("train", "test"), ("Train", "Test"), ("TRAINING", "TESTING"), ("training", "val"),
    ("my-train", "my-test"), ("seg_train", "seg_valid"), ("trainset", "testset"), ("", ""),
    ("petsTrain", "petsTest"), ("Train_images", "Test_images"), ("train", "Validation"),
]  # fmt: skip
WRAPPERS = ["", "", "archive", "archive/Dataset", "2750", "images", "data/images"]
NAMES = ["cat", "dog", "Ant Hill", "0", "10", "train_station", "test_tube", "n01440764", "a.b"]
JUNK: list[Callable[[Path], None]] = [
    lambda root: write(root / "__MACOSX" / "cat" / "._0.png", b"\0\5\x16\7"),
    lambda root: write(root / ".DS_Store", b"\0"),
    lambda root: write(root / ".ipynb_checkpoints" / "0.png", b"no picture"),
    lambda root: write(root / "readme.txt", b"text"),
    lambda root: write(root / "labels.csv", b"a,b"),
    lambda root: (root / "empty" / "emptier").mkdir(parents=True),
    lambda root: (root / "circle").symlink_to(root),
    lambda root: (root / "gone.png").symlink_to(root / "nowhere.png"),
    lambda root: os.mkfifo(root / "pipe.png"),
    lambda root: write(root / "notes" / "a.md", b"text"),
]
SUFFIXES = {
    "PNG": [".png", ".PNG", "", ".picture"],
    "TIFF": [".tif", ".TIFF"],
    "BMP": [".bmp", ".dib"],
    "GIF": [".gif", ".jpg"],
    "WEBP": [".webp", ".WebP", ".jpg"],
    "PPM": [".ppm", ".pnm"],
}


@dataclass(frozen=True)
class Case:
    """One picture as it is stored, and as it has to be read."""

    image: Image.Image
    kind: str  # of the file
    wanted: np.ndarray  # uint8 [H, W, 3]
    options: dict[str, Any]


def write(path: Path, content: bytes) -> None:
    """A file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def grey(shades: np.ndarray) -> np.ndarray:
    """``[H, W] -> [H, W, 3]``."""
    return np.repeat(shades[..., None], 3, axis=2).astype(np.uint8)


def drawn(rng: np.random.Generator) -> Case:
    """A picture of a random size and mode."""
    height, width = rng.integers(SIZE, 70, 2)
    colour = rng.integers(0, 256, (height, width, 3), np.uint8)
    shades = colour[..., 0].copy()
    shades[0, :2] = 0, 255  # no picture of one shade, nor of one level of transparency
    image, mode = Image.fromarray, rng.choice(["RGB", "L", "1", "I;16", "I", "F", "RGBA", "LA"])
    kind = str(rng.choice(["PNG", "BMP", "WEBP", "PPM"]))
    options = {"lossless": True} if kind == "WEBP" else {}
    if mode == "RGB":
        return Case(image(colour), kind, colour, options)
    if mode == "L":
        return Case(image(shades), str(rng.choice(["PNG", "BMP", "GIF", "TIFF"])), grey(shades), {})
    if mode == "1":
        bits = shades > 127
        return Case(image(bits), str(rng.choice(["PNG", "TIFF"])), grey(bits * 255), {})
    if mode == "I;16":
        deep = image(shades.astype(np.uint16) * 257)
        return Case(deep, str(rng.choice(["PNG", "TIFF"])), grey(shades), {})
    if mode == "I":
        values = np.round(shades * ((2.0**31 - 1) / 255)).astype(np.int32)
        return Case(image(values), "TIFF", grey(shades), {})
    if mode == "F":
        return Case(image((shades / 255).astype(np.float32)), "TIFF", grey(shades), {})
    mask = shades > 127  # wholly transparent or not at all: what is between is a matter of rounding
    ground = np.where(mask[..., None], colour if mode == "RGBA" else grey(colour[..., 1]), 255)
    alpha = image((mask * 255).astype(np.uint8))
    bands = [*image(colour).split(), alpha] if mode == "RGBA" else [image(colour[..., 1]), alpha]
    whole = Image.merge(str(mode), bands)
    return Case(whole, str(rng.choice(["PNG", "TIFF"])), ground.astype(np.uint8), {})


def build(folder: Path, seed: int) -> dict[str, dict[str, list[np.ndarray]]]:
    """Write a random folder; part -> class -> the pictures that have to be read."""
    rng, choose = np.random.default_rng(seed), random.Random(seed)
    train, test = choose.choice(PARTS)
    root = folder / choose.choice(WRAPPERS)
    names = choose.sample(NAMES, choose.randint(2, 4))
    first = bool(train) and choose.random() < 0.1 and train.lower() in ("train", "training")
    wanted: dict[str, dict[str, list[np.ndarray]]] = {}
    for part, called in (("train", train), ("test", test)) if train else (("whole", ""),):
        for name in names:
            place = root / name / called if first else root / called / name
            if choose.random() < 0.15:  # the folder is a link to one elsewhere
                real = folder.parent / "elsewhere" / part / name
                real.mkdir(parents=True)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(real)
            for number in range(choose.randint(5, 7) if train else choose.randint(10, 11)):
                case = drawn(rng)
                inner = "" if first or choose.random() < 0.9 else "more/"
                path = place / f"{inner}{number}{choose.choice(SUFFIXES[case.kind])}"
                path.parent.mkdir(parents=True, exist_ok=True)
                case.image.save(path, case.kind, **case.options)
                wanted.setdefault(part, {}).setdefault(name, []).append(case.wanted)
    for junk in choose.sample(JUNK, choose.randint(0, 3)):
        junk(root)
    return wanted


def spoil(folder: Path, seed: int) -> bool:
    """Break a folder now and then: a file is cut or emptied, or a class goes."""
    choose = random.Random(f"spoil {seed}")
    if choose.random() < 0.7:
        return False
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix == ".png")
    if files:
        path = choose.choice(files)
        path.write_bytes(path.read_bytes()[: choose.choice([0, 5, 40])])
    return bool(files)


def hashes(images: list[np.ndarray]) -> list[str]:
    """One for each picture as an encoder gets it, in their own order."""
    return sorted(blake2b(fit(image, SIZE).tobytes()).hexdigest() for image in images)


def read(folder: Path) -> dict[str, dict[str, list[np.ndarray]]]:
    """The same by the product: part -> class -> pictures."""
    scan, source = scan_folder(str(folder)), Folder(str(folder))
    source.sizes()
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for part, images in scan.parts.items():
        source.check(part)
        for row, label in enumerate(images.labels.tolist()):
            picture = np.asarray(images.reader.picture(row))
            found.setdefault(part, {}).setdefault(scan.names[label], []).append(picture)
    return found


def compare(seed: int) -> str:
    """What is wrong with one random folder, or nothing."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "data" / "pets"
        folder.mkdir(parents=True)
        wanted = build(folder, seed)
        spoilt = spoil(folder, seed)
        try:
            found = read(folder)
        except UserError as error:
            ours = "\n" in str(error) or not spoilt
            return f"seed {seed}: {error}" if ours else ""
        tables = [{part: {name: hashes(images) for name, images in classes.items()}
                   for part, classes in of.items()} for of in (wanted, found)]  # fmt: skip
        return "" if tables[0] == tables[1] else f"seed {seed}: other pictures than were written"


def main(words: list[str]) -> int:
    """Compare many; the exit code is 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="seed")
    given = parser.parse_args(words)
    wrong = []
    with tempfile.TemporaryDirectory() as place:
        os.environ["MERGESHIFT_HOME"] = place
        for seed in range(given.first, given.first + given.count):
            if said := compare(seed):
                wrong.append(said)
                sys.stdout.write(said + "\n")
                sys.stdout.flush()
    sys.stdout.write(f"{given.count} folders, {len(wrong)} wrong\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
