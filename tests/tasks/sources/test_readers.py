"""Labels out of tables: what is no class is refused."""

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from mergeshift import DamagedFileError
from tasks.sources.readers import labels_of

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
