"""What a corruption is, what a shift is, and how both are written."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple, Protocol

import numpy as np

from mergeshift import Registry, UnknownNameError, UserError, rng_of

SEVERITIES = (1, 2, 3, 4, 5)
CONSTANTS = ("cifar10-c", "imagenet-c")  # the published sets: for 32 px, for 224 px
PLACEMENTS = ("input", "native")  # at the model's input size, or before the picture is resized
SMALLEST = 32  # pixels; the published constants mean nothing on smaller pictures

# The seven corruptions of AdaMerging's robustness experiments (Yang et al. 2024).
PROTOCOL = (
    "motion_blur",
    "impulse_noise",
    "gaussian_noise",
    "pixelate",
    "spatter",
    "contrast",
    "jpeg_compression",
)
LEVELS = {"L1": 1, "L2": 2, "L3": 3}  # the protocol's corruptions at this severity
MATCHED = {"M1": 0.073, "M2": 0.127, "M3": 0.168}  # the mean relative loss of a level, by which
# a suite's severities are chosen; see corruptions/matched.py
IMAGENET_C = (  # the 15 of Hendrycks & Dietterich 2019, in the paper's order
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # the paper's, for validation
SHIFT_SETS = {  # written as a corruption is: all severities, or NAME@1,3
    "adamerging7": PROTOCOL,
    "imagenet-c15": IMAGENET_C,
    "all19": (*IMAGENET_C, *EXTRA),
}
PRIOR = "prior"  # other frequencies of the classes; see tasks/prior.py
DOMAIN = "domain:"  # begins the name of other images of the same classes; see tasks/domains.py
FAMILIES = {  # of corruptions -> what they are
    "noise": "noise",
    "blur": "blur",
    "weather": "weather",
    "digital": "digital",
    "extra": "for validation, in the paper",
    "mixed": "another corruption for each image",
    "attack": "no wear: what an attacker puts into a picture",
}


def shows_others(name: str) -> bool:
    """Whether a shift of this name shows other images than clean does, and these as they are.

    >>> shows_others("prior"), shows_others("domain:usps"), shows_others("contrast")
    (True, True, False)
    """
    return name == PRIOR or name.startswith(DOMAIN)


def _check_severity(severity: object, name: str) -> None:
    if severity not in SEVERITIES:
        raise UserError(
            f"severity of {name} is one of 1 2 3 4 5; got {severity!r}, write such as {name}@3"
        )


def _check_member(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UserError(f"{what} of a shift is one of {', '.join(known)}; got {value!r}")


class Corrupt(Protocol):
    """uint8 ``[H, W, 3]`` -> a new uint8 ``[H, W, 3]``; ``rng`` is the only source of chance."""

    def __call__(
        self, image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class Corruption:
    """A registered corruption. Call it; do not call ``fn`` yourself."""

    name: str
    family: str  # a key of FAMILIES
    source: str  # paper and reference code
    version: int  # raised when the pixels change: it is part of every key and run id
    fn: Corrupt
    ms: tuple[float, float] = (0.0, 0.0)  # milliseconds an image at 32 and 224 px; see MEASURED

    def __call__(
        self, image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
    ) -> np.ndarray:
        """Corrupt one image: uint8 ``[H, W, 3]`` -> a new uint8 ``[H, W, 3]``.

        Raises:
            UserError: the image is not uint8 ``[H, W, 3]`` of at least 32 pixels a side, or the
                severity or the constants do not exist.
        """
        _check_severity(severity, self.name)
        _check_member("constants", constants, CONSTANTS)
        is_rgb = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
        if not is_rgb or min(image.shape[:2]) < SMALLEST:
            raise UserError(
                f"{self.name} takes uint8 images [H, W, 3] of at least {SMALLEST} pixels a side; "
                f"got {image.dtype} {list(image.shape)}"
            )
        return self.fn(image, severity, constants, rng)


CORRUPTIONS: Registry[Corruption] = Registry("corruption")


# Severity 3, cifar10-c at 32 px and imagenet-c at 224 px. Side by side with the package on a busy
# machine, scaled by what the package takes on one quiet core of a 2023 server CPU.
MEASURED = "one core of a 2023 server CPU"


def corruption(
    *, family: str, source: str, ms: tuple[float, float] = (0.0, 0.0), version: int = 1
) -> Callable[[Corrupt], Corrupt]:
    """Register a function under its own name.

    Args:
        family: a key of FAMILIES.
        source: paper and reference code.
        ms: milliseconds an image at 32 and at 224 pixels, as MEASURED.
        version: raised when the pixels change.
    """

    def add(fn: Corrupt) -> Corrupt:
        name: str = fn.__name__  # type: ignore[attr-defined]
        CORRUPTIONS.add(name, Corruption(name, family, source, version, fn, ms))
        return fn

    return add


class ShiftName(NamedTuple):
    """A shift as people write it; of any corruption, registered or not: results outlive code.

    >>> str(ShiftName("gaussian_noise", 3)), str(ShiftName("clean", 0))
    ('gaussian_noise@3', 'clean')
    """

    corruption: str
    severity: int

    def __str__(self) -> str:
        return f"{self.corruption}@{self.severity}" if self.severity else self.corruption

    @property
    def shows_others(self) -> bool:
        """See :func:`shows_others`."""
        return shows_others(self.corruption)

    @classmethod
    def of_key(cls, key: str) -> "ShiftName":
        """The shift whose :attr:`Shift.key` this is.

        >>> str(ShiftName.of_key("contrast@3-cifar10-c-input-v1")), str(ShiftName.of_key("clean"))
        ('contrast@3', 'clean')
        """
        corruption, _, severity = key.partition("-")[0].partition("@")
        return cls(corruption, int(severity or 0))


@dataclass(frozen=True, order=True)
class Shift:
    """One test condition, with all that decides its pixels.

    Clean always has the default parts, and so have shifts that show other images as they are.

    >>> Shift.parse("gaussian_noise@3").key
    'gaussian_noise@3-cifar10-c-input-v1'
    >>> str(Shift(constants="imagenet-c")), Shift(constants="imagenet-c") == CLEAN
    ('clean', True)
    """

    corruption: str = "clean"
    severity: int = 0  # 1..5; 0 if and only if it corrupts nothing
    constants: str = "cifar10-c"
    placement: str = "input"

    def __post_init__(self) -> None:
        _check_member("constants", self.constants, CONSTANTS)
        _check_member("placement", self.placement, PLACEMENTS)
        if self.corruption in (*LEVELS, *MATCHED, *SHIFT_SETS):
            raise UserError(f"{self.corruption} stands for several shifts; name one of them")
        if self.corrupts:
            _check_severity(self.severity, _known(self.corruption))
        elif self.severity:
            name = self.corruption
            raise UserError(f"{name} has no severity; got {name}@{self.severity}, write {name!r}")
        else:
            if self.shows_others:
                _known(self.corruption)
            object.__setattr__(self, "constants", CONSTANTS[0])
            object.__setattr__(self, "placement", PLACEMENTS[0])

    @classmethod
    def parse(
        cls, text: str, *, constants: str = CONSTANTS[0], placement: str = PLACEMENTS[0]
    ) -> "Shift":
        """Read what ``str`` writes.

        Raises:
            UserError: ``text`` is not exactly one shift.
        """
        shifts = parse_shifts([text], constants, placement)
        if len(shifts) != 1:
            raise UserError(f"{text!r} means {len(shifts)} shifts; write one, such as {shifts[0]}")
        return shifts[0]

    def __str__(self) -> str:
        return str(ShiftName(self.corruption, self.severity))

    @property
    def shows_others(self) -> bool:
        """See :func:`shows_others`."""
        return shows_others(self.corruption)

    @property
    def corrupts(self) -> bool:
        """Whether it changes the pixels of the images that it shows."""
        return self.corruption != "clean" and not self.shows_others

    @property
    def key(self) -> str:
        """A file name: all four parts and the version of the corruption."""
        if not self.corrupts:
            return str(self)
        version = CORRUPTIONS[self.corruption].version
        return f"{self}-{self.constants}-{self.placement}-v{version}"

    def apply(self, image: np.ndarray, *identity: object) -> np.ndarray:
        """Corrupt one image: uint8 ``[H, W, 3]`` -> uint8 ``[H, W, 3]``.

        Args:
            image: is left as it is; what corrupts nothing returns this very array.
            identity: (data_seed, task, index). Chance depends on these, the corruption and the
                severity alone, so batches, order and processes cannot matter.
        """
        if not self.corrupts:
            return image
        rng = rng_of(*identity, self.corruption, self.severity)
        return CORRUPTIONS[self.corruption](image, self.severity, self.constants, rng)


CLEAN = Shift()


def parse_shifts(
    texts: Sequence[str],
    constants: str = CONSTANTS[0],
    placement: str = PLACEMENTS[0],
    matched: Callable[[str], Mapping[str, int]] | None = None,
) -> list[Shift]:
    """Read shifts as a user writes them; duplicates are dropped, the order is kept.

    Args:
        texts: each ``clean``, ``NAME@SEVERITY``, ``NAME@SEVERITY,SEVERITY,...``, ``NAME`` (all
            five severities), ``L1`` ``L2`` ``L3`` (the seven of the protocol at 1, 2, 3), or a
            set of corruptions in place of NAME: ``adamerging7``, ``imagenet-c15``, ``all19``;
            ``prior``, or ``domain:NAME``.
        constants: ``cifar10-c`` or ``imagenet-c``.
        placement: ``input`` or ``native``.
        matched: corruption -> severity of ``M1``, ``M2`` or ``M3``, which are those of a suite and
            its encoder; without it these are refused.

    Raises:
        UserError: a text is none of these.

    >>> [str(shift) for shift in parse_shifts(["clean", "contrast@5,1", "contrast@1"])]
    ['clean', 'contrast@5', 'contrast@1']
    """
    cells = (cell for text in texts for cell in _cells(text, matched))
    return list(dict.fromkeys(Shift(*cell, constants, placement) for cell in cells))


def _cells(
    text: str, matched: Callable[[str], Mapping[str, int]] | None
) -> Iterator[tuple[str, int]]:
    """Yield the (corruption, severity) pairs that one text stands for."""
    if text == "clean" or shows_others(text):
        yield _known(text), 0
    elif text in LEVELS:
        yield from ((name, LEVELS[text]) for name in PROTOCOL)
    elif text in MATCHED:
        if matched is None:
            raise UserError(f"{text} is a level of a suite with its encoder; name it in a sweep")
        yield from matched(text).items()
    else:
        name, at, severities = text.partition("@")
        known = {str(severity): severity for severity in SEVERITIES}
        for severity in severities.split(",") if at else known:
            if _known(name) in ("clean", *LEVELS, *MATCHED) or shows_others(name):
                raise UserError(f"{name} has no severity; got {text!r}, write {name!r}")
            _check_severity(known.get(severity, severity), name)
            for member in SHIFT_SETS.get(name, (name,)):
                yield member, known[severity]


def _known(name: str) -> str:
    """Return the name of a corruption, or of another word that a shift may be."""
    words = ("clean", *LEVELS, *MATCHED, *SHIFT_SETS, PRIOR, *CORRUPTIONS)
    if name.startswith(DOMAIN):
        if not re.fullmatch(r"[A-Za-z0-9_.]+", name.removeprefix(DOMAIN)):
            raise UserError(f"a domain is written {DOMAIN}NAME; got {name!r}")
        return name
    if name in words:
        return name
    close = get_close_matches(name, words, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UnknownNameError(f"no shift named {name!r}; {hint}Known: {', '.join(words)}")
