"""Which runs and shifts make up a sweep: written when it starts, read by tables."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.config import digest, identity_fields, stored_fields, stored_protocol
from bench.stages.source import changed_since
from bench.variants import canonical_name, display_name
from mergeshift import UserError, read_json, write_json
from results.store import Store
from results.tables.uncertainty import AGAIN

if TYPE_CHECKING:
    from bench.plan import Plan

EXTERNAL = " (external)"  # behind the title of every line that was not made here


def save_sweep(plan: "Plan", out: Path, seconds: dict[str, float]) -> None:
    """Write what the sweep consists of, and the time that its stages took so far."""
    sweep, weights = stored_fields(plan.sweep), plan.runs[0].weights
    path = (
        out / "sweeps" / f"{plan.sweep.name}-{digest((identity_fields(plan.sweep), weights))}.json"
    )
    before = read_json(path) if path.exists() else {}
    value = {
        "kind": "weights" if weights else "sweep",
        "name": plan.sweep.name,
        "sweep": sweep | {"encoder": plan.encoder.name},
        "runs": {run.id: run.method for run in plan.runs},
        "variants": [[run.id, plan.variants.get(run.id, "")] for run in plan.runs],  # in order
        "shifts": [shift.key for shift in plan.shifts],
        "seconds": before.get("seconds", {}) | seconds,
        "started": datetime.now(UTC).isoformat(),
    }
    write_json(path, value)


def load_sweep(out: Path, name: str = "", run: str = "", protocol: str = "") -> dict[str, Any]:
    """The latest sweep in a folder, or the latest of that name, with that run, of that protocol.

    Runs of imported weights that were measured on the same cells are part of it; where no
    such sweep was run, they are a sweep of their own. ``evaluated`` lists these runs.

    Raises:
        UserError: there is none.
    """
    records = [read_json(path) for path in sorted((out / "sweeps").glob("[!.]*.json"))]
    sweeps = [_with_evaluated(r, records, out) for r in records if r["kind"] == "sweep"]

    kept = stored_protocol(protocol, "--protocol")

    def of_protocol(r: dict[str, Any]) -> bool:
        return not protocol or r["sweep"].get("protocol", "") == kept

    def fits(r: dict[str, Any]) -> bool:
        return name in ("", r["name"]) and (not run or run in r["runs"]) and of_protocol(r)

    fitting = list(filter(fits, sweeps))
    fitting = fitting or [
        r | {"evaluated": list(r["runs"]), "left_out": []} for r in records if fits(r)
    ]
    if not fitting:
        known = ", ".join(sorted({record["name"] for record in records})) or "none"
        wanted = f"sweep {name!r}" if name else "sweep"
        wanted += f" of protocol {protocol}" * bool(protocol)
        raise UserError(
            f"no {wanted} in {out} (there: {known}); "
            "run `python -m bench sweep` first, or give --out"
        )
    return max(fitting, key=lambda record: record["started"])


def _with_evaluated(
    record: dict[str, Any], records: list[dict[str, Any]], out: Path
) -> dict[str, Any]:
    found, left_out = _evaluated(records, record, out)
    whole = {"runs": record["runs"] | found, "evaluated": list(found), "left_out": left_out}
    return record | whole


def _evaluated(
    records: list[dict[str, Any]], sweep: dict[str, Any], out: Path
) -> tuple[dict[str, str], list[str]]:
    """Runs of imported weights on the very cells of ``sweep``; the newest of each name.

    And the names that would be there, but were not measured under all of its shifts, or not on the
    same commit of a data set.
    """
    cells = (  # any seed
        "suite", "encoder", "limit", "data_seed", "expert_seed", "expert_seeds", "precision",
        "protocol",
    )  # fmt: skip

    def same(one: dict[str, Any], other: dict[str, Any], key: str) -> bool:
        return (one.get(key) or None) == (other.get(key) or None)  # 0, "", or from before it

    newest: dict[str, dict[str, str]] = {}  # name -> its runs, one for each seed
    named: dict[str, None] = {}
    for record in sorted(records, key=lambda record: record["started"]):
        if (
            record["kind"] == "weights"
            and all(same(record["sweep"], sweep["sweep"], key) for key in cells)
            and _named(record, "unseen") == _named(sweep, "unseen")
            and _named(record, "extra_experts") == _named(sweep, "extra_experts")
        ):
            seen, here = _commits(record, out), _commits(sweep, out)
            alike = all(seen[part] == here[part] for part in seen.keys() & here)
            for name in dict.fromkeys(record["runs"].values()):
                named[name] = None
                if alike and set(record["shifts"]) >= set(sweep["shifts"]):
                    newest[name] = {run: one for run, one in record["runs"].items() if one == name}
    found = {run: name for runs in newest.values() for run, name in runs.items()}
    return found, [name for name in named if name not in newest]


def standing(plan: "Plan", out: Path) -> dict[str, set[str]]:
    """Name -> runs of the lines from elsewhere that stand in tables of these very cells."""
    records = [read_json(path) for path in sorted((out / "sweeps").glob("[!.]*.json"))]
    sweep = stored_fields(plan.sweep) | {"encoder": plan.encoder.name}
    cells = {"sweep": sweep, "shifts": [shift.key for shift in plan.shifts], "runs": {}}
    found: dict[str, set[str]] = {}
    for run, name in _evaluated(records, cells, out)[0].items():
        found.setdefault(name, set()).add(run)
    return found


def _commits(record: dict[str, Any], out: Path) -> dict[str, str]:
    """Of the data sets that its first run with results saw; empty where all are pinned."""
    notes = (out / "cells" / run / "run.json" for run in record["runs"])
    return next((read_json(path).get("data", {}) for path in notes if path.exists()), {})


def _named(record: dict[str, Any], field: str) -> set[str]:
    return set(record["sweep"].get(field, ()))  # in any order


def rows_of(out: Path, record: dict[str, Any], methods: Collection[str] = ()) -> pd.DataFrame:
    """The measurements of a recorded sweep, of all methods or of some.

    A column ``variant`` is added to those of the schema: the fields that were fixed for that line
    of the sweep, ``keep=0.1``; empty for a plain method. Titles of lines from elsewhere say so.
    A column ``changed`` names the files of the method that are others now than they were then.

    Args:
        out: the results folder.
        record: from :func:`load_sweep`.
        methods: a method stands for all its variants, ``ties[keep=0.1]`` for one.

    Raises:
        UserError: a method is not in the sweep, or is not finished.
    """
    variants = dict(record.get("variants", ()))
    runs = {run: record["runs"][run] for run in variants} | record["runs"]
    lines = {run: display_name(name, variants.get(run, "")) for run, name in runs.items()}
    known = list(dict.fromkeys([*lines.values(), *runs.values()]))
    wanted = [canonical_name(name, known) for name in methods]
    if unknown := [name for name in wanted if name not in known]:
        there = ", ".join(dict.fromkeys(lines.values()))
        raise UserError(f"no results of {', '.join(unknown)}; there are: {there}")
    store, shifts = Store(out), record["shifts"]
    chosen = [run for run in runs if not wanted or {lines[run], runs[run]} & set(wanted)]
    missing = [(run, shift) for run in chosen for shift in shifts if not store.has(run, shift)]
    if missing:
        run, shift = missing[0]
        raise UserError(
            f"sweep {record['name']} lacks {len(missing)} of {len(chosen) * len(shifts)} cells, "
            f"e.g. {run} under {shift}; the same `python -m bench` command goes on with it"
        )
    rows = store.read(chosen, shifts)
    outside = rows["run_id"].isin(record.get("evaluated", ()))
    return rows.assign(
        variant=[variants.get(run, "") for run in rows["run_id"]],
        title=rows["title"].where(~outside, rows["title"] + EXTERNAL),
        changed=rows["run_id"].map({run: _changed(store, run, runs[run]) for run in chosen}),
    )


def with_chance(rows: pd.DataFrame) -> pd.DataFrame:
    """Add a column ``chance``: the accuracy of a uniform guess on the task of each row.

    Where a task is no longer known, or images are classified under the heads of all tasks, there is
    no such column.
    """
    from results.schema import USUAL
    from tasks import TASKS

    if "protocol" in rows and not rows["protocol"].isin([USUAL, "mixed-task"]).all():
        return rows
    try:
        shares = {task: 1 / TASKS[task].num_classes for task in rows["task"].unique()}
    except UserError:
        return rows
    return rows.assign(chance=rows["task"].map(shares))


def rows_of_all(
    records: Sequence[tuple[Path, dict[str, Any]]], methods: Collection[str] = ()
) -> pd.DataFrame:
    """The measurements of sweeps in several folders; a run that is in two of them counts once.

    Args:
        records: each with the folder that it was read from, see :func:`load_sweep`.
        methods: see :func:`rows_of`; each is in one of the folders at least.

    Raises:
        UserError: see :func:`rows_of`; or the sweeps are not of the same images and encoder.
    """
    if len(records) == 1:
        return rows_of(*records[0], methods)
    _require_same_cells(records)
    found, seen = [], set[str]()
    for out, record in records:
        known = lines_of(record)
        here = [name for name in methods if canonical_name(name, known) in known]
        if methods and not here:
            continue
        rows = rows_of(out, record, here)
        found.append(rows[~rows["run_id"].isin(seen)])
        seen |= set(rows["run_id"])
    known = [line for _, record in records for line in lines_of(record)]
    if lacking := [name for name in methods if canonical_name(name, known) not in known]:
        there = ", ".join(dict.fromkeys(known))
        raise UserError(f"no results of {', '.join(lacking)}; there are: {there}")
    return pd.concat(found, ignore_index=True)


def lines_of(record: dict[str, Any]) -> list[str]:
    """The lines of a recorded sweep, as tables call them, and its methods."""
    variants, runs = dict(record.get("variants", ())), record["runs"]
    lines = [display_name(name, variants.get(run, "")) for run, name in runs.items()]
    return list(dict.fromkeys([*lines, *runs.values()]))


def _require_same_cells(records: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    """Refuse sweeps whose numbers are of other images, or of another encoder.

    Raises:
        UserError: it names the first fact that differs.
    """
    facts = (
        "suite",
        "encoder",
        "limit",
        "data_seed",
        "unseen",
        "precision",
        "protocol",
        "extra_experts",
    )
    made = ("tasks", "base")  # of every run: versions of the tasks, the pretrained weights
    told: list[dict[str, Any]] = []
    for out, record in records:
        known = {name: record["sweep"].get(name) for name in facts}
        path = Store(out).path(next(iter(record["runs"])), "run").with_suffix(".json")
        run = read_json(path)["run"] if path.exists() else {}
        told.append(known | {name: run.get(name) for name in made})
    for (out, _), other in zip(records[1:], told[1:], strict=True):
        for name, value in told[0].items():
            if (other[name] or None) != (value or None):
                raise UserError(
                    f"results of several folders are put together where they are of the same "
                    f"images and encoder; {name} is {value} in {records[0][0]}, {other[name]} in "
                    f"{out}"
                )


def _changed(store: Store, run: str, method: str) -> str:
    """Files of a method that changed under one version since a run of it; empty if none did."""
    known = store.path(run, "run").with_suffix(".json").exists()
    return ", ".join(changed_since(method, store.run(run))) if known else ""


def images_of(
    out: Path, record: dict[str, Any], rows: pd.DataFrame
) -> tuple[pd.DataFrame, list[str]]:
    """What is kept of single images, and the names of imported weights that lack it.

    Args:
        out: the results folder.
        record: from :func:`load_sweep`.
        rows: of its runs, or of some of them.

    Raises:
        UserError: a run of the sweep itself lacks it, or none has it.
    """
    store, shifts = Store(out), record["shifts"]
    runs = dict(rows[["run_id", "method"]].drop_duplicates().values.tolist())
    lacking = {
        run: runs[run]
        for run in record["evaluated"]
        if run in runs and not all(store.images_path(run, shift).exists() for shift in shifts)
    }
    if len(lacking) == len(runs):
        raise UserError(
            f"nothing is kept of single images for {', '.join(lacking.values())}; {AGAIN}"
        )
    kept = [run for run in runs if run not in lacking]
    return store.read_images(kept, shifts), list(lacking.values())
