"""Methods that make validation passes of their own: counted, forecast, told of; and journals."""

from dataclasses import replace

import pytest

from bench.config import Sweep
from bench.forecast import speeds
from bench.plan import inspect, resolve
from bench.stages import adapt, artifacts
from bench.stages.build import BoundRun, bind
from bench.sweeps import SWEEPS
from bench.zoo.encoders import ENCODERS
from corruptions.base import CLEAN, Shift
from methods import METHODS
from methods.contract import Recorder, few_steps, small_checkpoints
from results.store import Store
from tests.helpers.toy_sweep import sweep_into

SWEEP = Sweep(suite="toy", shifts=("clean",), limit=24, methods=("anchor_scales",),
              settings=("anchor_scales.trials=5",))  # fmt: skip


def run_of(sweep: Sweep):
    (run,) = resolve(sweep).runs
    return run


@pytest.fixture
def counted(monkeypatch, smoke) -> list[float]:
    """The steps that a learning tells of."""
    told: list[float] = []
    monkeypatch.setattr(adapt, "report_progress", lambda steps=1: told.append(steps))
    return told


def test_a_method_tells_of_every_pass(counted, tmp_path):
    run = run_of(SWEEP)
    adapt.adapt_run(run, run.config, None, Store(tmp_path))
    assert bind(run).passes >= 5  # the trials, and what else it looks at all of val for
    assert counted == [1] * bind(run).passes
    assert bind(run).steps == bind(run).passes


def test_the_bar_fills_up_also_where_a_method_does_not_tell(counted, monkeypatch, tmp_path):
    monkeypatch.setattr(METHODS["anchor_scales"], "num_validation_passes", 40)
    run = run_of(SWEEP)
    adapt.adapt_run(run, run.config, None, Store(tmp_path))
    assert sum(counted) == 40
    assert counted[-1] > 1


def test_passes_are_in_the_plan_and_in_its_minutes(tmp_path, smoke):
    store = Store(tmp_path)
    few, many = (
        inspect(resolve(replace(SWEEP, settings=(f"anchor_scales.trials={count}",))), store)
        for count in (5, 25)
    )
    assert many.steps - few.steps == 20
    images = 20 * (24 + 24 + 24)  # of val, of each of three tasks
    more = images / speeds(ENCODERS["toy-vit"])[0] / 60
    assert many.minutes(1) - few.minutes(1) == pytest.approx(more)


def test_more_passes_begin_first(tmp_path, smoke):
    sweep = replace(SWEEP, methods=("anchor_scales", "bmm_datafree"),
                    settings=("anchor_scales.trials=5", "bmm_datafree.trials=6"))  # fmt: skip
    plan = inspect(resolve(sweep), Store(tmp_path))
    assert [run.method for run, _ in plan.to_learn] == ["bmm_datafree", "anchor_scales"]


def test_the_plan_says_so(command, smoke, tmp_path):
    words = ("sweep", "smoke", "--dry-run", "--out", tmp_path, "--methods")
    alone = command(*words, "anchor_scales", "--set", "anchor_scales.trials=5").out
    passes = bind(run_of(SWEEP)).passes
    assert f"1 trainings to do ({passes} validation passes)" in " ".join(alone.split())
    both = command(*words, "anchor_scales", "adamerging", "--set", "anchor_scales.trials=5",
                   "adamerging.steps=7").out  # fmt: skip
    assert f"2 trainings to do (7 steps, {passes} validation passes)" in " ".join(both.split())


def test_other_constants_experts_and_shifts_have_journals_of_their_own(
    tmp_path, monkeypatch, smoke
):
    run, store = run_of(SWEEP), Store(tmp_path)
    here = bind(run).journal(run.config, None, store)
    assert here == bind(run).journal(run.config, None, store)
    assert here.parent == artifacts.path(store, run.id).parent
    other = run_of(replace(SWEEP, settings=("anchor_scales.trials=6",)))
    contrast = Shift("contrast", 5)
    found = {
        here.name,
        bind(run).journal(other.config, None, store).name,
        *(bind(run).journal(run.config, shift, store).name for shift in (CLEAN, contrast)),
    }
    monkeypatch.setattr(BoundRun, "expert_hashes", ["another", "set", "of experts"])
    found.add(bind(run).journal(run.config, None, store).name)
    assert len(found) == 5


def test_a_store_with_journals_is_read_as_before(tmp_path, smoke):
    sweep_into(tmp_path, SWEEP)
    run, store = run_of(SWEEP), Store(tmp_path)
    assert bind(run).journal(run.config, None, store).exists()
    assert store.shift_keys(run.id) == ["clean"]
    assert store.damaged() == artifacts.damaged(store, [run.id]) == []
    assert artifacts.files(store, run.id) == [artifacts.path(store, run.id)]


def test_a_build_without_a_journal_keeps_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cls, access = METHODS["anchor_scales"], Recorder()
    cls(cls.Config.make({"trials": 3})).build(small_checkpoints(), access, few_steps)
    assert access.num_validation_passes == cls(cls.Config.make({"trials": 3})).num_validation_passes
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["bmm", "bmm-trials", "bmm-calibration"])
def test_the_sweeps_of_bmm_stand_beside_what_they_are_read_against(name):
    plan = resolve(SWEEPS[name])
    assert (plan.sweep.suite, plan.sweep.limit, plan.sweep.seeds) == ("pocket8", 300, (0, 1, 2))
    assert [shift.key for shift in plan.shifts] == [CLEAN.key]
    methods = {run.method for run in plan.runs}
    assert {"pretrained", "tsv", "bmm", "individual"} <= methods
    variants = set(plan.variants.values())
    expected = {
        "bmm": {f"anchor={anchor}" for anchor in ("ta", "tsv", "wudi")},
        "bmm-trials": {"trials=32", "trials=100"},
        "bmm-calibration": {f"calibration={n}" for n in (0, 16, 64, 256, 1024)},
    }[name]
    assert variants == expected | {""}
    if name == "bmm":
        assert {"task_arithmetic", "wudi", "regmean", "anchor_scales", "bmm_datafree", "bmm_hybrid",
                "bmm_sampled"} <= methods  # fmt: skip
