r"""LaTeX: the same methods on suites of several sizes, with several encoders."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from mergeshift import UserError
from results.latex.document import cited_title, escape
from results.latex.paper_table import (
    ColumnGroup,
    PaperTable,
    blocks_of,
    caption,
    small,
    told,
    value,
    widest,
)
from results.schema import FLOOR
from results.tables.comparison import Table, compare
from results.tables.entries import Entry
from results.tables.layout import points

ENCODERS = {"ViT-B-32": "ViT-B/32", "ViT-B-16": "ViT-B/16", "ViT-L-14": "ViT-L/14"}
FEW = 3  # so many columns show their intervals
NORMALISED = r"In parentheses: \% of the individual experts' accuracy, averaged over tasks."


def suites(sweeps: Sequence[pd.DataFrame], order: Sequence[str] = ()) -> PaperTable:
    """Accuracy on clean images, a column per suite, grouped by encoder.

    A method that was not measured somewhere has a dash there. Every column is a comparison of its
    own: nothing is averaged over suites.

    Args:
        sweeps: rows of one suite and encoder each.
        order: methods to put first.

    Raises:
        UserError: clean images were not measured, or a suite and encoder stand there twice.
    """
    tables: dict[tuple[str, str], Table] = {}  # (encoder, suite) -> on clean images
    sizes: dict[tuple[str, str], int] = {}
    for rows in sweeps:
        clean = rows[(rows["corruption"] == "clean") & (rows["metric"] == "acc")]
        if clean.empty:
            raise UserError("bmm-main is about clean images; add `clean` to the sweep's shifts")
        table = compare(clean, order=order)
        key = table.setting["encoder"], table.setting["suite"]
        if key in tables:
            raise UserError(f"{key[1]} with {key[0]} stands there twice; choose one --sweep")
        tables[key], sizes[key] = table, clean["task"].nunique()
    keys = sorted(tables, key=lambda key: (_place(key[0]), sizes[key], key[1]))
    first = tables[keys[0]]
    merged = replace(first, entries=_entries([tables[key] for key in keys], order))
    few = len(keys) <= FEW
    blocks = [
        [
            (cited_title(merged, entry), [_cell(tables[key], entry, few) for key in keys])
            for entry in block
        ]
        for block in blocks_of(merged.entries)
    ]
    encoders = list(dict.fromkeys(encoder for encoder, _ in keys))
    groups = [
        ColumnGroup(escape(ENCODERS.get(one, one)), sum(key[0] == one for key in keys))
        for one in encoders
    ]
    worlds = list(dict.fromkeys(tables[key].world for key in keys))
    head = r"Accuracy in \%, higher is better; clean, mean over tasks."
    interval = told(first, "interval") if few else [widest(["clean"], *tables.values())]
    return PaperTable(
        table=merged,
        name="bmm-main",
        aligned="r" * len(keys),
        heads=[groups, [ColumnGroup(text) for text in _heads(keys, sizes)]],
        blocks=blocks,
        caption=caption(
            merged, "Accuracy by number of merged tasks", [head, NORMALISED, *interval], worlds
        ),
        below=_below(tables, keys, sizes),
    )


def _place(encoder: str) -> tuple[int, str]:
    known = list(ENCODERS)
    return (known.index(encoder) if encoder in known else -1), encoder


def _heads(keys: Sequence[tuple[str, str]], sizes: Mapping[tuple[str, str], int]) -> list[str]:
    """``8 tasks``; with the suite's name where two of one encoder have as many tasks."""
    found = []
    for key in keys:
        alike = sum(one[0] == key[0] and sizes[one] == sizes[key] for one in keys)
        name = f" ({key[1]})" if alike > 1 else ""
        found.append(escape(f"{sizes[key]} tasks{name}"))
    return found


def _cell(table: Table, entry: Entry, margin: bool) -> str:
    if (entry.key, "clean") not in table.cells:
        return "--"
    text = value(table, entry, "clean", margin)
    share = table.summary.get("normalised", {}).get(entry.key)
    return text if share is None else text + small(f"({points(share)})")


def _entries(tables: Sequence[Table], order: Sequence[str]) -> tuple[Entry, ...]:
    """Every entry of any table once, in the order of the methods."""
    found = {entry.key: entry for table in reversed(tables) for entry in table.entries}
    seen = list(dict.fromkeys(entry.key for table in tables for entry in table.entries))

    def rank(key: str) -> tuple[bool, int, int]:
        entry = found[key]
        place = list(order).index(entry.method) if entry.method in order else len(order)
        return entry.is_reference and entry.method != FLOOR, place, seen.index(key)

    return tuple(found[key] for key in sorted(seen, key=rank))


def _below(
    tables: Mapping[tuple[str, str], Table],
    keys: Sequence[tuple[str, str]],
    sizes: Mapping[tuple[str, str], int],
) -> str:
    """Images, seeds and constants, each text once: of which columns, of most columns last."""
    heads = dict(zip(keys, _heads(keys, sizes), strict=True))
    parts = []
    for note in ("images", "unseen", "constants"):
        of_text: dict[str, list[tuple[str, str]]] = {}
        for key in keys:
            if text := "".join(told(tables[key], note)):
                of_text.setdefault(text, []).append(key)
        rarest = sorted(of_text, key=lambda text: len(of_text[text]))
        whole = sum(map(len, of_text.values())) == len(keys)
        for text in rarest[:-1] if whole else rarest:
            named = "; ".join(f"{escape(key[0])}, {heads[key]}" for key in of_text[text])
            parts.append(f"{named}: {text}")
        if whole:
            parts.append("Other columns: " * (len(rarest) > 1) + rarest[-1])
    suites = ", ".join(dict.fromkeys(key[1] for key in keys))
    return " ".join([f"Suites: {escape(suites)}.", *parts])
