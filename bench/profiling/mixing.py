"""What per-sample merging costs: over one plain forward, and against a loop over the images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.runtime.memory import peak_memory
from bench.zoo.pocket_clip import POCKET
from mergeshift import UserError
from methods.common.vit import ViT, encode_plain, init_weights
from methods.common.weights import Weights
from methods.routing.mixing import Factors, Knowledge, Mixer, matrices
from methods.routing.routers import Classifier, twin_mlp

B32 = ViT(224, 32, width=768, layers=12, heads=12, output_dim=512, quick_gelu=True)
SHARE = 0.1  # of the rank
Seconds = dict[str, np.ndarray]  # way -> seconds an image, [repeats]


@dataclass(frozen=True)
class Case:
    """One architecture and number of experts."""

    title: str
    vit: ViT
    batch: int
    num_routes: int
    looped: int  # images that the loop is timed on
    repeats: int


CASES = {
    "pocket-vit": [Case("pocket-vit", POCKET, 128, k, 32, 15) for k in (8, 20)],
    "ViT-B-32": [Case("ViT-B/32 shapes, random weights", B32, 32, k, 2, 3) for k in (8, 20)],
}


def profile_mixing(console: Console, encoder: str = "pocket-vit") -> None:
    """Print images a second, ratios with their spread, and peak memory, of random experts.

    Raises:
        UserError: another encoder.
    """
    if encoder not in CASES:
        raise UserError(f"mixing is timed for {' and '.join(CASES)}; got {encoder!r}")
    for case in CASES[encoder]:
        console.print(
            f"{case.title}: batch {case.batch}, K = {case.num_routes}, {case.repeats} repeats in "
            f"turn; torch on {torch.get_num_threads()} threads",
            highlight=False,
        )
        console.print(table(timed(case)), highlight=False)
    console.print(memory(CASES[encoder][0]), highlight=False)


def timed(case: Case) -> Seconds:
    """Every way on the same images, in turn, so that what else runs hits all alike."""
    random, vit = torch.Generator().manual_seed(0), case.vit
    images = torch.randn(case.batch, 3, vit.image_size, vit.image_size, generator=random)
    weights = torch.rand(case.batch, case.num_routes, generator=random).softmax(-1)
    base = init_weights(vit, random).materialise()
    router = twin_mlp(vit.output_dim, case.num_routes).eval()
    found: dict[str, list[float]] = {}
    for kind in ("dense", "low rank"):
        mixer = Mixer(vit, base, knowledge(vit, case.num_routes, kind, random))
        ways: dict[str, tuple[Callable[[], object], int]] = {
            f"plain, beside {kind}": (partial(encode_plain, images, base, vit), case.batch),
            f"router, beside {kind}": (partial(route, router, images, base, vit), case.batch),
            kind: (partial(mixer, images, weights), case.batch),
            f"{kind}, loop": (partial(loop, mixer, images, weights, case.looped), case.looped),
        }
        with torch.inference_mode():
            for repeat in range(case.repeats + 1):
                for name, (way, count) in ways.items():
                    start = perf_counter()
                    way()
                    if repeat:  # the first warms up
                        found.setdefault(name, []).append((perf_counter() - start) / count)
        del mixer, ways  # before the next is made: at ViT size two do not fit
    return {name: np.array(seconds) for name, seconds in found.items()}


def route(router: Classifier, images: Tensor, base: Weights, vit: ViT) -> Tensor:
    """What comes before mixing: the pretrained encoder's features, and a router's weights."""
    weights: Tensor = router(encode_plain(images, base, vit))
    return weights


def loop(mixer: Mixer, images: Tensor, weights: Tensor, count: int) -> None:
    """The naive way: build one image's weights, and encode it alone."""
    for image, w in zip(images[:count], weights, strict=False):
        encode_plain(image[None], mixer.mix(w), mixer.vit)


def knowledge(vit: ViT, k: int, kind: str, random: torch.Generator) -> Knowledge:
    """Random knowledge of the shapes that experts give."""

    def draw(*shape: int) -> Tensor:
        return 0.01 * torch.randn(shape, generator=random)

    found: dict[str, Tensor | Factors] = {}
    for name, shape in vit.shapes().items():
        if kind == "dense" or name not in matrices(vit):
            found[name] = draw(k, *shape)
            continue
        rows, columns = shape[0], prod(shape[1:])
        rank = max(1, int(SHARE * min(rows, columns)))
        found[name] = Factors(draw(k, rows, rank), draw(k, rank, columns))
    return found


def table(found: Seconds) -> Table:
    """A line for each way; a router's own forward is timed apart."""
    shown = Table("a forward", "images / s", "over plain", "10 % to 90 %", "loop over it", box=None)
    for name, seconds in found.items():
        kind = "low rank" if "low rank" in name else "dense"
        plain = found[f"plain, beside {kind}"]
        low, high = np.quantile(seconds / plain, (0.1, 0.9))
        slower = found.get(f"{name}, loop")
        shown.add_row(
            name,
            f"{1 / np.median(seconds):,.0f}",
            f"{np.median(seconds / plain):.2f}",
            f"{low:.2f} to {high:.2f}",
            "" if slower is None else f"{np.median(slower / seconds):.1f} x slower",
        )
    return shown


def memory(case: Case) -> str:
    """Peak memory by the size of the batch, beside what all images' own weights would take."""
    random, vit, k = torch.Generator().manual_seed(0), case.vit, case.num_routes
    mixer = Mixer(vit, init_weights(vit, random), knowledge(vit, k, "dense", random))
    lines = [f"peak memory above the experts, dense, K = {k}:"]
    for batch in (case.batch // 4, case.batch):
        images = torch.randn(batch, 3, vit.image_size, vit.image_size, generator=random)
        weights = torch.rand(batch, k, generator=random).softmax(-1)
        peaks = {}
        for training in (False, True):
            with peak_memory() as peak, torch.set_grad_enabled(training):
                features = mixer(images, weights.requires_grad_(training))
                if training:
                    features.sum().backward()
            peaks["forward and backward" if training else "forward"] = peak.megabytes
        own = 4e-6 * batch * sum(map(prod, vit.shapes().values()))
        shown = ", ".join(f"{name} {megabytes:,.0f} MB" for name, megabytes in peaks.items())
        lines.append(
            f"  batch {batch}: {shown} (weights of its own for every image: {own:,.0f} MB)"
        )
    return "\n".join(lines)
