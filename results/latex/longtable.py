r"""LaTeX: a table that is too tall for a page goes on over several."""

from collections.abc import Sequence

from results.latex.tabular import WRITTEN

NUMBER = 52  # points of a column of numbers, with the space beside it
SHARES = ((0.4, 0.6), (0.3, 0.25, 0.45))  # of the rest: names of methods, of their lines, text


def float_around(
    numbers: int,
    text_last: bool,
    head: str,
    blocks: Sequence[Sequence[str]],
    caption: str,
    label: str,
    below: str,
) -> str:
    r"""A ``longtable``: its head stands on every page. Not for pages of two columns of text.

    Args:
        numbers: columns of numbers behind the two columns of names.
        text_last: whether a column of text follows.
        head: the first line.
        blocks: lines that belong together: no page ends behind the first of them.
        caption: above it.
        label: for ``\ref``.
        below: notes.
    """
    rest = rf"\dimexpr\linewidth-{NUMBER * numbers + 8 * (1 + text_last)}pt\relax"
    sides = [rf">{{\raggedright\arraybackslash}}p{{{share}{rest}}}" for share in SHARES[text_last]]
    sides.insert(2, "r" * numbers)
    body = ["\n".join([first.removesuffix(r"\\") + r"\\*", *others]) for first, *others in blocks]
    return "\n".join(
        (
            WRITTEN.format("array,booktabs,longtable"),
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
