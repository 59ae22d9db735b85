"""Past all methods in one pass each picture is decoded once a shift, and corrupted once: counted.

By what pictures and shifts write to a file themselves, in whichever process they are.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from bench.config import Sweep
from bench.plan import Plan, resolve
from bench.stages.scoring import score
from bench.sweep import execute
from bench.zoo.pocket_clip import normalise
from corruptions.base import parse_shifts
from corruptions.cache import precompute
from methods.base import MergingMethod
from results.store import Store
from tasks import SUITES, TASKS, Suite, Task
from tasks.datamodule import image_cache
from tasks.settings import BUDGET, WORKERS
from tests.helpers import small_encoder as small
from tests.helpers.counting_images import NotedFolder, noted, read
from tests.helpers.pictures import tree
from tests.helpers.toy_sweep import forget

SIZES = {"counted_farm": 2 * 8, "counted_zoo": 3 * 8}  # test images: 8 of each class
METHODS = ("pretrained", "average", "task_arithmetic", "ties", "individual")
SHIFTS = ("clean", "contrast@5", "gaussian_noise@1", "gaussian_noise@3")


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def tasks(data_folder, log, monkeypatch) -> list[Task]:
    """Two tasks at 224 pixels whose pictures are noted, of 2 and 3 classes."""
    for name, classes in (("farm", ["cow", "hen"]), ("zoo", ["ape", "bat", "cat"])):
        path = tree(data_folder / name, classes, train=3, test=10)
        source = NotedFolder(str(path), log=str(log))
        task = replace(TASKS[f"local_{name}"], name=f"counted_{name}", source=source)
        monkeypatch.setitem(TASKS._items, task.name, task)
    monkeypatch.setitem(SUITES._items, "vision_counted", Suite("vision_counted", tuple(SIZES)))
    return [TASKS[name] for name in SIZES]


class Constant(MergingMethod):
    """Answers at once."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def merge(self, ckpts):
        raise NotImplementedError

    def predict(self, images, task):
        return torch.zeros(len(images), TASKS[task].num_classes)


def check(log: Path, keys: list[str]) -> None:
    """Every test picture was decoded once for each shift, and corrupted once by each but clean."""
    decoded = {line: n for line, n in read(log, "decoded").items() if "/test " in line}
    assert set(decoded.values()) == {len(keys)}
    per_task = Counter(line.split()[1].removesuffix("/test") for line in decoded)
    assert per_task == SIZES
    assert read(log, "corrupted") == Counter(
        f"corrupted {key} 0 {task} {index}"
        for key in keys if key != "clean" for task, count in SIZES.items() for index in range(count)
    )  # fmt: skip


def test_what_counts_sees_every_look(tasks, log):
    shifts = noted(parse_shifts(SHIFTS), log)
    data = SUITES["vision_counted"].datamodule(shifts)
    farm = tasks[0]
    data.pixels(farm, "test", shifts[0])[[3, 3, 5]], data.pixels(farm, "test", shifts[1])[[3]]
    assert sorted(read(log, "decoded").values()) == [1, 3]
    assert read(log, "corrupted") == {f"corrupted {shifts[1].key} 0 counted_farm 3": 1}
    assert read(log, "") == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_one_pass_past_five_methods(tasks, log, workers):
    members = {str(i): Constant() for i in range(5)}
    shifts = noted(parse_shifts(SHIFTS, "imagenet-c"), log)
    data = SUITES["vision_counted"].datamodule(shifts, batch=7, workers=workers)
    score(members, data, "test", normalise=normalise)
    check(log, [shift.key for shift in shifts])
    images = sum(SIZES.values())  # what it counts itself is the same
    assert data.work == {"decoded": 4 * images, "corrupted": 3 * images}


def test_one_pass_for_each_method_is_as_many_times_the_work(tasks, log):
    shifts = noted(parse_shifts(SHIFTS[1:2]), log)
    for _ in range(2):
        data = SUITES["vision_counted"].datamodule(shifts)
        score({"one": Constant()}, data, "test", normalise=normalise)
    assert set(read(log, "decoded").values()) == set(read(log, "corrupted").values()) == {2}


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_kept_is_decoded_once_and_never_again(tasks, log, jobs):
    shifts = noted(parse_shifts(SHIFTS, "imagenet-c"), log)
    data = SUITES["vision_counted"].datamodule(shifts)
    asked = [data.request(task, "test", shift) for shift in shifts for task in tasks]
    precompute(asked, data_seed=0, folder=image_cache(), jobs=jobs)
    check(log, [shift.key for shift in shifts])
    precompute(asked, data_seed=0, folder=image_cache(), jobs=jobs)
    score({str(i): Constant() for i in range(5)}, data, "test", normalise=normalise)
    assert (read(log, ""), data.work) == ({}, {})


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("gigabytes", [0, 1])
def test_a_sweep_of_five_methods(
    tasks, small_encoder, log, tmp_path, monkeypatch, workers, gigabytes
):
    monkeypatch.setenv(WORKERS, str(workers))
    monkeypatch.setenv(BUDGET, str(gigabytes))

    def sweep(*methods: str) -> Plan:
        forget()
        plan = resolve(Sweep(suite="vision_counted", encoder=small.NAME, methods=methods,
                             shifts=SHIFTS, tune=False))  # fmt: skip
        plan.shifts = noted(plan.shifts, log)
        return execute(plan, tmp_path / "out", 1, False, False, Console(quiet=True))[0]

    keys = [shift.key for shift in sweep(*METHODS).shifts]
    check(log, keys)
    assert len(Store(tmp_path / "out").run_ids()) == 5
    assert len(list(image_cache().glob("*.npy"))) == (len(SIZES) * 4 if gigabytes else 0)
    if gigabytes and not workers:  # a sixth comes later: what was kept is not decoded again
        sweep(*METHODS, "tsv")
        assert read(log, "") == {}
