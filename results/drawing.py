"""What figures share: an empty one, a field of coloured numbers, names, and files."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.files import atomic

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
