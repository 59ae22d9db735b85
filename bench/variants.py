"""Lines of a sweep: a method, or a variant of it with some fields fixed, ``ties[keep=0.1]``."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mergeshift import UserError


class Variant(NamedTuple):
    """One line of a sweep."""

    method: str  # registry name
    fields: dict[str, str]  # those that are fixed for this line alone, as written

    def variant(self, config: Mapping[str, Any]) -> str:
        """The fixed fields with the values that they have in ``config``; empty if there are none.

        >>> Variant("a", {"keep": "1e-1", "clamp": "False"}).variant({"keep": 0.1, "clamp": False})
        'keep=0.1, clamp=false'
        """
        values = {name: config.get(name, text) for name, text in self.fields.items()}
        texts = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in values.items()}
        return ", ".join(f"{name}={text}" for name, text in texts.items())


def parse(text: str) -> Variant:
    """Read ``method`` or ``method[field=value,field=value]``.

    >>> parse("ties[keep=0.1, merge=sum]")
    Variant(method='ties', fields={'keep': '0.1', 'merge': 'sum'})

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
    return Variant(match[1].strip(), fields)


def split(text: str) -> list[str]:
    """The parts between commas, but for those in brackets.

    >>> split("average,ties[keep=0.1,merge=sum],individual")
    ['average', 'ties[keep=0.1,merge=sum]', 'individual']
    """
    return [part for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def normalise_name(text: str) -> str:
    """How tables call a line: a blank before the bracket and after each comma.

    >>> normalise_name("ties[keep=0.1,merge=sum]"), normalise_name("ties")
    ('ties [keep=0.1, merge=sum]', 'ties')
    """
    return re.sub(r"\s*,\s*", ", ", re.sub(r"\s*\[\s*", " [", text.strip()))


def canonical_name(text: str, lines: Iterable[str]) -> str:
    """How ``lines`` write what ``text`` says; else as :func:`normalise_name` does.

    Neither blanks count nor the order of the fields nor how a number is written.

    >>> canonical_name("ties[merge=sum, keep=1e-1]", ["ties", "ties [keep=0.1, merge=sum]"])
    'ties [keep=0.1, merge=sum]'
    """
    meant = _meaning(text)
    return next((line for line in lines if _meaning(line) == meant), normalise_name(text))


def _meaning(text: str) -> tuple[str, Mapping[str, object]]:
    try:
        method, fields = parse(text)
    except UserError:  # the name of weights from elsewhere may be any
        return normalise_name(text), {}
    return method, {name: _value(value) for name, value in fields.items()}


def _value(text: str) -> object:
    """What a field's text stands for, as far as it shows.

    >>> _value("1e-1") == _value("0.10"), _value("False"), _value("sum")
    (True, 'false', 'sum')
    """
    try:
        return float(text)
    except ValueError:
        return text.lower() if text.lower() in ("true", "false") else text


def display_name(method: str, variant: str) -> str:
    """A method and what it is a variant by, in one word."""
    return f"{method} [{variant}]" if variant else method


def methods_of(lines: Sequence[str]) -> list[str]:
    """The methods of some lines, each once."""
    return list(dict.fromkeys(parse(line).method for line in lines))
