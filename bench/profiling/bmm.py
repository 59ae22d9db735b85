"""What BMM costs: Grams, eigendecompositions, and a trial's solve over its validation pass."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from bench.profiling.mixing import B32
from bench.zoo.pocket_clip import POCKET
from mergeshift import UserError
from methods import METHODS, Checkpoints
from methods.common.study import search
from methods.common.vit import ViT, init_weights

METHODS_TIMED = ("bmm", "bmm_datafree")
TASKS, VAL, CALIBRATION, TRIALS = 8, 393, 256, 32  # of a real run: pocket8 validates on 3,145
BATCH = 128


@dataclass(frozen=True)
class Case:
    """One architecture, and the part of a real run that is measured."""

    title: str
    vit: ViT
    tasks: int
    images: int  # of each task, to validate on and to calibrate on
    trials: int


CASES = {
    "pocket-vit": Case("pocket-vit", POCKET, tasks=8, images=256, trials=8),
    "ViT-B-32": Case("ViT-B/32 shapes", B32, tasks=2, images=16, trials=3),
}


class Random:
    """Random images with labels: a :class:`methods.common.data_access.DataAccess`."""

    journal = None

    def __init__(self, case: Case):
        self.case = case

    def unlabeled(self, task: str) -> Iterator[Tensor]:
        """Batches of random images.  ``[B, 3, H, W]``."""
        random, side = torch.Generator().manual_seed(0), self.case.vit.image_size
        for rows in torch.arange(self.case.images).split(BATCH):
            yield torch.randn(len(rows), 3, side, side, generator=random)

    test_stream = unlabeled

    def validation(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The same, all of the first class."""
        for images in self.unlabeled(task):
            yield images, torch.zeros(len(images), dtype=torch.long)

    training = validation

    def count_pass(self) -> None:
        """Nobody watches."""


def profile_bmm(console: Console, encoder: str = "pocket-vit", layers: int = 0) -> None:
    """Print what each part of BMM takes, of random experts.

    Args:
        console: where to.
        encoder: a name in ``CASES``.
        layers: the first so many alone; 0: all.

    Raises:
        UserError: another encoder, or more layers than it has.
    """
    if encoder not in CASES:
        raise UserError(f"bmm is timed for {' and '.join(CASES)}; got {encoder!r}")
    case = CASES[encoder]
    if not 0 <= layers <= case.vit.layers:
        raise UserError(f"{encoder} has {case.vit.layers} layers; got --layers {layers}")
    if layers:
        case = replace(case, vit=replace(case.vit, layers=layers))
    console.print(
        f"{case.title}, {case.vit.layers} layers, random experts and images: {case.trials} trials "
        f"on {case.tasks} tasks x {case.images} images measured; scaled to {TASKS} tasks x "
        f"{VAL} images of val and {CALIBRATION} to calibrate on, {TRIALS} trials; torch on "
        f"{torch.get_num_threads()} threads",
        highlight=False,
    )
    shown = table({name: measured(name, case) for name in METHODS_TIMED}, case)
    console.print(shown, highlight=False)


def measured(name: str, case: Case) -> dict[str, float]:
    """Seconds of each part of one learning; solve and validation are of one trial."""
    random, vit = torch.Generator().manual_seed(0), case.vit
    base = init_weights(vit, random).materialise()
    tasks = [f"task {number}" for number in range(case.tasks)]
    ckpts = Checkpoints(
        vit=vit,
        base=base,
        experts={task: (base + 0.1 * init_weights(vit, random)).materialise() for task in tasks},
        heads={task: F.normalize(torch.randn(10, vit.output_dim, generator=random), dim=-1)
               for task in tasks},
    )  # fmt: skip
    config = METHODS[name].Config.make(
        {"anchor": "ta", "trials": case.trials, "calibration": case.images}
    )
    method = METHODS[name](config).build(ckpts, Random(case))
    return {**method.report["seconds"], "sampler": sampling(method.report["space"])}


def sampling(space: dict[str, tuple[float, float, bool]]) -> float:
    """Seconds that a trial takes of which the score is known at once."""
    start = perf_counter()
    search(
        space, lambda point: sum(value for name, value in point.items() if "scale" in name),
        starts=[], trials=TRIALS, startup=10, sampler="tpe", seed=0, journal=None,
    )  # fmt: skip
    return (perf_counter() - start) / TRIALS


def scaled(seconds: dict[str, float], case: Case, data: bool) -> dict[str, float]:
    """Seconds of a real run: of as many tasks and images.

    Args:
        seconds: from :func:`measured`.
        case: what was measured.
        data: whether the Grams are of images (else of task vectors).
    """
    passes = TASKS * VAL / (case.tasks * case.images)
    images = TASKS * CALIBRATION / (case.tasks * case.images) if data else TASKS / case.tasks
    validation = passes * seconds["validation"]
    trial = seconds["solve"] + validation + seconds["sampler"]
    return {
        "Grams": images * seconds["grams"],
        "eigendecompositions": seconds["eigh"],
        "one trial: solve": seconds["solve"],
        "one trial: validation pass": validation,
        "one trial: sampler": seconds["sampler"],
        f"{TRIALS} trials": TRIALS * trial,
    }


def table(found: dict[str, dict[str, float]], case: Case) -> Table:
    """A line for each part, a column for each method."""
    columns = {name: scaled(seconds, case, name == "bmm") for name, seconds in found.items()}
    shown = Table("seconds", *columns, box=None)
    for part in next(iter(columns.values())):
        shown.add_row(part, *(f"{column[part]:.3g}" for column in columns.values()))
    ratios = [c["one trial: solve"] / c["one trial: validation pass"] for c in columns.values()]
    shown.add_row("solve over validation pass", *(f"{100 * ratio:.1f} %" for ratio in ratios))
    return shown
