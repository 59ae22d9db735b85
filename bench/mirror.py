"""Mirror a finished sweep to W&B; what was mirrored before and has not changed is left alone."""

from pathlib import Path

import pandas as pd
from rich.console import Console

from bench.config import digest
from bench.files import read_json, write_json
from bench.plan import Plan
from bench.progress import Stages
from results.store import Store
from results.tables import Table
from results.wandb import Mirror, mode


def mirror(
    plan: Plan,
    rows: pd.DataFrame,
    table: Table,
    stages: Stages,
    out: Path,
    console: Console,
    choice: str,
) -> None:
    """Log every run (config, cells, cost, tuning curve) and the comparison, grouped by sweep."""
    chosen = mode(choice)
    if chosen == "off":
        return
    logged_path = out / "wandb" / "logged.json"
    logged = read_json(logged_path) if logged_path.exists() else {}
    store = Store(out)
    fingerprints = {
        run: digest((chosen, part[["task", "corruption", "severity", "metric", "value"]].to_csv()))
        for run, part in rows.groupby("run_id")
    }
    new = [run for run, fingerprint in fingerprints.items() if logged.get(run) != fingerprint]
    comparison = digest((chosen, table.frame().to_csv(), plan.sweep.name))
    if not new and comparison in logged:
        return
    with stages.stage(
        "wandb", f"{len(new)} runs and the comparison, {chosen}", len(new)
    ) as advance:
        target = Mirror(out, plan.sweep.name, chosen, say=console.print)
        for count, run in enumerate(new, 1):
            facts = store.run(run)
            trials = facts.get("tuning", {}).get("trials", [])
            curves = {"tune_score": [trial["score"] for trial in trials]} if trials else {}
            target.log_run(flat(facts), rows[rows["run_id"] == run], curves)
            advance(count)
        target.log_comparison(table)
    console.print(f"  {target.advice()}", style="dim", highlight=False)
    write_json(
        logged_path, logged | {run: fingerprints[run] for run in new} | {comparison: "comparison"}
    )


def flat(facts: dict) -> dict:
    """The facts of a run in one level, costs and settings included."""
    return {**facts["run"], **facts["cost"], "config": facts["config"]}
