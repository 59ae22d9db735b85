"""Figures that can be read: no text over text, none cut off, no hair through a name."""

from itertools import combinations
from typing import Any

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from results.plots import comparison, scale, style
from results.plots.scale import VAL, Trials
from tests.helpers.result_frames import TASKS, make_rows

REST = {"keep": 0.2, "merge": "sum"}
NAMES = ("AdaMerging (layer-wise)", "AdaMerging (task-wise)", "AdaMerging++", "Twin-Merging")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Four methods with long names whose lines end side by side, beside the others."""
    every = make_rows(n=120)
    one = every[every["method"] == "adamerging"]
    return pd.concat([every[every["method"] != "adamerging"], *(
        one.assign(method=name, title=title, run_id=name)
        for name, title in zip(
            ("adamerging", "adamerging_task", "adamerging_pp", "twin_merging"), NAMES, strict=True
        )
    )])  # fmt: skip


def drawn(figure: Any) -> Any:
    """Draw a figure, so that its texts have a place; what drew it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def test_names_at_the_ends_of_lines_are_apart_and_no_hair_crosses_one(rows):
    figure = comparison.severity(rows)
    renderer, (axes,) = drawn(figure), figure.axes
    names = {note.get_text(): Text.get_window_extent(note, renderer)
             for note in axes.texts}  # fmt: skip
    assert set(NAMES) <= set(names)
    for (_, one), (_, other) in combinations(names.items(), 2):
        assert not one.overlaps(other)
    for note in axes.texts:
        end = note.arrow_patch.get_path().vertices  # in pixels, once it was drawn
        assert end[:, 0].max() <= min(box.x0 for box in names.values()) + 1


def test_nothing_is_cut_off(rows):
    for figure in (comparison.severity(rows), comparison.heatmap(rows)):
        renderer = drawn(figure)
        width, height = figure.canvas.get_width_height()
        box = figure.axes[0]._left_title.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


def test_the_three_adamergings_have_three_colours():
    names = ("adamerging", "adamerging_task", "adamerging_pp")
    assert len({style.LINE_STYLES[name].colour for name in names}) == 3


@pytest.mark.parametrize("scales", [
    (0.18, 0.1825, 0.185, 0.19, 0.2), (0.1, 0.3, 0.5), (0.05, 0.1, 0.2, 0.5, 1.5),
])  # fmt: skip
def test_panels_without_a_curve_are_left_out_and_ticks_are_apart(rows, scales):
    trials = Trials("ties", REST, {s: dict.fromkeys(TASKS, s / 2) for s in scales},
                    dict.fromkeys(TASKS, 50), scales[1])  # fmt: skip
    figure = scale.scale(rows, [trials])
    assert [axes.get_title() for axes in figure.axes] == [VAL]
    renderer, (axes,) = drawn(figure), figure.axes
    low, high = axes.get_xlim()
    shown = [label.get_window_extent(renderer) for label in axes.get_xticklabels()
             if low <= label.get_position()[0] <= high and label.get_text()]  # fmt: skip
    assert len(shown) > 1
    assert not any(one.overlaps(other) for one, other in combinations(shown, 2))


def test_a_line_from_elsewhere_says_so_in_a_figure(rows):
    mine = rows[rows["method"] == "average"].assign(method="x", title="x (external)", run_id="x")
    figure = comparison.severity(pd.concat([rows, mine]))
    assert "x (external)" in [note.get_text() for note in figure.axes[0].texts]
