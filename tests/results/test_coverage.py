"""Simulated sweeps: intervals hold the truth as often as they say."""

import numpy as np
import pytest

from bench.profiling.coverage import cells
from mergeshift import rng_of
from results.coverage import Design, Truth, quantity, simulate, sweep
from results.tables.quantities import difference

FEW = Truth(tasks=4, images=150)


@pytest.mark.parametrize("sets", [2, 3, 5])
@pytest.mark.parametrize("experts", [0.0, 0.007])
def test_intervals_hold_the_truth(sets: int, experts: float) -> None:
    found = simulate(Design(sets), Truth(tasks=4, images=150, experts=experts), draws=300)
    assert found.paired >= 0.93
    assert found.line >= 0.93
    assert found.detected > 0


def test_intervals_over_images_alone_do_not() -> None:
    found = simulate(Design(1), Truth(tasks=4, images=150, experts=0.02), draws=200)
    assert found.images < 0.8
    assert np.isnan([found.detected, found.freedom]).all()


def test_new_sets_detect_more_than_the_same_number_of_merges_of_old_ones() -> None:
    truth = Truth(tasks=4, images=150, experts=0.01)
    three, crossed, six = (simulate(one, truth, 200).detected
                           for one in (Design(3), Design(3, 2), Design(6)))  # fmt: skip
    assert six < crossed < three


def test_a_sweep_is_drawn_around_its_truth() -> None:
    truth = Truth(better=0.02, experts=0.01, shared=0.02)
    first, second = sweep(Design(200), truth, rng_of("one"))
    assert first.shape == (1, 200, 8, 400)
    sets = first.mean(axis=(0, 2, 3)) - second.mean(axis=(0, 2, 3))
    assert sets.mean() == pytest.approx(0.02, abs=0.006)
    assert sets.std() == pytest.approx(0.01, rel=0.2)
    assert first.mean() == pytest.approx(0.77, abs=0.02)


def test_every_square_merges_every_expert_once() -> None:
    for square in Design(5, 3).experts(8):  # [sets, tasks]
        assert (np.sort(square, axis=0) == np.arange(5)[:, None]).all()
    assert (Design(3).experts(8)[0] == np.arange(3)[:, None]).all()  # as they are


def test_what_is_simulated_is_what_tables_compute() -> None:
    first, second = sweep(Design(3), FEW, rng_of("two"))
    one, other = quantity(first), quantity(second)
    gap = difference(one, other)
    assert gap.value == pytest.approx(first.mean() - second.mean())
    assert one.sets == pytest.approx(first.mean(axis=(0, 2, 3)))
    assert one.estimate.low < first.mean() < one.estimate.high


def test_lines_that_are_printed() -> None:
    assert cells(Design(1), 0.005, 5)[4:] == ["-", "-", "-", "-"]
    line = cells(Design(3, 2), 0.005, 5)
    assert line[:3] == ["3", "6", "0.50"]
    assert all(float(cell) >= 0 for cell in line)
