"""Glyphs of fonts that are no letters: icons, symbols, numerals of many scripts."""

import json
import re
from pathlib import PurePath

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mergeshift import rng_of
from tasks.pocket.common import FONT_WHEELS, font, font_file, script_fonts, shrink
from tasks.sources.built import Built, Pool
from tasks.sources.wheels import WHEELS
from tasks.splits import ADAPT, TEST, TRAIN, VAL, by_class, by_group
from tasks.task import TASKS, Task

ICON_FONTS = {  # file of a font -> endings of a name that stand for another drawing of the same
    "materialdesignicons6-webfont": ("-outline", "-variant"),
    "phosphor": ("-bold", "-fill", "-light", "-thin"),
    "remixicon": ("-fill", "-line"),
}
MOST_ICONS = 200  # drawings of a class, and those of the icon that reaches it
SHARES = (0.55, 0.1, 0.1, 0.25)  # of the icons of a class in train, adapt, val, test
ICONS = {  # class -> first words of the icons' names
    "arrow": ("arrow", "arrows"),
    "person": ("account", "user"),
    "file": ("file",),
    "folder": ("folder",),
    "battery": ("battery",),
    "calendar": ("calendar",),
    "book": ("book",),
    "house": ("home", "house"),
    "clipboard": ("clipboard",),
    "cloud": ("cloud", "weather"),
    "telephone": ("phone",),
    "speech bubble": ("message", "comment", "chat"),
    "shield": ("shield",),
    "clock": ("clock", "timer", "alarm"),
    "envelope": ("email", "envelope", "mail"),
    "bell": ("bell", "notification"),
}
SYMBOLS = {  # class -> first and last code points
    "arrow": ((0x2190, 0x21FF), (0x27F0, 0x27FF), (0x2900, 0x297F), (0x2B00, 0x2B11)),
    "operator": ((0x2200, 0x22FF), (0x2A00, 0x2AFF)),
    "box line": ((0x2500, 0x257F),),
    "shape": ((0x25A0, 0x25FF), (0x2B12, 0x2B2F)),
    "pictograph": ((0x2600, 0x26FF),),
    "dingbat": ((0x2700, 0x27BF),),
    "braille cell": ((0x2801, 0x28FF),),
    "hexagram": ((0x4DC0, 0x4DFF),),
    "tetragram": ((0x1D300, 0x1D356),),
    "domino": ((0x1F030, 0x1F093),),
    "playing card": ((0x1F0A0, 0x1F0FF),),
}
SYMBOL_FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")
MOST = 600  # drawings of a class
NOWHERE = "\U0010fffe"  # no character: what a font draws for those that it lacks
NUMERALS = {  # script -> its zero; the others follow
    "devanagari": 0x966,
    "bengali": 0x9E6,
    "telugu": 0xC66,
    "tamil": 0xBE6,
    "thai": 0xE50,
    "lao": 0xED0,
    "khmer": 0x17E0,
    "arabic": 0x660,
    "myanmar": 0x1040,
}
VALUES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WEIGHTS = {  # split -> weights of the variable fonts: no face is in two splits
    TRAIN: (100, 200, 300, 400, 500),
    ADAPT: (600,),
    VAL: (650,),
    TEST: (700, 800, 900),
}
DRAWS = {TRAIN: 9, ADAPT: 6, VAL: 6, TEST: 4}  # of a numeral in a weight


def draw_glyph(glyphs: ImageFont.FreeTypeFont, text: str, rng: np.random.Generator) -> np.ndarray:
    """A glyph in the middle, turned by up to 12 degrees, moved by up to 4.  ``uint8 [64, 64]``."""
    page = Image.new("L", (64, 64))
    ImageDraw.Draw(page).text((32, 32), text, font=glyphs, fill=255, anchor="mm")
    angle, (right, down) = rng.uniform(-12, 12), rng.integers(-4, 5, 2)
    how = Image.Resampling.BILINEAR
    return np.array(page.rotate(angle, resample=how, translate=(int(right), int(down))))


def icons() -> Pool:
    """Icons of three sets by the first word of their name; drawings of one icon stay together."""
    words = {word: k for k, names in enumerate(ICONS.values()) for word in names}
    drawings: dict[tuple[int, str, str], list[str]] = {}  # of an icon: class, font, name
    for font_name, endings in ICON_FONTS.items():
        table = json.loads(icon_file(f"{font_name}-charmap", ".json"))
        plain = re.compile(f"({'|'.join(endings)})+$")
        for name, code in sorted(table.items()):
            if (label := words.get(name.split("-")[0])) is not None:
                icon = label, font_name, plain.sub("", name)
                drawings.setdefault(icon, []).append(chr(int(code, 16)))
    files = {name: icon_file(f"{name}-", ".ttf") for name in ICON_FONTS}
    known = list(drawings)
    cut = by_class(np.array([label for label, *_ in known]), key="icons", shares=SHARES)
    images: list[np.ndarray] = []
    labels: list[int] = []
    splits: list[int] = []
    for k in rng_of("icons").permutation(len(known)):
        label, font_name, name = known[k]
        rng = rng_of("icons", font_name, name)
        for glyph in drawings[known[k]] if labels.count(label) < MOST_ICONS else []:
            glyphs = font(files[font_name], int(rng.integers(40, 53)))
            images.append(draw_glyph(glyphs, glyph, rng))
            labels.append(label)
            splits.append(cut[k])
    return Pool(shrink(images), np.array(labels), np.array(splits, np.int8))


def icon_file(start: str, ending: str) -> bytes:
    """The file of the wheel whose name starts and ends so."""
    found = WHEELS["qtawesome"].members(ending)
    (data,) = (data for path, data in found if PurePath(path).name.startswith(start))
    return data


def symbols() -> Pool:
    """Symbols of eleven blocks of Unicode; all drawings of a character are in one split."""
    images, labels, groups = [], [], []
    for label, (name, blocks) in enumerate(SYMBOLS.items()):
        rng = rng_of("symbols", name)
        signs = [chr(code) for low, high in blocks for code in range(low, high + 1)]
        pairs = [(sign, face) for face in SYMBOL_FACES for sign in _drawn(signs, face)]
        draws = max(1, round(MOST / len(pairs)))
        for k in rng.permutation(len(pairs))[:MOST]:
            sign, face = pairs[k]
            for _ in range(draws):
                glyphs = font(font_file(face), int(rng.integers(34, 53)))
                images.append(draw_glyph(glyphs, sign, rng))
                labels.append(label)
                groups.append(sign)
    return Pool(shrink(images), np.array(labels), by_group(groups))


def _drawn(signs: list[str], face: str) -> list[str]:
    """Those characters that a face has a glyph for."""
    glyphs = font(font_file(face), 40)
    missing = bytes(glyphs.getmask(NOWHERE))
    return [sign for sign in signs if any(mask := bytes(glyphs.getmask(sign))) and mask != missing]


def numerals() -> Pool:
    """The ten numerals of nine scripts, labelled by their value; bold ones are tested."""
    images, labels, splits = [], [], []
    for script, zero in NUMERALS.items():
        rng = rng_of("numerals", script)
        for split, weights in WEIGHTS.items():
            for weight in weights:
                glyphs = font(script_fonts()[script], int(rng.integers(34, 53)))
                axes = glyphs.get_variation_axes()
                for _ in range(DRAWS[split]):
                    width = float(rng.uniform(62.5, 100))
                    values = [weight if b"eight" in axis["name"] else width for axis in axes]
                    glyphs.set_variation_by_axes(values)
                    for label in range(len(VALUES)):
                        images.append(draw_glyph(glyphs, chr(zero + label), rng))
                        labels.append(label)
                        splits.append(split)
    return Pool(shrink(images), np.array(labels), np.array(splits, np.int8))


TASKS.add(
    "icons",
    Task(
        name="icons",
        title="Icons",
        kind="drawing",
        noun="an icon of an interface",
        classes=tuple(ICONS),
        template="an icon of a {}",
        sizes=(1203, 240, 199, 386),
        reserved=193,
        pixels="197d9102a5d7796e",
        source=Built(icons, wheels=("qtawesome",)),
        note="labelled by the first word of the name that its designers gave it",
    ),
)
TASKS.add(
    "symbols",
    Task(
        name="symbols",
        title="Symbols",
        kind="rendered text",
        noun="a symbol of a typeface",
        classes=tuple(SYMBOLS),
        template="a symbol in a typeface: {}",
        sizes=(4000, 500, 500, 667),
        reserved=333,
        pixels="2646a100a688ea62",
        source=Built(symbols, wheels=("matplotlib",)),
        note="labelled by block of Unicode",
    ),
)
TASKS.add(
    "numerals",
    Task(
        name="numerals",
        title="Numerals",
        kind="rendered text",
        noun="a printed numeral of some script",
        classes=VALUES,
        template="a printed numeral {}",
        sizes=(4000, 500, 500, 667),
        reserved=333,
        pixels="859cbc868a609176",
        source=Built(numerals, wheels=FONT_WHEELS),
        note="nine scripts in each class",
    ),
)
