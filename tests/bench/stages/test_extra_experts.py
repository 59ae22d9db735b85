"""Experts of tasks outside the suite: merged with the others, and nothing of them is measured."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from bench.plan import resolve
from bench.stages.build import bind
from bench.sweep import run_sweep
from bench.sweeps import SWEEPS
from bench.zoo.experts import checkpoints
from mergeshift import UnknownNameError, UserError
from results.store import Store
from results.tables.comparison import compare
from tasks import SUITES, TASKS
from tasks.suites import Suite
from tests.helpers.toy_sweep import sweep_into

PAIR, EXTRA = ("toy_four", "toy_two"), ("toy_three",)
SWEEP = replace(
    SWEEPS["smoke"], name="extra", suite="toy_pair", methods=("average", "fw_merging", "map"),
    extra_experts=EXTRA, tune=False, shifts=("clean",), limit=24,
    settings=("fw_merging.iterations=1", "map.points=3"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def pair(monkeypatch):
    monkeypatch.setitem(SUITES._items, "toy_pair", Suite("toy_pair", PAIR))


def run_of(method: str, **changes):
    return next(r for r in resolve(replace(SWEEP, **changes)).runs if r.method == method)


def test_a_run_knows_whose_experts_take_part():
    run, plain = run_of("average"), run_of("average", extra_experts=())
    assert (run.extra_experts, len(run.experts), len(run.tasks)) == (EXTRA, 3, 2)
    assert run.experts[:2] == plain.experts
    assert run.id != plain.id
    assert replace(run, extra_experts=(), experts=plain.experts).id == plain.id


@pytest.mark.parametrize(("names", "said"), [
    (("toy_two",), "extra experts are of tasks outside of the suite; toy_two is one of toy_pair"),
    (("toy_three", "toy_three"), "the extra expert toy_three is named twice"),
])  # fmt: skip
def test_who_cannot_be_extra(names, said):
    with pytest.raises(UserError, match=said):
        resolve(replace(SWEEP, extra_experts=names))
    with pytest.raises(UnknownNameError, match="no task named 'toy_thre'"):
        resolve(replace(SWEEP, extra_experts=("toy_thre",)))
    with pytest.raises(UserError, match="images of sun397 are 224 pixels wide"):
        resolve(replace(SWEEP, extra_experts=("sun397",)))


def test_they_are_merged_and_not_measured(smoke, tmp_path):
    sweep_into(tmp_path, SWEEP)
    rows = Store(tmp_path).read()
    assert set(rows["task"]) == set(PAIR)
    assert set(rows["extra_experts"]) == {"toy_three"}
    method, _ = bind(run_of("average")).build(run_of("average").config)
    experts = checkpoints("toy-vit", [TASKS[name] for name in (*PAIR, *EXTRA)], 0).experts
    assert len(experts) == 3
    for name, tensor in method.models["all"]().items():
        want = sum(expert[name] for expert in experts.values()) / 3
        torch.testing.assert_close(tensor, want, atol=1e-6, rtol=0)
    ckpts = bind(run_of("map")).checkpoints
    assert (ckpts.extra, ckpts.measured) == (frozenset(EXTRA), list(PAIR))
    table = compare(rows)
    assert table.notes["unseen"] == (
        "Experts of tasks that are not measured were merged as well: toy_three."
    )
    both = pd.concat([rows, rows[rows["method"] == "map"].assign(extra_experts="")])
    with pytest.raises(UserError, match="compares methods under one extra_experts; got 2"):
        compare(both)


def test_the_plan_names_them(smoke, tmp_path, command, capsys):
    from rich.console import Console

    run_sweep(SWEEP, tmp_path, jobs=1, force=False, dry_run=True, console=Console())
    assert "extra    toy_three: merged as well, not measured" in capsys.readouterr().out
    words = ("sweep", "smoke", "--extra-experts", "toy_two", "--dry-run", "--out", tmp_path)
    assert "toy_two is one of toy" in command(*words).error
