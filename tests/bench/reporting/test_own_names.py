"""Predictions by name for a task of one's own whose classes are called 1, 2 and 3."""

import numpy as np
import pandas as pd
import pytest

from bench.config import Sweep
from results.store import Store
from tasks import TASKS, load
from tests.helpers.pictures import tree
from tests.helpers.toy_sweep import sweep_into

CLASSES = ["1", "2", "3"]


@pytest.fixture
def out(data_folder, small_encoder, tmp_path):
    tree(data_folder / "stars", CLASSES, train=12, test=4)
    sweep_into(tmp_path / "out", Sweep(
        name="own", suite="vision_local", encoder=small_encoder.name, methods=("average",),
        shifts=("clean",), tune=False,
    ))  # fmt: skip
    return tmp_path / "out"


def test_a_csv_says_what_is_unclear_and_parquet_takes_the_names(command, out, tmp_path, add):
    path = tmp_path / "template.parquet"
    assert command("results", "template", "-o", path, "--out", out).code == 0
    frame = pd.read_parquet(path)
    task = TASKS["local_stars"]
    labels = load(task, "test").labels
    names = [task.classes[labels[i]] for i in frame["image"]]
    assert [file.split("/")[-2] for file in frame["file"]] == names  # the file of each image
    assert frame["file"].is_unique
    said = ["2" if name == "3" else name for name in names]
    frame = frame.assign(method="by name", prediction=said)
    frame.to_csv(tmp_path / "p.csv", index=False)
    error = command("results", "add", tmp_path / "p.csv", "--out", out).error
    assert "is the name of a class and the number of another, and a .csv does not say" in error
    assert add(frame).code == 0
    rows = Store(out).read()
    (share,) = rows[(rows["method"] == "by name") & (rows["metric"] == "acc")]["value"]
    assert share == pytest.approx(np.mean(np.array(said) == np.array(names)))
