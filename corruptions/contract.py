"""The contract, executable: what every registered corruption must satisfy."""

import random

import numpy as np

from corruptions.base import FAMILIES, SEVERITIES, Corruption, Shift


def photo(size: int = 32, seed: int = 0) -> np.ndarray:
    """Random texture with the 1/f spectrum of photographs.  uint8 ``[size, size, 3]``.

    A ramp or white noise would not do: on them even a right ``pixelate`` is not monotone.
    """
    rng = np.random.default_rng(seed)
    frequency = np.fft.fftfreq(size)
    radius = np.hypot(frequency[:, None], frequency[None]).clip(min=1 / size)
    grey = rng.standard_normal((size, size, 1))  # channels share most of their structure
    noise = grey + 0.3 * rng.standard_normal((size, size, 3))
    image = np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) / radius[..., None], axes=(0, 1)).real
    image = (image - image.min()) / np.ptp(image)
    return (255 * image).astype(np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    """A fresh generator."""
    return np.random.default_rng(seed)


# Published constants that change less than those one severity before: (name, constants) -> at.
FALLS: dict[tuple[str, str], tuple[int, ...]] = {
    ("spatter", "cifar10-c"): (4,),  # from water to mud, of which fewer drops are thrown
    ("glass_blur", "cifar10-c"): (3, 5),  # more blur, or more exchange: never both
    ("glass_blur", "imagenet-c"): (2, 4),
    ("frost", "cifar10-c"): (4, 5),  # the picture is dimmed more, and the ice is no lighter
    ("frost", "imagenet-c"): (4,),
    ("saturate", "cifar10-c"): (3,),  # from too pale to too strong
    ("elastic_transform", "cifar10-c"): (2, 3, 4, 5),  # shorter moves, which tear more
}
FLAT = {  # where the last severity changes less than 1.2 times as much as the first
    ("glass_blur", "imagenet-c"), ("frost", "imagenet-c"), ("elastic_transform", "cifar10-c"),
}  # fmt: skip


def check_says_where_it_comes_from(corrupt: Corruption, constants: str) -> None:
    """Family and source are filled."""
    assert corrupt.family in FAMILIES
    assert corrupt.source


def check_keeps_shape_and_dtype(corrupt: Corruption, constants: str) -> None:
    """uint8 ``[H, W, 3]`` in and out at every severity, at 32 px, on oblongs and on flat images."""
    images = [photo(32), photo(48)[:40], np.zeros((32, 32, 3), np.uint8)]
    for image in images if constants == "cifar10-c" else [*images, photo(224)]:
        for severity in SEVERITIES:
            out = corrupt(image, severity, constants, rng())
            assert out.shape == image.shape
            assert out.dtype == np.uint8


def check_depends_on_the_generator_alone(corrupt: Corruption, constants: str) -> None:
    """Same generator, same pixels; the global generators are neither read nor moved."""
    for severity in SEVERITIES:
        np.random.seed(1)  # noqa: NPY002
        before = np.random.get_state(), random.getstate()  # noqa: NPY002
        first = corrupt(photo(), severity, constants, rng())
        after = np.random.get_state(), random.getstate()  # noqa: NPY002
        np.testing.assert_equal(after, before, "moves a global generator")
        np.random.seed(2)  # noqa: NPY002
        np.testing.assert_array_equal(corrupt(photo(), severity, constants, rng()), first)


def check_leaves_its_input_alone(corrupt: Corruption, constants: str) -> None:
    """The clean image stays clean and shares no memory with the result; it may be read-only."""
    image = photo()
    image.flags.writeable = False
    for severity in SEVERITIES:
        out = corrupt(image, severity, constants, rng())
        assert not np.shares_memory(out, image)
        np.testing.assert_array_equal(image, photo())


def check_change_grows_with_severity(corrupt: Corruption, constants: str) -> None:
    """The mean absolute change over 40 photos never falls, but where the published one does."""
    photos = np.stack([photo(seed=seed) for seed in range(40)])
    change = [0.0]
    for severity in SEVERITIES:
        outs = [corrupt(image, severity, constants, rng(i)) for i, image in enumerate(photos)]
        change.append(float(np.abs(np.subtract(outs, photos, dtype=float)).mean()))
    falls_at = [s for s in SEVERITIES if change[s] < 0.999 * change[s - 1]]
    key = (corrupt.name, constants)
    assert falls_at == list(FALLS.get(key, ())), np.round(change, 2)
    assert change[1] > 0
    assert (change[5] > 1.2 * change[1]) == (key not in FLAT), np.round(change, 2)


def check_clean_is_identity(corrupt: Corruption, constants: str) -> None:
    """The clean shift changes no pixel, and this one does at every severity."""
    photos = np.stack([photo(seed=seed) for seed in range(8)])
    for severity in (0, *SEVERITIES):
        shift = Shift(corrupt.name if severity else "clean", severity, constants)
        outs = [shift.apply(image, 0, "task", i) for i, image in enumerate(photos)]
        assert np.array_equal(outs, photos) == (severity == 0)


CHECKS = [fn for name, fn in list(globals().items()) if name.startswith("check_")]
