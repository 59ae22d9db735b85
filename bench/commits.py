"""Which commits of unpinned data sets a run has seen: no sweep mixes results of two of them."""

from collections.abc import Sequence
from typing import Any

from bench import learned
from bench.config import Run
from bench.errors import UserError
from results.store import Store
from tasks import suite
from tasks.hub import Hub


def data_of(run: Run) -> dict[str, Any]:
    """What is stored with a run: ``{"data": part -> commit}``; nothing where all is pinned."""
    sources = [task.source for task in suite(run.suite)]
    found = {k: v for one in sources if isinstance(one, Hub) for k, v in one.commits.items()}
    return {"data": found} if found else {}


def require_same(runs: Sequence[Run], store: Store) -> None:
    """Refuse to go on with a sweep whose data sets are of other commits now than before.

    Args:
        runs: of one suite, whose data are there.
        store: the results so far, and what methods learned.

    Raises:
        UserError: they are.
    """
    now = data_of(runs[0]).get("data", {})
    for run in runs if now else ():
        notes = store.path(run.id, "run").with_suffix(".json")
        known = [store.run(run.id)] if notes.exists() else []
        for facts in (*known, *learned.lessons(store, run.id)):
            before = facts.get("data", {})
            if changed := [part for part in now if before.get(part, now[part]) != now[part]]:
                part = changed[0]
                raise UserError(
                    f"data set {part} is of commit {now[part][:12]} here, {run.id} has seen "
                    f"{before[part][:12]}: run again with --force to measure all of it anew, give "
                    "another --out, or pin the commit in the task's entry"
                )
