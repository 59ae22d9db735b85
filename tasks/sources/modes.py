"""Pictures of every mode in three channels of 8 bits.

What a format stores in more than 8 bits is scaled by the range of its type: 65535 becomes 255. A
picture that is not all black or white, but would be, is refused: it holds numbers that need another
range, which only its owner knows. Transparency that differs within a picture is content: the
picture is laid on white; if nothing is left then, as of white drawings, on black. Transparency that
is the same everywhere is dropped.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mergeshift import DamagedFileError

if TYPE_CHECKING:
    from PIL.Image import Image

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of a TIFF file
SIGNED = 2  # a sample format
WHITE_IS_ZERO = 0  # a photometric interpretation


class Range(NamedTuple):
    """What the numbers of a picture of more than 8 bits mean."""

    top: float  # becomes 255
    negative: bool = False  # whether the lowest is white
    wrapped: bool = False  # whether 32 bits without sign are kept with one


def range_of(picture: "Image") -> Range:
    """The range of a picture's type, as its file says; asked before the picture is turned."""
    tags = getattr(picture, "tag_v2", {})
    bits = int((tags.get(BITS_PER_SAMPLE) or (0,))[0])
    signed = int((tags.get(SAMPLE_FORMAT) or (1,))[0]) == SIGNED
    negative = bool(tags) and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    if picture.mode == "F":
        return Range(1.0, negative)
    if picture.mode == "I" and picture.format not in ("PNG", "PPM"):
        whole = 32 if bits not in (8, 16) else bits
        unsigned = bool(bits) and not signed
        return Range(2.0 ** (whole - (not unsigned)) - 1, negative, unsigned and whole == 32)
    return Range(2.0 ** (bits if 8 < bits < 16 else 16) - 1, negative)


def in_rgb(picture: "Image", of: Range, name: str) -> "Image":
    """Three channels of 8 bits.

    Args:
        picture: of any mode.
        of: see :func:`range_of`.
        name: of the file, for errors.

    Raises:
        DamagedFileError: its numbers are outside the range of its type, or leave nothing to see, or
            its mode is not known.
    """
    if is_deep(picture):
        return scaled(picture, of, name)
    if picture.has_transparency_data:
        return composed(picture)
    try:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    except ValueError as error:
        raise DamagedFileError(
            f"{name} has mode {picture.mode}, which is not read ({error}); save it as RGB or L"
        ) from error


def is_deep(picture: "Image") -> bool:
    """Whether it has more than 8 bits a channel, as Pillow keeps it."""
    return picture.mode == "F" or picture.mode.startswith("I")


def scaled(picture: "Image", of: Range, name: str) -> "Image":
    """A picture of more than 8 bits."""
    from PIL import Image

    values = np.asarray(picture)
    if of.wrapped:
        values = values.view(np.uint32)
    low, high = values.min(), values.max()
    what = f"{name} has mode {picture.mode}, with values from {low:g} to {high:g}"
    if not 0 <= low <= high <= of.top:  # nor NaN
        raise DamagedFileError(f"{what}, beyond 0 to {of.top:g}; save it in 8 bits, or scale it")
    small = np.rint(values * (255 / of.top)).astype(np.uint8)
    if low < high and small.min() == small.max():
        raise DamagedFileError(
            f"{what}, which are one shade of 0 to {of.top:g}; save it in 8 bits, or scale it"
        )
    return Image.fromarray(255 - small if of.negative else small).convert("RGB")


def composed(picture: "Image") -> "Image":
    """A picture with transparency."""
    from PIL import Image

    whole = with_alpha(picture)
    if not has_content(whole):
        return whole.convert("RGB")
    for ground in ("white", "black"):
        found = Image.alpha_composite(Image.new("RGBA", whole.size, ground), whole).convert("RGB")
        if any(low < high for low, high in found.getextrema()):  # type: ignore[misc]
            break
    return found


def with_alpha(picture: "Image") -> "Image":
    """As RGBA."""
    premultiplied = {"La": "LA", "RGBa": "RGBA"}
    return picture.convert(premultiplied.get(picture.mode, "RGBA")).convert("RGBA")


def has_content(picture: "Image") -> bool:
    """Whether the transparency of an RGBA picture differs within it."""
    low, high = picture.getchannel("A").getextrema()
    return low != high
