"""Rendered text: letters, writing systems, languages."""

import gettext
import io
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mergeshift import rng_of
from tasks.domains import add_domain
from tasks.pocket.common import FONT_WHEELS, font, font_file, script_fonts, shrink
from tasks.sources.built import Built, Pool
from tasks.sources.wheels import WHEELS
from tasks.splits import ADAPT, TEST, TRAIN, VAL, by_class
from tasks.task import TASKS, Task

LETTERS = tuple(chr(65 + k) for k in range(26))
FACES = {  # split -> faces of matplotlib's fonts; a family is in one split
    TRAIN: (
        *(f"DejaVuSans{face}" for face in ("", "-Bold", "-Oblique", "-BoldOblique")),
        *(f"DejaVuSansMono{face}" for face in ("", "-Bold", "-Oblique", "-BoldOblique")),
        *(f"DejaVuSerif{face}" for face in ("", "-Bold", "-Italic", "-BoldItalic")),
    ),
    ADAPT: ("cmss10",),
    VAL: ("cmr10", "cmb10"),
    TEST: ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta", "cmtt10"),
}
OTHER_FACES = ("cmti10", "cmmi10")  # italic, and that of formulas
OTHER_WEIGHTS = (200, 500, 900)  # of Noto Sans
OTHER_DRAWS = 6  # of a letter in such a face
DRAWS = {TRAIN: 13, ADAPT: 20, VAL: 10, TEST: 8}  # of a letter in a face
SCRIPTS = {  # class -> languages whose words are drawn
    "latin": "de fr es",
    "greek": "el",
    "cyrillic": "ru uk bg",
    "armenian": "hy",
    "georgian": "ka",
    "devanagari": "hi mr",
    "bengali": "bn",
    "telugu": "te",
    "tamil": "ta",
    "thai": "th",
    "lao": "lo",
    "khmer": "km",
    "arabic": "ar fa",
    "hebrew": "he",
    "myanmar": "my",
}
LANGUAGES = {
    "german": "de",
    "french": "fr",
    "italian": "it",
    "polish": "pl",
    "hungarian": "hu",
    "romanian": "ro",
    "dutch": "nl",
    "turkish": "tr",
    "lithuanian": "lt",
    "croatian": "hr",
    "swedish": "sv",
    "estonian": "et",
    "icelandic": "is",
    "finnish": "fi",
    "vietnamese": "vi",
}


def draw_letters(
    face: Callable[[int], ImageFont.FreeTypeFont], draws: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, int]]:
    """Capitals of a face, turned by up to 15 degrees and moved by up to 4 of 64 pixels.

    Args:
        face: a font, by its size in pixels.
        draws: of each letter.
        rng: of chance.

    Yields:
        ``uint8 [64, 64]`` and a label.
    """
    for label, letter in enumerate(LETTERS):
        for _ in range(draws):
            page = Image.new("L", (64, 64))
            glyphs = face(int(rng.integers(32, 52)))
            ImageDraw.Draw(page).text((32, 32), letter, font=glyphs, fill=255, anchor="mm")
            angle, shift = rng.uniform(-15, 15), rng.integers(-4, 5, 2)
            turned = page.rotate(
                angle,
                resample=Image.Resampling.BILINEAR,
                translate=(int(shift[0]), int(shift[1])),
            )
            yield np.array(turned), label


def letters() -> Pool:
    """Capitals in the typefaces of matplotlib; a family is in one split."""
    images, labels, splits = [], [], []
    for split, faces in FACES.items():
        for face in faces:
            file, rng = font_file(face), rng_of("letters", face)
            for image, label in draw_letters(partial(font, file), DRAWS[split], rng):
                images.append(image)
                labels.append(label)
                splits.append(split)
    return Pool(shrink(images), np.array(labels), np.array(splits, np.int8))


def other_typefaces() -> Pool:
    """Capitals in faces that no split of ``letters`` has, drawn in the same way."""
    faces: dict[str, Callable[[int], ImageFont.FreeTypeFont]] = {
        name: partial(font, font_file(name)) for name in OTHER_FACES
    }
    faces |= {f"noto-{weight}": partial(noto_sans, weight) for weight in OTHER_WEIGHTS}
    found = [
        pair
        for name, face in faces.items()
        for pair in draw_letters(face, OTHER_DRAWS, rng_of("typefaces", name))
    ]
    images, labels = zip(*found, strict=True)
    return Pool(shrink(images), np.array(labels), np.full(len(labels), TEST, np.int8))


def noto_sans(weight: int, size: int) -> ImageFont.FreeTypeFont:
    """Noto Sans, whose Latin letters stand in the fonts of all scripts."""
    glyphs = font(script_fonts()["devanagari"], size)
    axes = glyphs.get_variation_axes()
    glyphs.set_variation_by_axes([weight if b"eight" in axis["name"] else 100 for axis in axes])
    return glyphs


@lru_cache(maxsize=64)
def _words(language: str) -> tuple[str, ...]:
    """The translated names of countries, languages and currencies in one language, sorted."""
    found: set[str] = set()
    with WHEELS["pycountry"].open() as archive:
        for name in archive.namelist():
            if name.endswith(".mo") and name.split("/")[2] == language:
                catalogue = gettext.GNUTranslations(io.BytesIO(archive.read(name)))
                entries: dict[object, str] = vars(catalogue)["_catalog"]
                found |= {text for key, text in entries.items() if key and text != key}
    return tuple(sorted(found))


def _in_script(word: str, script: str) -> bool:
    """At least four letters, at least 80 % of them of ``script``."""
    own = sum((unicodedata.name(c, "").split() or [""])[0].lower() == script for c in word)
    return len(word) >= 4 and own >= 0.8 * len(word)


def _draw_word(word: str, script: str, rng: np.random.Generator) -> np.ndarray:
    """One word, cut to 48 x 48 pixels."""
    size = int(rng.integers(15, 25))
    if script in script_fonts():
        glyphs = font(script_fonts()[script], size)
        weight = int(rng.integers(400, 701))
        axes = glyphs.get_variation_axes()
        glyphs.set_variation_by_axes([weight if b"eight" in a["name"] else 100 for a in axes])
    else:
        faces = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono")
        glyphs = font(font_file(faces[rng.integers(3)]), size)
    page = Image.new("L", (96, 64))
    corner = (int(rng.integers(4, 12)), int(rng.integers(12, 24)))
    ImageDraw.Draw(page).text(corner, word, font=glyphs, fill=255)
    turned = page.rotate(rng.uniform(-8, 8), resample=Image.Resampling.BILINEAR)
    return np.array(turned.crop((8, 8, 56, 56)))


def scripts() -> Pool:
    """Words in 15 writing systems; a word is drawn once."""
    images, labels = [], []
    for label, (script, languages) in enumerate(SCRIPTS.items()):
        phrases = {phrase for language in languages.split() for phrase in _words(language)}
        words = {word for phrase in phrases for word in re.split(r"[\s()\[\],;]+", phrase)}
        fitting = sorted(word for word in words if _in_script(word, script))
        rng = rng_of("scripts", script)
        for i in rng.permutation(len(fitting))[:400]:
            images.append(_draw_word(fitting[i], script, rng))
            labels.append(label)
    targets = np.array(labels)
    return Pool(
        shrink(images), targets, by_class(targets, key="scripts", shares=(0.69, 0.08, 0.08, 0.15))
    )


def language() -> Pool:
    """Names in 15 languages of the Latin script, drawn in four lines of eight letters.

    A name that two of the languages spell alike is left out.
    """
    faces = [font(font_file(f"DejaVu{face}"), 13) for face in ("Sans", "Serif", "SansMono")]
    spelled = [{word for word in _words(code) if len(word) > 8} for code in LANGUAGES.values()]
    images, labels = [], []
    for label, words in enumerate(spelled):
        others = set().union(*(spelled[:label] + spelled[label + 1 :]))
        own, rng = sorted(words - others), rng_of("language", label)
        for i in rng.permutation(len(own))[:600]:
            page, glyphs = Image.new("L", (64, 64)), faces[rng.integers(3)]
            for line in range(4):
                part = own[i][line * 8 : (line + 1) * 8]
                ImageDraw.Draw(page).text((2, 1 + line * 15), part, font=glyphs, fill=255)
            images.append(np.array(page))
            labels.append(label)
    targets = np.array(labels)
    return Pool(shrink(images), targets, by_class(targets, key="language"))


TASKS.add(
    "letters",
    Task(
        name="letters",
        title="Letters",
        kind="rendered text",
        noun="a printed letter",
        classes=LETTERS,
        template="a printed letter {}",
        sizes=(4000, 500, 500, 667),
        reserved=333,
        pixels="45803743d3c2d641",
        source=Built(letters, wheels=("matplotlib",)),
        version=2,
    ),
)
TASKS.add(
    "scripts",
    Task(
        name="scripts",
        title="Scripts",
        kind="rendered text",
        noun="a word in some writing system",
        classes=tuple(SCRIPTS),
        template="a word in {} script",
        sizes=(3990, 462, 462, 579),
        reserved=289,
        pixels="e5c6bc94d60a669d",
        source=Built(scripts, wheels=("pycountry", "matplotlib", *FONT_WHEELS)),
        version=2,
    ),
)
TASKS.add(
    "language",
    Task(
        name="language",
        title="Language",
        kind="rendered text",
        noun="a name in some language",
        classes=tuple(LANGUAGES),
        template="a name in {}",
        sizes=(4000, 500, 500, 667),
        reserved=333,
        pixels="9e3d6637d103b665",
        source=Built(language, wheels=("pycountry", "matplotlib")),
        version=2,
    ),
)

add_domain(
    "typefaces",
    "capitals in Noto Sans and in the italics of TeX",
    Task(
        name="letters_typefaces",
        title="Letters in other typefaces",
        kind="rendered text",
        noun="a printed letter",
        classes=LETTERS,
        template="a printed letter {}",
        sizes=(0, 0, 0, 780),
        pixels="b0363616fa0011c1",
        source=Built(other_typefaces, wheels=("matplotlib", *FONT_WHEELS)),
    ),
    ["letters"],
)
