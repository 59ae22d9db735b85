"""What is stored of a run: rows of its cells, and facts about the whole."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from bench.config import Run
from bench.runtime import devices
from bench.stages.build import Cost, bind
from bench.stages.source import SOURCE, source_of
from bench.zoo.encoders import world_with
from corruptions.base import Shift
from mergeshift import UserError
from methods import MergingMethod
from results.schema import FULL, USUAL, pack
from results.store import Store
from tasks import Task


def write_run_facts(run: Run, config: str, cost: Cost, store: Store) -> None:
    """Write what belongs to the whole run, before its first cell counts as finished.

    Raises:
        UserError: other experts than those of the cells that are there.
    """
    path = store.folder / "cells" / run.id / "run.json"
    facts = store.run(run.id) if path.exists() else {}
    bound = bind(run)
    experts = bound.expert_hashes
    if facts.get("experts", experts) != experts:
        raise UserError(
            f"the experts of {run.id} were made anew since its first cells were measured; "
            "run again with --force"
        )
    if "cost" not in facts:
        new = {"run": asdict(run), "config": config, "cost": asdict(cost), "experts": experts}
        new |= {"device": devices.described(), **bound.data_revisions}
        new |= {SOURCE: source_of(run.method)} if not run.weights else {}
        store.write_run(run.id, facts | new)


def cell_rows(
    facts: Mapping[str, Any],
    task: Task,
    seen: bool,
    shift: Shift,
    sweep: str,
    hits: Mapping[str, np.ndarray],
    measured: Mapping[str, float],
) -> list[dict[str, Any]]:
    """One row per metric of one cell.

    Args:
        facts: see :func:`facts_of`.
        task: of the cell.
        seen: whether the expert of the task was merged.
        shift: of the cell.
        sweep: its name.
        hits: metric -> which images count, of those that it is about; of accuracy, all.
        measured: metric -> value.
    """
    cell = {
        **facts,
        "sweep": sweep,
        "task": task.name,
        "seen": seen,
        "corruption": shift.corruption,
        "severity": shift.severity,
        "constants": shift.constants,
        "placement": shift.placement,
    }
    return [
        cell
        | {"metric": name, "value": value, "n": len(hits.get(name, hits["acc"]))}
        | {"hits": pack(hits[name]) if name in hits else b""}
        for name, value in measured.items()
    ]


def facts_of(run: Run, config: str, method: MergingMethod) -> dict[str, Any]:
    """What the rows of a run say about it."""
    return {
        "run_id": run.id,
        "world": world_with(bind(run).suite.world, bind(run).encoder),
        "suite": run.suite,
        "encoder": run.encoder,
        "method": run.method,
        "title": run.method if run.weights else method.title,
        "cite": method.paper.key,
        "config": config,
        "tuned": run.tuned,
        "needs": str(method.needs) if method.needs else "nothing",
        "stores": method.stores,
        "knows_task": method.knows_task,
        "adapt_on": run.adapt_on,
        "seeded": method.depends_on_seed,
        "seed": run.seed,
        "expert_seed": run.expert_seed,
        "limit": run.limit or 0,
        "precision": run.precision or FULL,
        "extra_experts": " ".join(run.extra_experts),
        "protocol": run.protocol or USUAL,
    }
