"""How much of a sweep is forward passes: the sweep's wall time over the bare passes it makes."""

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.console import Console

from bench.config import Run, Sweep
from bench.plan import Plan, inspect, resolve
from bench.runtime.progress import Stages
from bench.runtime.workers import Executor, executor
from bench.stages.build import bind
from bench.stages.scoring import SharedEvaluation
from bench.sweep import build_data, prepare_experts_and_images
from corruptions.base import Shift
from mergeshift import UserError
from results.store import Store
from tasks.datamodule import BATCH


def bare(runs: list[Run], shift: Shift) -> float:
    """Seconds of forward passes alone: merged models, images in memory, nothing counted."""
    methods, first = [bind(run).build(run.config)[0] for run in runs], bind(runs[0])
    normalise = first.encoder.normalise
    panel = SharedEvaluation({}, first.run.unseen, first.floor, normalise=normalise)
    data = first.data([shift])
    images = {
        task.name: normalise(torch.from_numpy(np.array(data.pixels(task, "test", shift))))
        for task in data.tasks
    }
    start = perf_counter()
    with torch.inference_mode():
        for name, stack in images.items():
            for batch in stack.split(BATCH):
                for method in methods:
                    panel.ask(method, batch, name)
    return perf_counter() - start


def profile_sweep(name: str, sweep: Sweep, out: Path | None, jobs: int, console: Console) -> None:
    """Run the bare passes, the sweep, and the bare passes again; print the ratio.

    The sweep runs as a user runs it, in a process of its own, from the interpreter's start to the
    leaderboard. The bare passes are those of the same cells on as many workers, without starting
    them, loading data, merging, measuring or storing. Methods that learn are left out of both:
    their time is that of their training.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = out or Path(folder)
        sweep = without_learners(sweep)
        plan = inspect(resolve(sweep), Store(target), force=True)
        with executor(jobs) as workers:
            build_data(plan.tasks, workers, Stages(console))
            prepare_experts_and_images(plan, workers, Stages(console))
            before = _bare_seconds(plan, workers)
            whole = _sweep_seconds(name, sweep, target, jobs)
            after = _bare_seconds(plan, workers)
    passes = (before + after) / 2
    console.print(
        f"bare forward passes {before:.1f} s before, {after:.1f} s after; "
        f"sweep --force --no-tune {whole:.1f} s; ratio {whole / passes:.2f} "
        f"[{whole / max(before, after):.2f}, {whole / min(before, after):.2f}] on {jobs} jobs; "
        f"{len(plan.runs)} runs, none of which learns",
        highlight=False,
    )


def without_learners(sweep: Sweep) -> Sweep:
    """The same sweep of the methods that look at no image before they predict.

    Raises:
        UserError: every method does.
    """
    plan = resolve(sweep)
    names = tuple(dict.fromkeys(plan.lines[run.id] for run in plan.runs if not bind(run).learns))
    if not names:
        raise UserError("every method of this sweep learns: there is no bare pass to time")
    return replace(sweep, methods=names)


def _bare_seconds(plan: Plan, workers: Executor) -> float:
    """Sum over units, shared among the workers."""
    units = [(plan.runs, shift) for shift in plan.shifts]
    return sum(seconds for _, seconds in workers.run(bare, units)) / workers.jobs


def _sweep_seconds(name: str, sweep: Sweep, out: Path, jobs: int) -> float:
    start = perf_counter()
    command = [sys.executable, "-m", "bench", "sweep", name, "--force", "--no-tune",
               "--jobs", str(jobs), "--out", str(out), "--suite", sweep.suite,
               "--methods", ",".join(sweep.methods), "--limit", str(sweep.limit or 0)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the timed sweep failed: {done.stderr.strip().splitlines()[-1]}")
    return perf_counter() - start
