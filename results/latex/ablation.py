r"""LaTeX: a method, what is left of it without each of its parts, and what that is worth."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from mergeshift import UserError
from results.latex.document import cited_title, escape
from results.latex.paper_table import (
    ColumnGroup,
    PaperTable,
    caption,
    signed,
    small,
    told,
    value,
    widest,
)
from results.tables.comparison import Table, compare
from results.tables.entries import Entry
from results.tables.paired import paired

FEW = 2  # so many columns show the intervals of both
DELTA = (
    r"$\Delta$: difference from the full method on the same images, in points, with its 95 \% "
    r"interval (paired, stratified by task)."
)


def ablation(rows: pd.DataFrame, order: Sequence[str] = ()) -> PaperTable:
    """The full method, its variants and the difference each makes; other methods above.

    Raises:
        UserError: no method here has variants beside itself, or several have.
    """
    table = compare(rows, order=order)
    full = _full(table)
    variants = [one for one in table.entries if one.method == full.method and one is not full]
    others = [one for one in table.entries if one.method != full.method]
    table = replace(table, entries=(*others, full, *variants), summary={})
    differences = {one.key: paired(rows, one.key, full.key) for one in variants}

    few = len(table.columns) <= FEW

    def cells(entry: Entry) -> list[str]:
        found = []
        for name in table.columns:
            found.append(value(table, entry, name, margin=few))
            if entry.key in differences:
                line = differences[entry.key].loc[name]
                limits = f"[{signed(line['low'])}, {signed(line['high'])}]"
                found.append(signed(line["difference"]) + small(limits))
            else:
                found.append("")
        return found

    def title(entry: Entry) -> str:
        if entry is full:
            return cited_title(table, entry)
        if entry.method == full.method:
            part = replace(entry, title=without(entry.key), cite="")
            return rf"\quad {cited_title(table, part)}"
        return cited_title(table, entry)

    blocks = [[(title(one), cells(one)) for one in block] for block in (others, (full, *variants))]
    headers = ["Clean" if name == "clean" else escape(name) for name in table.columns]
    interval = told(table, "interval") if few else [widest(table.columns, table)]
    parts = [*told(table, "metric", "images"), *interval, DELTA]
    return PaperTable(
        table=table,
        name="bd-ablation",
        aligned="rr" * len(headers),
        heads=[
            [ColumnGroup(text, 2) for text in headers],
            [ColumnGroup("acc."), ColumnGroup(r"$\Delta$")] * len(headers),
        ],
        blocks=blocks,
        caption=caption(table, f"{full.title} without its parts, {table.setting['suite']} with "
                        f"{table.setting['encoder']}", parts),
        below=" ".join(told(table, "unseen", "levels", "shifts", "constants")),
    )  # fmt: skip


def without(key: str) -> str:
    """What a variant lacks or has, in words.

    >>> without("bd [router=false]"), without("bd [spread=0, ads=true]")
    ('w/o router', 'spread = 0, with ads')
    """
    told = []
    for part in key[key.index("[") + 1 : -1].split(", "):
        name, equals, text = part.partition("=")
        words = {"false": f"w/o {name}", "true": f"with {name}"}
        told.append(words.get(text, f"{name} = {text}" if equals else part))
    return ", ".join(told)


def _full(table: Table) -> Entry:
    plain = {one.method: one for one in table.entries if one.key == one.method}
    found = {one.method for one in table.entries if one.key != one.method} & set(plain)
    if len(found) != 1:
        what = f"several have ({', '.join(sorted(found))})" if found else "none has"
        raise UserError(
            f"bd-ablation needs one method beside its variants, such as bd_merging and "
            f"bd_merging[ads=false]; {what}; choose it with --methods"
        )
    return plain[found.pop()]
