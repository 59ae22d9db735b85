"""A plan lists what is there, what is missing, and how much that is; it makes nothing."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.config import Sweep
from bench.forecast import corruption_ms, matrix_rate, operations, speeds
from bench.plan import Plan, chosen, count_images, inspect, requests, resolve
from bench.stages.build import bind
from bench.sweeps import SWEEPS
from bench.zoo.encoders import ENCODERS
from corruptions.base import CLEAN, CORRUPTIONS, PROTOCOL, Shift
from mergeshift import UserError
from methods import METHODS
from methods.common.config import TUNING_BUDGET
from methods.common.vit import PlainOps, encode, init_weights
from results.store import Store
from tasks import TASKS, suite
from tests.helpers.toy_sweep import forget

TOY = Sweep(suite="toy", shifts=("clean", "contrast@5"), limit=24)
TRAIN, ADAPT, VAL, TEST = 96, 24, 24, 48  # images of every toy task


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "out")


@pytest.fixture
def empty_home(tmp_path, monkeypatch) -> Iterator[Path]:
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    forget()
    yield tmp_path / "home"
    forget()


def finish(store: Store, made: Plan, shift: Shift, methods: tuple[str, ...]) -> None:
    """Let the results of some methods under one shift be there."""
    for run in made.runs:
        if run.method in methods:
            path = store.path(run.id, shift.key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def test_names_become_runs_and_shifts():
    made = resolve(replace(TOY, shifts=("clean", "L1", "L2", "L3"), seeds=(0, 3)))
    assert [task.name for task in made.tasks] == ["toy_two", "toy_three", "toy_four"]
    levels = [Shift(name, severity) for severity in (1, 2, 3) for name in PROTOCOL]
    assert made.shifts == [CLEAN, *levels]
    assert len(made.shifts) == 22
    pairs = [(run.method, run.seed) for run in made.runs]
    assert pairs == [(method, 0) for method in TOY.methods]  # no chance in them: one seed will do
    assert made.num_cells == 22 * len(TOY.methods)


def test_what_is_said_twice_is_done_once():
    made = resolve(replace(TOY, methods=("ties", "average", "ties"), seeds=(1, 1, 0),
                           shifts=("contrast@5", "clean", "contrast@5,1")))  # fmt: skip
    pairs = [(run.method, run.seed) for run in made.runs]
    assert pairs == [("ties", 1), ("average", 1)]
    assert [str(shift) for shift in made.shifts] == ["contrast@5", "clean", "contrast@1"]


def test_planning_makes_nothing(empty_home, store):
    inspect(resolve(TOY), store)
    assert not empty_home.exists()
    assert not store.folder.exists()


def test_an_empty_folder_lacks_everything(empty_home, store):
    made = inspect(resolve(TOY), store)
    assert made.num_todo == made.num_cells == 2 * len(TOY.methods)
    assert [expert.task for expert in made.experts] == ["toy_two", "toy_three", "toy_four"]
    tuned = {name for name in TOY.methods if METHODS[name].Config().grid}
    assert {run.method for run in made.to_tune} == tuned


def test_what_is_finished_is_not_to_do_unless_forced(store):
    finish(store, resolve(TOY), CLEAN, TOY.methods)
    finish(store, resolve(TOY), Shift("contrast", 5), ("average", "ties"))
    made = inspect(resolve(TOY), store)
    left = [name for name in TOY.methods if name not in ("average", "ties")]
    assert made.todo[CLEAN] == []
    assert [run.method for run in made.todo[Shift("contrast", 5)]] == left
    assert made.num_todo == len(left)
    assert {run.method for run in made.to_tune} == {"task_arithmetic"}  # ties has nothing to do
    assert inspect(resolve(TOY), store, force=True).num_todo == made.num_cells
    # of another severity, or with other constants, nothing is there
    for other in (
        replace(TOY, shifts=("contrast@4",)),
        replace(TOY, constants="imagenet-c", shifts=("contrast@5",)),
    ):
        assert inspect(resolve(other), store).num_todo == len(TOY.methods)


def test_a_finished_sweep_asks_for_no_expert_and_no_image(empty_home, store):
    for shift in resolve(TOY).shifts:
        finish(store, resolve(TOY), shift, TOY.methods)
    made = inspect(resolve(TOY), store)
    assert (made.num_todo, made.experts, made.to_tune, requests(made)) == (0, [], [], [])
    assert made.minutes(jobs=1) == 0


def test_a_choice_is_made_once(store):
    ties = next(run for run in resolve(TOY).runs if run.method == "ties")
    assert chosen(ties, store) == ""
    config = json.dumps({"keep": 0.5})
    store.write_run(ties.id, {"tuning": {"config": config}})
    assert chosen(ties, store) == config
    assert {run.method for run in inspect(resolve(TOY), store).to_tune} == {"task_arithmetic"}
    forced = inspect(resolve(TOY), store, force=True).to_tune
    assert {run.method for run in forced} == {"task_arithmetic", "ties"}
    assert inspect(resolve(replace(TOY, tune=False)), store).to_tune == []


# -- how much there is to do ---------------------------------------------------------------------


def test_predictions_and_images_are_counted(empty_home, store):
    made = inspect(resolve(replace(TOY, methods=("average", "individual", "ties"))), store)
    grid = METHODS["ties"].Config().grid
    passes = prod(map(len, grid.values()))
    # 3 tasks: 24 test images of each in 2 x 3 cells, and every val image once a pass
    assert made.predictions == 3 * (24 * 6 + VAL * passes)
    assert count_images(made) == 3 * 24  # clean needs none
    everything = inspect(resolve(replace(made.sweep, limit=None, tune=False)), store)
    assert everything.predictions == 3 * TEST * 6
    assert count_images(everything) == 3 * TEST
    beyond = inspect(resolve(replace(made.sweep, limit=1000, tune=False)), store)
    assert beyond.predictions == 3 * TEST * 6


def test_images_are_asked_for_once_however_many_methods_look(store):
    made = inspect(resolve(TOY), store)
    asked = [(str(shift), task, len(images)) for images, shift, task in requests(made)]
    names = [task.name for task in suite("toy")]
    assert asked == [(s, task, 24) for s in ("clean", "contrast@5") for task in names]


def test_more_jobs_take_less_time(empty_home, store):
    made = inspect(resolve(TOY), store)
    count_images(made)
    assert made.minutes(jobs=4) == pytest.approx(made.minutes(jobs=1) / 4)
    assert made.minutes(jobs=1) > 3 / 60  # three experts, a second each, and more


@pytest.mark.parametrize("name", list(METHODS))
def test_candidates_are_the_declared_grid_within_the_budget(name):
    made = resolve(replace(TOY, methods=(name,)))
    (run,) = made.runs
    config = METHODS[name].Config()
    assert run.tuned == bool(config.grid)
    if not run.tuned:
        return
    points = [dict(zip(config.grid, p, strict=True)) for p in product(*config.grid.values())]
    tried = [json.loads(text) for text in bind(run).candidates]
    assert [{key: one[key] for key in config.grid} for one in tried] == points
    assert all({**one, **config.grid} == {**config.as_dict(), **config.grid} for one in tried)
    assert 1 < len(set(bind(run).candidates)) == len(points) <= TUNING_BUDGET == 32


def test_a_field_that_is_set_is_not_searched():
    (run,) = resolve(replace(TOY, methods=("ties",), settings=("ties.merge=sum",))).runs
    tried = [json.loads(text) for text in bind(run).candidates]
    grid = METHODS["ties"].Config().grid
    assert {one["merge"] for one in tried} == {"sum"}
    assert len(tried) == len(grid["keep"]) * len(grid["scale"])
    every = tuple(f"ties.{name}={values[0]}" for name, values in grid.items())
    (run,) = resolve(replace(TOY, methods=("ties",), settings=every)).runs
    assert not run.tuned


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "said"), [
    ({"methods": ("tie",)}, "no method named 'tie'; did you mean 'ties'?"),
    ({"suite": "toyy"}, "no suite named 'toyy'; did you mean 'toy'?"),
    ({"encoder": "toy"}, "no encoder named 'toy'; did you mean 'toy-vit'?"),
    ({"shifts": ("contrst@3",)}, "no shift named 'contrst'; did you mean 'contrast'?"),
    ({"shifts": ("contrast@6",)}, "severity of contrast is one of 1 2 3 4 5; got '6'"),
    ({"constants": "imagenet"}, "constants of a shift is one of cifar10-c, imagenet-c"),
    ({"placement": "native"}, "use --corrupt-at input"),
    ({"placement": "output"}, "placement of a shift is one of input, native; got 'output'"),
])  # fmt: skip
def test_a_name_that_does_not_exist_is_one_line(change, said, empty_home):
    with pytest.raises(UserError) as caught:
        resolve(replace(TOY, **change))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not empty_home.exists()


def test_an_unknown_task_is_one_line():
    with pytest.raises(UserError, match="no task named 'mnst'; did you mean 'mnist'"):
        TASKS["mnst"]


def test_named_sweeps_resolve():
    for sweep in (SWEEPS["smoke"], replace(SWEEPS["severity"], suite="toy")):
        made = resolve(sweep)
        assert made.num_cells == len(made.runs) * len(made.shifts)
        assert made.encoder.name == "toy-vit"
    assert len(resolve(replace(SWEEPS["severity"], suite="toy")).shifts) == 1 + 7 * 5


def test_the_time_of_corruptions_is_that_of_each():
    fast, slow = Shift("contrast", 3), Shift("zoom_blur", 1)
    ms = [CORRUPTIONS[shift.corruption].ms for shift in (fast, slow)]
    assert corruption_ms([CLEAN, fast], 32) == ms[0][0]
    assert corruption_ms([fast, slow], 32) == pytest.approx((ms[0][0] + ms[1][0]) / 2)
    assert corruption_ms([slow], 224) == ms[1][1]
    assert corruption_ms([slow], 448) == pytest.approx(4 * ms[1][1])
    assert corruption_ms([CLEAN], 32) == 0


@pytest.mark.parametrize("name", ["toy-vit", "pocket-vit", "ViT-B-32"])
def test_operations_are_those_that_torch_counts(name):
    vit = ENCODERS[name].vit
    weights = init_weights(vit, torch.Generator().manual_seed(0))
    images = torch.zeros(2, 3, vit.image_size, vit.image_size)
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        encode(images, PlainOps(weights), vit)
    head = 2 * vit.width * vit.output_dim  # of the features, which the forecast leaves out
    assert counted.get_total_flops() == 2 * (operations(vit) + head)


def test_speeds_follow_the_machine_and_the_encoder(monkeypatch):
    monkeypatch.setattr("bench.forecast.matrix_rate", lambda: 1e11)  # a core of 2023
    predicted, learned = speeds(ENCODERS["ViT-B-32"])
    assert predicted == pytest.approx(10, rel=0.25)  # measured: 10 and 3.5
    assert learned == pytest.approx(3.5, rel=0.25)
    predicted, learned = speeds(ENCODERS["pocket-vit"])
    assert predicted == pytest.approx(1310, rel=0.25)  # 1,310 and 410
    assert learned == pytest.approx(410, rel=0.25)


def test_the_machine_is_asked_once_and_left_as_it_was():
    threads = torch.get_num_threads()
    assert matrix_rate() == matrix_rate() > 0
    assert torch.get_num_threads() == threads


def test_pictures_of_the_pool_are_part_of_a_step():
    recipe = ENCODERS["pocket-vit"].recipe
    assert recipe.shown == recipe.batch + recipe.pictures
    assert ENCODERS["toy-vit"].recipe.shown == ENCODERS["toy-vit"].recipe.batch


def test_the_field_is_every_method_that_gives_one_model_beside_references():
    plan = resolve(SWEEPS["field"])
    runs = {run.method: run for run in plan.runs}
    models = {name for name in runs if METHODS[name]().stores == "one model"}
    assert runs.keys() - models == {"wise_ft", "individual"}
    assert {"fisher", "multitask", "iso_cts", "concrete_ta", "lines", "map"} <= models
    for name, run in runs.items():  # the common budget, searched here or by the method itself
        points = prod(map(len, json.loads(run.grid or "{}").values()))
        assert max(points, METHODS[name]().num_validation_passes - 2) <= TUNING_BUDGET, name
