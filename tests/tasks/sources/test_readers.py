"""Pictures and labels out of files and tables: what cannot be read is refused in one line."""

import io
import re
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from PIL import Image

from mergeshift import DamagedFileError, UserError
from tasks import TASKS, load
from tasks.settings import MAX_PIXELS
from tasks.sources.folder import Folder
from tasks.sources.readers import Labels, labels_of, opened
from tests.helpers.pictures import cell, random

NAMED, PLAIN = ClassLabel(names=["a", "b", "c"]), Value("int64")


def table(kind, *labels: int) -> Dataset:
    return Dataset.from_dict({"label": list(labels)}, Features({"label": kind}))


def test_labels_and_the_names_that_the_table_says():
    labels, names = labels_of(table(NAMED, 2, 0, 1), "label", "it")
    assert (labels.tolist(), names) == ([2, 0, 1], ("a", "b", "c"))
    labels, names = labels_of(table(PLAIN, 7, 0), "label", "it")
    assert (labels.tolist(), names) == ([7, 0], ())


def test_numbers_that_are_no_classes_are_refused():
    whole, part = (Dataset.from_dict({"label": values}) for values in ([2.0, 0.0], [0.0, 0.5]))
    assert labels_of(whole, "label", "it")[0].tolist() == [2, 0]
    with pytest.raises(
        DamagedFileError, match=r"column 'label' of it holds 0.5, which is no class"
    ):
        labels_of(part, "label", "it")


def test_missing_words_are_refused():
    holes = Dataset.from_dict({"label": ["a", None, "b", None]})
    with pytest.raises(DamagedFileError, match="column 'label' of it lacks 2 labels"):
        labels_of(holes, "label", "it")


@pytest.mark.parametrize("kind", [NAMED, PLAIN])
def test_hidden_labels_are_refused(kind):
    with pytest.raises(DamagedFileError, match=r"holds -1, which is no class \(2 such labels"):
        labels_of(table(kind, 0, -1, 2, -1), "label", "it")


# -- labels of all kinds ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[0], [1]], "holds List"),
        ([{"a": 0}, {"a": 1}], "holds {'a'"),
        ([[0.5, 0.5], [1.0, 0.0]], "a label is one number or one name for each picture"),
        ([datetime(2026, 1, 1), datetime(2026, 1, 2)], "holds Value('timestamp"),
        ([b"a", b"b"], "holds Value('binary')"),
    ],
)
def test_labels_that_are_no_single_number_or_name_are_refused(values, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        labels_of(Dataset.from_dict({"label": values}), "label", "it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["int8", "uint64", "float32", "bool"])
def test_numbers_of_every_type_are_labels(kind):
    feature = Features({"label": Value(kind)})
    values = Dataset.from_dict({"label": [True, False, True]}, feature)
    assert labels_of(values, "label", "it") == Labels(pytest.approx([1, 0, 1]), ())


def test_numbers_beyond_what_is_counted_are_refused():
    column = pa.table({"label": pa.array([2**63 + 1, 0], pa.uint64())})
    huge = Dataset(column)
    with pytest.raises(DamagedFileError, match="which is no class"):
        labels_of(huge, "label", "it")


# -- tables of a folder ----------------------------------------------------------------------------


def cells(labels: list, **changes) -> Dataset:
    """A table of a picture for each label; ``changes`` by row."""
    images = [changes.get(f"row{i}", cell(random(34, 36, i))) for i in range(len(labels))]
    return Dataset.from_dict({"image": images, "label": labels})


@pytest.mark.parametrize("ids", [[2**40, 7, 12], [1, 2, 3], [0, 5, 9], [3.0, 1e6, 4.0]])
def test_classes_are_made_dense_and_keep_their_numbers(data_folder, ids):
    (data_folder / "pets").mkdir()
    cells([ids[i % 3] for i in range(30)]).to_parquet(data_folder / "pets" / "test.parquet")
    task = TASKS["local_pets"]
    assert task.classes == tuple(str(int(number)) for number in sorted(ids))
    labels = np.concatenate([load(task, split).labels for split in ("adapt", "val", "test")])
    assert np.bincount(labels).tolist() == [10, 10, 10]


def test_numbers_of_a_known_task_stay_those_of_its_classes(data_folder):
    """A test part of MNIST in which some digits do not occur."""
    (data_folder / "mnist").mkdir()
    cells([(3, 5, 9)[i % 3] for i in range(30)]).to_parquet(data_folder / "mnist" / "test.parquet")
    task = TASKS["mnist-full"]
    assert task.num_classes == 10
    assert set(load(task, "test").labels.tolist()) == {3, 5, 9}


HOLES = [None, {"bytes": None, "path": None}, {"bytes": b"", "path": None}]


@pytest.mark.parametrize("hole", HOLES, ids=["null", "null inside", "empty"])
def test_a_missing_picture_is_one_line(data_folder, hole):
    (data_folder / "pets").mkdir()
    cells([0, 1] * 10).to_parquet(data_folder / "pets" / "train.parquet")
    full = cells([0, 1] * 10, row3=hole, row4=hole)
    full.to_parquet(data_folder / "pets" / "test.parquet")
    with pytest.raises(UserError, match=r"row 3 of the test part of .* has no picture; 2 such"):
        TASKS["local_pets"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no picture", "cannot identify image file"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "no picture that can be decoded"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 40, "no picture that can be decoded"),
    ],
)
def test_bytes_without_a_known_format_are_found_before_anything_begins(data_folder, content, said):
    (data_folder / "pets").mkdir()
    rows = cells([0, 1] * 10, row3={"bytes": content, "path": None})
    rows.to_parquet(data_folder / "pets" / "test.parquet")
    source = TASKS["local_pets"].source
    assert isinstance(source, Folder)
    with pytest.raises(DamagedFileError, match=rf"row 3 of the test part of .*{said}"):
        source.check("test")


# -- sizes -----------------------------------------------------------------------------------------


def test_a_large_picture_is_decoded_without_a_word(tmp_path):
    """https://github.com/mittagessen/kraken/issues/299; pytest makes an error of every warning."""
    Image.new("1", (14000, 14000)).save(tmp_path / "a.png")
    assert opened(tmp_path / "a.png", "it").size == (14000, 14000)
    assert Image.MAX_IMAGE_PIXELS is not None


def test_a_picture_beyond_the_limit_is_one_line(tmp_path, monkeypatch):
    Image.new("L", (300, 200)).save(tmp_path / "a.png")
    said = f"it has 300 x 200 pixels, more than 59,999; make it smaller, or set {MAX_PIXELS} to"
    monkeypatch.setenv(MAX_PIXELS, "59999")
    with pytest.raises(UserError, match=re.escape(said)):
        opened(tmp_path / "a.png", "it")
    monkeypatch.setenv(MAX_PIXELS, "6e4")
    assert opened(tmp_path / "a.png", "it").size == (300, 200)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "JPEG", "JPEG2000"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_a_truncated_picture_is_one_line(kind, share):
    whole = io.BytesIO()
    Image.fromarray(random(64, 64)).save(whole, kind)
    content = whole.getvalue()[: int(len(whole.getvalue()) * share)]
    with pytest.raises(
        DamagedFileError, match=r"it is no picture that can be decoded: ."
    ) as caught:
        opened(io.BytesIO(content), "it")
    assert "\n" not in str(caught.value)
