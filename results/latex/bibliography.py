"""The papers behind the methods: ``methods.bib``, in part, or as a typeset list.

That file is written by ``python -m bench.docs``, always in the same form: a field is a line, and an
entry ends with a line of one brace.
"""

import re
from collections.abc import Iterable
from pathlib import Path

BIB = Path(__file__).parents[1] / "methods.bib"


def entries() -> dict[str, str]:
    """Citation key -> BibTeX entry, in the order of the file."""
    text = BIB.read_text(encoding="utf-8")
    found = re.finditer(r"^@\w+\{(.+?),$.+?^\}$", text, re.MULTILINE | re.DOTALL)
    return {entry[1]: entry[0] for entry in found}


def bibtex(keys: Iterable[str]) -> str:
    """The entries with these keys, as a ``.bib`` file; keys that are not known are left out."""
    known = entries()
    return "\n\n".join(known[key] for key in keys if key in known) + "\n"


def typeset(key: str) -> str:
    """One reference in LaTeX, for documents that are compiled without BibTeX.

    A method of the user's own may cite a paper that ``methods.bib`` does not hold: its key is
    printed instead.
    """
    entry = entries().get(key)
    if entry is None:
        return rf"\texttt{{{key.replace('_', chr(92) + '_')}}}"
    field = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, flags=re.MULTILINE))
    venue = rf"\emph{{{field['booktitle']}}}, " if "booktitle" in field else ""
    who, what = _names(field["author"]), field["title"]
    return f"{who}. {what}. {venue}{field['year']}. arXiv:{field['eprint']}."


def _names(author: str) -> str:
    """``Yadav, Prateek and Tam, Derek`` -> ``P. Yadav and D. Tam``; four or more -> et al."""
    names = []
    for name in author.split(" and "):
        last, _, first = name.partition(", ")
        initials = " ".join(f"{part[0]}." for part in first.split())
        names.append(f"{initials}~{last}" if first else last)
    return f"{names[0]} et al" if len(names) > 3 else " and ".join(names)
