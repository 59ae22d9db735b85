"""What every one-model merge takes: CPU seconds and its own memory, each in a process of its own.

Experts are random, at the shapes of an encoder, and are read from files in 32 bits. A method that
learns is shown random images; of one that a Trainer runs a few steps are timed, and the rest is
extrapolated. What is measured is kept in OUT/profiles, a method as soon as it has ended.
"""

import multiprocessing
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from bench.profiling.bmm import Case, Random
from bench.profiling.memory import GIB, size_of, threads, write_experts
from bench.profiling.mixing import B32
from bench.runtime.lightning import make_trainer
from bench.runtime.memory import own_memory
from bench.variants import Variant, parse
from bench.zoo.pocket_clip import POCKET
from mergeshift import UserError, read_json, write_json
from methods import METHODS, Checkpoints, MergingMethod, Needs
from methods.base import ONE
from methods.common.spectral import nothing_kept
from methods.common.weights import Weights

FOLDER = "profiles"  # in a folder of results
LIMIT = 6.0  # GiB that a merge may take
STEPS = 4  # of a Trainer that are run; the first is not timed
CLASSES = 10  # of every head

CASES = {
    "pocket-vit": Case("pocket-vit", POCKET, tasks=8, images=256, trials=0),
    "ViT-B-32": Case("ViT-B/32 shapes", B32, tasks=8, images=32, trials=0),
}


@dataclass(frozen=True)
class MergeCost:
    """What one merge took."""

    needs: str  # besides weights
    seconds: float  # of CPU time, of all threads together, learning included
    gib: float  # of the process's own, above what Python and its libraries hold
    steps: int = 0  # of a Trainer, all but a few of them extrapolated
    passes: int = 0  # over the validation images


def one_model_methods() -> list[str]:
    """Every method that merges experts into one model, at its defaults."""
    built = {name: METHODS[name]() for name in METHODS}
    return [
        name
        for name, method in built.items()
        if method.stores == ONE and Needs.TRAIN_LABELS not in method.needs
    ]


def profile_merges(
    console: Console,
    encoder: str = "pocket-vit",
    experts: int = 8,
    methods: Sequence[str] = (),
    out: Path | None = None,
    layers: int = 0,
) -> None:
    """Merge random experts with every method, and print and keep what each took.

    Args:
        console: where to.
        encoder: a name in ``CASES``.
        experts: how many.
        methods: names, or variants, ``NAME[FIELD=VALUE,...]``; none: every one-model method.
        out: a folder of results; what other methods took there, stays. ``None`` keeps nothing.
        layers: residual blocks; 0: all. Of a part nothing is kept.

    Raises:
        UserError: no such encoder or method, more layers than there are, a method that keeps
            several models, too small a disk, or a merge that failed.
    """
    case = case_of(encoder, layers)
    lines = {text: one_model(parse(text)) for text in methods or one_model_methods()}
    file = out / FOLDER / f"merges-{encoder}.json" if out and not layers else None
    known = read_json(file)["lines"] if file and file.exists() else {}
    with tempfile.TemporaryDirectory(prefix="mergeshift-merges-") as name:
        folder = Path(name)
        require_disk(folder, 4 * size_of(case.vit) * (experts + 1))
        console.print(
            f"{experts} random experts of {case.title}, {case.vit.layers} layers: "
            f"{size_of(case.vit) / 1e6:.1f} M parameters each; {case.images} random images a task "
            f"where a method learns; {threads()} threads",
            highlight=False,
        )
        paths = write_experts(folder, case.vit, experts, torch.float32)
        found: dict[str, MergeCost] = {}
        for text, line in lines.items():
            found[text] = in_own_process(line, case, paths)
            console.print(
                f"  {escape(text)}: {found[text].seconds:.1f} s, {found[text].gib:.2f} GiB",
                highlight=False,
            )
            if file is not None:
                known |= {text: asdict(found[text])}
                file.parent.mkdir(parents=True, exist_ok=True)
                write_json(file, {
                    "encoder": encoder, "title": case.title, "experts": experts,
                    "images": case.images, "threads": threads(), "lines": known,
                })  # fmt: skip
    console.print(table(found), highlight=False)


def case_of(encoder: str, layers: int) -> Case:
    """The shapes of an encoder, or of its first layers.

    Raises:
        UserError: it is not timed, or has fewer layers.
    """
    if encoder not in CASES:
        raise UserError(f"merges are timed for {' and '.join(CASES)}; got {encoder!r}")
    case = CASES[encoder]
    if not 0 <= layers <= case.vit.layers:
        raise UserError(f"{encoder} has {case.vit.layers} layers; got --layers {layers}")
    return replace(case, vit=replace(case.vit, layers=layers)) if layers else case


def one_model(line: Variant) -> Variant:
    """The line, which merges into one model.

    Raises:
        UserError: it keeps several.
    """
    if (stores := created(line).stores) != ONE:
        raise UserError(f"{line.method} keeps {stores}; merges into one model are timed")
    return line


def require_disk(folder: Path, needed: int) -> None:
    """Refuse a disk with fewer bytes left.

    Raises:
        UserError: it has.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed; "
            "set TMPDIR to another folder, or take fewer --experts"
        )


def created(line: Variant) -> MergingMethod:
    """The method of a line, not built."""
    cls = METHODS[line.method]
    return cls(cls.Config.make(line.fields))


# -- one merge -----------------------------------------------------------------------------------


def in_own_process(line: Variant, case: Case, paths: Sequence[Path]) -> MergeCost:
    """What a merge takes in a process that has done nothing before.

    Raises:
        UserError: it failed, or was killed.
    """
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:  # from a server that has imported what is needed, and has no threads
        context.set_forkserver_preload([__name__])
    here, there = context.Pipe(duplex=False)
    process = context.Process(
        target=_tell, args=(there, line, case, paths, torch.get_num_threads())
    )
    process.start()
    there.close()
    try:
        told = here.recv()
    except EOFError:
        process.join()
        told = f"its process ended with exit code {process.exitcode}; it may lack memory"
    process.join()
    if isinstance(told, str):
        raise UserError(f"merging with {line.method} failed: {told}")
    assert isinstance(told, MergeCost)
    return told


def _tell(
    pipe: Connection,
    line: Variant,
    case: Case,
    paths: Sequence[Path],
    num_threads: int,
) -> None:
    torch.set_num_threads(num_threads)
    try:
        pipe.send(measured(line, case, paths))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def measured(line: Variant, case: Case, paths: Sequence[Path]) -> MergeCost:
    """Build a method in this process; no decomposition is taken from a former one, or kept."""
    base, *experts = map(Weights.open, paths)
    random = torch.Generator().manual_seed(0)
    tasks = [f"task {number}" for number in range(len(experts))]
    heads = {
        task: 10 * F.normalize(torch.randn(CLASSES, case.vit.output_dim, generator=random), dim=-1)
        for task in tasks
    }
    ckpts = Checkpoints(
        case.vit, base, dict(zip(tasks, experts, strict=True)), heads,
        curvature=dict.fromkeys(tasks, base.map(Tensor.square)),
    )  # fmt: skip
    method, clock = created(line), StepClock()

    def fit(learner: MergingMethod) -> None:
        schedule = learner.adaptation
        assert schedule is not None, "it adapts"
        side = (schedule.batch, 3, case.vit.image_size, case.vit.image_size)
        batches = [{task: torch.randn(side, generator=random) for task in tasks}] * STEPS
        loader: Any = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
        make_trainer(max_steps=STEPS, callbacks=[clock], accelerator="cpu").fit(learner, loader)

    with nothing_kept(), own_memory() as peak:
        start = process_time()
        method.build(ckpts, Random(case), fit)
        seconds = process_time() - start
    steps = method.adaptation.steps if method.adaptation else 0
    return MergeCost(
        needs=str(method.needs),
        seconds=round(seconds + max(0, steps - STEPS) * clock.seconds, 2),
        gib=round(peak.megabytes * 1e6 / GIB, 3),
        steps=steps,
        passes=method.num_validation_passes,
    )


class StepClock(Callback):
    """When every step of a Trainer ended, in CPU time."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.ends.append(process_time())

    @property
    def seconds(self) -> float:
        """Of one step, the first left out."""
        return median(after - before for before, after in pairwise(self.ends)) if self.ends else 0.0


# -- what is shown -------------------------------------------------------------------------------


def table(found: Mapping[str, MergeCost]) -> Table:
    """A line per method."""
    shown = Table("method", "data", "seconds", "GiB", f"of {LIMIT:.0f} GiB", box=None)
    for text, cost in found.items():
        about = "about " if cost.steps else ""
        verdict = "fits" if cost.gib <= LIMIT else "TOO MUCH"
        shown.add_row(escape(text), cost.needs, f"{about}{cost.seconds:.1f}", f"{cost.gib:.2f}",
                      verdict)  # fmt: skip
    return shown


def markdown(folder: Path) -> str:
    """The table of the pages: a line per method, seconds and GiB at the shapes of each encoder.

    Args:
        folder: of results, with what :func:`profile_merges` kept.
    """
    files = [folder / FOLDER / f"merges-{encoder}.json" for encoder in CASES]
    kept = [read_json(file) for file in files if file.exists()]
    if not kept:
        return "No merge has been measured yet."
    heads = ["method", "data", *(f"{one['title']}, {u}" for one in kept for u in ("s", "GiB"))]
    lines = ["| " + " | ".join(heads) + " |", "| :--- | :--- |" + " ---: |" * (2 * len(kept))]
    names = list(dict.fromkeys(text for one in kept for text in one["lines"]))
    known = [name for name in one_model_methods() if name in names]
    for text in [*known, *(name for name in names if name not in known)]:
        costs = [MergeCost(**one["lines"][text]) if text in one["lines"] else None for one in kept]
        cells = [part for cost in costs for part in _cells(cost)]
        needs = next(cost.needs for cost in costs if cost)
        lines.append("| " + " | ".join([text, needs, *cells]) + " |")
    above = [text for one in kept for text, cost in one["lines"].items() if cost["gib"] > LIMIT]
    told = "; ".join(
        f"{one['title']}: {one['experts']} random experts, {one['images']} random images a task, "
        f"{one['threads']} threads"
        for one in kept
    )
    said = f"above {LIMIT:.0f} GiB: {', '.join(above)}" if above else f"none above {LIMIT:.0f} GiB"
    note = f"{told}. A tilde: a few steps of a Trainer were timed, the rest is extrapolated. "
    return "\n".join([*lines, "", f"{note}Memory: {said}."])


def _cells(cost: MergeCost | None) -> tuple[str, str]:
    if cost is None:
        return "-", "-"
    about = "~" if cost.steps else ""
    return f"{about}{cost.seconds:.3g}" if cost.seconds < 100 else f"{about}{cost.seconds:.0f}", (
        f"{cost.gib:.2f}"
    )
