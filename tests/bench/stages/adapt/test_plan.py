"""Trainings in a plan: how many, how long, for which seeds; and the sweep of those that learn."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.config import Sweep
from bench.forecast import speeds
from bench.plan import inspect, resolve
from bench.profiling.sweep import without_learners
from bench.stages import artifacts
from bench.sweeps import SWEEPS
from bench.zoo.encoders import ENCODERS
from corruptions.base import CLEAN, Shift
from mergeshift import UserError
from methods import METHODS
from results.store import Store
from tests.helpers.toy_sweep import forget

TOY = Sweep(suite="toy", shifts=("clean", "contrast@5"), limit=24)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "out")


@pytest.fixture
def empty_home(tmp_path, monkeypatch) -> Iterator[Path]:
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    forget()
    yield tmp_path / "home"
    forget()


def finish(store: Store, run_id: str, shift: Shift) -> None:
    """Let the results of a run under a shift be there."""
    path = store.path(run_id, shift.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def ids(sweep: Sweep) -> dict[tuple[str, int], str]:
    return {(run.method, run.seed): run.id for run in resolve(sweep).runs}


LEARNING = replace(TOY, methods=("adamerging", "average"), seeds=(0, 1, 2),
                   settings=("adamerging.steps=7", "adamerging.batches=2"))  # fmt: skip


def test_trainings_are_counted_once_per_run_or_once_per_shift(empty_home, store):
    made = inspect(resolve(LEARNING), store)
    assert [(run.method, run.seed, shift) for run, shift in made.to_learn] == [
        ("adamerging", seed, None) for seed in (0, 1, 2)
    ]
    assert made.steps == 3 * 7
    shifted = inspect(resolve(replace(LEARNING, adapt_on="shifted")), store)
    assert len(shifted.to_learn) == 3 * 2
    assert {shift for _, shift in shifted.to_learn} == {CLEAN, Shift("contrast", 5)}
    assert shifted.steps == 3 * 2 * 7


def test_what_was_learned_is_not_learned_again_unless_forced(store):
    first, second, *_ = resolve(LEARNING).runs
    artifacts.save(artifacts.path(store, first.id), {"coef": torch.zeros(1)}, {})
    for shift in resolve(LEARNING).shifts:
        finish(store, second.id, shift)  # nothing is left to measure: nobody asks what it learned
    left = [run.seed for run, _ in inspect(resolve(LEARNING), store).to_learn]
    assert left == [2]
    forced = [run.seed for run, _ in inspect(resolve(LEARNING), store, force=True).to_learn]
    assert forced == [0, 1, 2]


def test_learning_takes_its_time(empty_home, store):
    made = inspect(resolve(LEARNING), store)
    without = replace(LEARNING, settings=("adamerging.steps=1", "adamerging.batches=1"))
    # 3 runs, 3 tasks, 16 images a batch: 7 steps of 2 batches instead of 1 of 1
    more = 3 * 3 * 16 * (7 * 2 - 1) / speeds(ENCODERS["toy-vit"])[1] / 60
    gap = made.minutes(jobs=1) - inspect(resolve(without), store).minutes(jobs=1)
    assert gap == pytest.approx(more)
    assert made.minutes(jobs=2) == pytest.approx(made.minutes(jobs=1) / 2)


def test_a_gradient_through_a_mixture_takes_longer(store):
    methods = replace(TOY, methods=("adamerging", "entropy_router"),
                      settings=("adamerging.steps=2", "adamerging.batches=1",
                                "entropy_router.steps=2", "entropy_router.batch=16"))  # fmt: skip
    made = inspect(resolve(methods), store)
    assert [run.method for run, _ in made.to_learn] == ["entropy_router", "adamerging"]


def test_the_longest_training_begins_first(store):
    methods = replace(TOY, methods=("adamerging_task", "adamerging"),
                      settings=("adamerging_task.steps=2", "adamerging.steps=3"))  # fmt: skip
    made = inspect(resolve(methods), store)
    assert [run.method for run, _ in made.to_learn] == ["adamerging", "adamerging_task"]


def test_seeds_are_runs_of_their_own_where_they_matter():
    both = ids(replace(TOY, methods=("adamerging", "ties"), seeds=(0, 1)))
    assert list(both) == [("adamerging", 0), ("adamerging", 1), ("ties", 0)]
    assert len(set(both.values())) == 3
    assert both["ties", 0] == ids(TOY)["ties", 0]


def test_what_is_adapted_on_changes_the_methods_that_learn_and_no_other():
    sweep = replace(TOY, methods=("adamerging", *TOY.methods))
    runs = [ids(replace(sweep, adapt_on=on)) for on in ("adapt", "test", "shifted")]
    assert len({run["adamerging", 0] for run in runs}) == 3
    assert all(len({run[method, 0] for run in runs}) == 1 for method in TOY.methods)


def test_the_routed_sweep_has_every_part_of_the_comparison_and_three_seeds():
    routed = SWEEPS["routed"]
    assert (routed.suite, routed.seeds, routed.limit) == ("pocket8", (0, 1, 2), 300)
    assert routed.shifts == ("clean", "L1", "L2", "L3")
    assert {"pretrained", "individual", "oracle_router", "twin_merging"} <= set(routed.methods)
    assert set(SWEEPS["main"].methods) <= set(routed.methods) <= set(METHODS)


def test_the_sweeps_of_bd_merging():
    bd, unseen = SWEEPS["bd"], SWEEPS["bd-unseen"]
    assert (bd.suite, bd.seeds, bd.shifts) == ("pocket8", (0, 1, 2), ("clean", "L1", "L2", "L3"))
    assert {"pretrained", "adamerging", "twin_merging", "bd_merging_task", "bd_merging"} <= set(
        bd.methods
    )
    assert unseen.methods == bd.methods
    plan = resolve(unseen)
    assert [task.name for task in plan.seen] == ["mnist", "landcover", "texture", "scripts"]
    assert {run.unseen for run in plan.runs} == {("optdigits", "animals", "brainplane", "letters")}
    ablation = resolve(SWEEPS["bd-ablation"])
    lines = [line for line in ablation.lines.values() if line.startswith("bd_merging")]
    parts = ("router", "ads", "contrast", "div", "sharp")
    without = [f"bd_merging [{part}=false]" for part in parts]
    assert lines == ["bd_merging", *without, "bd_merging [spread=0.0]"]
    assert {str(shift).partition("@")[2] for shift in ablation.shifts} == {"", "2"}
    assert next(iter(ablation.lines)) in {run.id for run in resolve(bd).runs}  # shared, not redone


def test_bare_passes_are_timed_against_methods_that_need_not_learn():
    sweep = replace(TOY, methods=("adamerging", "ties", "ce_router", "oracle_router"))
    assert without_learners(sweep).methods == ("ties", "oracle_router")
    with pytest.raises(UserError, match="every method of this sweep learns"):
        without_learners(replace(TOY, methods=("adamerging",)))
