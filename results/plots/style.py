"""What figures share: an empty one, a field of coloured numbers, names, and files."""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from itertools import product
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from mergeshift import UserError, atomic, seed_of
from results.schema import CEILING, FLOOR, ORACLE
from results.tables.entries import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


FORMATS = ("png", "pdf", "svg")


def empty(width: float, height: float) -> "Figure":
    """A figure of its own, in inches: no global state, no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def fields(
    axes: Any,
    values: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    colours: str,
    limits: tuple[float, float] | None = None,
    size: float = 8,
) -> Any:
    """Draw a matrix as coloured fields with a text in each, black or white by what can be read.

    Args:
        axes: where.
        values: ``[R, C]``, coloured.
        texts: ``[R, C]``, printed.
        rows: names at the left.
        columns: names below.
        colours: name of a colour map.
        limits: values of its first and last colour; by default the extremes.
        size: of the texts, in points.

    Returns:
        The image, e.g. for a colour bar.
    """
    image = axes.imshow(values, cmap=colours, aspect="auto")
    if limits:
        image.set_clim(*limits)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            red, green, blue, _ = image.cmap(image.norm(value))
            light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
            ink = "black" if light else "white"
            axes.text(j, i, texts[i][j], ha="center", va="center", fontsize=size, color=ink)
    axes.set_xticks(range(len(columns)), [plain(name) for name in columns])
    axes.tick_params(axis="x", labelrotation=35)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [plain(name) for name in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks([j + 0.5 for j in range(len(columns) - 1)], minor=True)
    axes.set_yticks([i + 0.5 for i in range(len(rows) - 1)], minor=True)
    axes.grid(which="minor", color="white", linewidth=min(1.5, size / 6))
    axes.tick_params(which="minor", length=0)
    return image


def picture(figure: "Figure", dpi: int = 120) -> "Image":
    """The figure as a picture, for those who want pixels."""
    from PIL import Image

    file = BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return Image.open(file)


def wrapped(text: str, inches: float, points: float = 10) -> str:
    """Break a title so that it fits a figure: a letter is about 0.54 of its size wide."""
    return plain(fill(text, max(20, int(72 * inches / (0.54 * points)))))


def plain(text: str) -> str:
    r"""Keep matplotlib from reading ``$...$`` as mathematics."""
    return text.replace("$", r"\$")


def save(figure: "Figure", path: Path) -> Path:
    """Write the figure, all or nothing, in the format that the file's name ends with.

    Raises:
        UserError: a format that is not offered.
    """
    import matplotlib

    form = path.suffix.lstrip(".").lower()
    if form not in FORMATS:
        raise UserError(f"a figure is written as {', '.join(FORMATS)}; got {path.name!r}")
    # No date and no random ids in the file: the same rows give the same bytes.
    dates: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with matplotlib.rc_context({"svg.hashsalt": path.stem}), atomic(path) as temporary:
        figure.savefig(temporary, format=form, dpi=200, metadata=dates.get(form, {}))
    return path


GREY = "#666666"


class LineStyle(NamedTuple):
    """How a method is drawn, in every figure."""

    colour: str
    marker: str
    dash: str


# Okabe and Ito's colours, which people with colour-blindness can tell apart; a shape as well.
PALETTE = ("#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B2A400")

SHAPES = "osD^vP*X"

DASHES = ("-", "--", "-.", ":")

LINE_STYLES: Mapping[str, LineStyle] = {  # of well-known methods; see ``line_styles`` for others
    FLOOR: LineStyle(GREY, "s", ":"),
    "average": LineStyle(PALETTE[5], "o", "-"),
    "task_arithmetic": LineStyle(PALETTE[0], "s", "-"),
    "ties": LineStyle(PALETTE[2], "D", "-"),
    "regmean": LineStyle(PALETTE[2], "p", "--"),
    "tsv": LineStyle(PALETTE[1], "d", "-."),
    "wudi": LineStyle(PALETTE[4], "s", "-."),
    "adamerging": LineStyle(PALETTE[1], "^", "-"),
    "adamerging_task": LineStyle("#332288", "<", ":"),  # colours of their own (Paul Tol's): the
    "adamerging_pp": LineStyle("#882255", ">", "--"),  # three lines of one paper are compared
    "twin_merging": LineStyle(PALETTE[4], "v", "-"),
    "centroid_router": LineStyle(PALETTE[4], "*", ":"),
    "ce_router": LineStyle(PALETTE[4], "p", "--"),
    "entropy_router": LineStyle(PALETTE[4], "h", "-."),
    "logit_ensemble": LineStyle(PALETTE[6], "d", "--"),
    "bd_merging": LineStyle(PALETTE[3], "P", "-"),
    "bd_merging_task": LineStyle(PALETTE[3], "p", "--"),
    "anchor_scales": LineStyle(PALETTE[3], "h", ":"),
    "bmm": LineStyle(PALETTE[6], "X", "-"),
    "bmm_datafree": LineStyle(PALETTE[6], ">", "--"),
    "bmm_hybrid": LineStyle(PALETTE[6], "<", "-."),
    "bmm_sampled": LineStyle(PALETTE[6], "h", ":"),
    ORACLE: LineStyle("#000000", "v", ":"),
    CEILING: LineStyle("#000000", "o", "--"),
}


_EVERY = [LineStyle(*parts) for parts in product(PALETTE, SHAPES, DASHES)]


def line_styles(entries: Iterable[Entry]) -> dict[str, LineStyle]:
    """Key of a line -> its colour, marker and dash, no two of them alike.

    A method that ``LINE_STYLES`` does not list takes one that no method there has. Which one, its
    name decides, so that it is the same in every figure; only if another line of this figure has
    it already, it takes the next that is free. A variant has its method's colour, and a marker of
    its own. (Beyond some two hundred lines, styles come twice.)
    """
    lines = {entry.key: entry.method for entry in entries}
    found = dict(LINE_STYLES)
    for method in sorted(set(lines.values()) - LINE_STYLES.keys()):
        found[method] = _first_free(_rotated(_EVERY, method), found)
    for key in sorted(lines.keys() - found.keys()):
        own = found[lines[key]]
        dashes = (own.dash, *(dash for dash in DASHES if dash != own.dash))
        alike = [own._replace(marker=m, dash=d) for d in dashes for m in _rotated(SHAPES, key)]
        found[key] = _first_free([*alike, *_rotated(_EVERY, key)], found)
    return {key: found[key] for key in lines}


def _rotated(items: Sequence[Any], name: str) -> list[Any]:
    """The same in the same order, from one on that the name decides."""
    start = seed_of("look", name) % len(items)
    return [*items[start:], *items[:start]]


def _first_free(styles: Sequence[LineStyle], taken: Mapping[str, LineStyle]) -> LineStyle:
    """The first that no line has, or the first of all."""
    return next((style for style in styles if style not in taken.values()), styles[0])


def label_ends(
    axes: Any, ends: Mapping[Entry, float], x: float, styles: Mapping[str, LineStyle]
) -> None:
    """Name each line at its end; names keep a distance, and a hair leads to the line.

    The hair ends where the names begin, so that it runs through none of them.
    """
    low, high = axes.get_ylim()
    for entry, place in zip(ends, _apart(list(ends.values()), (high - low) / 18), strict=True):
        colour = styles[entry.key].colour
        axes.annotate(
            plain(entry.title),
            xy=(x, ends[entry]),
            xytext=(1.05, place),
            textcoords=axes.get_yaxis_transform(),
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 0,
                "shrinkB": 0,
            },
            va="center",
            fontsize=9,
            color=colour,
        )


def _apart(places: list[float], gap: float) -> list[float]:
    """Move numbers as little as a sweep up and one down need to keep them ``gap`` apart.

    >>> _apart([1.0, 5.0, 1.0], gap=1.0)
    [0.5, 5.0, 1.5]
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    up = [places[i] for i in order]
    down = up.copy()
    for i in range(1, len(order)):
        up[i] = max(up[i], up[i - 1] + gap)
        down[-1 - i] = min(down[-1 - i], down[-i] - gap)
    moved = dict(zip(order, [(a + b) / 2 for a, b in zip(up, down, strict=True)], strict=True))
    return [moved[i] for i in range(len(places))]
