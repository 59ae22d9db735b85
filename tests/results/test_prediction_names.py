"""Files of predictions: text stays text, numbers stay numbers, and what may be both is refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mergeshift import UserError
from results import predictions
from results.predictions import Truth


def told(path: Path, values: Sequence[object], classes: Sequence[str]) -> list[int]:
    """The numbers of the classes that a file with these predictions says."""
    frame = pd.DataFrame({
        "method": "m", "task": "t", "shift": "clean", "image": range(len(values)),
        "prediction": values,
    })  # fmt: skip
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    truth = {"t": Truth(np.zeros(len(values), int), tuple(classes))}
    found, _ = predictions.answers(predictions.read(path), truth, ["clean"])
    return found["m", 0]["t", "clean"].predicted.tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(("values", "classes", "meant"), [
    (["None", "NA", "null"], ("NA", "None", "null"), [1, 0, 2]),
    (["nan", "N/A", "NULL"], ("N/A", "NULL", "nan"), [2, 0, 1]),
    (["True", "False"], ("False", "True"), [1, 0]),
    (["2", "1", "3"], ("1", "2", "3"), [1, 0, 2]),  # 3 is no number of a class: they are names
    (["01", "02"], ("01", "02", "03"), [0, 1]),  # no number is written so
    (["1e5", "-1", "1/2"], ("-1", "1/2", "1e5"), [2, 0, 1]),
    (["0", "2"], ("0", "1", "2"), [0, 2]),  # a name and a number that are the same class
    (["0", "2"], ("ant", "bee", "cow"), [0, 2]),
    ([0, 2], ("ant", "bee", "cow"), [0, 2]),
    ([0.0, 2.0], ("ant", "bee", "cow"), [0, 2]),
    ([" bee", "cow"], ("ant", "bee", "cow"), [1, 2]),
])  # fmt: skip
def test_both_kinds_of_file_say_the_same(values, classes, meant, suffix, tmp_path):
    assert told(tmp_path / f"p{suffix}", values, classes) == meant


@pytest.mark.parametrize(("values", "classes"), [
    (["1", "2"], ("1", "2", "3")),
    (["1", "1"], ("0", "10", "1")),
    (["0", "1"], ("1", "0")),
    (["1.0"], ("1.0", "2.0")),
])  # fmt: skip
def test_what_may_be_a_name_or_a_number_is_refused_in_a_csv_and_text_in_parquet(
    values, classes, tmp_path
):
    with pytest.raises(UserError, match="is the name of a class and the number of another"):
        told(tmp_path / "p.csv", values, classes)
    assert told(tmp_path / "p.parquet", values, classes) == [classes.index(v) for v in values]


@pytest.mark.parametrize(("values", "said"), [
    (["ant", None], "1 predictions are missing"),
    ([True, False], "true and false are no classes"),
    ([b"ant", b"bee"], "no class b'ant'"),
    ([[0], [1]], "write numbers as integers, or names as text"),
    (["ant", "1"], "no class '1'; classes: ant, bee"),
    ([0, 2], "prediction 2 is no class; there are 2"),
    ([0.5, 1], "column 'prediction' holds whole numbers"),
])  # fmt: skip
def test_what_is_neither_is_one_line(values, said, tmp_path):
    with pytest.raises(UserError) as caught:
        told(tmp_path / "p.parquet", values, ("ant", "bee"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_places_in_a_list_of_names_are_names(tmp_path):
    assert told(tmp_path / "p.parquet", pd.Categorical(["bee", "ant"]), ("ant", "bee")) == [1, 0]


def test_names_of_methods_and_tasks_stay_text(tmp_path):
    frame = pd.DataFrame({"method": ["None"], "task": ["007"], "shift": ["clean"], "image": [0],
                          "prediction": [0], "confidence": [0.5]})  # fmt: skip
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        frame.to_csv(tmp_path / "p.csv", index=False, encoding=encoding)
        found = predictions.read(tmp_path / "p.csv")
        assert found[["method", "task"]].values.tolist() == [["None", "007"]]
    (tmp_path / "p.csv").write_text("method,task,shift,image,prediction\n,t,clean,0,1\n")
    with pytest.raises(UserError, match="column 'method' has missing values"):
        predictions.read(tmp_path / "p.csv")


def test_the_ends_of_lines_do_not_matter_and_cells_without_a_name_are_refused(tmp_path):
    lines = ["method,task,shift,image,prediction", "m,t,clean,0,1", "m,t,clean,1,0"]
    path = tmp_path / "p.csv"
    for end in ("\n", "\r\n", "\r"):
        path.write_bytes(end.join([*lines, ""]).encode())
        assert predictions.read(path)["prediction"].tolist() == ["1", "0"]
    for more in ([lines[0], *(f"{line}," for line in lines[1:])],  # else "clean" would be a task
                 [lines[0], *(f"{row},{line}" for row, line in enumerate(lines[1:]))]):  # fmt: skip
        path.write_text("\n".join(more))
        with pytest.raises(UserError, match="have more cells than its first line has names"):
            predictions.read(path)
