"""The published setting: what is known of FusionBench's eight experts, and which lines steer."""

import pytest

from mergeshift import UserError
from results.diagnosis import HARM, WON, measures
from results.published.reference import ROLES, choice, lines_of, reference
from results.published.sources import read


def test_shares_that_the_literature_has_been_read_to_say():
    """By hand from the page: zero-shot 48.2, experts 90.4, average 66.5, TSV-M 83.1, harm 11.8."""
    found = {(one.group, one.name): one.mean for one in measures(reference())}
    assert found["Accuracy", "zero-shot"] == pytest.approx(0.482, abs=1e-3)
    assert found["Accuracy", "expert"] == pytest.approx(0.904, abs=1e-3)
    assert found[HARM, "points"] == pytest.approx(-0.118, abs=1e-3)
    wanted = {"Average": 66.53, "Task Arithmetic": 68.01, "TIES": 72.2, "TSV-M": 83.07,
              "RegMean": 82.4, "AdaMerging (layer-wise)": 82.6}  # fmt: skip
    merged = {name: share for (group, name), share in found.items() if group == WON}
    assert merged.keys() == wanted.keys()
    for name, accuracy in wanted.items():
        assert merged[name] == pytest.approx((accuracy - 48.2) / (90.4 - 48.2), abs=5e-3)


def test_held_out_lines_are_shown_when_they_are_asked_for():
    assert reference().methods == lines_of("development")
    every = reference(held_out=True).methods
    assert every == [*lines_of("development"), *lines_of("held_out")]
    assert len(every) == len(set(every))
    of_family = read()
    for name in ("suite", "encoder", "checkpoints"):
        of_family = of_family[of_family[name] == choice()[name]]
    merged = set(of_family[of_family["unseen"] == ""]["method"])
    assert merged == {*every, "pretrained", "individual", "expert", "multitask"}  # none forgotten


def test_every_line_names_a_source():
    for role in ROLES:
        assert all("source" in where for where in choice()[role].values())
    with pytest.raises(UserError):
        read(["nobody"])
