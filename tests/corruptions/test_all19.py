"""The corruptions beyond AdaMerging's seven: pixels against the package, and which there are."""

import numpy as np
import pytest

from corruptions.base import CONSTANTS, CORRUPTIONS, PROTOCOL, SEVERITIES, SHIFT_SETS, Shift
from corruptions.contract import photo
from mergeshift import rng_of
from tests.helpers.cifar_c import TABLES, oracle

CIFAR, IMAGENET = CONSTANTS
NEW = list(TABLES)
AT_ODDS = 0.03  # share of values one level off, where the package rounds down what is nearly whole


def seed_of(name: str, severity: int) -> int:
    """What an image of (data seed 0, task, 7) is corrupted with."""
    return int(rng_of(0, "task", 7, name, severity).integers(2**32))


def far(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, float]:
    """The largest difference, and the share of values that differ."""
    off = np.abs(ours.astype(int) - theirs.astype(int))
    return int(off.max()), float((off > 0).mean())


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("name", NEW)
def test_pixels_are_the_package_s_within_one_level(name, size):
    from imagecorruptions import corrupt

    for image in (photo(size, seed=3), photo(size, seed=4)[: size - size // 7]):
        if image.shape[0] < 32:
            continue
        for severity in SEVERITIES if size == 32 else (1, 3, 5):
            ours = Shift(name, severity, IMAGENET).apply(image, 0, "task", 7)
            seed = seed_of(name, severity)
            np.random.seed(seed)  # noqa: NPY002
            extra = {"seed": seed} if name == "glass_blur" else {}
            most, share = far(ours, corrupt(image, severity, name, **extra))
            assert most <= 1, (severity, most)
            assert share < AT_ODDS, (severity, share)


@pytest.mark.parametrize("name", NEW)
def test_pixels_at_32_are_the_published_code_s_within_one_level(name):
    theirs = oracle(name)
    for severity in SEVERITIES:
        for image in (photo(32, seed=3), np.random.default_rng(1).integers(
                0, 256, (32, 32, 3), np.uint8)):  # fmt: skip
            ours = Shift(name, severity, CIFAR).apply(image, 0, "task", 7)
            most, share = far(ours, theirs(image, severity, seed_of(name, severity)))
            assert most <= 1, (severity, most)
            assert share < AT_ODDS, (severity, share)


@pytest.mark.parametrize("name", ["brightness", "saturate"])
def test_every_colour_is_the_package_s(name):
    """Grey, black, white, pure colours, and a grid of the rest."""
    from imagecorruptions import corrupt

    levels = np.r_[0:256:15, 1, 254].astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
    side = int(np.ceil(len(grid) ** 0.5))
    image = np.resize(grid, (side, side, 3))
    for severity in SEVERITIES:
        ours = Shift(name, severity, IMAGENET).apply(image, 0, "task", 7)
        assert far(ours, corrupt(image, severity, name))[0] <= 1


def test_black_pictures_stay_pictures():
    black = np.zeros((32, 32, 3), np.uint8)
    for name in NEW:
        for constants in CONSTANTS:
            found = Shift(name, 5, constants).apply(black, 0, "task", 7)
            assert found.dtype == np.uint8
    fog = Shift("fog", 3, IMAGENET).apply(black, 0, "task", 7)
    assert not fog.any()  # it lightens by as much as it darkens: of nothing, nothing


def test_all_19_are_there_by_family():
    from imagecorruptions import get_corruption_names

    families = {
        name: one.family
        for name, one in CORRUPTIONS.items()
        if one.family not in ("mixed", "attack")
    }
    assert set(families) == set(SHIFT_SETS["all19"]) == set(get_corruption_names("all"))
    assert set(SHIFT_SETS["imagenet-c15"]) == set(get_corruption_names("common"))
    extra = set(get_corruption_names("validation"))
    assert {name for name, family in families.items() if family == "extra"} == extra
    for family in ("noise", "blur", "weather", "digital"):
        named = set(get_corruption_names(family))
        assert {name for name, one in families.items() if one == family} == named


def test_a_mixed_shift_is_one_of_seven_for_each_image():
    images = [photo(32, seed=seed) for seed in range(40)]
    found = [Shift("mixed", 3).apply(image, 0, "task", i) for i, image in enumerate(images)]
    again = [Shift("mixed", 3).apply(image, 0, "task", i) for i, image in enumerate(images)]
    np.testing.assert_array_equal(found, again)
    members = []
    for number, (image, other) in enumerate(zip(images, found, strict=True)):
        rng = rng_of(0, "task", number, "mixed", 3)
        name = PROTOCOL[int(rng.integers(7))]
        np.testing.assert_array_equal(other, CORRUPTIONS[name](image, 3, CIFAR, rng))
        members.append(name)
    assert set(members) == set(PROTOCOL)
    assert CORRUPTIONS["mixed"].version == 1


def test_every_corruption_says_what_it_costs():
    for one in CORRUPTIONS.values():
        assert 0 < one.ms[0] <= one.ms[1] < 50
