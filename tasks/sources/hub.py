"""Tasks whose images come from the Hugging Face hub, part by part, when they are asked for."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from filelock import FileLock

from mergeshift import DamagedFileError, UserError, home, read_json, write_json
from tasks.images import Images, Pictures
from tasks.rights import Rights
from tasks.sources.readers import Column, labels_of
from tasks.splits import OWN, SplitScheme
from tasks.task import Task

if TYPE_CHECKING:
    from datasets import Dataset

COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Hub:
    """A data set of the hub.

    Only the parts that are needed are downloaded: test alone, unless an expert is fine-tuned.
    What was downloaded is found again without the hub.
    """

    id: str
    config: str = ""  # "" is the only one, or the default
    revision: str = "main"  # a commit, where it is known; else results keep which one it was
    train: str = "train"  # names of the parts
    test: str = "test"
    image: str = "image"  # names of the columns
    label: str = "label"
    cut: SplitScheme = OWN
    native: ClassVar[bool] = True

    @property
    def rights(self) -> tuple[Rights, ...]:
        """Where the terms of the data set stand."""
        page = f"hf.co/datasets/{self.id}"
        return (Rights(f"terms of {page}", f"https://{page}", "terms"),)

    @property
    def commits(self) -> dict[str, str]:
        """What the parts of adapt, val and test were downloaded from, where that is not pinned.

        Part, e.g. ``tanganke/dtd/test`` -> commit. Empty where the entry names a commit itself.
        """
        name = "/".join(filter(None, (self.id, self.config)))
        unpinned = () if COMMIT.fullmatch(self.revision) else self._parts
        found = {part: self._found(part) for part in unpinned}
        return {f"{name}/{part}": facts["commit"] for part, facts in found.items() if facts}

    @property
    def place(self) -> Path:
        """Where its tables lie."""
        name = "--".join([*self.id.split("/"), self.config or "default"])
        return home() / "hub" / f"{name}-{hashed(self.id, self.config, self.revision)[:8]}"

    def identity(self, size: int, version: int) -> str:
        """16 hex digits of all that decides the images of a task."""
        columns = self.image, self.label, self.train, self.test
        cut = self.cut.published, self.cut.most, self.cut.apart
        return hashed(self.id, self.config, self.revision, *columns, cut, size, version)[:16]

    def is_ready(self, task: Task) -> bool:
        """Whether adapt, val and test were downloaded."""
        return all(self._found(part) for part in self._parts)

    def prepare(self, task: Task) -> None:
        """Download what adapt, val and test need, and check it.

        Raises:
            UserError: it cannot be had, or is not what the entry says.
        """
        for part in self._parts:
            self._checked(task, part)

    def split(self, task: Task, split: str) -> Images:
        """One split; its images are decoded when they are looked at."""
        part = self._name(self.cut.part(split))
        reader, labels = self._checked(task, part)
        rows = self.cut.rows(split, len(labels), f"{self.id}/{self.config}/{part}")
        commit = self._found(part)["commit"]
        digest = hashed(task.pixels, task.size, split, commit)[:32]
        return Images(Pictures(reader, rows, task.size, digest), labels[rows])

    @property
    def _parts(self) -> list[str]:
        """Parts that adapt, val and test come from."""
        return [self.train, self.test] if self.cut.published else [self.test]

    def _name(self, part: str) -> str:
        return self.train if part == "train" else self.test

    def _found(self, part: str) -> dict[str, Any]:
        """What is known of a part that was downloaded; nothing if it was not, or is gone."""
        try:
            facts: dict[str, Any] = read_json(self.place / f"{part}.json")
        except (FileNotFoundError, DamagedFileError):
            return {}
        return facts if all(Path(file).exists() for file in facts["files"]) else {}

    def _table(self, part: str) -> "Dataset":
        """A part as a table, downloaded if need be."""
        from datasets import Dataset, concatenate_datasets

        self.place.mkdir(parents=True, exist_ok=True)
        with FileLock(self.place / f".{part}.lock"):
            facts = self._found(part)
            if not facts:
                facts = self._download(part)
                write_json(self.place / f"{part}.json", facts)
        return concatenate_datasets([Dataset.from_file(file) for file in facts["files"]])

    def _download(self, part: str) -> dict[str, Any]:
        """Download the files of one part, and make a table of them."""
        from datasets import load_dataset, load_dataset_builder
        from huggingface_hub import hf_hub_download

        with explained(self):
            builder = load_dataset_builder(self.id, self.config or None, revision=self.revision)
            commit, files = str(builder.hash), builder.config.data_files
            if files is None:  # offline: there is what somebody loaded before, of some revision
                if self.revision not in ("main", commit):
                    raise UserError(f"offline there is {self.id} of revision {commit} alone")
                table = builder.as_dataset(split=part)
            elif part in files:
                start = f"hf://datasets/{self.id}@{commit}/"
                names = [url.removeprefix(start) for url in files[part]]
                paths = [
                    hf_hub_download(self.id, name, repo_type="dataset", revision=commit)
                    for name in names
                ]
                table = load_dataset(
                    builder.name, data_files={part: paths}, split=part, cache_dir=str(self.place)
                )
            else:
                there = ", ".join(map(str, files))
                raise UserError(f"data set {self.id} has no split {part!r}; it has: {there}")
        stored = [file["filename"] for file in table.cache_files]
        return {"files": stored, "rows": len(table), "commit": commit, "revision": self.revision}

    def _checked(self, task: Task, part: str) -> tuple[Column, np.ndarray]:
        """Pictures and labels of a part, compared with the entry of ``task``."""
        table = self._table(part)
        where = f"data set {self.id} ({part}, {self.revision})"
        if lacking := [c for c in (self.image, self.label) if c not in table.column_names]:
            raise DamagedFileError(
                f"{where} has no column {lacking[0]!r}; it has: {', '.join(table.column_names)}: "
                "it was changed, pin an older revision in the task's entry"
            )
        # As CLIP's own transforms convert it: published numbers were measured so.
        reader = Column.of(table, self.image, f"{self.id} ({part})", as_stored=True)
        labels, names = labels_of(table, self.label, where)
        wanted = self.cut.counts(task.sizes)["train" if part == self.train else "test"]
        if len(labels) != wanted:
            raise DamagedFileError(
                f"{where} has {len(labels):,} images, the entry of {task.name} says {wanted:,}: "
                "it was changed, pin an older revision in the task's entry"
            )
        found = len(names) or len(np.unique(labels))
        if found != task.num_classes or not 0 <= labels.min() <= labels.max() < found:
            raise DamagedFileError(
                f"{where} has {found} classes, labels {labels.min()} to {labels.max()}; the entry "
                f"of {task.name} says {task.num_classes}"
            )
        return reader, labels


def hub_task(source: Hub, *, train: int, test: int, size: int = 224, **facts: Any) -> Task:
    """The entry of a task of the hub.

    Args:
        source: where its images come from.
        train: images in the train part.
        test: images in the test part.
        size: pixels that an encoder is given.
        facts: the other fields of :class:`tasks.task.Task`.
    """
    version = facts.get("version", 1)
    return Task(
        source=source,
        sizes=source.cut.sizes(train, test),
        pixels=source.identity(size, version),
        size=size,
        **facts,
    )


def recut(task: Task, name: str, source: Hub, note: str) -> Task:
    """A task under another name, of the same data set in other splits."""
    assert isinstance(task.source, Hub)
    counts = task.source.cut.counts(task.sizes)
    sizes, pixels = source.cut.sizes(**counts), source.identity(task.size, task.version)
    return replace(task, name=name, source=source, sizes=sizes, pixels=pixels, note=note)


def hashed(*parts: object) -> str:
    """Hex digits of the sha256 of ``parts`` as JSON."""
    return sha256(json.dumps(parts).encode()).hexdigest()


@contextmanager
def explained(source: Hub) -> Iterator[None]:
    """Say in one line what went wrong with the hub, and what to do; no words when nothing did."""
    import datasets
    from huggingface_hub import errors, utils

    datasets.disable_progress_bars()
    utils.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # it says errors twice
    utils.logging.set_verbosity_error()
    of_http: Any = errors.HfHubHTTPError.__mro__[1]  # that of the library which the hub's uses
    what = f"data set {source.id} (revision {source.revision})"
    try:
        yield
    except UserError:
        raise
    except datasets.exceptions.DatasetNotFoundError as error:
        raise UserError(
            f"{what} is not on the hub: {first_line(error)}; check the name, "
            "or log in (hf auth login) if it is gated"
        ) from error
    except (of_http, OSError) as error:
        offline = "Offline" in f"{error} {type(error)}"
        todo = "unset HF_HUB_OFFLINE" if offline else "run again (what was downloaded is kept)"
        raise UserError(
            f"cannot get {what} from the hub: {first_line(error)}; {todo}, or give --data-dir"
        ) from error
    except (datasets.exceptions.DatasetsError, ValueError) as error:
        raise UserError(f"cannot read {what} of the hub: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without its end."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(" .:;")
