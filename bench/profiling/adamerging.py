"""Seconds per step of AdaMerging: our gradient against the published loops, on the same batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.zoo.encoders import ENCODERS, OF_WORLD
from bench.zoo.experts import checkpoints, experts_of
from corruptions.base import CLEAN
from mergeshift import UserError
from methods.adamerging import BATCH, AdaMerging
from methods.common.weights import some
from tasks import SUITES, Suite

Batch = Mapping[str, Tensor]  # task -> images
Step = Callable[[AdaMerging, Batch], None]  # leaves the gradient in the coefficients


def ours(method: AdaMerging, batch: Batch) -> None:
    """Merge once without a graph, gather the gradients of all tasks, contract once."""
    method.descend(batch)


def joint(method: AdaMerging, batch: Batch) -> None:
    """Merge once with a graph, one backward of the sum over the tasks."""
    method.adapt_loss(batch).backward()


def per_task(method: AdaMerging, batch: Batch) -> None:
    """FusionBench: merge once with a graph; for every task a backward that keeps the graph."""
    model = merged_by_loop(method)
    for task, images in batch.items():
        method.loss({task: images}, model).backward(retain_graph=True)


def per_forward(method: AdaMerging, batch: Batch) -> None:
    """The authors: merge in front of every batch of 16, then one backward through all of it."""
    losses = [
        method.loss({task: part}, merged_by_loop(method)) / method.cfg.batches
        for task, images in batch.items()
        for part in images.split(BATCH)
    ]
    torch.stack(losses).sum().backward()


STEPS: dict[str, Step] = {
    "contract once (ours)": ours,
    "one joint backward": joint,
    "per task (FusionBench)": per_task,
    "per batch (the authors)": per_forward,
}


def merged_by_loop(method: AdaMerging) -> dict[str, Tensor]:
    """The merge as both publish it: task vector after task vector, in the graph."""
    weights, taus = method.learned(), method.taus()
    model = method.base()
    for k in range(len(method.learned.tasks)):
        for name, row in method.learned.row.items():
            model[name] = model[name] + weights[row, k] * taus[name][k]
    return model


@dataclass(frozen=True)
class Timing:
    """What was measured of one way to make a step."""

    seconds: np.ndarray  # of every step
    times_ours: np.ndarray  # over the seconds of ours on the same batch
    gap: float  # the largest relative distance of its gradient from ours


def measure(method: AdaMerging, batches: list[dict[str, Tensor]]) -> dict[str, Timing]:
    """Time every way on every batch, in turn, so that what else runs hits all alike.

    Args:
        method: ready to learn.
        batches: the first is for warming up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in STEPS}
    gaps = dict.fromkeys(STEPS, 0.0)
    for batch in batches:
        reference = None
        for name, step in STEPS.items():
            method.learned.zero_grad()
            start = perf_counter()
            step(method, batch)
            seconds[name].append(perf_counter() - start)
            gradient = method.learned.raw.grad
            assert gradient is not None
            reference = gradient if reference is None else reference  # the first is ours
            gap = (gradient - reference).norm() / reference.norm().clamp(min=1e-30)
            gaps[name] = max(gaps[name], gap.item())
    taken = {name: np.array(values[1:]) for name, values in seconds.items()}
    base = next(iter(taken.values()))
    return {name: Timing(taken[name], taken[name] / base, gaps[name]) for name in STEPS}


def timings(suite: Suite, encoder: str, steps: int, preset: str) -> dict[str, Timing]:
    """:func:`measure` on the experts and adapt images of a suite, with a preset's batches."""
    ckpts = checkpoints(encoder, suite.tasks, 0)
    method = AdaMerging(AdaMerging.Config.make({"preset": preset}))
    count = method.adaptation.batch
    stream = suite.datamodule([CLEAN], adapt_batch=count, adapt_steps=steps + 1).train_dataloader()
    normalise = ENCODERS[encoder].normalise
    batches = [{task: normalise(pixels) for task, pixels in batch.items()} for batch in stream]
    found: dict[str, Timing] = {}
    method.build(ckpts, fit=lambda _: found.update(measure(method, batches)))
    return found


def profile_adamerging(console: Console, suite: str = "pocket8", steps: int = 8) -> None:
    """Time a step of AdaMerging, layer-wise, under both published settings, and print the ratios.

    A step is the loss and its gradient, from the images to the coefficients; Adam is left out.

    Raises:
        UserError: the experts of the suite are not there.
    """
    tasks, encoder = SUITES[suite].tasks, OF_WORLD[SUITES[suite].world]
    if missing := [e.task for e in experts_of(encoder, tasks, 0) if not e.exists]:
        raise UserError(
            f"{suite} lacks {len(missing)} experts, {some(missing)}; "
            f"make them with: python -m bench zoo build --suite {suite}"
        )
    for preset in AdaMerging.Config.presets:
        images = AdaMerging(AdaMerging.Config.make({"preset": preset})).adaptation.batch
        console.print(
            f"{preset}: {suite}, {images} images of each of {len(tasks)} tasks a step; {steps} "
            f"steps each, in turn; torch on {torch.get_num_threads()} threads",
            highlight=False,
        )
        console.print(table(timings(SUITES[suite], encoder, steps, preset)), highlight=False)


def table(found: Mapping[str, Timing]) -> Table:
    """A line for each way: seconds, the ratio to ours with its spread, distance of gradients."""
    columns = ("a step", "seconds", "over ours", "10 % to 90 %", "gradient off by")
    shown = Table(*columns, box=None)
    for name, timing in found.items():
        low, high = np.quantile(timing.times_ours, (0.1, 0.9))
        shown.add_row(
            name,
            f"{np.median(timing.seconds):.3f}",
            f"{np.median(timing.times_ours):.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{timing.gap:.1g}",
        )
    return shown
