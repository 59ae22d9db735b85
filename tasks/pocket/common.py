"""Small helpers of the builders: pictures, archives, fonts."""

import gzip
import io
from functools import lru_cache
from importlib import import_module
from pathlib import PurePath
from pickle import Unpickler, UnpicklingError
from typing import Any

import numpy as np
from PIL import Image, ImageFont

from tasks.sources.wheels import WHEELS

SIZE = 32  # pixels of every pocket picture
FONT_WHEELS = ("justmytype_intl_south_asia", "justmytype_intl_rtl", "justmytype_intl_sea")


def decode(data: bytes, mode: str | None = None) -> np.ndarray:
    """An encoded picture as an array, optionally converted to a Pillow mode."""
    picture: Image.Image = Image.open(io.BytesIO(data))
    return np.array(picture.convert(mode) if mode else picture)


def shrink(pictures: Any, how: Image.Resampling = Image.Resampling.BOX) -> np.ndarray:
    """Bring pictures to the input size.  ``uint8 [N, H, W] or [N, H, W, 3] -> [N, 32, 32, 3]``."""
    return np.stack(
        [np.array(Image.fromarray(p).convert("RGB").resize((SIZE, SIZE), how)) for p in pictures]
    )


class _ArraysOnly(Unpickler):
    """Rebuilds NumPy arrays and refuses everything else, so a data file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("_core", "core"), name) == ("numpy.core.multiarray", "_reconstruct"):
            return import_module("numpy._core.multiarray")._reconstruct
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        raise UnpicklingError(f"refused to load {module}.{name} from a data file")


def pickled_array(data: bytes) -> np.ndarray:
    """A gzipped, pickled NumPy array."""
    return _ArraysOnly(io.BytesIO(gzip.decompress(data))).load()


@lru_cache(maxsize=64)
def font_file(name: str) -> bytes:
    """A font of the pinned matplotlib wheel."""
    return WHEELS["matplotlib"].member(f"/ttf/{name}.ttf")


@lru_cache(maxsize=1)
def script_fonts() -> dict[str, bytes]:
    """Variable Noto fonts, by the lower-case name of their script."""
    fonts = {}
    for wheel in FONT_WHEELS:
        for path, data in WHEELS[wheel].members(".ttf"):
            stem = PurePath(path).name.split("[")[0]
            if stem.startswith("NotoSans"):
                fonts[stem.removeprefix("NotoSans").lower()] = data
    return fonts


def font(data: bytes, size: int) -> ImageFont.FreeTypeFont:
    """A font in Pillow's basic layout: no shaping library decides the pixels."""
    return ImageFont.truetype(io.BytesIO(data), size, layout_engine=ImageFont.Layout.BASIC)


def svg(text: str, size: int) -> np.ndarray:
    """Draw an SVG on white.  ``-> uint8 [size, size, 3]``."""
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=text, width=size, height=size))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    page = Image.new("RGBA", picture.size, "white")
    page.alpha_composite(picture)
    return np.array(page.convert("RGB").resize((size, size)))
