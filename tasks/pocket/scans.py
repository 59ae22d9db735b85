"""Crops of a few large pictures: textures, planes of a brain."""

import gzip
import struct

import numpy as np

from mergeshift import rng_of
from tasks.pocket.common import decode, shrink
from tasks.sources.built import Built, Pool
from tasks.sources.wheels import WHEELS
from tasks.splits import ADAPT, TEST, TRAIN, VAL
from tasks.task import TASKS, Task

TEXTURES = {  # class -> file of scikit-image
    "brick": "brick.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "coins": "coins.png",
    "retina": "retina.jpg",
    "tissue": "ihc.png",
    "deep sky": "hubble_deep_field.jpg",
    "fur": "chelsea.png",
}
AREAS = np.array(  # a picture is cut in 4 x 4 areas, each of one split
    [
        [TRAIN, TEST, TRAIN, VAL],
        [ADAPT, TRAIN, TRAIN, TRAIN],
        [TRAIN, TRAIN, TEST, TRAIN],
        [TEST, VAL, TRAIN, ADAPT],
    ]
)
PATCHES = {TRAIN: 500, ADAPT: 60, VAL: 60, TEST: 125}  # of a class, at most
SLABS = (TRAIN, TRAIN, TEST, TRAIN, VAL, TRAIN, ADAPT, TRAIN)  # of 12 slices, repeating


def texture() -> Pool:
    """32-pixel grey patches; no patch crosses from one area of a photograph to another."""
    images, labels, splits = [], [], []
    for label, file in enumerate(TEXTURES.values()):
        picture = decode(WHEELS["scikit_image"].member(f"skimage/data/{file}"), "L")
        if file.startswith("retina"):
            picture = picture[400:1000, 400:1000]  # the disc is surrounded by black
        height, width = (side // 4 for side in picture.shape)
        found: dict[int, list[np.ndarray]] = {split: [] for split in PATCHES}
        for (i, j), split in np.ndenumerate(AREAS):
            area = picture[i * height : (i + 1) * height, j * width : (j + 1) * width]
            for row in range(0, height - 31, 10):
                for column in range(0, width - 31, 10):
                    found[int(split)].append(area[row : row + 32, column : column + 32])
        for split, patches in found.items():
            order = rng_of("texture", label, split).permutation(len(patches))[: PATCHES[split]]
            images += [patches[k] for k in order]
            labels += [label] * len(order)
            splits += [split] * len(order)
    return Pool(shrink(images), np.array(labels), np.array(splits, np.int8))


def _nifti(data: bytes) -> np.ndarray:
    """The volume of a gzipped NIfTI-1 file, scaled to uint8."""
    raw = gzip.decompress(data)
    shape = struct.unpack("<8h", raw[40:56])[1:4]
    kinds: dict[int, str] = {2: "u1", 4: "<i2", 16: "<f4", 64: "<f8"}
    kind = kinds[struct.unpack("<h", raw[70:72])[0]]
    start = int(struct.unpack("<f", raw[108:112])[0])
    flat = np.frombuffer(raw, np.dtype(kind), count=int(np.prod(shape)), offset=start)
    volume = flat.reshape(shape, order="F").astype(np.float32)
    return (volume / volume.max() * 255).astype(np.uint8)


def brainplane() -> Pool:
    """64-pixel crops of slices of an averaged T1 brain; a slab of slices has one split."""
    name = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    volume = _nifti(WHEELS["nilearn"].member(name))
    rng = rng_of("brainplane")
    images, labels, splits = [], [], []
    for axis in range(3):
        for number in range(20, volume.shape[axis] - 20):
            if number % 12 == 0:
                continue  # one slice of gap between slabs
            plane = np.ascontiguousarray(np.moveaxis(volume, axis, 0)[number])
            for _ in range(40):
                row, column = (rng.integers(0, side - 63) for side in plane.shape)
                crop = plane[row : row + 64, column : column + 64]
                if (crop > 20).mean() > 0.6:
                    images.append(crop)
                    labels.append(axis)
                    splits.append(SLABS[number // 12 % len(SLABS)])
    return Pool(shrink(images), np.array(labels), np.array(splits, np.int8))


TASKS.add(
    "texture",
    Task(
        name="texture",
        title="Texture",
        kind="photograph",
        noun="a texture",
        classes=tuple(TEXTURES),
        template="a texture of {}",
        sizes=(3720, 480, 480, 654),
        reserved=326,
        pixels="fee77c2e4b6144b4",
        source=Built(texture, wheels=("scikit_image",)),
        note="one photograph per class: it is recognition of that photograph, not of the category",
        version=2,
    ),
)
TASKS.add(
    "brainplane",
    Task(
        name="brainplane",
        title="BrainPlane",
        kind="photograph",
        noun="a slice of a brain",
        classes=("sagittal", "coronal", "axial"),
        template="a {} slice of a brain",
        sizes=(4000, 500, 500, 540),
        reserved=269,
        pixels="1515295e2bf0dbac",
        source=Built(brainplane, wheels=("nilearn",)),
        note="one averaged brain, disjoint slabs: it is recognition of that brain",
        version=2,
    ),
)
