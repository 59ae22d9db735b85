"""Clip art: drawings by many hands, labelled by the folder that they are filed under."""

import re

import numpy as np

from mergeshift import rng_of
from tasks.pocket.common import shrink, svg
from tasks.sources.built import Built, Pool
from tasks.sources.debian import DEBIAN
from tasks.splits import by_class
from tasks.task import TASKS, Task

FOLDER = "usr/share/openclipart/svg/"
CLIPART = {  # class -> folders of the collection
    "animal": r"animals/",
    "food": r"food/",
    "person": r"people/(?!clothing)",
    "garment": r"people/clothing/",
    "vehicle": r"transportation/(vehicles|boating)/",
    "road sign": r"transportation/roadsigns/",
    "tool": r"tools/",
    "building": r"buildings/",
    "plant": r"plants/",
    "musical instrument": r"recreation/music/",
    "flag": r"signs_and_symbols/flags/",
    "computer": r"computer/hardware/",
    "sport": r"recreation/sports/",
    "map": r"geography/",
}
MOST = 250  # pictures of a class: there are 551 flags
SHARES = (0.5, 0.1, 0.1, 0.3)  # of a class in train, adapt, val, test: some are small
PIXELS = {"": 1.0, "px": 1.0, "pt": 1.25, "pc": 15.0, "mm": 3.5433, "cm": 35.433, "in": 90.0}


def drawings() -> list[tuple[str, str]]:
    """Every drawing of the collection: its path below the folder of all, and its text."""
    found = DEBIAN["openclipart-svg"].members(".svg")
    return [(path.removeprefix(FOLDER), text.decode("utf-8", "replace")) for path, text in found]


def class_of(path: str) -> int | None:
    """The class of a drawing, if its folder is one of the task's."""
    found = (k for k, folder in enumerate(CLIPART.values()) if re.match(folder, path))
    return next(found, None)


def draw(text: str) -> np.ndarray | None:
    """A drawing at 64 pixels, or none if it is empty, unbounded or no valid SVG.

    Returns:
        ``uint8 [64, 64, 3]``
    """
    sized = _sized(text)
    if sized is None:
        return None
    try:
        page = svg(sized, 64)
    except ValueError:  # what resvg says of a file that it cannot read
        return None
    return page if page.std() > 2 else None


def _sized(text: str) -> str | None:
    """The drawing with a view box in place of a size, which may be in units that resvg refuses."""
    found = re.search(r"<svg\b[^>]*>", text)
    if not found:
        return None
    tag = found[0]
    free = re.sub(r"\s(width|height)\s*=\s*([\"']).*?\2", "", tag)
    if "viewBox" not in free:
        sides = [re.search(rf"\s{side}\s*=\s*[\"']\s*([\d.]+)\s*([a-z]*)[\"']", tag)
                 for side in ("width", "height")]  # fmt: skip
        if None in sides:
            return None  # nobody says how large the page is
        width, height = (float(side[1]) * PIXELS[side[2]] for side in sides if side)
        free = f'<svg viewBox="0 0 {width} {height}"' + free[len("<svg") :]
    return text.replace(tag, free, 1)


def clipart() -> Pool:
    """Drawings of 14 folders; a drawing that is filed twice is taken once."""
    images: list[np.ndarray] = []
    labels: list[int] = []
    seen: set[bytes] = set()
    every = drawings()
    for k in rng_of("clipart").permutation(len(every)):
        path, text = every[k]
        label = class_of(path)
        if label is None or labels.count(label) >= MOST:
            continue
        page = draw(text)
        if page is not None and page.tobytes() not in seen:
            seen.add(page.tobytes())
            images.append(page)
            labels.append(label)
    targets = np.array(labels)
    return Pool(shrink(images), targets, by_class(targets, key="clipart", shares=SHARES))


TASKS.add(
    "clipart",
    Task(
        name="clipart",
        title="ClipArt",
        kind="drawing",
        noun="a piece of clip art",
        classes=tuple(CLIPART),
        template="a clip art of a {}",
        sizes=(863, 173, 173, 346),
        reserved=173,
        pixels="ee59fbee99627a7a",
        source=Built(clipart, debian=("openclipart-svg",)),
        note="labelled by the folder that its editors filed a drawing under",
    ),
)
