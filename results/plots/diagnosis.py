"""A setting as a merging problem: experts along their own lines, and shares beside published."""

from typing import TYPE_CHECKING

from results.diagnosis import OWN, WON, Diagnosis, measures
from results.plots.style import GREY, empty, line_styles, plain
from results.tables.entries import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def lines_and_shares(setting: Diagnosis, published: Diagnosis) -> "Figure":
    """Left: the share of the gap along each expert's own line, and of their mean.

    Right: the share of the gap that every method recovers, against the published one.

    Args:
        setting: ours.
        published: see :mod:`results.published.reference`.
    """
    figure = empty(10, 4.2)
    left, right = figure.subplots(1, 2)
    ours = measures(setting)
    own = [one for one in ours if one.group == OWN]
    steps = [0.0, *(float(one.name.removeprefix("s = ")) for one in own), 1.0]
    for number, _ in enumerate(setting.tasks):
        left.plot(steps, [0.0, *(one.tasks[number] for one in own), 1.0], color=GREY, lw=0.8)
    left.plot(steps, [0.0, *(one.mean for one in own), 1.0], color="black", marker="o", lw=2)
    left.plot([0, 1], [0, 1], color=GREY, ls=":", lw=0.8)
    left.set(xlabel="s, of theta_0 + s tau", ylabel="share of the gap")
    left.set_title(f"Own line: the mean, and each task of {setting.suite}", fontsize=10)
    theirs = {one.name: one.mean for one in measures(published) if one.group == WON}
    here = {one.name: one.mean for one in ours if one.group == WON}
    entries = {
        name: Entry(key=name, method=name, title=title, cite="", tuned=False, config="",
                    data_access="")
        for name, title in setting.titles.items()
    }  # fmt: skip
    styles = line_styles(entries.values())
    named = {name: published.titles[name] for name in entries if name in published.titles}
    for name, title in named.items():
        x, y = theirs[title], here[entries[name].title]
        look, text = styles[name], plain(entries[name].title)
        right.plot(x, y, look.marker, color=look.colour, ls="", label=text)
    low = min(0.0, *(here[entries[name].title] for name in named))
    right.plot([0, 1], [0, 1], color=GREY, ls=":", lw=0.8)
    right.legend(fontsize=8)
    right.set(xlim=(0, 1.05), ylim=(low - 0.05, 1.05))
    right.set(
        xlabel=f"share recovered: {published.label}", ylabel=f"share recovered: {setting.label}"
    )
    right.set_title("Methods beside their published rows", fontsize=10)
    return figure
