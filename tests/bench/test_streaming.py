"""Pictures that are decoded on demand: streamed or kept, in this process or in others."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from bench.cli.sweep import chosen_sweep
from bench.config import Sweep
from bench.plan import count_images, inspect, requests, resolve
from corruptions.base import CLEAN, Shift, parse_shifts
from mergeshift import UserError
from results.store import Store
from tasks import SUITES, load
from tasks.datamodule import SuiteDataModule, affordable, image_cache
from tasks.images import Streamed
from tasks.settings import BUDGET, DATA_DIR
from tasks.sources.folder import SUITE
from tests.helpers.pictures import tree
from tests.helpers.toy_sweep import forget, measured, sweep_into

SHIFTS = parse_shifts(["clean", "gaussian_noise@3"], "imagenet-c")


@pytest.fixture
def tasks(data_folder) -> list:
    """Two tasks of the user's own, of 2 and 3 classes, 10 pictures of each to test on."""
    for name, classes in (("farm", ["cow", "hen"]), ("zoo", ["ape", "bat", "cat"])):
        tree(data_folder / name, classes, train=3, test=10)
    return SUITES[SUITE].tasks


def cells(data: SuiteDataModule) -> dict[tuple[str, str], np.ndarray]:
    """The images of each (task, shift)."""
    found: dict[tuple[str, str], list[torch.Tensor]] = {}
    for batch in data.test_dataloader():
        found.setdefault((batch["task"], batch["shift"]), []).append(batch["images"])
    return {cell: torch.cat(batches).numpy() for cell, batches in found.items()}


# -- streamed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"batch": 5}, {"workers": 2}, {"limit": 9}])
def test_pixels_depend_on_no_way_of_showing_them(tasks, settings):
    found = cells(SUITES[SUITE].datamodule(SHIFTS, **settings))
    for task in tasks:
        images = load(task, "test").first(settings.get("limit")).images[:]
        for shift in SHIFTS:
            alone = [shift.apply(image, 0, task.name, i) for i, image in enumerate(images)]
            np.testing.assert_array_equal(found[task.name, shift.key], np.stack(alone))


def test_what_methods_learn_from_is_streamed_by_workers_too(tasks):
    shown = partial(SUITES[SUITE].datamodule, [], adapt_batch=4, adapt_steps=3)
    here, there = (list(shown(workers=n).train_dataloader()) for n in (0, 2))
    for one, other in zip(here, there, strict=True):
        assert list(one) == [task.name for task in tasks]
        assert all(torch.equal(one[name], other[name]) for name in one)


# -- what is kept --------------------------------------------------------------------------------


def test_what_is_in_the_cache_is_what_would_be_streamed(tasks):
    from corruptions.cache import precompute

    data = SUITES[SUITE].datamodule(SHIFTS)
    streamed = cells(data)
    asked = [data.request(task, "test", shift) for shift in SHIFTS for task in tasks]
    precompute(asked, data_seed=0, folder=image_cache(), jobs=2)
    assert len(list(image_cache().glob("*.npy"))) == 4  # clean ones, too
    kept = SUITES[SUITE].datamodule(SHIFTS)
    for cell, pixels in cells(kept).items():
        np.testing.assert_array_equal(pixels, streamed[cell])
    assert isinstance(kept.pixels(tasks[0], "test", CLEAN), np.memmap)
    assert isinstance(kept.pixels(tasks[0], "val", CLEAN), Streamed)


def test_the_budget_goes_to_what_is_asked_for_first(tasks):
    data = SUITES[SUITE].datamodule(SHIFTS)
    farm, zoo = tasks
    asked = [data.request(task, "test", shift) for shift in SHIFTS for task in (zoo, farm)]
    size = {task.name: len(load(task, "test")) * 224 * 224 * 3 for task in tasks}
    everything = 2 * sum(size.values())
    assert affordable(asked, everything) == affordable(asked * 2, everything) == asked
    assert affordable(asked, everything - 1) == asked[:-1]
    assert affordable(asked, size[farm.name]) == asked[1:2]  # the first that fits
    assert affordable(asked, 0) == []
    array = np.zeros((2, 32, 32, 3), np.uint8)
    assert affordable([(array, CLEAN, "a"), *asked], 0) == [(array, CLEAN, "a")]


# -- a sweep -------------------------------------------------------------------------------------


def sweep(**fields) -> Sweep:
    shifts = ("clean", "contrast@5")
    methods = ("pretrained", "average", "task_arithmetic")
    return Sweep(**{"suite": SUITE, "encoder": "small-224", "methods": methods, "shifts": shifts,
                    "tune": False, **fields})  # fmt: skip


def test_a_sweep_is_the_same_streamed_and_kept(tasks, small_encoder, tmp_path, monkeypatch):
    found: dict[str, pd.DataFrame] = {}
    for gigabytes in ("0", "1"):
        monkeypatch.setenv(BUDGET, gigabytes)
        forget()
        sweep_into(tmp_path / gigabytes, sweep())
        kept = sorted(path.name.split("-")[0] for path in image_cache().glob("*.npy"))
        wanted = ["clean", "clean", "contrast@5", "contrast@5"]
        assert kept == (wanted if gigabytes == "1" else [])
        found[gigabytes] = measured(tmp_path / gigabytes)
    pd.testing.assert_frame_equal(found["0"], found["1"])
    rows = Store(tmp_path / "0").read()
    assert set(rows["world"]) == {"vision"}
    assert set(rows["task"]) == {"local_farm", "local_zoo"}


def test_a_plan_keeps_first_what_is_looked_at_again_and_again(tasks, small_encoder, tmp_path):
    store = Store(tmp_path)
    plan = inspect(resolve(sweep(tune=True, methods=("task_arithmetic", "adamerging"))), store)
    asked = [(name, str(shift)) for _, shift, name in requests(plan)]
    again = [("local_farm/val", "clean"), ("local_zoo/val", "clean")]
    again += [("local_farm/adapt", "clean"), ("local_zoo/adapt", "clean")]
    names = ("local_farm", "local_zoo")
    assert asked == again + [(name, shift) for shift in ("clean", "contrast@5") for name in names]
    images = sum(task.sizes[1] + task.sizes[2] + 2 * task.sizes[3] for task in tasks)
    assert count_images(plan) == images


def test_native_placement_is_for_pictures_with_a_size_of_their_own(tasks, small_encoder):
    native = resolve(sweep(placement="native"))
    assert [shift.placement for shift in native.shifts] == ["input", "native"]  # clean has none
    shift = Shift("contrast", 5, "imagenet-c", "native")
    data = SUITES[SUITE].datamodule([shift])
    pixels = data.pixels(tasks[0], "test", shift)
    at_input = data.pixels(tasks[0], "test", replace(shift, placement="input"))
    assert (pixels[:2] != at_input[:2]).any()
    with pytest.raises(UserError, match="pocket pictures are stored at the input size"):
        resolve(Sweep(suite="toy", placement="native"))


def test_pictures_fit_any_encoder_and_stored_pixels_those_of_their_size(tasks, small_encoder):
    plan = resolve(sweep(encoder="toy-vit"))
    assert plan.sweep.suite == f"{SUITE}@32"
    assert [(task.name, task.size) for task in plan.tasks] == [(f"{t.name}@32", 32) for t in tasks]
    assert {images.shape[1:] for images in cells(plan.data).values()} == {(32, 32, 3)}
    with pytest.raises(UserError, match="images of toy_two are 32 pixels wide, small-224 takes"):
        resolve(sweep(suite="toy"))


def test_published_splits_are_a_suite_of_their_own():
    changed = chosen_sweep("smoke", suite="vision8", splits="published")
    assert (changed.suite, changed.name) == ("vision8@published", "smoke-vision8@published")
    assert chosen_sweep("smoke", suite="vision8", splits="own").suite == "vision8"
    with pytest.raises(UserError, match="--splits is own or published; got 'x'"):
        chosen_sweep("smoke", splits="x")


def test_a_command_reads_the_folder_it_is_told(
    tasks, small_encoder, tmp_path, monkeypatch, command
):
    folder = os.environ[DATA_DIR]
    monkeypatch.delenv(DATA_DIR)
    spec = tmp_path / "small.toml"
    spec.write_text(f'suite = "{SUITE}"\nencoder = "small-224"\nmethods = ["average"]\n'
                    'shifts = ["clean"]\ntune = false\n')  # fmt: skip
    args = ["sweep", str(spec), "--out", str(tmp_path / "out"), "--wandb", "off", "--jobs", "1"]
    assert "vision_local is the suite of --data-dir" in command(*args).error
    told = command(*args, "--data-dir", folder, "--image-budget", "0", "--workers", "0")
    assert told.code == 0, told
    assert "2 tasks of vision_local" in told.out
    assert "vision (CLIP)" in told.out
    assert DATA_DIR not in os.environ
    assert not list(image_cache().glob("*.npy"))
