"""Silhouettes of animals."""

import numpy as np

from tasks.pocket.common import pickled_array, shrink
from tasks.sources.built import Built, Pool
from tasks.sources.wheels import WHEELS
from tasks.splits import by_group, near_duplicates
from tasks.task import TASKS, Task


def animals() -> Pool:
    """28 x 28 silhouettes; exact copies dropped, near copies and mirror images kept together."""
    wheel = WHEELS["animal_shape_mnist"]
    images = pickled_array(wheel.member("animal_data_version_3.gz")).reshape(-1, 28, 28)
    labels = pickled_array(wheel.member("animal_label_version_3.gz")).ravel().astype(int)
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    images, labels = images[np.sort(first)], labels[np.sort(first)]
    return Pool(shrink(images), labels, by_group(near_duplicates(images)))


TASKS.add(
    "animals",
    Task(
        name="animals",
        title="Animals",
        kind="drawing",
        noun="an animal silhouette",
        classes=(
            "bear",
            "bird",
            "cat",
            "cow",
            "dog",
            "elephant",
            "giraffe",
            "horse",
            "sheep",
            "zebra",
        ),
        template="a silhouette of a {}",
        sizes=(4000, 500, 500, 667),
        reserved=333,
        pixels="68aedbdb960775fd",
        source=Built(animals, wheels=("animal_shape_mnist",)),
        note="class names were read off the pictures",
        version=2,
    ),
)
