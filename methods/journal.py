"""The journal of a search: a file that a kill may tear, and that two processes may want."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from bench.errors import UserError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.storages.journal import BaseJournalBackend


@contextmanager
def opened(journal: Path | None) -> Iterator["BaseStorage | None"]:
    """The storage in a file, for this process alone; ``None`` stands for one in memory."""
    if journal is None:
        yield None
        return
    from optuna.storages import JournalStorage

    with writing(journal):
        journal.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{journal}.lock")  # the system lets go of it, whatever ends the process
        lock.acquire()
    try:
        with writing(journal):
            mend(journal)
        yield JournalStorage(backend_of(journal))
    finally:
        lock.release()


@contextmanager
def writing(journal: Path) -> Iterator[None]:
    """Say in one line that the journal cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {journal}: {error.strerror or error}") from error


def backend_of(journal: Path) -> "BaseJournalBackend":
    """Optuna's file of one JSON line an operation."""
    from optuna.storages.journal import JournalFileBackend

    class Backend(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            with writing(journal):
                super().append_logs(logs)

    return Backend(str(journal), lock_obj=_NoLock())  # type: ignore[arg-type]


def mend(journal: Path) -> None:
    """Cut off what a kill left half-written: from the first line that is not whole to the end."""
    if not journal.exists():
        return
    text = journal.read_bytes()
    whole = sum(map(len, whole_lines(text)))
    if whole < len(text):
        with journal.open("rb+") as file:
            file.truncate(whole)


def whole_lines(text: bytes) -> Iterator[bytes]:
    """The lines up to the first that a kill, or another process at this moment, left unfinished."""
    for line in text.splitlines(keepends=True):
        try:
            json.loads(line)
        except ValueError:
            return
        if not line.endswith(b"\n"):
            return
        yield line


def spent(journal: Path) -> float:
    """Seconds that the trials in a journal took; 0 if there is none."""
    if not journal.exists():
        return 0.0
    told = [json.loads(line) for line in whole_lines(journal.read_bytes())]  # it may be in use
    return sum(
        one.get(key, {}).get("seconds", 0.0) for one in told for key in ("user_attr", "user_attrs")
    )


class _NoLock:
    """In place of Optuna's lock, a file that a kill leaves behind: the search has its own."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing is held."""
