"""Corruptions: the contract on each, and independent oracles for the pixels."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from corruptions import blur, contract, weather
from corruptions.base import CONSTANTS, CORRUPTIONS, PROTOCOL, SEVERITIES, Shift, corruption
from corruptions.contract import CHECKS, photo, rng
from mergeshift import UserError, rng_of

CIFAR, IMAGENET = CONSTANTS


def under(name: str, severity: int, image: np.ndarray, seed: int = 0) -> np.ndarray:
    """The image under a corruption with the constants for 32 px."""
    return CORRUPTIONS[name](image, severity, CIFAR, rng(seed))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("constants", CONSTANTS)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_contract(name, constants, check):
    check(CORRUPTIONS[name], constants)


def test_the_protocol_is_registered():
    assert len(set(PROTOCOL)) == 7
    assert set(PROTOCOL) <= set(CORRUPTIONS)


def global_noise(image, severity, constants, rng):
    return (image * 0.5 + np.random.rand() + 10 * severity).astype(np.uint8)  # noqa: NPY002


def in_place(image, severity, constants, rng):
    image += np.uint8(severity)
    return image


def weaker(image, severity, constants, rng):
    return image // severity + image // 2


def floats(image, severity, constants, rng):
    return image / 255


def nothing(image, severity, constants, rng):
    return image.copy()


@pytest.mark.parametrize(
    ("fn", "check"),
    [
        (global_noise, contract.check_depends_on_the_generator_alone),
        (in_place, contract.check_leaves_its_input_alone),
        (weaker, contract.check_change_grows_with_severity),
        (floats, contract.check_keeps_shape_and_dtype),
        (nothing, contract.check_clean_is_identity),
    ],
)
def test_each_check_catches_its_fault(fn, check, monkeypatch):
    monkeypatch.setattr(CORRUPTIONS, "_items", dict(CORRUPTIONS))
    assert corruption(family="noise", source="none", ms=(0, 0))(fn) is fn
    with pytest.raises((AssertionError, ValueError)):
        check(CORRUPTIONS[fn.__name__], CIFAR)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((31, 40, 3), np.uint8),
        np.zeros((32, 32), np.uint8),
        np.zeros((32, 32, 4), np.uint8),
        np.zeros((32, 32, 3), np.float32),
    ],
)
def test_images_of_another_kind_are_refused(image):
    with pytest.raises(UserError, match=r"contrast takes uint8 images \[H, W, 3\]"):
        Shift("contrast", 3).apply(image, 0, "task", 0)


def test_no_heavy_import_before_it_is_needed():
    heavy = {"cv2", "numba", "imagecorruptions", "skimage", "PIL", "torch"}
    code = f"import sys, corruptions.cache; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    code = (
        "import sys, numpy as np; from corruptions.base import *; im = np.zeros((32, 32, 3), 'u1');"
        "[shift.apply(im, 0) for shift in parse_shifts(['L1', 'L2', 'L3'])];"
        "print('numba' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


# -- imagenet-c: the package itself is the oracle


@pytest.mark.parametrize("name", PROTOCOL)
@pytest.mark.parametrize("size", [32, 224])
def test_imagenet_c_is_the_package(name, size):
    from imagecorruptions import corrupt

    image = photo(size, seed=3)
    for severity in SEVERITIES if size == 32 else (2, 5):
        ours = Shift(name, severity, IMAGENET).apply(image, 0, "task", 7)
        seed = int(rng_of(0, "task", 7, name, severity).integers(2**32))
        np.random.seed(seed)  # noqa: NPY002
        extra = {"seed": seed} if name == "impulse_noise" else {}
        np.testing.assert_array_equal(ours, corrupt(image, severity, name, **extra))


def test_imagenet_c_spatter_without_a_drop_changes_nothing():
    image = photo(32)
    outs = [Shift("spatter", 1, IMAGENET).apply(image, 0, "task", i) for i in range(60)]
    unchanged = [np.array_equal(out, image) for out in outs]
    assert 0 < sum(unchanged) < 60  # the package makes these black: 0 / 0, cast to uint8
    assert min(out.mean() for out in outs) >= image.mean()  # water only lightens


# -- cifar10-c: closed forms, Pillow, the package's helpers


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate([0.04, 0.06, 0.08, 0.09, 0.10], 1)))
def test_gaussian_noise_has_its_sigma(severity, sigma):
    grey = np.full((128, 128, 3), 128, np.uint8)  # 49,152 values, no clipping within 5 sigma
    noise = under("gaussian_noise", severity, grey) - 128.0
    assert noise.std() == pytest.approx(np.hypot(255 * sigma, 12**-0.5), rel=0.015)
    assert noise.mean() == pytest.approx(-0.5, abs=0.5)  # uint8 truncates, as the published data
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize(("severity", "share"), list(enumerate([0.01, 0.02, 0.03, 0.05, 0.07], 1)))
def test_impulse_noise_has_its_share(severity, share):
    grey = np.full((256, 256, 3), 100, np.uint8)
    noisy = under("impulse_noise", severity, grey)
    assert set(np.unique(noisy)) == {0, 100, 255}
    for value in (0, 255):  # 5 standard errors of a binomial share
        error = 5 * np.sqrt(share / 2 / noisy.size)
        assert (noisy == value).mean() == pytest.approx(share / 2, abs=error)


@pytest.mark.parametrize(("severity", "factor"), list(enumerate([0.75, 0.5, 0.4, 0.3, 0.15], 1)))
def test_contrast_is_its_closed_form(severity, factor):
    image = photo(48)
    exact = factor * image + (1 - factor) * image.mean((0, 1))
    off = exact - under("contrast", severity, image)
    assert off.min() > -1e-9  # truncated
    assert off.max() < 1
    flat = np.full((32, 32, 3), 201, np.uint8)
    np.testing.assert_array_equal(under("contrast", severity, flat), flat)


@pytest.mark.parametrize(("severity", "quality"), list(enumerate([80, 65, 58, 50, 40], 1)))
def test_jpeg_compression_is_pillow_at_that_quality(severity, quality):
    image, file = photo(32), io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    np.testing.assert_array_equal(
        under("jpeg_compression", severity, image), np.asarray(Image.open(file))
    )


@pytest.mark.parametrize(("severity", "side"), list(enumerate([30, 28, 27, 24, 20], 1)))
def test_pixelate_is_pillows_box_at_that_size(severity, side):
    image = photo(32)
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
    np.testing.assert_array_equal(
        under("pixelate", severity, image),
        np.asarray(small.resize((32, 32), Image.Resampling.BOX)),
    )
    assert under("pixelate", severity, photo(64)[:40]).shape == (40, 64, 3)


@pytest.mark.parametrize("angle", [-45, -17.3, 0, 30, 45])
@pytest.mark.parametrize(("radius", "sigma"), [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)])
def test_smear_is_the_packages_motion_blur(radius, sigma, angle):
    from imagecorruptions.corruptions import _motion_blur

    ours = blur.smear(photo(32), radius, sigma, angle)
    np.testing.assert_allclose(ours, _motion_blur(photo(32), radius, sigma, angle), atol=1e-3)


def test_motion_blur_keeps_the_mean_and_spends_energy():
    dark = np.zeros((64, 64, 3), np.uint8)
    dark[24:40, 24:40] = 200  # far from the edges, so nothing leaves the picture
    spread = []
    for severity in SEVERITIES:
        out = under("motion_blur", severity, dark).astype(float)
        assert out.mean() == pytest.approx(dark.mean(), rel=0.01)
        spread.append(np.abs(np.diff(out, axis=1)).max())
        flat = np.full((32, 32, 3), 93, np.uint8)
        np.testing.assert_array_equal(under("motion_blur", severity, flat), flat)
    assert max(spread) < 200  # the sharpest step is softer than it was
    assert spread[-1] < spread[0]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_spatter_is_the_packages_at_the_packages_constants(severity):
    from imagecorruptions import corrupt

    mean, std, size, threshold, strength, throw = (  # ImageNet-C's, from the package
        (0.65, 0.3, 4, 0.69, 0.6, weather.water),
        (0.65, 0.3, 3, 0.68, 0.6, weather.water),
        (0.65, 0.3, 2, 0.68, 0.5, weather.water),
        (0.65, 0.3, 1, 0.65, 1.5, weather.mud),
        (0.67, 0.4, 1, 0.65, 1.5, weather.mud),
    )[severity - 1]
    image = photo(96)
    np.random.seed(5)  # noqa: NPY002
    theirs = corrupt(image, severity, "spatter").astype(float)
    noise = np.random.RandomState(5).normal(mean, std, image.shape[:2])
    ours = throw(image, weather.smooth(noise, size), threshold, strength)
    assert np.abs(ours - theirs).max() <= 1  # rounding of float32
    assert np.abs(ours - image.astype(float)).mean() > 1


def test_smooth_is_scipys_gaussian_filter():
    from scipy.ndimage import gaussian_filter

    values = rng().normal(size=(32, 40))
    for sigma in (0.5, 0.6, 0.7, 0.8, 1.0, 4.0):
        expected = gaussian_filter(values, sigma, mode="nearest")
        np.testing.assert_allclose(weather.smooth(values, sigma), expected, atol=1e-12)


def test_spatter_has_the_colours_of_water_and_mud():
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    for severity, strength in ((1, 0.5), (2, 0.5), (3, 0.5)):
        wet = under("spatter", severity, black).astype(float)
        assert wet.max() == int(238 * strength)  # the thickest water
        assert np.abs(wet[..., 0] - 175 / 238 * wet[..., 1]).max() < 1
        np.testing.assert_array_equal(under("spatter", severity, white), white)
    for severity in (4, 5):
        muddy = under("spatter", severity, white).astype(float)
        cover = (255 - muddy[..., 2]) / (255 - 20)
        assert np.all((cover < 0.01) | (cover > 0.79))  # thin mud is wiped away
        np.testing.assert_allclose(muddy[..., 0], 255 - cover * (255 - 63), atol=1.5)


def test_water_without_a_drop_changes_nothing():
    dry = np.full((32, 32), 0.5)
    np.testing.assert_array_equal(weather.water(photo(), dry, 0.7, 0.5), photo())
