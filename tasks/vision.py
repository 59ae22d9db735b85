"""The field's 20 tasks, as its two families of published experts know them.

``vision8``, ``vision14``, ``vision20``: names, order and experts of FusionBench. ``vision8_tall``
and so on: those of tall_masks. They are different benchmarks: other orders, other prompts for some
tasks, and EMNIST means letters here and digits there.

``NAME@published``, of a task or a suite, has the splits that published numbers were measured on:
all of test, val as a tenth of train. ``NAME@contrast`` and so on, of the four tasks of
``vision4_robustness``, are FusionBench's corrupted copies of the test split, as they are.
``NAME@32`` and so on has its pictures resized to so many pixels, for an encoder that takes those.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corruptions.base import PROTOCOL
from mergeshift import UserError, read_json
from tasks.domains import add_domain
from tasks.sources.folder import Folder, from_folder
from tasks.sources.hub import Hub, hub_task, recut
from tasks.splits import SplitScheme
from tasks.suites import SUITES, Suite, add_suite
from tasks.task import TASKS, Task

NAMES = Path(__file__).with_name("names")
PUBLISHED = "published"
AS_PUBLISHED = SplitScheme(published=True)  # FusionBench's experts saw the images of their val, too
TALL = SplitScheme(published=True, most=5000, apart=True)  # of tall_masks: they did not
RENAMED = {"mnist": "mnist-full"}  # the pocket world has an mnist, of fewer images
SIDEWAYS = "the pictures lie on their side, as in EMNIST's own files"
LEAK = (
    "the tall_masks experts of before December 2024 saw test images: they score 98 % here and 78 "
    "to 85 % on val; the authors replaced them on the hub; report means without DTD, too"
)


@dataclass(frozen=True)
class Row:
    """One data set, as far as both families share it."""

    name: str  # FusionBench's, and that of its experts
    tall: str  # that of tall_masks
    title: str
    kind: str
    noun: str
    source: Hub
    train: int  # images
    test: int
    note: str = ""


ROWS = (
    Row("sun397", "SUN397", "SUN397", "photograph", "a photo of a place",
        Hub("tanganke/sun397", revision="9c4afd6174afa3974f209a0ef099dbbe244dfd27"), 19850, 19850),
    Row("stanford-cars", "Cars", "Cars", "photograph", "a photo of a car",
        Hub("tanganke/stanford_cars"), 8144, 8041),
    Row("resisc45", "RESISC45", "RESISC45", "photograph", "an aerial photo",
        Hub("tanganke/resisc45"), 18900, 6300),
    Row("eurosat", "EuroSAT", "EuroSAT", "photograph", "a satellite photo",
        Hub("tanganke/eurosat"), 21600, 2700),
    Row("svhn", "SVHN", "SVHN", "photograph", "a photo of a house number",
        Hub("ufldl-stanford/svhn", "cropped_digits"), 73257, 26032),
    Row("gtsrb", "GTSRB", "GTSRB", "photograph", "a photo of a traffic sign",
        Hub("tanganke/gtsrb", revision="ea889fff70dda7b09e94a4b207dded438deca549"), 26640, 12630),
    Row("mnist", "MNIST", "MNIST", "photograph", "a handwritten digit",
        Hub("ylecun/mnist"), 60000, 10000),
    Row("dtd", "DTD", "DTD", "photograph", "a photo of a texture",
        Hub("tanganke/dtd"), 3760, 1880),
    Row("oxford_flowers102", "Flowers102", "Flowers102", "photograph", "a photo of a flower",
        Hub("dpdl-benchmark/oxford_flowers102",
            revision="544b55c9af69a05742ead7571cd7ae23cfcd758b"), 1020, 6149),
    Row("pcam", "PCAM", "PCAM", "photograph", "a slice of a lymph node",
        Hub("1aurent/PatchCamelyon"), 262144, 32768),
    Row("fer2013", "FER2013", "FER2013", "photograph", "a photo of a face",
        Hub("clip-benchmark/wds_fer2013", revision="9399b94167523fe5c40b3a857e24ef931ee4395b",
            image="jpg", label="cls"), 28709, 7178),
    Row("oxford-iiit-pet", "OxfordIIITPet", "Pets", "photograph", "a photo of a pet",
        Hub("timm/oxford-iiit-pet"), 3680, 3669),
    Row("stl10", "STL10", "STL10", "photograph", "a photo",
        Hub("tanganke/stl10", revision="49ae7f94508f7feae62baf836db284306eab0b0f"), 5000, 8000),
    Row("cifar100", "CIFAR100", "CIFAR100", "photograph", "a small photo",
        Hub("tanganke/cifar100"), 50000, 10000, "FusionBench's prompts say 'cra' for crab"),
    Row("cifar10", "CIFAR10", "CIFAR10", "photograph", "a small photo of a thing",
        Hub("tanganke/cifar10"), 50000, 10000),
    Row("food101", "Food101", "Food101", "photograph", "a photo of food",
        Hub("ethz/food101", test="validation"), 75750, 25250),
    Row("fashion_mnist", "FashionMNIST", "FashionMNIST", "photograph", "a photo of clothing",
        Hub("zalando-datasets/fashion_mnist"), 60000, 10000),
    Row("emnist_letters", "EMNIST", "EMNIST letters", "photograph", "a handwritten letter",
        Hub("tanganke/emnist_letters", revision="a88f372faac8c76aac49267491e779a3d9b62ad2"),
        124800, 20800, f"26 letters, not tall_masks's 10 digits; {SIDEWAYS}"),
    Row("kmnist", "KMNIST", "KMNIST", "photograph", "a handwritten kana",
        Hub("tanganke/kmnist"), 60000, 10000),
    Row("rendered-sst2", "RenderedSST2", "RenderedSST2", "rendered text", "a review of a movie",
        Hub("nateraw/rendered-sst2"), 6920, 1821),
)  # fmt: skip
TALL_ORDER = (
    "Cars", "DTD", "EuroSAT", "GTSRB", "MNIST", "RESISC45", "SVHN", "SUN397",
    "STL10", "OxfordIIITPet", "Flowers102", "CIFAR100", "PCAM", "FER2013",
    "CIFAR10", "Food101", "FashionMNIST", "RenderedSST2", "EMNIST", "KMNIST",
)  # fmt: skip
TALL_NOTES = {
    "DTD": LEAK,
    "EMNIST": f"10 digits, not FusionBench's 26 letters; {SIDEWAYS}",
    "FER2013": "the prompts hold lists, as in the heads that the experts were trained with",
}
DIGITS = Row("", "EMNIST", "EMNIST digits", "photograph", "a handwritten digit of many hands",
             Hub("ernestchu/emnist-digits"), 240000, 40000)  # fmt: skip


def words_of(file: str) -> dict[str, Any]:
    """Class names in the order of the labels, and templates."""
    words = read_json(NAMES / f"{file}.json")
    return {"classes": tuple(words["classes"]), "templates": tuple(words["templates"])}


def add(name: str, row: Row, file: str, checkpoint: str, note: str) -> str:
    """Register one task; its name."""
    facts: dict[str, Any] = {"title": row.title, "kind": row.kind, "noun": row.noun, "note": note}
    task = hub_task(row.source, train=row.train, test=row.test, name=name, checkpoint=checkpoint,
                    **facts, **words_of(file))  # fmt: skip
    return TASKS.add(name, task).name


def add_all() -> None:
    """Register both families and their suites."""
    field = [
        add(RENAMED.get(row.name, row.name), row, row.name, row.name, row.note) for row in ROWS
    ]
    by_tall = {row.tall: row for row in ROWS} | {"EMNIST": DIGITS}
    tall = []
    for called in TALL_ORDER:
        row, name = by_tall[called], f"tall_{called.lower()}"
        file = name if (NAMES / f"{name}.json").exists() else row.name
        tall.append(add(name, row, file, called, TALL_NOTES.get(called, "")))
    for count in (8, 14, 20):
        add_suite(f"vision{count}", field[:count])
        add_suite(f"vision{count}_tall", tall[:count])
    add_suite("vision4_robustness", ("stanford-cars", "eurosat", "resisc45", "gtsrb"))


def twin(name: str) -> Task | None:
    """The rule of the registry: a task in its published splits, of another size, or on a copy.

    Raises:
        UserError: the task comes from no published data set, its pictures are stored at one size,
            or it has no such copy.
    """
    base, at, what = name.rpartition("@")
    if not at:
        return None
    task = TASKS[base]
    if re.fullmatch(r"[1-9][0-9]{1,3}", what):
        return of_size(task, name, int(what))
    if what not in (known := copies(task)):
        raise UserError(f"{base} has no {what!r} splits; it has: {', '.join(known) or 'its own'}")
    cut, source = TALL if base.startswith("tall_") else AS_PUBLISHED, task.source
    if isinstance(source, Folder):
        return from_folder(task, replace(source, cut=cut), name=name)
    assert isinstance(source, Hub)
    if what == PUBLISHED:
        how = "; " * bool(task.note) + "all of test, val is a tenth of train, adapt is test"
        return recut(task, name, replace(source, cut=cut), task.note + how)
    how = f"FusionBench's {what} copy of test; methods adapt on it, too"
    return recut(task, name, replace(source, cut=cut, test=what), how)


def of_size(task: Task, name: str, size: int) -> Task:
    """A task under another name, with its pictures at another size.

    Raises:
        UserError: they have that size already, or are stored at one.
    """
    source = task.source
    if isinstance(source, Folder) and size != task.size:
        return from_folder(task, source, name=name, size=size)
    if isinstance(source, Hub) and size != task.size:
        return replace(task, name=name, size=size, pixels=source.identity(size, task.version))
    stored = "" if source.native else ", and are stored so"
    raise UserError(f"pictures of {task.name} are {task.size} pixels wide{stored}; got @{size}")


def copies(task: Task) -> tuple[str, ...]:
    """The twins that a task has."""
    if isinstance(task.source, Hub) and task.name in SUITES["vision4_robustness"].names:
        return (PUBLISHED, *PROTOCOL)
    return (PUBLISHED,) if isinstance(task.source, Hub | Folder) else ()


def twins(name: str) -> Suite | None:
    """The rule of the registry: a suite of twins."""
    base, at, what = name.rpartition("@")
    return Suite(name, tuple(f"{task}@{what}" for task in SUITES[base].names)) if at else None


def add_domains() -> None:
    """Register where the classes of some tasks come from a second time."""
    usps = hub_task(
        Hub("flwrlabs/usps"), train=7291, test=2007, name="usps", title="USPS", kind="photograph",
        noun="a handwritten digit", **words_of("mnist"),
    )  # fmt: skip
    add_domain("usps", "handwritten digits of postal codes, 16 x 16 pixels", usps,
               ["mnist-full", "tall_mnist"])  # fmt: skip
    add_domain("stl10", "larger photos of nine of ten classes", "stl10",
               ["cifar10", "tall_cifar10"], {"car": "automobile"})  # fmt: skip
    add_domain("cifar10", "small photos of nine of ten classes", "cifar10",
               ["stl10", "tall_stl10"], {"automobile": "car"})  # fmt: skip


add_all()
add_domains()
TASKS.rules.append(twin)
SUITES.rules.append(twins)
