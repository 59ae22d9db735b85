"""Weather. At 32 px the constants of CIFAR-10-C, at 224 px those of ImageNet-C."""

from functools import lru_cache
from importlib import resources

import numpy as np

from corruptions.base import corruption
from corruptions.blur import zoomed
from corruptions.digital import value_and_saturation
from corruptions.filters import smear, smooth
from corruptions.imagenet_c import imagenet_c, legacy

SOURCE = "Hendrycks & Dietterich 2019, make_cifar_c.py; imagecorruptions"

WATER = np.array([175, 238, 238], np.float32)  # pale turquoise
MUD = np.array([63, 42, 20], np.float32)


@corruption(family="extra", source=SOURCE, ms=(0.1, 3.5))
def spatter(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Throw drops of water (severity 1 to 3) or of mud (4 and 5) on the lens."""
    if constants == "imagenet-c":
        return imagenet_c("spatter", image, severity, rng)
    mean, std, size, threshold, strength, throw = (
        (0.62, 0.1, 0.7, 0.7, 0.5, water),
        (0.65, 0.1, 0.8, 0.7, 0.5, water),
        (0.65, 0.3, 1.0, 0.69, 0.5, water),
        (0.65, 0.1, 0.7, 0.69, 0.6, mud),
        (0.65, 0.1, 0.5, 0.68, 0.6, mud),
    )[severity - 1]
    noise = rng.normal(mean, std, image.shape[:2])
    return throw(image, smooth(noise, size), threshold, strength)


def water(image: np.ndarray, liquid: np.ndarray, threshold: float, strength: float) -> np.ndarray:
    """Lighten the image where ``liquid`` exceeds the threshold, most at the rims of the drops.

    Deviation: the published code divides by zero where no drop falls; here nothing changes then.

    Args:
        image: uint8 ``[H, W, 3]``.
        liquid: smooth noise ``[H, W]``.
        threshold: of the noise.
        strength: share of the water's colour that is added where it is thickest.
    """
    import cv2

    depth = (255 * np.where(liquid < threshold, 0, liquid)).clip(0, 255).astype(np.uint8)
    away = cv2.distanceTransform(255 - cv2.Canny(depth, 50, 150), cv2.DIST_L2, 5)
    rim = cv2.equalizeHist(cv2.blur(np.minimum(away, 20), (3, 3)).astype(np.uint8))
    relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    rim = cv2.blur(cv2.filter2D(rim, cv2.CV_8U, relief), (3, 3))
    thickness = depth * rim.astype(np.float32)  # [H, W]
    cover = thickness * (strength / max(1.0, float(thickness.max())))
    return (image + cover[..., None] * WATER).clip(0, 255).astype(np.uint8)


def mud(image: np.ndarray, liquid: np.ndarray, threshold: float, strength: float) -> np.ndarray:
    """Cover the image where ``liquid`` exceeds the threshold; rims are softened by ``strength``.

    Args:
        image: uint8 ``[H, W, 3]``.
        liquid: smooth noise ``[H, W]``.
        threshold: of the noise.
        strength: pixels, sigma of the softening.
    """
    cover = smooth((liquid > threshold).astype(np.float32), strength)[..., None]  # [H, W, 1]
    cover[cover < 0.8] = 0
    return (image * (1 - cover) + cover * MUD).clip(0, 255).astype(np.uint8)


@corruption(family="weather", source=SOURCE, ms=(0.27, 2.0))
def snow(image: np.ndarray, severity: int, constants: str, rng: np.random.Generator) -> np.ndarray:
    """Flakes that fall aslant, in front of a paler picture."""
    import cv2

    mean, std, size, threshold, radius, sigma, share = {
        "cifar10-c": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        "imagenet-c": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    }[constants][severity - 1]
    chance, (height, width, _) = legacy(rng), image.shape
    in_8_bits = constants == "cifar10-c"  # flakes are a picture of 8 bits before they are smeared
    flakes = chance.normal(mean, std, (height, width))
    flakes = zoomed(flakes, size, centred=in_8_bits, whole=not in_8_bits)
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)
    if in_8_bits:
        flakes = (flakes * 255).astype(np.uint8) / 255
    flakes = smear(flakes, radius, sigma, chance.uniform(-135, -45))[:height, :width]
    flakes = (np.rint(flakes * 255) / 255)[..., None]
    values = image.astype(np.float32) / 255
    pale = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None] * 1.5 + 0.5
    values = share * values + (1 - share) * np.maximum(values, pale)
    return ((values + flakes + np.rot90(flakes, 2)).clip(0, 1) * 255).astype(np.uint8)


@corruption(family="weather", source=SOURCE, ms=(0.1, 0.6))
def frost(image: np.ndarray, severity: int, constants: str, rng: np.random.Generator) -> np.ndarray:
    """Lay a piece of a photograph of a frozen window over the image."""
    weight, strength = {
        "cifar10-c": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        "imagenet-c": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    }[constants][severity - 1]
    chance, (height, width, _) = legacy(rng), image.shape
    window = pane(
        int(chance.randint(5 if constants == "cifar10-c" else 6)), height, width, constants
    )
    top = chance.randint(0, window.shape[0] - height)
    left = chance.randint(0, window.shape[1] - width)
    ice = window[top : top + height, left : left + width]
    return (weight * image + strength * ice).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=12)
def pane(number: int, height: int, width: int, constants: str) -> np.ndarray:
    """A frozen window that is larger than an image.  Shape ``[h, w, 3]``, uint8.

    The code for 32 px shrinks it to a fifth, the package, for 224 px, enlarges it by a tenth and
    as far as the image needs; both are done here once for each size of images.

    Args:
        number: of the photograph, from 0 on.
        height: of the image, pixels.
        width: of the image, pixels.
        constants: which code.
    """
    import cv2

    suffix = "png" if number < 3 else "jpg"
    place = resources.files("imagecorruptions") / "frost" / f"frost{number + 1}.{suffix}"
    with resources.as_file(place) as path:
        window = np.asarray(cv2.imread(str(path)))[..., ::-1]
    needed = 1.1 * max(1.0, height / window.shape[0], width / window.shape[1])
    fifth = (round(window.shape[1] / 5), round(window.shape[0] / 5))
    if constants == "cifar10-c" and height < fifth[1] and width < fifth[0]:
        return cv2.resize(window, fifth)
    size = int(np.ceil(window.shape[1] * needed)), int(np.ceil(window.shape[0] * needed))
    return cv2.resize(window, size, interpolation=cv2.INTER_CUBIC)


@corruption(family="weather", source=SOURCE, ms=(0.38, 1.7))
def fog(image: np.ndarray, severity: int, constants: str, rng: np.random.Generator) -> np.ndarray:
    """Add a cloudy field, and darken as much as that lightens."""
    strength, decay = {
        "cifar10-c": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "imagenet-c": ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
    }[constants][severity - 1]
    height, width, _ = image.shape
    side = 1 << (max(height, width) - 1).bit_length()
    cloud = plasma(side, decay, legacy(rng))[:height, :width, None]
    values, most = image / 255.0, image.max() / 255.0
    return (((values + strength * cloud) * (most / (most + strength))).clip(0, 1) * 255).astype(
        np.uint8
    )


def plasma(side: int, decay: float, chance: np.random.RandomState) -> np.ndarray:
    """A random landscape between 0 and 1, by diamonds and squares.  Shape ``[side, side]``.

    Args:
        side: pixels, a power of two.
        decay: by how much chance shrinks when the grid is halved.
        chance: draws at every new point of the grid.
    """
    field, step, wobble = np.zeros((side, side), np.float32), side, 100.0

    def jittered(of_four: np.ndarray) -> np.ndarray:
        return of_four / 4 + wobble * chance.uniform(-wobble, wobble, of_four.shape)

    while step >= 2:
        half = step // 2
        corners, centres = field[::step, ::step], field[half::step, half::step]
        pairs = corners + np.roll(corners, -1, 0)
        centres[:] = jittered(pairs + np.roll(pairs, -1, 1))
        above, beside = corners + np.roll(corners, -1, 1), corners + np.roll(corners, -1, 0)
        field[::step, half::step] = jittered(centres + np.roll(centres, 1, 0) + above)
        field[half::step, ::step] = jittered(centres + np.roll(centres, 1, 1) + beside)
        step, wobble = half, wobble / decay
    field -= field.min()
    return field / field.max()


@corruption(family="weather", source=SOURCE, ms=(0.12, 3.8))
def brightness(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """Raise the value of HSV, at most to white.

    Hue and saturation stay, so all channels grow by one factor: nothing is converted to HSV and
    back.
    """
    more = {
        "cifar10-c": (0.05, 0.1, 0.15, 0.2, 0.3),
        "imagenet-c": (0.1, 0.2, 0.3, 0.4, 0.5),
    }[constants][severity - 1]
    most, below, saturation = value_and_saturation(image)
    bright = (most + more).clip(0, 1) * (1 - saturation * below)
    return (bright * 255).astype(np.uint8)
