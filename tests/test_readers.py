"""Labels out of tables: what is no class is refused."""

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from bench.errors import DamagedFileError
from tasks.readers import labels_of

NAMED, PLAIN = ClassLabel(names=["a", "b", "c"]), Value("int64")


def table(kind, *labels: int) -> Dataset:
    return Dataset.from_dict({"label": list(labels)}, Features({"label": kind}))


def test_labels_and_the_names_that_the_table_says():
    labels, names = labels_of(table(NAMED, 2, 0, 1), "label")
    assert (labels.tolist(), names) == ([2, 0, 1], ("a", "b", "c"))
    labels, names = labels_of(table(PLAIN, 7, 0), "label")
    assert (labels.tolist(), names) == ([7, 0], ())


@pytest.mark.parametrize("kind", [NAMED, PLAIN])
def test_hidden_labels_are_refused(kind):
    with pytest.raises(DamagedFileError, match=r"holds -1, which is no class \(2 such labels"):
        labels_of(table(kind, 0, -1, 2, -1), "label")
