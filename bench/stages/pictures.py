"""Pictures of the user's own are looked at before anything long begins, and what is odd is said."""

from collections.abc import Sequence

from rich.console import Console

from bench.runtime.progress import Stages
from tasks import Task
from tasks.sources.folder import Folder


def check_pictures(tasks: Sequence[Task], stages: Stages, train: bool = True) -> None:
    """Decode every picture of the user's folders that was not decoded before.

    Args:
        tasks: of a sweep.
        stages: where progress is shown.
        train: whether train parts are needed, too: experts are made of them.

    Raises:
        DamagedFileError: a picture cannot be read.
    """
    sources = {source.path: source for source in map(folder_of, tasks) if source is not None}
    todo = [(source, part) for source in sources.values() for part in source.unchecked(train)]
    total = sum(len(source.found.parts[part].labels) for source, part in todo)
    if not total:
        return
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        advance(done)

    with stages.stage("pictures", f"{total:,} to look at", total) as advance:
        for source, part in todo:
            source.check(part, add)


def say_notes(tasks: Sequence[Task], console: Console) -> None:
    """Print what is left out of the user's folders, or not read as it is stored."""
    for task in tasks:
        source = folder_of(task)
        if source is not None and source.notes:
            console.print(
                f"  {task.name}: {'; '.join(source.notes)}", highlight=False, markup=False
            )


def folder_of(task: Task) -> Folder | None:
    """The user's folder that the task comes from, if it does."""
    return task.source if isinstance(task.source, Folder) else None
