"""The figure of a setting as a merging problem."""

import pytest

from results.diagnosis import OWN, WON, measures
from results.plots.diagnosis import lines_and_shares
from tests.helpers.diagnosed import invented


def test_lines_are_the_measured_shares():
    setting, published = invented(3), invented(4, label="published")
    left, right = lines_and_shares(setting, published).axes
    found = measures(setting)
    own = [one for one in found if one.group == OWN]
    *tasks, mean, _ = left.lines
    assert list(mean.get_xdata()) == [0, 0.125, 0.5, 1]
    assert list(mean.get_ydata()) == pytest.approx([0, *(one.mean for one in own), 1])
    for number, line in enumerate(tasks):
        assert list(line.get_ydata()) == pytest.approx([0, *(one.tasks[number] for one in own), 1])
    theirs = {one.name: one.mean for one in measures(published) if one.group == WON}
    dots = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in right.lines}
    for one in found:
        if one.group == WON:
            assert dots[one.name] == pytest.approx((theirs[one.name], one.mean))
    assert "published" in right.get_xlabel()
