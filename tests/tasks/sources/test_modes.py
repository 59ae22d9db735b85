"""Pictures of every mode, as three channels of 8 bits: compared with arithmetic on the numbers."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from mergeshift import DamagedFileError
from tasks import TASKS, Task, load
from tasks.sources.readers import opened
from tests.helpers.pictures import random

GREY = random(40, 50)[..., 0]  # every shade of 0 to 255
DEEP = GREY.astype(np.uint16) * 257  # the same in 16 bits
RGB = random(40, 50)


def read(content: bytes) -> np.ndarray:
    return np.asarray(opened(io.BytesIO(content), "it"))


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def pgm(values: np.ndarray, top: int) -> bytes:
    height, width = values.shape
    return f"P5 {width} {height} {top}\n".encode() + values.astype(">u2").tobytes()


def grey(shades: np.ndarray) -> np.ndarray:
    return np.repeat(shades[..., None], 3, axis=2)


# https://github.com/python-pillow/Pillow/issues/3011, /2574, /5991: clipped by convert()
SAME = {
    "PNG, 16 bits": saved(Image.fromarray(DEEP), "PNG"),
    "TIFF, 16 bits": tiff(DEEP),
    "TIFF, 16 bits, big endian": tiff(DEEP, byteorder=">"),
    "TIFF, 16 bits, white is zero": tiff(65535 - DEEP, photometric="miniswhite"),
    "TIFF, 16 bits with a sign": tiff((GREY.astype(np.int64) * 32767 / 255).astype(np.int16)),
    "TIFF, 32 bits": tiff(GREY.astype(np.uint32) * (2**24 + 2**16 + 2**8 + 1)),
    "TIFF, 32 bits with a sign": tiff((GREY * ((2**31 - 1) / 255)).astype(np.int32)),
    "TIFF, float": tiff((GREY / 255).astype(np.float32)),
    "TIFF, float, big endian": tiff((GREY / 255).astype(np.float32), byteorder=">"),
    "PGM, 16 bits": pgm(DEEP, 65535),
    "JPEG 2000, 16 bits": saved(Image.fromarray(DEEP), "JPEG2000"),
    "PNG, 8 bits": saved(Image.fromarray(GREY), "PNG"),
    "TIFF, 8 bits, white is zero": tiff(255 - GREY, photometric="miniswhite"),
    "PNG, opaque": saved(Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (50, 40), 255)]),
                         "PNG"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_the_same_picture_in_more_bits_is_the_same(name):
    found = read(SAME[name]).astype(int)
    assert np.abs(found - grey(GREY)).max() <= (1 if "sign" in name else 0)


def test_the_lightest_number_of_a_type_becomes_white():
    ends = np.array([[0, 65535], [0, 65535]], np.uint16)
    assert read(tiff(ends))[..., 0].tolist() == [[0, 255], [0, 255]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tiff(np.float32([[0.0, 1.5]] * 4)), "has mode F, with values from 0 to 1.5, beyond 0"),
        (
            tiff(np.float32([[-0.5, 0.5]] * 4)),
            "mode F, with values from -0.5 to 0.5, beyond",
        ),
        (tiff(np.float32([[np.nan, 0.5]] * 4)), "mode F, with values from nan to nan"),
        (
            tiff(np.float32([[0, 200.0]] * 4)),
            "values from 0 to 200, beyond 0 to 1; save it",
        ),
        (tiff(np.int32([[-5, 9]] * 4)), "mode I, with values from -5 to 9, beyond"),
        (
            tiff(np.int32([[0, 255]] * 4)),
            "values from 0 to 255, which are one shade of 0 to 2",
        ),
        (
            tiff(np.uint16([[0, 90]] * 4)),
            "values from 0 to 90, which are one shade of 0 to 65",
        ),
    ],
)
def test_numbers_of_an_unknown_range_are_refused(content, said):
    with pytest.raises(DamagedFileError, match=said):
        read(content)


def test_a_blank_picture_of_more_bits_is_read():
    assert read(tiff(np.full((4, 4), 300, np.uint16))).max() == 1
    assert read(tiff(np.zeros((4, 4), np.float32))).max() == 0


# -- transparency ----------------------------------------------------------------------------------


def with_alpha(colour: np.ndarray, alpha: np.ndarray) -> bytes:
    return saved(Image.fromarray(np.dstack([colour, alpha]).astype(np.uint8)), "PNG")


def test_content_that_lies_in_alpha_alone_is_kept():
    black, white = np.zeros((40, 50, 3)), np.full((40, 50, 3), 255)
    assert np.abs(read(with_alpha(black, GREY)).astype(int) - grey(255 - GREY)).max() <= 1
    assert np.abs(read(with_alpha(white, GREY)).astype(int) - grey(GREY)).max() <= 1


def test_a_transparent_ground_becomes_white():
    alpha = np.zeros((40, 50))
    alpha[10:30, 10:40] = 255
    wanted = np.where(alpha[..., None] > 0, RGB, 255)
    np.testing.assert_array_equal(read(with_alpha(RGB, alpha)), wanted)


@pytest.mark.parametrize("level", [255, 128, 0])
def test_alpha_that_is_the_same_everywhere_is_dropped(level):
    np.testing.assert_array_equal(read(with_alpha(RGB, np.full((40, 50), level))), RGB)


def test_every_kind_of_transparency():
    """Grey with alpha, a palette with a transparent colour, and a grey that stands for none."""
    alpha = np.where(np.arange(50) < 25, 255, 0) * np.ones((40, 1))
    wanted = np.where(alpha[..., None] > 0, grey(GREY), 255)
    both = [Image.fromarray(GREY), Image.fromarray(alpha.astype(np.uint8))]
    np.testing.assert_array_equal(read(saved(Image.merge("LA", both), "PNG")), wanted)
    shades = np.where(alpha > 0, GREY // 2 * 2, 1).astype(np.uint8)  # 1 stands for nothing
    wanted = np.where(alpha[..., None] > 0, grey(shades), 255)
    palette = Image.fromarray(shades).convert("P")
    content = saved(Image.fromarray(shades), "PNG", transparency=1)
    np.testing.assert_array_equal(read(content), wanted)
    for options in ({"transparency": 1}, {"transparency": bytes([255, 0] + [255] * 254)}):
        np.testing.assert_array_equal(read(saved(palette, "PNG", **options)), wanted)
    np.testing.assert_array_equal(read(saved(palette, "GIF", transparency=1)), wanted)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "RGBA", "LA"])
def test_other_modes_are_those_of_a_plain_conversion(mode):
    picture = Image.fromarray(RGB)
    if mode == "LAB":
        picture = Image.frombytes("LAB", (50, 40), RGB.tobytes())
    picture = picture if picture.mode == mode else picture.convert(mode)
    content = saved(picture, "TIFF" if mode in ("CMYK", "YCbCr", "LAB") else "PNG")
    wanted = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(read(content), wanted)


def test_a_turned_picture_of_16_bits_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(Image.fromarray(DEEP), "PNG", exif=exif)
    np.testing.assert_array_equal(read(content), grey(np.rot90(GREY, 3)))


def test_the_first_of_several_frames_is_read():
    frames = [Image.fromarray(random(40, 50, seed)) for seed in (1, 2, 3)]
    content = saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read(content), random(40, 50, 1))


# -- end to end ------------------------------------------------------------------------------------


def test_a_task_in_16_bits_is_the_task_in_8_and_another_run(data_folder):
    """The right outcome of the X-rays: the same pixels, under an identity of their own."""
    for bits in (8, 16):
        for label in ("bright", "dim"):
            for i in range(12):
                shades = random(34, 36, len(label), i)[..., 0]
                values = shades if bits == 8 else shades.astype(np.uint16) * 257
                path = data_folder / f"xray{bits}" / "test" / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
    small, deep = (TASKS[f"local_xray{bits}"] for bits in (8, 16))
    assert everything(small) == everything(deep)
    assert small.pixels != deep.pixels


def everything(task: Task) -> list[bytes]:
    """All pictures of adapt, val and test."""
    return sorted(image.tobytes() for split in ("adapt", "val", "test")
                  for image in load(task, split).images[:])  # fmt: skip
