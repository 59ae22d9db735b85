"""Matched levels: the search against brute force, the frozen file, and what is refused."""

from itertools import pairwise, product

import numpy as np
import pytest

from bench.config import Sweep
from bench.plan import resolve
from corruptions import matched
from corruptions.base import MATCHED, PROTOCOL, SEVERITIES, parse_shifts
from corruptions.matched import Entry, entries, frozen, search
from mergeshift import UserError


def losses(seed: int, names: tuple[str, ...], steps: int = 5) -> dict[str, dict[int, float]]:
    """Losses that mostly rise, and cross between corruptions."""
    rng = np.random.default_rng(seed)
    return {
        name: {s + 1: float(v) for s, v in enumerate(np.cumsum(rng.normal(0.04, 0.03, steps)))}
        for name in names
    }


def distance(loss, levels) -> float:
    return sum(abs(np.mean([loss[c][s] for c, s in of.items()]) - MATCHED[level])
               for level, of in levels.items())  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_the_search_is_exhaustive(seed, monkeypatch):
    """Two corruptions: all 25 x 25 x 25 chains are looked at."""
    monkeypatch.setattr(matched, "FIRST", 3)  # so that it has to widen its search
    loss = losses(seed, ("contrast", "fog"))
    options = list(product(SEVERITIES, repeat=2))
    best = min(
        sum(abs((loss["contrast"][a] + loss["fog"][b]) / 2 - wanted)
            for (a, b), wanted in zip(chain, MATCHED.values(), strict=True))
        for chain in product(options, repeat=3)
        if all(x <= y for one, two in pairwise(chain)
               for x, y in zip(one, two, strict=True))
    )  # fmt: skip
    assert distance(loss, search(loss)) == pytest.approx(best, abs=1e-12)


def test_levels_of_the_seven_never_fall_and_come_near():
    loss = losses(0, PROTOCOL)
    levels = search(loss)
    assert list(levels) == list(MATCHED)
    for name in PROTOCOL:
        assert levels["M1"][name] <= levels["M2"][name] <= levels["M3"][name]
    assert distance(loss, levels) < 0.002  # 78,125 choices for each level
    assert search(loss) == levels


ONE = {name: 1 + k % 5 for k, name in enumerate(PROTOCOL)}
ENTRY = Entry(
    suite="toy", encoder="toy-vit", base="0" * 16, constants="cifar10-c", placement="input",
    levels=dict.fromkeys(MATCHED, ONE), loss={"M1": 0.07, "M2": 0.13, "M3": 0.165},
)  # fmt: skip


def test_an_entry_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "matched.toml"
    path.write_text(f"# levels\n{ENTRY.text()}\n{ENTRY.text()}")
    assert entries(path) == (ENTRY, ENTRY)
    assert "# M1: 7.00 % on val, 7.3 wanted" in path.read_text()
    path.write_text(ENTRY.text().replace("contrast = 1", "contrast = 6"))
    entries.cache_clear()
    with pytest.raises(UserError, match=r"M1 of toy in .* a severity of 1 to 5"):
        entries(path)


def test_what_is_frozen_here_is_whole():
    for entry in entries():
        for name, wanted in MATCHED.items():
            assert abs(entry.loss[name] - wanted) < 0.02


def test_a_level_is_that_of_a_suite_with_its_encoder(monkeypatch):
    wanted = {"suite": "toy", "encoder": "toy-vit", "base": "0" * 16, "constants": "cifar10-c",
              "placement": "input"}  # fmt: skip
    with pytest.raises(UserError, match="M2 is not frozen for toy with toy-vit") as caught:
        frozen("M2", **wanted)
    assert "python -m bench zoo match-levels --suite toy --encoder toy-vit" in str(caught.value)
    monkeypatch.setattr(matched, "entries", lambda: (ENTRY,))
    assert frozen("M2", **wanted) == ONE
    for key in ("suite", "base", "constants", "placement"):
        with pytest.raises(UserError, match="M2 is not frozen"):
            frozen("M2", **wanted | {key: "other"})


def test_a_sweep_takes_frozen_levels_and_refuses_others(monkeypatch):
    sweep = Sweep(suite="toy", methods=("average",), shifts=("clean", "M1"))
    with pytest.raises(UserError, match="M1 is not frozen for toy with toy-vit"):
        resolve(sweep)
    asked = []
    monkeypatch.setattr("bench.plan.frozen", lambda name, **of: asked.append((name, of)) or ONE)
    assert [str(shift) for shift in resolve(sweep).shifts] == [
        "clean", *(f"{name}@{severity}" for name, severity in ONE.items())
    ]  # fmt: skip
    ((name, of),) = asked
    assert (name, of["suite"], of["constants"]) == ("M1", "toy", "cifar10-c")
    with pytest.raises(UserError, match="M1 is a level of a suite with its encoder"):
        parse_shifts(["M1"])
    with pytest.raises(UserError, match="M1 has no severity"):
        parse_shifts(["M1@2"])
