"""What tables of all kinds are written with: marks, notes, lines of markdown, CSV.

Tables with several lines under each method: for the terminal, as markdown and as LaTeX.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from results.schema import WORLDS
from results.tables.entries import Entry, TableBase

PLUS_MINUS = "\u00b1"

Lines = Sequence[tuple[str, Sequence[str]]]  # what a line is of, and its cells


@dataclass(frozen=True, kw_only=True)
class Nested:
    """How one kind of listing is printed."""

    table: TableBase
    what: str  # what the lines under a method are of, e.g. "shift"
    headers: Sequence[str]
    lines: Callable[[Entry, str], Lines]  # of an entry, given how +- is written
    caption: Sequence[str]  # notes that stand in the caption of LaTeX
    below: Sequence[str]  # those that stand below its table
    text_last: bool = False  # whether the last column is text: at the left, broken into lines

    @property
    def world(self) -> str:
        """Where pictures and encoder come from."""
        name = self.table.setting["world"]
        return WORLDS.get(name, name)

    def is_text(self, number: int) -> bool:
        """Whether column ``number``, from 1, is text."""
        return self.text_last and number == len(self.headers)

    def escaped(self, cells: Sequence[str], escape: Callable[[str], str]) -> list[str]:
        """``cells`` with their text made literal; numbers are written as they stand."""
        return [escape(cell) if self.is_text(n) else cell for n, cell in enumerate(cells, 1)]
