"""Pictures that are decoded on demand: pinned preprocessing, the place of a shift, laziness."""

import io
import pickle
from dataclasses import dataclass, field

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from corruptions.base import CLEAN, Shift
from corruptions.contract import photo
from mergeshift import DamagedFileError
from tasks.images import Images, Pictures, Streamed, at_least, done, fit
from tasks.sources.readers import Files, opened
from tests.helpers.pictures import random

SIZES = [(224, 224), (300, 500), (501, 300), (31, 47), (225, 224), (1000, 333), (28, 28), (7, 400)]


@dataclass
class Drawn:
    """A reader of pictures in memory that notes which were looked at."""

    images: list[np.ndarray]
    seen: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def picture(self, row: int) -> Image.Image:
        self.seen.append(row)
        return Image.fromarray(self.images[row])


def drawn(count: int = 6, size: int = 32, sides: tuple[int, int] = (40, 50)) -> Pictures:
    reader = Drawn([random(*sides, seed) for seed in range(count)])
    return Pictures(reader, np.arange(count)[::-1].copy(), size, f"{count:032x}")


# -- preprocessing -------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("size", [224, 33])
def test_resizing_and_cropping_are_those_of_torchvision(height, width, size):
    image = random(height, width)
    theirs = Compose([Resize(size, InterpolationMode.BICUBIC), CenterCrop(size)])
    wanted = np.asarray(theirs(Image.fromarray(image)))
    np.testing.assert_array_equal(fit(image, size), wanted)


def test_preprocessing_is_that_of_open_clip():
    model = open_clip.image_transform(224, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3)
    for sides in SIZES:
        image = random(*sides)
        ours = torch.tensor(fit(image, 224)).permute(2, 0, 1) / 255
        torch.testing.assert_close(ours, model(Image.fromarray(image)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK", "LA"])
def test_every_kind_of_picture_becomes_three_channels(mode):
    picture = Image.fromarray(random(40, 50)).convert(mode)
    file = io.BytesIO()
    picture.save(file, "TIFF" if mode == "CMYK" else "PNG")
    found = Pictures(One(file.getvalue()), np.array([0]), 40, "0")[:]
    assert (found.shape, found.dtype) == ((1, 40, 40, 3), np.uint8)
    wanted = np.asarray(picture.convert("RGB"))[:, 5:45]
    np.testing.assert_array_equal(found[0], wanted)


@dataclass
class One:
    """A reader of one file."""

    content: bytes

    def __len__(self) -> int:
        return 1

    def picture(self, row: int) -> Image.Image:
        return opened(io.BytesIO(self.content), "it")


def test_a_picture_is_turned_as_its_camera_was_held():
    file, image = io.BytesIO(), random(40, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees
    Image.fromarray(image).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(
        Pictures(One(file.getvalue()), np.array([0]), 40, "0")[0], np.rot90(image, 3)
    )


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    reader = Files([str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")])
    for row in (0, 1):
        with pytest.raises(DamagedFileError, match=r"[ab]\.jpg is no picture that can be decoded"):
            reader.picture(row)
    whole = io.BytesIO()
    Image.fromarray(random(64, 64)).save(whole, "JPEG")
    with pytest.raises(DamagedFileError, match="it is no picture"):
        One(whole.getvalue()[:700]).picture(0)


# -- laziness ------------------------------------------------------------------------------------


def test_only_what_is_asked_for_is_decoded():
    pictures = drawn()
    reader = pictures.reader
    assert isinstance(reader, Drawn)
    assert (pictures.shape, len(pictures), pictures.nbytes) == ((6, 32, 32, 3), 6, 6 * 3072)
    few = pictures.first(3)
    assert len(few) == 3
    assert reader.seen == []
    assert few[1:].shape == (2, 32, 32, 3)
    assert reader.seen == [4, 3]  # rows are 5 4 3 2 1 0
    np.testing.assert_array_equal(pictures[np.array([5, 0])][0], fit(reader.images[0], 32))
    np.testing.assert_array_equal(pictures[2], fit(reader.images[3], 32))
    np.testing.assert_array_equal(np.asarray(pictures), pictures[:])
    assert pictures[:0].shape == (0, 32, 32, 3)


def test_a_sample_has_an_identity_of_its_own():
    pictures = drawn()
    assert pictures.first(None) is pictures.first(6) is pictures.first(60) is pictures
    digests = {p.digest for p in (pictures, pictures.first(2), pictures.first(3))}
    assert len(digests) == 3
    assert {len(digest) for digest in digests} == {32}
    split = Images(pictures, np.arange(6))
    assert len(split.first(2)) == 2
    assert split.first(2).images.shape == (2, 32, 32, 3)


def test_pictures_go_to_other_processes():
    pictures = drawn()
    again = pickle.loads(pickle.dumps(pictures))
    np.testing.assert_array_equal(again[:], pictures[:])


def test_work_is_counted():
    pictures, before = drawn(), done.copy()
    pictures[:4], pictures.under(Shift("contrast", 2), slice(2), 0, "a")
    assert done - before == {"decoded": 6, "corrupted": 2}


# -- shifts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "contrast", "pixelate"])
def test_a_shift_is_applied_where_its_placement_says(name):
    pictures, images = drawn(sides=(64, 96)), [random(64, 96, seed) for seed in range(6)]
    at_input = Shift(name, 3, "imagenet-c")
    native = Shift(name, 3, "imagenet-c", "native")
    for index, row in enumerate(pictures.rows):
        image = images[row]
        np.testing.assert_array_equal(
            pictures.under(at_input, [index], 7, "a")[0],
            at_input.apply(fit(image, 32), 7, "a", index),
        )
        np.testing.assert_array_equal(
            pictures.under(native, [index], 7, "a")[0],
            fit(native.apply(image, 7, "a", index), 32),
        )


def test_a_small_picture_is_enlarged_before_it_is_corrupted_as_it_was_stored():
    small = random(28, 30)
    assert at_least(small, 32).shape == (32, 34, 3)  # 30 * 32 / 28 = 34.3
    assert at_least(photo(), 32) is not None
    shift = Shift("contrast", 3, placement="native")
    pictures = Pictures(Drawn([small]), np.array([0]), 48, "0")
    wanted = fit(shift.apply(at_least(small, 32), 0, "a", 0), 48)
    np.testing.assert_array_equal(pictures.under(shift, [0], 0, "a")[0], wanted)


def test_streamed_pixels_are_those_of_each_picture_by_itself():
    pictures, shift = drawn(), Shift("gaussian_noise", 3)
    streamed = Streamed(pictures, shift, (7, "a"))
    assert (len(streamed), streamed.shape) == (6, (6, 32, 32, 3))
    alone = [shift.apply(image, 7, "a", i) for i, image in enumerate(pictures[:])]
    for rows in (slice(None), slice(1, 5), np.array([4, 1]), [3]):
        np.testing.assert_array_equal(streamed[rows], np.stack(alone)[rows])
    np.testing.assert_array_equal(Streamed(pictures, CLEAN, ())[:], pictures[:])
