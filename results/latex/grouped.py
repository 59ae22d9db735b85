r"""A table with several lines under each method, in LaTeX; it may go on over several pages."""

from collections.abc import Sequence

from results.latex.document import (
    PACKAGES,
    Float,
    cited_title,
    escape,
    float_around,
    heading,
    legend,
    row,
)
from results.tables.entries import Entry
from results.tables.layout import GroupedTable, Layout

TALL = 30  # beyond so many lines a table is broken over pages
NUMBER = 52  # points of a column of numbers, with the space beside it
SHARES = ((0.4, 0.6), (0.3, 0.25, 0.45))  # of the rest: names of methods, of their lines, text


def grouped_float(table: GroupedTable, label: str = "") -> Float:
    r"""A ``table`` float, or a ``longtable`` if it is too tall for a page."""
    layout = table.layout()
    head = row(
        [escape(text) for text in (layout.subject, layout.what.capitalize(), *layout.headers)]
    )
    blocks = [_block(table, layout, entry) for entry in table.entries]
    above = [escape(table.notes[key]) for key in layout.caption if key in table.notes]
    caption = " ".join([heading(table.title, table.notes["world"]), *above, *legend(table)])
    below = " ".join(escape(table.notes[key]) for key in layout.below if key in table.notes)
    label = label or f"tab:{table.setting['suite']}-by-{layout.what}"
    if sum(map(len, blocks)) > TALL:
        return Float(_longtable(layout, head, blocks, caption, label, below), table.cited)
    numbers = len(layout.headers) - layout.text_last
    sides = "ll" + "r" * numbers + "p{6cm}" * layout.text_last
    lines = [rf"\begin{{tabular}}{{@{{}}{sides}@{{}}}}", r"\toprule", head]
    for block in blocks:
        lines += [r"\midrule", *block]
    tabular = "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])
    return Float(float_around(tabular, caption, label, below), table.cited)


def _block(table: GroupedTable, layout: Layout, entry: Entry) -> list[str]:
    """The lines of one method; its name stands in the first."""
    titles = [cited_title(table, entry)] + [""] * (len(layout.lines[entry.key]) - 1)
    return [
        row([title, escape(name), *_written(layout, cells)])
        for title, (name, cells) in zip(titles, layout.lines[entry.key], strict=True)
    ]


def _written(layout: Layout, cells: Sequence[str]) -> list[str]:
    """Text is made literal; numbers are written as they stand."""
    return [
        escape(cell) if layout.is_text(number) else cell.replace("+-", r"$\pm$")
        for number, cell in enumerate(cells, 1)
    ]


def _longtable(
    layout: Layout,
    head: str,
    blocks: Sequence[Sequence[str]],
    caption: str,
    label: str,
    below: str,
) -> str:
    r"""A ``longtable``: its head stands on every page. Not for pages of two columns of text.

    No page ends behind the first line of a block.
    """
    numbers, text = len(layout.headers) - layout.text_last, layout.text_last
    rest = rf"\dimexpr\linewidth-{NUMBER * numbers + 8 * (1 + text)}pt\relax"
    sides = [rf">{{\raggedright\arraybackslash}}p{{{share}{rest}}}" for share in SHARES[text]]
    sides.insert(2, "r" * numbers)
    body = ["\n".join([first.removesuffix(r"\\") + r"\\*", *others]) for first, *others in blocks]
    return "\n".join(
        (
            PACKAGES.format("array,booktabs,longtable"),
            r"{\footnotesize\setlength{\tabcolsep}{4pt}\setlength{\LTcapwidth}{\linewidth}",
            rf"\begin{{longtable}}{{@{{}}{''.join(sides)}@{{}}}}",
            rf"\caption{{{caption}}}\label{{{label}}}\\",
            rf"\toprule {head} \midrule \endfirsthead",
            rf"\toprule {head} \midrule \endhead",
            r"\bottomrule \endfoot",
            "\n\\addlinespace\n".join(body),
            r"\end{longtable}",
            rf"\noindent {below}\par}}",
            "",
        )
    )
