"""The contract, executable: what every task must satisfy (also: python -m bench check mnist).

It builds or downloads the task, if that was not done before. Of a task that is not built here, the
train split is left alone: it may be gigabytes.
"""

import re

import numpy as np

from tasks.images import Images
from tasks.sources.built import pixel_hash, stored
from tasks.task import SPLITS, Task, load

MANY = 100  # pictures of a split that are compared, where each has to be decoded first


def splits_of(task: Task) -> dict[str, Images]:
    """The splits that are at hand, by name."""
    return {split: load(task, split) for split in SPLITS[1 if task.source.native else 0 :]}


def check_its_entry_is_complete(task: Task) -> None:
    """A title, a kind and a noun; four splits that are not empty; pixels that are pinned."""
    assert task.title, "it has no title"
    assert task.kind, "it has no kind"
    assert task.noun, "it has no noun: the coarse caption of every picture"
    assert len(task.sizes) == len(SPLITS), f"its sizes are those of {', '.join(SPLITS)}"
    assert min(task.sizes) > 0, f"a split is empty: {task.sizes}"
    assert task.rights, "nobody says who may use it: Task.rights"
    assert re.fullmatch(r"[0-9a-f]{16}", task.pixels), f"pixels are 16 hex digits: {task.pixels}"


def check_its_classes_have_prompts_of_their_own(task: Task) -> None:
    """Two classes or more, each with prompts that no other class has."""
    assert task.num_classes >= 2, f"it has {task.num_classes} classes"
    assert len(set(task.classes)) == task.num_classes, "two classes have the same name"
    assert len(task.prompts) == task.num_classes * len(task.templates)
    assert len(set(task.prompts)) == len(task.prompts), "two prompts are the same"


def check_its_splits_have_the_sizes_of_its_entry(task: Task) -> None:
    """As many pictures and labels in each split as the entry says."""
    for split, images in splits_of(task).items():
        size = task.sizes[SPLITS.index(split)]
        assert len(images.images) == len(images.labels) == size, (
            f"{split} has {len(images.images)} pictures and {len(images.labels)} labels, "
            f"its entry says {size}"
        )


def check_its_labels_are_classes(task: Task) -> None:
    """Whole numbers from 0; in the test split there are at least two of them."""
    for split, images in splits_of(task).items():
        assert images.labels.dtype == np.int64, f"labels of {split} are {images.labels.dtype}"
        low, high = images.labels.min(), images.labels.max()
        assert low >= 0, f"{split} has a label below 0"
        assert high < task.num_classes, f"{split} has label {high} of {task.num_classes} classes"
    assert len(np.unique(splits_of(task)["test"].labels)) > 1, "all test pictures are of one class"


def check_its_pictures_are_rgb(task: Task) -> None:
    """uint8 ``[N, size, size, 3]``."""
    for split, images in splits_of(task).items():
        found = images.images[:2]
        assert found.dtype == np.uint8, f"pictures of {split} are {found.dtype}"
        assert found.shape[1:] == (task.size, task.size, 3), f"pictures of {split}: {found.shape}"


def check_its_pixels_are_those_of_its_entry(task: Task) -> None:
    """Of a built task all that is stored; the sources of others check what they download."""
    if not task.source.native:
        every = stored(task)
        found = pixel_hash(np.asarray(every.images), every.labels)
        assert found == task.pixels, f"what is stored has pixels {found}, its entry {task.pixels}"


def check_no_picture_is_in_two_splits(task: Task) -> None:
    """Compared as bytes; pictures of a single colour, such as open sea, do not count.

    Of a task that is not built here, the first hundred of each split.
    """
    owner: dict[bytes, str] = {}
    for split, images in splits_of(task).items():
        some = images.images[: MANY if task.source.native else None]
        for image in some:
            if (image == image[0, 0]).all():
                continue
            first = owner.setdefault(image.tobytes(), split)
            assert first == split, f"a picture is in {first} and in {split}"


CHECKS = [fn for name, fn in list(globals().items()) if name.startswith("check_")]
