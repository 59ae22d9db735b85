"""How a folder of pictures is understood: which folders are parts, which are classes.

A folder that holds nothing but one folder with pictures is entered, and so is ``images`` beside
``masks`` and the like. Parts are known by their names in any case (``Train``), then by a word of
them (``my-test-set``) where at least two parts are called so; a part that holds no class folders
is none. Parts may also lie in each class.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from mergeshift import UserError
from tasks.sources.walk import Folder

T = TypeVar("T")
KINDS = {  # part -> what it may be called; the first that is there counts
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "eval", "evaluation", "dev"),
}
IMAGES = {"images", "image", "imgs", "img", "pictures", "photos", "jpg", "jpeg", "jpegs", "png",
          "jpegimages", "data", "dataset"}  # fmt: skip
BESIDE = {
    "annotation", "annotations", "boxes", "docs", "groundtruth", "gt", "imdb", "label", "labels",
    "mask", "masks", "meta", "metadata", "papers", "samples", "segmentation", "segmentations",
    "trimaps",
}  # fmt: skip
VARIANTS = {"color", "colour", "grayscale", "greyscale", "gray", "grey", "segmented", "raw",
            "original", "originals", "processed", "augmented", "cropped", "resized"}  # fmt: skip
FOLDS = re.compile(r"(fold|split|part|subset|set)[ _-]?\d+")
SHOWN = 4  # names that a line lists


class Called(NamedTuple):
    """Which part a name says, and how surely: 0 as it is, 1 in another case, 2 by a word of it."""

    kind: str
    tier: int
    rank: int  # of the word among those of its part


@dataclass(frozen=True)
class Layout:
    """What a folder was taken for."""

    parts: Mapping[str, Mapping[str, tuple[Folder, ...]]]  # train, test or whole -> its classes
    places: Mapping[str, str]  # part -> the path of its folder
    notes: tuple[str, ...]  # what was entered and what was left out
    problem: str = ""  # why it cannot be read

    def tree(self) -> str:
        """Parts, classes and their pictures in one line."""
        parts = []
        for part, classes in self.parts.items():
            counts = {name: total(folders) for name, folders in classes.items()}
            few = [f"{name} {count:,}" for name, count in list(counts.items())[: 2 * SHOWN]]
            few += [f"{len(counts) - 2 * SHOWN} more"] * (len(counts) > 2 * SHOWN)
            parts.append(f"{part}: {', '.join(few) or 'no class'}")
        return "; ".join([*parts, *self.notes]) or "nothing in it"


@dataclass
class Reading:
    """A folder while it is being understood."""

    root: Folder
    notes: list[str] = field(default_factory=list)

    def name(self, folder: Folder) -> str:
        """A folder, as it is seen from the root."""
        return folder.path[len(self.root.path) :].strip("/\\") or folder.name

    def leave(self, folders: Sequence[Folder], why: str) -> None:
        """Note that folders are left out, if there are any."""
        if folders:
            names = [f"{self.name(folder)} ({pictures(folder.count)})" for folder in folders]
            self.notes.append(f"left out, {why}: {some(names)}")

    def enter(self, folder: Folder, below: bool = True) -> Folder:
        """The folder below that holds the classes, or the folder itself.

        Args:
            folder: where to begin.
            below: whether to stop above folders of parts.
        """
        while (inner := self.inside(folder)) is not None and not (below and parts_in(folder)):
            self.notes.append(f"entered {self.name(inner)}")
            self.leave([f for f in folder.full if f is not inner], "beside the images")
            self.bare(folder)
            folder = inner
        return folder

    def inside(self, folder: Folder) -> Folder | None:
        """The one folder that wraps all classes, if there is such."""
        full = folder.full
        if len(full) > 1:
            words = [in_small(one.name) for one in full]
            images = [one for one, word in zip(full, words, strict=True) if word in IMAGES]
            full = tuple(images) if set(words) <= IMAGES | BESIDE and len(images) == 1 else ()
        return full[0] if len(full) == 1 and full[0].full else None

    def bare(self, folder: Folder) -> None:
        """Note pictures that lie beside folders."""
        if folder.files:
            beside = f"{pictures(len(folder.files))} of {self.name(folder)}"
            self.notes.append(f"left out, in no class folder: {beside}")

    def classes(self, folder: Folder) -> dict[str, tuple[Folder, ...]]:
        """Class -> its folder, of those that are no texts and not empty."""
        found: dict[str, tuple[Folder, ...]] = {}
        empty = []
        for one in folder.folders:
            if one.count or (one.unread() and in_small(one.name) not in BESIDE):
                found[one.name] = (one,)
            else:
                empty.append(one)
        if empty:
            self.notes.append(f"left out, no pictures in it: {some([self.name(f) for f in empty])}")
        self.bare(folder)
        return found

    def layout(
        self,
        parts: Mapping[str, Mapping[str, tuple[Folder, ...]]],
        places: Mapping[str, str],
        problem: str = "",
    ) -> Layout:
        """What was found, with notes on files that are no pictures."""
        return Layout(parts, places, (*self.notes, *no_pictures(self.root)), problem)


def understand(root: Folder) -> Layout:
    """What the folders of a folder are."""
    reading = Reading(root)
    top = reading.enter(root)
    found, inner = parts_in(top), parts_below(top)
    if inner and (not found or (len(inner) > 1 and not surely(found))):
        return by_class_first(reading, top, inner)
    if found:
        return with_parts(reading, top, found)
    classes = reading.classes(top)
    odd = variants(top)
    if not classes and top.files:
        odd = (
            f"its {pictures(len(top.files))} lie in no class folder: make one for each class, or "
            "give the folder above if this is a class"
        )
    return reading.layout({"whole": classes}, {"whole": top.path}, odd or wrong({"whole": classes}))


def with_parts(reading: Reading, top: Folder, found: Mapping[str, list[Folder]]) -> Layout:
    """Parts, and classes in each."""
    twice = [f"{some([one.name for one in them])} are all called {kind}: move all but one away"
             for kind, them in found.items() if len(them) > 1]  # fmt: skip
    first = {kind: folders[0] for kind, folders in found.items()}
    chosen = train_and_test(reading, first)
    others = [folder for folder in top.full if folder not in first.values()]
    reading.leave(others, "no part of train and test")
    flat = [without_classes(kind, folder) for kind, folder in chosen.items()
            if not has_classes(folder)]  # fmt: skip
    parts = {kind: reading.classes(reading.enter(folder, below=False))
             for kind, folder in sorted(chosen.items(), reverse=True)}  # fmt: skip
    places = {kind: folder.path for kind, folder in chosen.items()}
    if "test" not in parts:
        parts, places = {"whole": parts["train"]}, {"whole": places["train"]}
    problem = next(iter([*twice, *flat]), "")
    return reading.layout(parts, places, problem or wrong(parts))


def train_and_test(reading: Reading, found: Mapping[str, Folder]) -> dict[str, Folder]:
    """The folders of train and test: val is tested on where test has no class folders."""
    chosen = {kind: folder for kind, folder in found.items() if kind != "val"}
    val, test = found.get("val"), found.get("test")
    if val is None or (test is not None and (has_classes(test) or not has_classes(val))):
        reading.leave([val] if val is not None else [], "test is there")
        return chosen
    reading.leave([test] if test is not None else [], "in no class folder")
    return {**chosen, "test": val}


def without_classes(kind: str, folder: Folder) -> str:
    """What is wrong with a part that holds no class folders."""
    if not folder.count:
        return f"the {kind} part ({folder.name}) holds no images"
    return (
        f"the {kind} part ({folder.name}) holds {folder.count:,} pictures in no class folder: make "
        "one for each class, or move it away to have the rest cut by class"
    )


def by_class_first(reading: Reading, top: Folder, found: Mapping[str, Sequence[str]]) -> Layout:
    """Classes, and parts in each."""
    parts: dict[str, dict[str, tuple[Folder, ...]]] = {}
    test = "test" if "test" in found else "val"
    for part, kind in (("train", "train"), ("test", test)):
        for folder in top.full if kind in found else ():
            inside = tuple(one for one in folder.full if one.name in found[kind])
            parts.setdefault(part, {})[folder.name] = inside
    if test == "test" and "val" in found:
        reading.notes.append("left out, test is there: val of every class")
    if "test" not in parts:
        parts = {"whole": parts["train"]}
    return reading.layout(parts, dict.fromkeys(parts, top.path), wrong(parts))


def wrong(parts: Mapping[str, Mapping[str, tuple[Folder, ...]]]) -> str:
    """Why there are no tasks of these parts and classes, or nothing."""
    if lost := [(part, name, folders) for part, classes in parts.items()
                for name, folders in classes.items() if not total(folders)]:  # fmt: skip
        return without_pictures(*lost[0])
    if not any(parts.values()):
        return "it holds no images: make a folder for each class, below train and test or not"
    if empty := [part for part, classes in parts.items() if not classes]:
        return f"the {empty[0]} part holds no images"
    names = [set(classes) for classes in parts.values()]
    if odd := sorted(
        {name for some in names for name in some if not all(name in n for n in names)}
    ):
        lacking = next(part for part, classes in parts.items() if odd[0] not in classes)
        return f"train and test differ in their classes, e.g. {odd[0]!r}, which {lacking} lacks"
    if all(in_small(name) in IMAGES | BESIDE for name in names[0]):
        return f"{some(sorted(names[0]))} are no classes: make a folder for each class"
    return "there are fewer than two class folders with pictures" * (len(names[0]) < 2)


def total(folders: Sequence[Folder]) -> int:
    """Pictures in all of them."""
    return sum(folder.count for folder in folders)


def without_pictures(part: str, name: str, folders: Sequence[Folder]) -> str:
    """What is wrong with a class that has none."""
    unread = sum((folder.unread() for folder in folders), start=Counter[str]())
    files = ", ".join(f"{count:,} of {suffix}" for suffix, count in unread.items()) or "no file"
    return f"class {name!r} of {part} has no picture that can be read ({files})"


def variants(top: Folder) -> str:
    """Why folders that hold the same folders are no classes, or nothing."""
    inner = {frozenset(one.name for one in folder.full) for folder in top.full}
    words = [in_small(folder.name) for folder in top.full]
    apart = all(w in VARIANTS | IMAGES | BESIDE or FOLDS.fullmatch(w) for w in words)
    if len(words) > 1 and apart and len(inner) == 1 and len(min(inner)) > 1:
        return (
            f"{some([folder.name for folder in top.full])} hold the same folders: call them train "
            "and test if they are parts, else leave one of them"
        )
    return ""


def parts_in(folder: Folder) -> dict[str, list[Folder]]:
    """Part -> the folders that it may be; nothing if no folder is one of train, test and val."""
    called = [(c, one) for one in folder.folders if (c := part_called(one.name)) is not None]
    shaped = [(c, one) for c, one in called if has_classes(one)]
    if any(c.tier < 2 for c, _ in shaped):
        called = [(c, one) for c, one in called if c.tier < 2 or (c, one) in shaped]
    elif not any(has_several(one) for _, one in shaped) or len({c.kind for c, _ in called}) < 2:
        return {}
    kinds = dict.fromkeys(c.kind for c, _ in called)
    return {kind: best([(c, one) for c, one in called if c.kind == kind]) for kind in kinds}


def has_classes(folder: Folder) -> bool:
    """Whether a part holds class folders, be it in a folder of images or of its own name."""
    full = folder.full
    if len(full) == 1 and (in_small(full[0].name) in IMAGES or part_called(full[0].name)):
        return has_classes(full[0])
    return bool(full)


def has_several(folder: Folder) -> bool:
    """Whether a folder is surely a part: it holds class folders, at least two, and no pictures."""
    full = folder.full
    if len(full) == 1 and not folder.files:
        return has_several(full[0])
    return len(full) > 1 and not folder.files


def best(pairs: Sequence[tuple[Called, T]]) -> list[T]:
    """Those whose names say most surely what part they are."""
    first = min(called for called, _ in pairs)
    return [one for called, one in pairs if called == first]


def surely(found: Mapping[str, Sequence[Folder]]) -> bool:
    """Whether a part is called so, in whatever case, and not by a word of its name alone."""
    called = [part_called(folder.name) for folders in found.values() for folder in folders]
    return any(one is not None and one.tier < 2 for one in called)


def parts_below(top: Folder) -> dict[str, list[str]]:
    """Part -> what it is called in every class; nothing if classes hold no parts."""
    found: dict[str, list[str]] = {}
    for folder in top.full:
        if folder.files:
            return {}
        for one in folder.full:
            called = part_called(one.name)
            if called is None or called.tier > 1 or one.full:
                return {}
            if one.name not in found.setdefault(called.kind, []):
                found[called.kind].append(one.name)
    return found if len(top.full) > 1 else {}


def part_called(name: str) -> Called | None:
    """Which part a folder or file is called.

    >>> part_called("Testing"), part_called("my-train_images"), part_called("training_masks")
    (Called(kind='test', tier=1, rank=1), Called(kind='train', tier=2, rank=0), None)
    """
    for kind, names in KINDS.items():
        if name.lower() in names:
            return Called(kind, int(name not in names), names.index(name.lower()))
    words = [re.sub(r"(?<=.)(sets?|data|images)$", "", word) or word for word in words_of(name)]
    if set(words_of(name)) & BESIDE:
        return None
    named = [(kind, names.index(word)) for kind, names in KINDS.items() for word in words
             if word in names]  # fmt: skip
    kinds = {kind for kind, _ in named}
    if "trainval" in words or kinds == {"train", "val"}:
        return Called("train", 2, 0)
    return Called(named[0][0], 2, named[0][1]) if len(kinds) == 1 else None


def words_of(name: str) -> list[str]:
    """The words of a name, in small letters.

    >>> words_of("Fruits-360_TestSet2")
    ['fruits', 'test', 'set']
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def in_small(name: str) -> str:
    """A name in small letters, without blanks and dashes at its ends."""
    return name.lower().strip(" _-.")


def pictures(count: int) -> str:
    """A number of pictures in words."""
    return f"{count:,} picture" + "s" * (count != 1)


def some(names: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def no_pictures(root: Folder) -> Iterator[str]:
    """What is said of files that are no pictures, and of what the walk passed over."""
    if unread := root.unread():
        suffixes = ", ".join(f"{suffix} {count:,}" for suffix, count in sorted(unread.items()))
        yield f"left out, no pictures that can be read: {sum(unread.values()):,} files ({suffixes})"
    if passed := [entry for folder in root.everything() for entry in folder.passed]:
        yield f"passed over: {some(passed)}"


def require(layout: Layout, path: str) -> None:
    """Refuse a folder that cannot be read.

    Raises:
        UserError: it says why, and how the folder was understood.
    """
    if layout.problem:
        raise UserError(
            f"{path}: {layout.problem}; understood as [{layout.tree()}]; see python -m bench tasks "
            f"inspect {path}"
        )


def parts_of_files(paths: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Files by part: by the name of a folder or the file, else ``whole``.

    A name that begins with that of a part says it surely; one that has it among its words, where
    the files then fall into at least two parts.

    Args:
        paths: file -> the names of its folders and its own, from the root on.
    """

    def sorted_by(called: Callable[[str], str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file, names in paths.items():
            kinds = [kind for name in names if (kind := called(name))]
            found.setdefault([*kinds, "whole"][0], []).append(file)
        return found

    surely = sorted_by(begins)
    if "whole" not in surely:
        return surely
    by_word = sorted_by(lambda name: getattr(part_called(name.partition(".")[0]), "kind", ""))
    return by_word if len(by_word) > 1 else surely


def begins(name: str) -> str:
    """How a part is called at the beginning of a name, or nothing.

    >>> begins("train-00000-of-00002.parquet"), begins("Validation"), begins("data")
    ('train', 'val', '')
    """
    first = re.split(r"[^a-z]", name.lower(), maxsplit=1)[0]
    return next((kind for kind, names in KINDS.items() if first in names), "")
