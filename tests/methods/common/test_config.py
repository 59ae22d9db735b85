"""Settings of methods: read from text, checked, and searched."""

import pickle
import re
from dataclasses import replace
from typing import Literal

import pytest

from mergeshift import UserError
from methods import METHODS
from methods.average import Average
from methods.common.config import BaseConfig, Setting
from methods.ties import Ties


def test_settings_are_read_from_text():
    cfg = Ties.Config.parse(["keep=1", "merge=sum", "scale=3e-1"])
    assert cfg == Ties.Config(keep=1.0, merge="sum", scale=0.3)
    assert type(cfg.keep) is float
    assert Ties.Config.make({"keep": "0.5", "scale": 2}) == Ties.Config(keep=0.5, scale=2.0)
    assert Ties.Config.parse([]) == Ties.Config()
    assert Ties.Config().as_dict() == {
        "keep": 0.2, "merge": "mean", "scale": 1.0, "zero_sign": "zero",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "pairs", "message"),
    [
        ("ties", ["keep=20"], r"ties\.keep must be a number in \(0, 1\]; got 20\.0"),
        ("ties", ["keep=0"], r"ties\.keep must be a number in \(0, 1\]; got 0\.0"),
        ("ties", ["keep=nan"], r"ties\.keep must be .*; got nan"),
        ("ties", ["scale=inf"], r"ties\.scale must be a number in \[0, inf\); got inf"),
        ("ties", ["scale=much"], r"ties\.scale must be .*; got 'much'"),
        ("ties", ["merge=max"], r"ties\.merge must be one of mean, sum; got 'max'"),
        ("ties", ["kep=0.2"], r"ties has no setting 'kep'; did you mean 'keep'\? it has: keep, "),
        ("ties", ["keep"], r"a setting of ties is written KEY=VALUE; got 'keep'"),
        ("ties", ["keep=.1", "keep=.2"], r"ties\.keep is set twice"),
        ("average", ["scale=1"], r"average has no setting 'scale'; it has none"),
        ("task_arithmetic", ["scale=-1"], r"task_arithmetic\.scale must be .*; got -1\.0"),
    ],
)
def test_bad_settings_are_one_line(name, pairs, message):
    with pytest.raises(UserError, match=message):
        METHODS[name].Config.parse(pairs)


class Every(BaseConfig):
    method = "every"
    count: int = Setting(2, low=1, high=9)
    clamp: bool = False
    how: Literal["a", "b"] = "a"
    note: str = ""


def test_every_kind_of_setting_is_checked():
    assert Every.parse(["count=3", "clamp=True", "how=b", "note=x=y"]) == Every(
        count=3, clamp=True, how="b", note="x=y"
    )
    for bad in ("count=2.5", "count=10", "clamp=1", "how=c"):
        with pytest.raises(UserError, match=f"every.{bad.partition('=')[0]} must be"):
            Every.parse([bad])
    for value in (True, 2.0, None):
        with pytest.raises(UserError, match="whole number"):
            Every(count=value)


class Named(Every):
    presets = {"paper": {"count": 5, "clamp": True}, "code": {"count": 7}}


def test_a_preset_stands_for_its_fields_and_what_is_set_besides_wins():
    assert Named.make({"preset": "paper"}) == Named(count=5, clamp=True)
    assert Named.parse(["count=6", "preset=paper"]) == Named(count=6, clamp=True)
    assert Named.expand({"preset": "code", "how": "b"}) == {"count": 7, "how": "b"}
    assert Named.expand({"how": "b"}) == {"how": "b"}
    assert "preset" not in Named.make({"preset": "code"}).as_dict()
    for pairs, message in (
        (["preset=papr"], r"every has no preset 'papr'; it has: paper, code"),
        (["preset=paper", "count=10"], r"every\.count must be"),
        (["preset=paper", "preset=code"], r"every\.preset is set twice"),
    ):
        with pytest.raises(UserError, match=message):
            Named.parse(pairs)
    with pytest.raises(UserError, match=r"ties has no preset 'paper'; it has none"):
        Ties.Config.make({"preset": "paper"})


@pytest.mark.parametrize("name", METHODS)
def test_every_preset_can_be_made(name):
    for preset in METHODS[name].Config.presets:
        METHODS[name].Config.make({"preset": preset})


def test_candidates_are_the_grid_around_the_other_fields():
    cfg = replace(Ties.Config(), zero_sign="majority")
    found = list(cfg.candidates())
    assert len(found) == 32
    assert {(c.keep, c.merge, c.scale) for c in found} == {
        (k, m, s) for k in cfg.grid["keep"] for m in cfg.grid["merge"] for s in cfg.grid["scale"]
    }
    assert {c.zero_sign for c in found} == {"majority"}
    fixed = list(replace(cfg, keep=0.33).candidates(fixed=["keep"]))
    assert len(fixed) == 16
    assert {c.keep for c in fixed} == {0.33}
    assert list(Average.Config().candidates()) == [Average.Config()]


@pytest.mark.parametrize("name", METHODS)
def test_settings_travel_between_processes(name):
    cfg = METHODS[name].Config()
    assert pickle.loads(pickle.dumps(cfg)) == cfg
    assert type(cfg).method == name


@pytest.mark.parametrize(
    ("bounds", "text", "inside", "outside"),
    [
        ({}, "(-inf, inf)", (-1e300, 0, 1e300), (float("inf"), float("-inf"), float("nan"))),
        ({"low": 0}, "[0, inf)", (0, 1e300), (-1e-300, float("inf"))),
        ({"above": 0}, "(0, inf)", (1e-300,), (0, -1)),
        ({"above": 0, "high": 1}, "(0, 1]", (0.5, 1), (0, 1.0000001)),
        ({"low": 2, "below": 3}, "[2, 3)", (2, 2.999), (1.999, 3)),
        ({"low": -0.5, "high": 0.25}, "[-0.5, 0.25]", (-0.5, 0.25), (-0.6, 0.3)),
    ],
)
def test_bounds_are_those_of_the_interval_that_is_printed(bounds, text, inside, outside):
    class Bounded(BaseConfig):
        x: float = Setting(inside[0], **bounds)

    for value in inside:
        assert Bounded(x=value).x == value
    for value in outside:
        with pytest.raises(UserError, match=re.escape(f"method.x must be a number in {text}; got")):
            Bounded(x=value)


def test_a_bound_is_given_once():
    for bounds in ({"low": 0, "above": 0}, {"high": 1, "below": 1}):
        with pytest.raises(AssertionError, match=r"give (low, or above|high, or below)"):
            Setting(1.0, **bounds)


def test_the_grid_is_that_of_the_fields_in_their_order():
    class Tuned(BaseConfig):
        b: int = Setting(1, low=0, grid=(3, 1))
        plain: int = 0
        a: Literal["x", "y"] = Setting("x", grid=("y", "x"))

    class More(Tuned):
        c: bool = Setting(False, grid=(True,))
        b: int = Setting(2, low=0)  # not tuned here

    assert list(Tuned.grid.items()) == [("b", (3, 1)), ("a", ("y", "x"))]
    assert [(cfg.b, cfg.a) for cfg in Tuned().candidates()] == [
        (3, "y"), (3, "x"), (1, "y"), (1, "x"),
    ]  # fmt: skip
    assert list(More.grid.items()) == [("a", ("y", "x")), ("c", (True,))]
    assert More().as_dict() == {"b": 2, "plain": 0, "a": "x", "c": False}


def test_mistakes_in_a_config_are_found_when_it_is_written():
    with pytest.raises(TypeError, match=r"Former: give the grid to its field, Setting\("):
        type("Former", (BaseConfig,), {"grid": {"scale": (1.0,)}})
    with pytest.raises(TypeError, match="'scale' is a field but has no type annotation"):
        type("Untyped", (BaseConfig,), {"scale": Setting(1.0)})
