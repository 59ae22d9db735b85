"""Lines of a sweep: a method, or a variant of it with some fields fixed, ``ties[keep=0.1]``."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.errors import UserError


class Line(NamedTuple):
    """One line of a sweep."""

    method: str  # registry name
    fields: dict[str, str]  # those that are fixed for this line alone, as written

    def variant(self, config: Mapping[str, Any]) -> str:
        """The fixed fields with the values that they have in ``config``; empty if there are none.

        >>> Line("a", {"keep": "1e-1", "clamp": "False"}).variant({"keep": 0.1, "clamp": False})
        'keep=0.1, clamp=false'
        """
        values = {name: config.get(name, text) for name, text in self.fields.items()}
        texts = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in values.items()}
        return ", ".join(f"{name}={text}" for name, text in texts.items())


def parse(text: str) -> Line:
    """Read ``method`` or ``method[field=value,field=value]``.

    >>> parse("ties[keep=0.1, merge=sum]")
    Line(method='ties', fields={'keep': '0.1', 'merge': 'sum'})

    Raises:
        UserError: it is written in any other way, or a field is fixed twice.
    """
    match = re.fullmatch(r"([^\[\]]*)(?:\[([^\[\]]*)\])?", text.strip())
    pairs = match[2].split(",") if match and match[2] is not None else []
    parts = [[side.strip() for side in pair.partition("=")] for pair in pairs]
    fields = {name: value for name, _, value in parts}
    if match is None or len(fields) != len(parts) or not all(n and sign for n, sign, _ in parts):
        raise UserError(
            f"a line of a sweep is METHOD or METHOD[FIELD=VALUE,FIELD=VALUE], each field once; "
            f"got {text!r}"
        )
    return Line(match[1].strip(), fields)


def split(text: str) -> list[str]:
    """The parts between commas, but for those in brackets.

    >>> split("average,ties[keep=0.1,merge=sum],individual")
    ['average', 'ties[keep=0.1,merge=sum]', 'individual']
    """
    return [part for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def key(text: str) -> str:
    """How tables call a line: a blank before the bracket and after each comma.

    >>> key("ties[keep=0.1,merge=sum]"), key("ties")
    ('ties [keep=0.1, merge=sum]', 'ties')
    """
    return re.sub(r"\s*,\s*", ", ", re.sub(r"\s*\[\s*", " [", text.strip()))


def named(method: str, variant: str) -> str:
    """A method and what it is a variant by, in one word."""
    return f"{method} [{variant}]" if variant else method


def methods_of(lines: Sequence[str]) -> list[str]:
    """The methods of some lines, each once."""
    return list(dict.fromkeys(parse(line).method for line in lines))
