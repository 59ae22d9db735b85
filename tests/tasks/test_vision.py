"""The entries of the field's 20 tasks, in both families, against the published facts."""

import re

import numpy as np
import pytest
import torch
from torch.utils.data import random_split

from mergeshift import UnknownNameError, UserError
from tasks import SUITES, TASKS, suite, world_of
from tasks.sources.hub import Hub
from tasks.splits import SplitScheme
from tasks.vision import AS_PUBLISHED, TALL

# FusionBench's names in its order, with classes and templates, and the official sizes of the data
# sets (train, test): EuroSAT as the field cuts it, Flowers and SST2 without their validation parts;
# then where the images are, and what tall_masks calls the task.
FIELD = """
sun397             397  2   19850  19850 tanganke/sun397                   SUN397
stanford-cars      196  8    8144   8041 tanganke/stanford_cars            Cars
resisc45            45 18   18900   6300 tanganke/resisc45                 RESISC45
eurosat             10  3   21600   2700 tanganke/eurosat                  EuroSAT
svhn                10  1   73257  26032 ufldl-stanford/svhn               SVHN
gtsrb               43  3   26640  12630 tanganke/gtsrb                    GTSRB
mnist               10  1   60000  10000 ylecun/mnist                      MNIST
dtd                 47  8    3760   1880 tanganke/dtd                      DTD
oxford_flowers102  102  1    1020   6149 dpdl-benchmark/oxford_flowers102  Flowers102
pcam                 2  1  262144  32768 1aurent/PatchCamelyon             PCAM
fer2013              7  6   28709   7178 clip-benchmark/wds_fer2013        FER2013
oxford-iiit-pet     37  1    3680   3669 timm/oxford-iiit-pet              OxfordIIITPet
stl10               10  2    5000   8000 tanganke/stl10                    STL10
cifar100           100 18   50000  10000 tanganke/cifar100                 CIFAR100
cifar10             10 18   50000  10000 tanganke/cifar10                  CIFAR10
food101            101  1   75750  25250 ethz/food101                      Food101
fashion_mnist       10  2   60000  10000 zalando-datasets/fashion_mnist    FashionMNIST
emnist_letters      26  1  124800  20800 tanganke/emnist_letters           EMNIST
kmnist              10  1   60000  10000 tanganke/kmnist                   KMNIST
rendered-sst2        2  1    6920   1821 nateraw/rendered-sst2             RenderedSST2
"""
ROWS = [line.split() for line in FIELD.strip().splitlines()]
TALL_ORDER = """
Cars DTD EuroSAT GTSRB MNIST RESISC45 SVHN SUN397
STL10 OxfordIIITPet Flowers102 CIFAR100 PCAM FER2013
CIFAR10 Food101 FashionMNIST RenderedSST2 EMNIST KMNIST
""".split()  # noqa: SIM905
ALL = [*suite("vision20"), *suite("vision20_tall")]


def hub_of(name: str) -> Hub:
    source = TASKS[name].source
    assert isinstance(source, Hub)
    return source


# -- facts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "task"), list(zip(ROWS, suite("vision20"), strict=True)))
def test_a_task_of_the_field_is_as_published(row, task):
    name, classes, templates, train, test, source, _ = row
    assert task.name == ("mnist-full" if name == "mnist" else name)  # pocket has an mnist
    assert task.checkpoint == name  # in the ids of the experts
    assert (task.num_classes, len(task.templates)) == (int(classes), int(templates))
    assert task.source.cut.counts(task.sizes) == {"train": int(train), "test": int(test)}
    assert task.source.id == source


def test_suites_are_nested_and_in_the_order_of_their_family():
    field = [row[0] for row in ROWS]
    for count in (8, 14, 20):
        assert [task.checkpoint for task in suite(f"vision{count}")] == field[:count]
        tall = suite(f"vision{count}_tall")
        assert [task.checkpoint for task in tall] == TALL_ORDER[:count]
        assert [task.name for task in tall] == [f"tall_{n.lower()}" for n in TALL_ORDER[:count]]
    for name in ("vision8", "vision20_tall", "vision14@published", "vision4_robustness"):
        assert world_of(name) == "vision"
    robust = ["stanford-cars", "eurosat", "resisc45", "gtsrb"]
    assert [task.name for task in suite("vision4_robustness")] == robust


def test_the_families_share_data_but_for_emnist():
    for (_, classes, templates, *_, called), ours in zip(ROWS, suite("vision20"), strict=True):
        tall = TASKS[f"tall_{called.lower()}"]
        assert len(tall.templates) == int(templates)
        assert tall.num_classes == (10 if called == "EMNIST" else int(classes))
        if called == "EMNIST":
            assert (tall.num_classes, ours.num_classes) == (10, 26)
            assert sum(tall.sizes) == 280_000  # the digits split, not the mnist split
            assert tall.source.id != ours.source.id
        else:
            assert (tall.source, tall.sizes, tall.pixels) == (ours.source, ours.sizes, ours.pixels)
    assert "98 %" in TASKS["tall_dtd"].note


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_an_entry_is_complete(task):
    assert TASKS[task.name] is task
    assert len(set(task.classes)) == task.num_classes >= 2
    assert all(text.count("{}") == 1 and text == text.strip() for text in task.templates)
    assert len(set(task.templates)) == len(task.templates)
    assert task.template == task.templates[0]
    assert task.size == 224
    assert re.fullmatch(r"[0-9a-f]{16}", task.pixels)
    assert re.fullmatch(r"main|[0-9a-f]{40}", task.source.revision)
    assert task.source.id in task.licence
    assert not task.non_commercial


def test_prompts_are_class_by_class():
    task = TASKS["eurosat"]
    assert task.prompts[:4] == [
        "a centered satellite photo of annual crop land.",
        "a centered satellite photo of a annual crop land.",
        "a centered satellite photo of the annual crop land.",
        "a centered satellite photo of forest.",
    ]
    assert len(task.prompts) == 30
    assert TASKS["mnist-full"].prompts[3] == 'a photo of the number: "3".'
    assert TASKS["tall_emnist"].prompts[3] == 'a photo of the digit character: "3".'
    assert TASKS["tall_fer2013"].prompts[18] == "a photo of a ['happy', 'smiling'] looking face."
    assert TASKS["kmnist"].classes[0] == "\u304a"
    assert TASKS["tall_kmnist"].classes[0] == "o"
    assert "crab" in TASKS["tall_cifar100"].classes
    assert "cra" in TASKS["cifar100"].classes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist-full", "0 1 2 3 4 5 6 7 8 9"),
        ("svhn", "0 1 2 3 4 5 6 7 8 9"),
        ("tall_emnist", "0 1 2 3 4 5 6 7 8 9"),
        ("emnist_letters", "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z"),
        ("tall_kmnist", "o ki su tsu na ha ma ya re wo"),
        ("cifar10", "airplane automobile bird cat deer dog frog horse ship truck"),
        ("stl10", "airplane bird car cat deer dog horse monkey ship truck"),
        ("rendered-sst2", "negative positive"),
    ],
)
def test_classes_are_in_the_order_that_the_data_sets_number_them_in(name, words):
    """As their authors list them."""
    assert TASKS[name].classes == tuple(words.split())


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("svhn", {"config": "cropped_digits"}),
        ("food101", {"test": "validation", "train": "train"}),
        ("fer2013", {"image": "jpg", "label": "cls"}),
        ("sun397", {"config": "", "test": "test", "image": "image", "label": "label"}),
    ],
)
def test_where_a_data_set_differs_from_the_rest(name, facts):
    assert {key: getattr(hub_of(name), key) for key in facts} == facts


def test_what_identifies_images_depends_on_all_that_decides_them():
    source = Hub("a/b")
    others = [
        Hub("a/c"), Hub("a/b", "c"), Hub("a/b", revision="c"), Hub("a/b", train="c"),
        Hub("a/b", test="c"), Hub("a/b", image="c"), Hub("a/b", label="c"),
        Hub("a/b", cut=SplitScheme(published=True)), Hub("a/b", cut=TALL),
    ]  # fmt: skip
    found = [source.identity(224, 1), source.identity(32, 1), source.identity(224, 2)]
    found += [other.identity(224, 1) for other in others]
    assert len(set(found)) == len(found)
    assert source.identity(224, 1) == Hub("a/b").identity(224, 1)


# -- splits --------------------------------------------------------------------------------------


def test_splits_of_ours_are_disjoint_and_fill_the_test_part():
    cut = SplitScheme()
    rows = {split: cut.rows(split, 1880, "tanganke/dtd") for split in ("adapt", "val", "test")}
    assert [len(found) for found in rows.values()] == [188, 188, 1504]
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(1880))
    assert sorted(cut.rows("train", 50, "x").tolist()) == list(range(50))
    again = cut.rows("test", 1880, "tanganke/dtd")
    np.testing.assert_array_equal(again, rows["test"])
    assert (cut.rows("test", 1880, "another") != rows["test"]).any()
    # stored shuffled: the first images are a random sample, of mean (1880 - 1) / 2 = 939.5 and
    # standard deviation 1880 / sqrt(12) = 543; of 400, within 5 * 543 / 20 = 136
    assert abs(rows["test"][:400].mean() - 939.5) < 136


def test_published_val_is_drawn_as_the_field_draws_it():
    """FusionBench and tall_masks: ``random_split`` with a generator of seed 0."""
    for count, cut in ((60_000, TALL), (8_144, AS_PUBLISHED)):
        size = min(count // 10, cut.most or count)
        lengths = [count - size, size]
        generator = torch.Generator().manual_seed(0)
        train, val = random_split(range(count), lengths, generator=generator)
        assert set(cut.rows("val", count, "x").tolist()) == set(val.indices)
        left = set(train.indices) if cut.apart else set(range(count))
        assert set(cut.rows("train", count, "x").tolist()) == left
    assert (
        random_split(range(60_000), [55_000, 5_000], torch.Generator().manual_seed(0))[0].indices[0]
        == 36044
    )  # as tall_masks asserts of its MNIST


def test_published_twins_report_all_of_test():
    task, twin = TASKS["sun397"], TASKS["sun397@published"]
    assert (task.sizes, twin.sizes) == ((19850, 1985, 1985, 15880), (19850, 19850, 1985, 19850))
    assert twin.name == "sun397@published"
    assert twin.pixels != task.pixels
    assert (twin.classes, twin.checkpoint) == (task.classes, task.checkpoint)
    assert TASKS["tall_mnist@published"].sizes == (55_000, 10_000, 5_000, 10_000)
    assert TASKS["svhn@published"].sizes[2] == 7_325  # rounded down
    names = [f"{name}@published" for name in SUITES["vision14"].names]
    assert list(SUITES["vision14@published"].names) == names
    assert [t.name for t in suite("vision14@published")] == names
    sorted_rows = np.sort(twin.source.cut.rows("test", 30, "x"))
    np.testing.assert_array_equal(sorted_rows, np.arange(30))
    np.testing.assert_array_equal(np.sort(twin.source.cut.rows("adapt", 30, "x")), np.arange(30))


def test_corrupted_copies_are_read_as_they_are():
    twin = TASKS["eurosat@motion_blur"]
    assert hub_of("eurosat@motion_blur").test == "motion_blur"
    assert twin.sizes == (21600, 2700, 2160, 2700)
    assert next(t.name for t in suite("vision4_robustness@contrast")) == "stanford-cars@contrast"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("sun397@contrast", UserError, "sun397 has no 'contrast' splits; it has: published"),
        ("mnist@published", UserError, "mnist has no 'published' splits; it has: its own"),
        ("sun39@published", UnknownNameError, "no task named 'sun39'; did you mean 'sun397'"),
        ("tall_emnist@x", UserError, "tall_emnist has no 'x' splits; it has: published"),
    ],
)
def test_a_twin_that_is_not_there_is_one_line(name, error, message):
    with pytest.raises(error, match=re.escape(message)):
        TASKS[name]


def test_pictures_of_another_size_are_another_task_of_the_same_splits():
    suite_of = SUITES["vision8@published"]
    assert suite_of.at(224) is suite_of
    small = suite_of.at(32)
    assert small.name == "vision8@published@32"
    assert small.at(32) == small
    assert small.world == "vision"
    for task, other in zip(small.tasks, suite_of.tasks, strict=True):
        assert (task.name, task.size) == (f"{other.name}@32", 32)
        same = ("title", "classes", "templates", "sizes", "source", "checkpoint")
        assert all(getattr(task, field) == getattr(other, field) for field in same)
        assert task.pixels != other.pixels
    assert SUITES["pocket8"].at(224) is SUITES["pocket8"]  # stored at 32 pixels
    assert SUITES["toy"].at(32) is SUITES["toy"]


@pytest.mark.parametrize(("name", "said"), [
    ("dtd@224", "pictures of dtd are 224 pixels wide; got @224"),
    ("optdigits@64", "pictures of optdigits are 32 pixels wide, and are stored so; got @64"),
])  # fmt: skip
def test_a_size_that_cannot_be_is_one_line(name, said):
    with pytest.raises(UserError, match=re.escape(said)):
        TASKS[name]


def test_too_few_images_to_cut_are_refused():
    assert [len(SplitScheme().rows(split, 3, "x")) for split in ("adapt", "val", "test")] == [
        1,
        1,
        1,
    ]
    with pytest.raises(UserError, match="x has 2 images to test on; 3 is the least"):
        SplitScheme().rows("test", 2, "x")
