"""Settings of a method: typed, checked, and declared together with their search grid."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from itertools import product
from math import inf
from typing import (
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    dataclass_transform,
    get_args,
    get_origin,
)

from mergeshift import UserError

TUNING_BUDGET = 32  # validation passes, the same for every method


class Interval(NamedTuple):
    """From ``low`` to ``high``; an end that is open does not belong to it.

    >>> str(Interval(0, 1, low_is_open=True)), str(Interval(0))
    ('(0, 1]', '[0, inf)')
    >>> [x in Interval(0, 1, low_is_open=True) for x in (0, 1, float("nan"))]
    [False, True, False]
    """

    low: float = -inf
    high: float = inf
    low_is_open: bool = False
    high_is_open: bool = False

    def __contains__(self, value: object) -> bool:
        assert isinstance(value, int | float)
        above = value > self.low if self.low_is_open else value >= self.low
        below = value < self.high if self.high_is_open else value <= self.high
        return above and below and abs(value) < inf

    def __str__(self) -> str:
        """As mathematicians write it."""
        left = "(" if self.low_is_open or self.low == -inf else "["
        right = ")" if self.high_is_open or self.high == inf else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"


def Setting(  # noqa: N802 (it stands where a value stands, as ``dataclasses.field`` does)
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    grid: Sequence[Any] = (),
) -> Any:
    """A field of a ``Config``: its default, the bounds of a number, and what is tried on val.

    ``share: float = Setting(0.2, above=0, high=1, grid=(0.2, 0.5))`` is a number in (0, 1]. A
    number without a bound on one side, or on both, has to be finite.

    Args:
        default: the value where none is set.
        low: the least value that is allowed.
        high: the greatest.
        above: in place of ``low``: greater than this.
        below: in place of ``high``: less than this.
        grid: the values that are tried on validation data, in this order; none: it is not tuned.
    """
    assert low is None or above is None, "give low, or above"
    assert high is None or below is None, "give high, or below"
    interval = Interval(
        next((x for x in (low, above) if x is not None), -inf),
        next((x for x in (high, below) if x is not None), inf),
        above is not None,
        below is not None,
    )
    return field(default=default, metadata={"interval": interval, "grid": tuple(grid)})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Setting,))
@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """Settings of a method: frozen, with a default for each, and checked when made.

    A subclass lists them as fields, and becomes a dataclass without a decorator. A field's
    annotation says what is allowed: ``int``, ``float``, ``bool``, ``str`` or
    ``Literal["mean", "sum"]``; :func:`Setting` adds bounds and a grid.
    """

    method: ClassVar[str] = "method"  # its registry name, for messages; set by registration
    grid: ClassVar[Mapping[str, Sequence[Any]]] = {}  # field -> values to try on validation data
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # name -> fields; ``preset=NAME``

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "grid" in vars(cls):
            raise TypeError(f"{cls.__qualname__}: give the grid to its field, Setting(..., grid=)")
        dataclass(frozen=True, kw_only=True)(cls)
        cls.grid = {f.name: f.metadata["grid"] for f in fields(cls) if f.metadata.get("grid")}

    def __post_init__(self) -> None:
        for own in fields(self):
            value = getattr(self, own.name)
            interval = own.metadata.get("interval")
            value = checked(value, own.type, interval, f"{self.method}.{own.name}")
            object.__setattr__(self, own.name, value)

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
        known = {own.name: own.type for own in fields(cls)}
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
    if not isinstance(value, str):
        return value
    if kind is bool:
        return {"true": True, "false": False}.get(value.lower(), value)
    if kind in (int, float) and "_" not in value:  # Python alone reads 1_0 as 10
        try:
            return kind(value)
        except ValueError:
            return value  # refused by checked(), which knows the field's name
    return value


def checked(value: Any, kind: Any, interval: Interval | None, name: str) -> Any:
    """``value`` if it is a ``kind``; an int becomes a float where one is wanted.

    Raises:
        UserError: it is not, or it is a number outside of the interval.
    """
    if kind is float and type(value) is int:
        value = float(value)
    if get_origin(kind) is Literal:
        good, wanted = value in get_args(kind), f"one of {', '.join(map(str, get_args(kind)))}"
    else:
        good, wanted = type(value) is kind, NAMES[kind]
    if interval and kind in (int, float):
        good, wanted = good and value in interval, f"{wanted} in {interval}"
    if not good:
        raise UserError(f"{name} must be {wanted}; got {value!r}")
    return value


NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
