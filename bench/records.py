"""Which runs and shifts make up a sweep: written when it starts, read by tables."""

from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config import digest
from bench.errors import UserError
from bench.files import read_json, write_json
from bench.plan import Plan
from results.store import Store


def record(plan: Plan, out: Path, seconds: dict[str, float]) -> None:
    """Write what the sweep consists of, and the time that its stages took so far."""
    sweep, weights = asdict(plan.sweep), plan.runs[0].weights
    path = out / "sweeps" / f"{plan.sweep.name}-{digest((sweep, weights))}.json"
    before = read_json(path) if path.exists() else {}
    value = {
        "kind": "weights" if weights else "sweep",
        "name": plan.sweep.name,
        "sweep": sweep | {"encoder": plan.encoder.name},
        "runs": {run.id: run.method for run in plan.runs},
        "shifts": [shift.key for shift in plan.shifts],
        "seconds": before.get("seconds", {}) | seconds,
        "started": datetime.now(UTC).isoformat(),
    }
    write_json(path, value)


def recorded(out: Path, name: str = "", run: str = "") -> dict[str, Any]:
    """The latest sweep in a folder, or the latest of that name or with that run.

    Runs of weights from elsewhere that were measured on the same cells are part of it; where no
    such sweep was run, they are a sweep of their own.

    Raises:
        UserError: there is none.
    """
    records = [read_json(path) for path in sorted((out / "sweeps").glob("[!.]*.json"))]
    sweeps = [
        r | {"runs": r["runs"] | _evaluated(records, r)} for r in records if r["kind"] == "sweep"
    ]

    def fits(r: dict[str, Any]) -> bool:
        return name in ("", r["name"]) and (not run or run in r["runs"])

    fitting = list(filter(fits, sweeps)) or list(filter(fits, records))
    if not fitting:
        known = ", ".join(sorted({record["name"] for record in records})) or "none"
        wanted = f"sweep {name!r}" if name else "sweep"
        raise UserError(
            f"no {wanted} in {out} (there: {known}); "
            "run `python -m bench sweep` first, or give --out"
        )
    return max(fitting, key=lambda record: record["started"])


def _evaluated(records: list[dict[str, Any]], sweep: dict[str, Any]) -> dict[str, str]:
    """Runs of weights from elsewhere on the very cells of ``sweep``; the newest of each name."""
    cells = ("suite", "encoder", "limit", "data_seed", "expert_seed")  # one seed stands for all
    newest: dict[str, str] = {}  # name -> run
    for record in sorted(records, key=lambda record: record["started"]):
        if (
            record["kind"] == "weights"
            and set(record["shifts"]) >= set(sweep["shifts"])
            and all(record["sweep"][key] == sweep["sweep"][key] for key in cells)
        ):
            newest |= {name: run for run, name in record["runs"].items()}
    return {run: name for name, run in newest.items()}


def rows_of(out: Path, record: dict[str, Any], methods: Collection[str] = ()) -> pd.DataFrame:
    """The measurements of a recorded sweep, of all methods or of some.

    Raises:
        UserError: a method is not in the sweep, or is not finished.
    """
    known = list(dict.fromkeys(record["runs"].values()))
    if unknown := [name for name in methods if name not in known]:
        raise UserError(f"no results of {', '.join(unknown)}; there are: {', '.join(known)}")
    store, shifts = Store(out), record["shifts"]
    runs = [run for run, name in record["runs"].items() if name in (methods or known)]
    missing = [(run, shift) for run in runs for shift in shifts if not store.has(run, shift)]
    if missing:
        run, shift = missing[0]
        raise UserError(
            f"sweep {record['name']} lacks {len(missing)} of {len(runs) * len(shifts)} cells, "
            f"e.g. {run} under {shift}; the same `python -m bench` command goes on with it"
        )
    return store.read(runs, shifts)
