"""Maps of where images are routed to, and of coefficients layer by layer."""

import numpy as np
import pytest

from mergeshift import UserError
from results.plots import learned, style
from tests.helpers.result_frames import MAIN_SHIFTS, TASKS, make_rows
from tests.helpers.routed_frames import routed_rows, weights_of

CLEAN = [("clean", 0)]
LEVELS = ("clean", "L1", "L2", "L3")


def test_the_map_of_routes_is_the_mean_over_seeds_and_corruptions() -> None:
    rows = routed_rows(["twin_merging"], seeds=(0, 1), routes=[*TASKS, "null"])
    title, panels = learned.weights(rows)
    assert title == "Twin-Merging"
    assert list(panels) == list(LEVELS)
    level = panels["L2"]
    assert list(level.index) == list(TASKS)
    assert list(level.columns) == [*TASKS, "null"]
    shifts = [shift for shift in MAIN_SHIFTS if shift[1] == 2]
    expected = [
        np.mean([weights_of("twin_merging", task, shift, seed, level.columns.tolist())
                 for shift in shifts for seed in (0, 1)], axis=0)
        for task in TASKS
    ]  # fmt: skip
    np.testing.assert_allclose(level.to_numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(level.sum(axis=1), 1)


def test_the_map_of_routes_prints_percent_in_every_panel(tmp_path) -> None:
    rows = routed_rows(["twin_merging"], shifts=[*CLEAN, ("contrast", 5)])
    figure = learned.routing(rows)
    _, panels = learned.weights(rows)
    assert [axes.get_title() for axes in figure.axes] == ["clean", "contrast@5"] == list(panels)
    for axes, frame in zip(figure.axes, panels.values(), strict=True):
        printed = [label.get_text() for label in axes.texts]
        expected = [f"{100 * value:.0f}" for value in frame.to_numpy().ravel()]
        assert printed == ["" if one == "0" else one for one in expected]
        assert [label.get_text() for label in axes.get_xticklabels()] == list(TASKS)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(TASKS)
    assert style.save(figure, tmp_path / "routing.png").stat().st_size > 5_000


def test_panels_fill_rows_and_the_rest_stays_empty() -> None:
    shifts = [*CLEAN, *((name, 5) for name in ("contrast", "fog", "snow", "frost"))]
    axes = learned.routing(routed_rows(["twin_merging"], ["mnist", "letters"], shifts)).axes
    assert [one.get_visible() for one in axes] == [True] * 5 + [False] * 3
    titles = {"clean", "contrast@5", "fog@5", "snow@5", "frost@5"}
    assert {one.get_title() for one in axes[:5]} == titles


def test_one_method_is_mapped_at_a_time() -> None:
    rows = routed_rows(shifts=CLEAN)
    with pytest.raises(UserError, match=r"2 methods route \(centroid_router, twin_merging\)"):
        learned.routing(rows)
    with pytest.raises(UserError, match="no method here routes"):
        learned.routing(make_rows(["ties"]))


def test_many_routes_stay_within_a_page() -> None:
    tasks = [f"task_{i:02}" for i in range(20)]
    figure = learned.routing(routed_rows(["twin_merging"], tasks, n=10))
    assert len(figure.axes) == 4
    assert max(figure.get_size_inches()) < 13


def test_coefficients_go_from_the_first_layer_to_the_last() -> None:
    names = ["proj", "resblocks.10.attn", "resblocks.2.mlp", "ln_post.bias", "conv1.weight",
             "ln_pre.bias"]  # fmt: skip
    values = {name: {"letters": i / 8, "mnist": 0.25} for i, name in enumerate(names)}
    axes, bar = learned.coefficients(values, "AdaMerging $x$", ["mnist", "letters"]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "conv1.weight", "ln_pre.bias", "resblocks.2.mlp", "resblocks.10.attn", "ln_post.bias",
        "proj",
    ]  # fmt: skip
    assert [label.get_text() for label in axes.get_xticklabels()] == ["mnist", "letters"]
    assert [label.get_text() for label in axes.texts][:4] == ["0.25", "0.50", "0.25", "0.62"]
    assert bar.get_ylim() == (0, 0.625)


def test_negative_coefficients_have_zero_in_the_middle() -> None:
    values = {"all": {"mnist": 0.5, "letters": -0.001}}
    axes, bar = learned.coefficients(values, "AdaMerging").axes
    assert [label.get_text() for label in axes.texts] == ["0.50", "0.00"]
    assert bar.get_ylim() == (-0.5, 0.5)
    with pytest.raises(UserError, match="Ties learned no coefficients"):
        learned.coefficients({}, "Ties")


@pytest.mark.parametrize("num_layers", [1, 12, 80, 152])
def test_figures_of_coefficients_grow_with_the_layers(tmp_path, num_layers: int) -> None:
    values = {f"transformer.resblocks.{i}.mlp.c_proj.weight": {"mnist": 0.3, "letters": 0.1}
              for i in range(num_layers)}  # fmt: skip
    figure = learned.coefficients(values, "AdaMerging (layer-wise) on pocket8, seed 0")
    width, height = figure.get_size_inches()
    assert width < 10
    assert height < 24
    assert len(figure.axes[0].texts) == 2 * num_layers
    if num_layers < 20:
        style.save(figure, tmp_path / "map.pdf")
