"""Settings of a method: typed, checked, and declared together with their search grid."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from itertools import product
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from mergeshift import UserError

TUNING_BUDGET = 32  # validation passes, the same for every method


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """Settings of a method: frozen, with a default for each, and checked when made.

    A field's annotation says what is allowed: ``int``, ``float``, ``bool``, ``str``,
    ``Literal["mean", "sum"]``, or a number in an interval, ``Annotated[float, "(0, 1]"]``.
    """

    method: ClassVar[str] = "method"  # its registry name, for messages; set by registration
    grid: ClassVar[Mapping[str, Sequence[Any]]] = {}  # field -> values to try on validation data
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # name -> fields; ``preset=NAME``

    def __post_init__(self) -> None:
        for field in fields(self):
            value = checked(getattr(self, field.name), field.type, f"{self.method}.{field.name}")
            object.__setattr__(self, field.name, value)

    @classmethod
    def parse(cls, pairs: Sequence[str]) -> Self:
        """A config from ``key=value`` texts.

        Raises:
            UserError: not ``key=value``, an unknown or repeated key, or a value out of range.
        """
        settings: dict[str, str] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals:
                raise UserError(f"a setting of {cls.method} is written KEY=VALUE; got {pair!r}")
            if key in settings:
                raise UserError(f"{cls.method}.{key} is set twice; give it one value")
            settings[key] = value
        return cls.make(settings)

    @classmethod
    def make(cls, settings: Mapping[str, Any]) -> Self:
        """A config from values, or from texts that stand for them.

        Raises:
            UserError: an unknown key or preset, or a value out of range.
        """
        settings = cls.expand(settings)
        known = {field.name: field.type for field in fields(cls)}
        for key in settings:
            if key not in known:
                close = get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                has = f"it has: {', '.join(known)}" if known else "it has none"
                raise UserError(f"{cls.method} has no setting {key!r}; {hint}{has}")
        return cls(**{k: read(v, known[k]) for k, v in settings.items()})

    @classmethod
    def expand(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """``settings`` with ``preset`` replaced by what it stands for; what is set besides wins.

        Raises:
            UserError: there is no such preset.
        """
        own = dict(settings)
        name = own.pop("preset", None)
        if name is None:
            return own
        if name not in cls.presets:
            has = f"it has: {', '.join(cls.presets)}" if cls.presets else "it has none"
            raise UserError(f"{cls.method} has no preset {name!r}; {has}")
        return {**cls.presets[name], **own}

    def candidates(self, fixed: Collection[str] = ()) -> Iterator[Self]:
        """This config at every point of the grid; the ``fixed`` fields keep their values."""
        free = {name: values for name, values in self.grid.items() if name not in fixed}
        for point in product(*free.values()):
            yield replace(self, **dict(zip(free, point, strict=True)))

    def as_dict(self) -> dict[str, Any]:
        """Field -> value, ready for JSON."""
        return asdict(self)


def read(value: Any, kind: Any) -> Any:
    """What a text stands for as a ``kind``; any other value, and a text that fails, as it is."""
    plain, _ = parts_of(kind)
    if not isinstance(value, str):
        return value
    if plain is bool:
        return {"true": True, "false": False}.get(value.lower(), value)
    if plain in (int, float):
        try:
            return plain(value)
        except ValueError:
            return value  # refused by checked(), which knows the field's name
    return value


def checked(value: Any, kind: Any, name: str) -> Any:
    """``value`` if it is a ``kind``; an int becomes a float where one is wanted.

    Raises:
        UserError: it is not.
    """
    plain, interval = parts_of(kind)
    if plain is float and type(value) is int:
        value = float(value)
    if get_origin(plain) is Literal:
        good, wanted = value in get_args(plain), f"one of {', '.join(map(str, get_args(plain)))}"
    else:
        good, wanted = type(value) is plain, NAMES[plain]
    if interval:
        good, wanted = good and inside(value, interval), f"{wanted} in {interval}"
    if not good:
        raise UserError(f"{name} must be {wanted}; got {value!r}")
    return value


NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def parts_of(kind: Any) -> tuple[Any, str]:
    """``Annotated[float, "(0, 1]"]`` -> ``float, "(0, 1]"``; any other -> itself and nothing."""
    interval = getattr(kind, "__metadata__", ("",))[0]
    return (get_args(kind)[0], interval) if interval else (kind, "")


def inside(value: float, interval: str) -> bool:
    """Whether a number lies in an interval as mathematicians write it.

    >>> inside(1, "(0, 1]"), inside(0, "(0, 1]"), inside(float("nan"), "[0, inf)")
    (True, False, False)
    """
    match = re.fullmatch(r"([(\[])(\S+), (\S+)([)\]])", interval)
    assert match, f"not an interval: {interval}"
    left, low, high, right = match.groups()
    above = value > float(low) if left == "(" else value >= float(low)
    below = value < float(high) if right == ")" else value <= float(high)
    return above and below
