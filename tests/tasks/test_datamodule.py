"""A suite under shifts: same pixels however they are batched, and no labels for who adapts."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from corruptions.base import CLEAN, Shift, parse_shifts
from mergeshift import UnknownNameError
from tasks import SUITES, load
from tasks.datamodule import BATCH, SuiteDataModule, draw, image_cache

SHIFTS = parse_shifts(["clean", "gaussian_noise@3", "contrast@5"])
SUITE = SUITES["toy"]
TASKS, NAMES = SUITE.tasks, SUITE.names


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path))


def cells(data: SuiteDataModule, split: str = "test") -> dict[tuple[str, str], list[dict]]:
    """The batches of each (task, shift) in the order they come."""
    found: dict[tuple[str, str], list[dict]] = {}
    loader = data.test_dataloader() if split == "test" else data.val_dataloader()
    for batch in loader:
        found.setdefault((batch["task"], batch["shift"]), []).append(batch)
    return found


def joined(batches: list[dict], key: str) -> np.ndarray:
    return torch.cat([batch[key] for batch in batches]).numpy()


def test_every_cell_comes_once_whole_and_in_order():
    found = cells(SUITE.datamodule(SHIFTS, batch=20))
    assert list(found) == [(task.name, shift.key) for shift in SHIFTS for task in TASKS]
    for (name, _), batches in found.items():
        assert [len(batch["labels"]) for batch in batches] == [20, 20, 8]
        (task,) = [task for task in TASKS if task.name == name]
        np.testing.assert_array_equal(joined(batches, "labels"), load(task, "test").labels)
        assert {batch["images"].dtype for batch in batches} == {torch.uint8}
        assert batches[0]["images"].shape == (20, 32, 32, 3)


def test_a_suite_hands_out_some_of_its_tasks_in_its_own_order():
    data = SUITE.datamodule(SHIFTS, tasks=["toy_four", "toy_two"], limit=5)
    assert [task.name for task in data.tasks] == ["toy_two", "toy_four"]
    assert {name for name, _ in cells(data)} == {"toy_two", "toy_four"}
    assert SUITE.datamodule([], tasks=[]).tasks == []
    with pytest.raises(UnknownNameError, match="toy has no task 'mnist'; it has: toy_two"):
        SUITE.datamodule([], tasks=["mnist"])


def test_the_pixels_are_those_of_each_picture_by_itself():
    found = cells(SUITE.datamodule(SHIFTS, batch=20, data_seed=7))
    for task in TASKS:
        images = load(task, "test").images
        for shift in SHIFTS:
            pixels = joined(found[task.name, shift.key], "images")
            alone = [
                shift.apply(np.array(image), 7, task.name, i) for i, image in enumerate(images)
            ]
            np.testing.assert_array_equal(pixels, np.stack(alone))
            assert (pixels == images).all() == (shift == CLEAN)


@pytest.mark.parametrize("batch", [1, 7, 48, BATCH])
def test_the_batch_size_does_not_change_a_pixel(batch):
    expected = cells(SUITE.datamodule(SHIFTS[1:], tasks=NAMES[:2]))
    found = cells(SUITE.datamodule(SHIFTS[1:], tasks=NAMES[:2], batch=batch))
    assert list(found) == list(expected)
    for cell, batches in found.items():
        assert len(batches) == -(-48 // batch)
        for key in ("images", "labels"):
            np.testing.assert_array_equal(joined(batches, key), joined(expected[cell], key))


def test_a_limit_takes_the_first_pictures_of_the_test_split_alone():
    everything, few = SUITE.datamodule(SHIFTS), SUITE.datamodule(SHIFTS, limit=10)
    whole, part = cells(everything), cells(few)
    for cell, batches in part.items():
        for key in ("images", "labels"):
            np.testing.assert_array_equal(joined(batches, key), joined(whole[cell], key)[:10])
    assert [few.count(TASKS[0], split) for split in ("test", "val", "adapt")] == [10, 24, 24]
    assert SUITE.datamodule(SHIFTS, limit=10_000).count(TASKS[0], "test") == 48


def test_tuning_sees_val_and_it_is_clean():
    found = cells(SUITE.datamodule(SHIFTS, limit=3), split="val")
    assert list(found) == [(task.name, "clean") for task in TASKS]
    for task in TASKS:
        val = load(task, "val")
        np.testing.assert_array_equal(joined(found[task.name, "clean"], "images"), val.images)
        np.testing.assert_array_equal(joined(found[task.name, "clean"], "labels"), val.labels)


def test_the_splits_are_corrupted_each_by_its_own_chance():
    data, noise = SUITE.datamodule([], tasks=NAMES[:1]), Shift("gaussian_noise", 3)
    added = [
        data.pixels(TASKS[0], split, noise).astype(int)[:24] - load(TASKS[0], split).images[:24]
        for split in ("adapt", "val", "test")
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(added[first].ravel(), added[second].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("count", "batch"), [(5, 3), (5, 5), (2, 5)])
def test_a_step_shows_no_image_twice_unless_it_must(count, batch):
    rows = draw(count, batch, np.random.default_rng(0))
    often = np.bincount(rows, minlength=count)
    assert len(rows) == batch
    assert often.max() - often.min() <= 1


# -- what a method adapts on ---------------------------------------------------------------------


def stream(**settings) -> list[dict[str, torch.Tensor]]:
    data = SUITE.datamodule(SHIFTS, adapt_batch=6, adapt_steps=40, **settings)
    return list(data.train_dataloader())


def test_the_stream_carries_pictures_and_nothing_else():
    batches = stream()
    assert len(batches) == 40
    for batch in batches:
        assert list(batch) == [task.name for task in TASKS]
        for images in batch.values():
            assert isinstance(images, torch.Tensor)
            assert (images.shape, images.dtype) == ((6, 32, 32, 3), torch.uint8)


def test_the_stream_is_decided_by_its_seed():
    first, again, other = stream(), stream(), stream(seed=1)
    longer = SUITE.datamodule([], adapt_batch=6, adapt_steps=80).train_dataloader()
    alone = SUITE.datamodule([], tasks=NAMES[1:2], adapt_batch=6, adapt_steps=40).train_dataloader()
    for step, (a, b, c) in enumerate(zip(first, again, islice(longer, 40), strict=True)):
        for task in TASKS:
            torch.testing.assert_close(a[task.name], b[task.name], rtol=0, atol=0)
            torch.testing.assert_close(a[task.name], c[task.name], rtol=0, atol=0)
        assert any(not torch.equal(a[task.name], other[step][task.name]) for task in TASKS)
    for a, d in zip(first, alone, strict=True):  # and not by the company of a task
        torch.testing.assert_close(a[TASKS[1].name], d[TASKS[1].name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "split", "shift"),
    [
        ({}, "adapt", CLEAN),
        ({"adapt_on": "test", "limit": 9}, "test", CLEAN),
        ({"adapt_shift": Shift("contrast", 4)}, "adapt", Shift("contrast", 4)),
    ],
)
def test_the_stream_draws_evenly_from_the_declared_pictures(settings, split, shift):
    batches = stream(**settings)
    for task in TASKS:
        images = load(task, split).images[: settings.get("limit")]
        named = f"{task.name}/{split}" if split != "test" else task.name
        allowed = {
            shift.apply(np.array(image), 0, named, i).tobytes() for i, image in enumerate(images)
        }
        drawn = Counter(image.numpy().tobytes() for batch in batches for image in batch[task.name])
        assert set(drawn) == allowed
        expected = 240 / len(allowed)
        assert max(drawn.values()) < expected + 5 * expected**0.5


def test_a_corrupted_split_is_kept_in_the_data_folder(tmp_path):
    data = SUITE.datamodule(SHIFTS, tasks=NAMES[:1])
    cells(data)
    files = sorted(path.name for path in image_cache().glob("*.npy"))
    assert len(files) == 2  # one for each shift; clean needs none
    assert image_cache() == tmp_path / "images"
