"""Tables with several lines under each method: what is printed, as plain data for every format."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from results.statistics import Interval
from results.tables.entries import TableBase

Lines = Sequence[tuple[str, Sequence[str]]]  # what a line is about, and its cells


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a table prints. Texts are plain ASCII, with ``+-``; every format writes them its way."""

    what: str  # what the lines under a method are about, e.g. "shift"
    headers: Sequence[str]
    lines: Mapping[str, Lines]  # entry key -> its lines
    caption: Sequence[str]  # keys of the notes that stand in the caption of LaTeX
    below: Sequence[str]  # of those that stand below its table
    subject: str = "Method"  # what an entry is, at the head of its column
    text_last: bool = False  # whether the last column is text: at the left, broken into lines

    def is_text(self, number: int) -> bool:
        """Whether column ``number``, from 1, is text."""
        return self.text_last and number == len(self.headers)


@dataclass(frozen=True, kw_only=True)
class GroupedTable(TableBase):
    """A table with several lines under each method; every format prints its :meth:`layout`."""

    @abstractmethod
    def layout(self) -> Layout:
        """What is printed."""


def points(share: float, sign: str = "", decimals: int = 1) -> str:
    """Write a share in points of a percentage; ``-`` where there is none.

    >>> points(0.6653), points(-0.0004), points(-0.0004, "+"), points(math.nan)
    ('66.5', '0.0', '+0.0', '-')
    """
    if math.isnan(share):
        return "-"
    return f"{round(100 * share, decimals) + 0.0:{sign}.{decimals}f}"


def limited(*names: str) -> tuple[str, ...]:
    """The columns of a frame that hold intervals.

    >>> limited("ce")
    ('ce', 'ce_low', 'ce_high')
    """
    return tuple(f"{name}{end}" for name in names for end in ("", "_low", "_high"))


def margin_of(share: Interval, printed: Callable[[float], str]) -> str:
    """The margin behind a share: ``+-`` one number; both sides where that would pass 0 or 1.

    >>> margin_of(Interval(0.8, 0.77, 0.84), points), margin_of(Interval(1.0, 0.839, 1.0), points)
    ('+-4.0', '+0.0/-16.1')

    Empty where it is not known.
    """
    margin = share.margin
    if math.isnan(margin):
        return ""
    if share.value >= 0 and not 0 <= share.value - margin <= share.value + margin <= 1:
        above, below = printed(share.high - share.value), printed(share.value - share.low)
        return f"+-{above}" if above == below else f"+{above}/-{below}"
    return f"+-{printed(margin)}"


def with_margin(share: Interval, sign: str = "") -> str:
    """Write a share in points with the margin of its interval, as far as they are known.

    >>> with_margin(Interval(0.8, 0.77, 0.84)), with_margin(Interval(0.008, 0, 0.01), "+")
    ('80.0 +-4.0', '+0.8 +-0.8')
    >>> with_margin(Interval(0.8, math.nan, math.nan))
    '80.0'
    """
    if sign:  # a difference: it has no bounds to pass
        margin = "" if math.isnan(share.margin) else f"+-{points(share.margin)}"
    else:
        margin = margin_of(share, points)
    return f"{points(share.value, sign)} {margin}".rstrip()
