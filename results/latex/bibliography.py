"""The papers behind the methods: ``methods.bib``, whole, in part, or as a typeset list."""

import re
from collections.abc import Iterable
from pathlib import Path

BIB = Path(__file__).parents[1] / "methods.bib"


def entries() -> dict[str, str]:
    """Citation key -> BibTeX entry, in the order of the file."""
    found = re.split(r"^(?=@)", BIB.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {key_of(text): text.strip() for text in found if text.startswith("@")}


def key_of(entry: str) -> str:
    """Citation key of one BibTeX entry.

    >>> key_of("@inproceedings{yadav2023ties, title = {...}}")
    'yadav2023ties'
    """
    return entry[entry.index("{") + 1 : entry.index(",")].strip()


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
    field = dict(re.findall(r"^\s*(\w+) = \{(.*)\},?$", entry, flags=re.MULTILINE))
    book = (
        [rf"\emph{{{field['booktitle']}}}"] if "booktitle" in field else []
    )  # else: on arXiv alone
    where = ", ".join([*book, *(field[name] for name in ("year",) if name in field)])
    return f"{_names(field['author'])}. {field['title']}. {where}. arXiv:{field['eprint']}."


def _names(author: str) -> str:
    """``Yadav, Prateek and Tam, Derek`` -> ``P. Yadav and D. Tam``; four or more -> et al."""
    names = []
    for name in author.split(" and "):
        last, first = name.split(", ")
        initials = " ".join(f"{part[0]}." for part in first.split())
        names.append(f"{initials}~{last}")
    if len(names) > 3:
        return f"{names[0]} et al"
    return " and ".join(names)
