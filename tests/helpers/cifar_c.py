"""The package's own corruptions at the constants of CIFAR-10-C: an oracle for ours.

The function is compiled anew from the package's source with other numbers in its table. Where the
published code for 32 px does something else than the package, that is put in its place: zooming
keeps the middle, frost is shrunk to a fifth, and the transform of elastic also moves three points.
"""

import inspect
import re
from collections.abc import Callable

import cv2
import numpy as np
from imagecorruptions import corruptions as package
from PIL import Image
from scipy.ndimage import zoom

TABLES = {  # of make_cifar_c.py
    "shot_noise": "[500, 250, 100, 75, 50]",
    "speckle_noise": "[.06, .1, .12, .16, .2]",
    "defocus_blur": "[(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)]",
    "glass_blur": "[(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)]",
    "gaussian_blur": "[.4, .6, .7, .8, 1]",
    "zoom_blur": "[np.arange(1, 1.06, .01), np.arange(1, 1.11, .01), np.arange(1, 1.16, .01),"
                 " np.arange(1, 1.21, .01), np.arange(1, 1.26, .01)]",
    "snow": "[(.1, .2, 1, .6, 8, 3, .95), (.1, .2, 1, .5, 10, 4, .9),"
            " (.15, .3, 1.75, .55, 10, 4, .9), (.25, .3, 2.25, .6, 12, 6, .85),"
            " (.3, .3, 1.25, .65, 14, 12, .8)]",
    "frost": "[(1, .2), (1, .3), (.9, .4), (.85, .4), (.75, .45)]",
    "fog": "[(.2, 3), (.5, 3), (.75, 2.5), (1, 2), (1.5, 1.75)]",
    "brightness": "[.05, .1, .15, .2, .3]",
    "saturate": "[(.3, 0), (.1, 0), (1.5, 0), (2, .1), (2.5, .2)]",
    "elastic_transform": "[(0, 0, .08), (.05, .2, .07), (.08, .06, .06), (.1, .04, .05),"
                         " (.1, .03, .03)]",
}  # fmt: skip
CHANGES = {  # what is written otherwise: (in the package, there)
    "frost": [(r"np\.random\.randint\(6\)", "np.random.randint(5)"),
              (r"scaling_factor = 1\n", "scaling_factor = 1 / 5.5\n"),  # times 1.1: a fifth
              (r"np\.ceil", "np.round"), ("INTER_CUBIC", "INTER_LINEAR")],
    "snow": [(r"np\.clip\(snow_layer\.squeeze\(\), 0, 1\)",
              "(np.clip(snow_layer.squeeze(), 0, 1) * 255).astype(np.uint8) / 255")],
    "elastic_transform": [
        (r"alpha = \[.*?\]\[\s*severity - 1\]", "alpha, sigma, move = [32 * part for part in c]"),
        (r"max_d. = .*", ""), ("-max_d., max_d.", "-1, 1"),
        (r"sigma = np.array.*", "c = TABLE[severity - 1]"),
        (r"    dx = ", "    image = moved(image, 32 * c[2])\n    dx = "),
    ],
}  # fmt: skip


def oracle(name: str) -> Callable[[np.ndarray, int, int], np.ndarray]:
    """image, severity, seed -> what the published code for 32 px makes of it."""
    source, table = inspect.getsource(getattr(package, name)), TABLES[name]
    if name != "elastic_transform":
        source, count = re.subn(r"c = \[.*?\]\s*\[\s*severity - 1\]", f"c = {table}[severity - 1]",
                                source, count=1, flags=re.DOTALL)  # fmt: skip
        assert count == 1
    for before, after in CHANGES.get(name, []):
        source, count = re.subn(before, after, source, flags=re.DOTALL if "?" in before else 0)
        assert count, before
    space = {
        **vars(package),
        "clipped_zoom": centred_zoom,
        "moved": moved,
        "TABLE": eval(table, {"np": np}),
    }
    exec(source, space)

    def corrupt(image: np.ndarray, severity: int, seed: int) -> np.ndarray:
        np.random.seed(seed)  # noqa: NPY002
        more = {"seed": seed} if name == "glass_blur" else {}
        return np.asarray(space[name](Image.fromarray(image), severity, **more)).astype(np.uint8)

    return corrupt


def centred_zoom(image: np.ndarray, factor: float) -> np.ndarray:
    """The middle of an image, enlarged, and cut to the image's size in its middle."""
    side = image.shape[0]
    inner = int(np.ceil(side / factor))
    start = (side - inner) // 2
    cut = image[start : start + inner, start : start + inner]
    large = zoom(cut, (factor, factor, 1), order=1)
    trim = (large.shape[0] - side) // 2
    return large[trim : trim + side, trim : trim + side]


def moved(image: np.ndarray, most: float) -> np.ndarray:
    """An image under the affine map that moves three points at random."""
    sides = np.float32(image.shape[:2])
    middle, reach = sides // 2, min(image.shape[:2]) // 3
    before = np.float32([middle + reach, [middle[0] + reach, middle[1] - reach], middle - reach])
    after = before + np.random.uniform(-most, most, (3, 2)).astype(np.float32)  # noqa: NPY002
    turn = cv2.getAffineTransform(before, after)
    size = image.shape[1], image.shape[0]
    return cv2.warpAffine(image, turn, size, borderMode=cv2.BORDER_REFLECT_101)
