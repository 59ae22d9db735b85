"""What a run was made of: commits of unpinned data sets, and the code of its method.

No sweep mixes results of two of them.
"""

from collections.abc import Mapping, Sequence
from shutil import rmtree

from bench.config import Run
from bench.stages import artifacts
from bench.stages.build import bind
from bench.stages.source import changed_since
from mergeshift import UserError
from results.store import Store


def seen_before(runs: Sequence[Run], store: Store) -> dict[str, list[dict[str, str]]]:
    """Run id -> the commits that it, and each of what it learned, was stored with."""
    found = {}
    for run in runs:
        notes = store.path(run.id, "run").with_suffix(".json")
        known = [store.run(run.id)] if notes.exists() else []
        found[run.id] = [
            facts.get("data", {})
            for facts in (*known, *artifacts.adaptation_records(store, run.id))
        ]
    return found


def require_same(
    runs: Sequence[Run], before: Mapping[str, list[dict[str, str]]], store: Store, force: bool
) -> None:
    """Refuse to go on with a sweep whose data sets are of other commits now than before.

    Args:
        runs: of one suite, whose data are there.
        before: see :func:`seen_before`.
        store: the results so far.
        force: delete all of such a run instead, under whatever shifts it was measured.

    Raises:
        UserError: they are.
    """
    now = bind(runs[0]).data_revisions.get("data", {})
    for run in runs:
        changed = [(part, commit) for told in before[run.id] for part, commit in told.items()
                   if now.get(part, commit) != commit]  # fmt: skip
        if changed and force:
            rmtree(store.folder / "cells" / run.id, ignore_errors=True)  # it may hold nothing
        elif changed:
            part, commit = changed[0]
            raise UserError(
                f"data set {part} is of commit {now[part][:12]} here, {run.id} has seen "
                f"{commit[:12]}: run again with --force to measure all of it anew, give "
                "another --out, or pin the commit in the task's entry"
            )


def changed_code(runs: Sequence[Run], store: Store) -> dict[str, list[str]]:
    """Run id -> files of its method that are others than when it was measured, under one version.

    Results from before hashes were stored tell nothing of it.
    """
    found = {}
    for run in runs:
        if not run.weights and store.path(run.id, "run").with_suffix(".json").exists():
            found[run.id] = changed_since(run.method, store.run(run.id))
    return {run_id: files for run_id, files in found.items() if files}


def told_of(changed: Mapping[str, list[str]]) -> str:
    """What a sweep says of code that changed.

    >>> told_of({"run": ["ties.py"]})
    'ties.py changed since these results: raise its version, or --force'
    """
    files = ", ".join(dict.fromkeys(file for files in changed.values() for file in files))
    return f"{files} changed since these results: raise its version, or --force"
