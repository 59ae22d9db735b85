"""Runs on images of the user's own: what makes another run, what experts may not see."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Image

from bench.config import Sweep
from bench.plan import resolve
from bench.zoo import open_clip_models
from bench.zoo.encoders import ENCODERS
from bench.zoo.hub import Published
from mergeshift import UserError
from tasks import TASKS
from tasks.sources import folder
from tasks.sources.folder import SUITE
from tasks.sources.folder_scan import scan_folder
from tests.helpers.pictures import CLASSES, table, tree

ABOUT = {"title": "Zoo", "classes": ["calf", "hill", "wasp"], "templates": ["a {}."]}
PUBLISHED = Published("base-patch32", "ViT-B-32")


@pytest.fixture
def run_id(monkeypatch) -> Callable[..., str]:
    """The id of a run with the published experts, as a new process finds it."""
    monkeypatch.setattr(open_clip_models.OpenClip, "facts", lambda _: {"sha256": "0" * 64})

    def find(suite: str = SUITE) -> str:
        for cached in (folder.own, folder.instead, scan_folder):
            cached.cache_clear()
        (run,) = resolve(Sweep(suite=suite, methods=("average",))).runs
        return run.id

    return find


@pytest.fixture
def pets(data_folder) -> Path:
    """One task, whose experts are published."""
    return tree(data_folder / "oxford-iiit-pet", CLASSES, train=4, test=10)


def test_words_of_a_task_make_another_run_and_its_title_does_not(pets, run_id):
    found = {"nothing said": run_id()}
    for key, value in (
        ("what was said", ABOUT),
        ("classes", ABOUT | {"classes": ["calf", "hole", "wasp"]}),  # of the same length
        ("order", ABOUT | {"classes": ["hill", "calf", "wasp"]}),
        ("templates", ABOUT | {"templates": ["A {}."]}),
    ):
        (pets / "task.json").write_text(json.dumps(value))
        found[key] = run_id()
    assert len(set(found.values())) == len(found)
    for title in ("Zoo", "The zoo of the town"):
        (pets / "task.json").write_text(json.dumps(ABOUT | {"title": title}))
        assert run_id() == found["what was said"]
    assert TASKS["local_oxford-iiit-pet"].title == "The zoo of the town"
    (pets / "task.json").unlink()
    assert run_id() == found["nothing said"]


def test_the_name_that_a_folder_is_cut_by_makes_another_run(data_folder):
    """Two names of one task; a whole is cut by its name."""
    found = set()
    for name in ("MNIST", "tall_mnist"):
        path = tree(data_folder / name, CLASSES, whole=10)
        found.add(folder.Folder(str(path)).identity(TASKS["toy_two"]))
        scan_folder.cache_clear()
    assert len(found) == 2


def test_words_count_in_published_splits_too(pets, run_id):
    tree(pets, CLASSES, train=10)
    plain = run_id(f"{SUITE}@published")
    (pets / "task.json").write_text(json.dumps(ABOUT))
    assert run_id(f"{SUITE}@published") != plain


def test_other_labels_make_another_run(data_folder, run_id):
    """Tables of one size that name their classes in another order, or whose labels differ."""
    path, cells = data_folder / "mnist" / "test.parquet", table(CLASSES, "test", 10).to_dict()
    path.parent.mkdir()

    def told(names: str, *last: int) -> tuple[str, int]:
        labels = [0, 1, 2, *[0, 0, 1, 1, 2, 2, 0, 1, 2] * 2, 0, 1, 0, 2, 1, 2, 0, *last]
        kinds = Features({"image": Image(), "label": ClassLabel(names=list(names))})
        Dataset.from_dict({"image": cells["image"], "label": labels}, kinds).to_parquet(path)
        return run_id(), path.stat().st_size

    runs, sizes = zip(told("abc", 1, 2), told("bac", 1, 2), told("abc", 2, 1), strict=True)
    assert (len(set(runs)), len(set(sizes))) == (3, 1)


# -- experts that saw train ----------------------------------------------------------------------


@pytest.mark.parametrize("part", ["train", "whole"])
@pytest.mark.parametrize("suite", ["vision8", SUITE])
def test_published_experts_are_not_tested_on_what_may_be_train(data_folder, run_id, part, suite):
    tree(data_folder / "mnist", [str(i) for i in range(10)], **{part: 10})
    with pytest.raises(UserError) as caught:
        run_id(suite)
    said = "mnist has no test part, and the published expert of"
    assert said in str(caught.value)
    assert "add a test part, or make experts of your own (--experts finetuned)" in str(caught.value)
    assert "\n" not in str(caught.value)
    task = TASKS["mnist-full"]
    assert ENCODERS["ViT-B-32-finetuned"].expert_key(task, 0)  # these have seen its own train alone
    tree(data_folder / "mnist", [str(i) for i in range(10)], test=10)
    assert run_id(suite)


def test_nobody_has_published_an_expert_of_a_folder_of_ones_own(data_folder):
    tree(data_folder / "zoo", CLASSES, whole=10)
    tree(data_folder / "mnist", CLASSES, test=10)
    with pytest.raises(UserError, match="nobody has published an expert of local_zoo: make one"):
        PUBLISHED(TASKS["local_zoo"])
    place = PUBLISHED(TASKS["local_mnist"])  # called like one that is published
    assert place.repository == "tanganke/clip-vit-base-patch32_mnist"
