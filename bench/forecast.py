"""How long the work of a sweep takes, roughly: for the line that a plan prints."""

import time
from collections.abc import Iterable
from functools import cache

import torch

from bench.config import Run
from bench.stages.build import bind
from bench.zoo.encoders import Encoder
from corruptions.base import CORRUPTIONS, Shift
from methods.common.vit import ViT

# A forward pass reaches this share of the rate at which one core multiplies matrices: .63 (pocket
# encoder) to .8 (CLIP ViT-B/32). Forward and backward, three times the operations, reach as much.
EFFICIENCY = 0.7
OVERHEAD = 5e-5  # seconds for each image, whatever the encoder: it counts where that is tiny
ROUTED = 4.0  # predictions that one of a routed method takes, its oracle's included
LEARNED_ROUTED = 3.0  # images that one takes whose gradient goes through a mixture
DOWNLOADS_A_MINUTE = 1.0  # of experts
TO_START = 1.0  # seconds, whatever an expert's training is like


def burden(run: Run) -> float:
    """How long one learning takes, in images of each task that a plain training goes through."""
    bound = bind(run)
    shown = bound.images_shown * (LEARNED_ROUTED if bound.routes else 1.0)
    if bound.passes:
        sizes = [run.val_images(task.sizes[2]) for task in bound.seen]
        predicted, learned = speeds(bound.encoder)
        shown += bound.passes * sum(sizes) / len(sizes) * learned / predicted
    return shown


def speeds(encoder: Encoder) -> tuple[float, float]:
    """Images a second that one core classifies, and that it learns from."""
    seconds = operations(encoder.vit) / (EFFICIENCY * matrix_rate())
    return 1 / (OVERHEAD + seconds), 1 / (OVERHEAD + 3 * seconds)


def operations(vit: ViT) -> float:
    """Floating-point operations of one image's forward pass, in its matrix products.

    >>> round(operations(ViT(image_size=224, patch_size=32, width=768, layers=12, heads=12,
    ...                      output_dim=512)) / 1e9, 1)
    8.3
    """
    n, w, hidden = vit.num_tokens, vit.width, int(vit.width * vit.mlp_ratio)
    rest = 2 * w * (w + 2 * hidden)  # of a token that goes on after the attention
    whole = n * (6 * w * w + 4 * n * w + rest)
    last = n * 6 * w * w + 4 * n * w + rest  # the class token alone goes on
    return (vit.layers - 1) * whole + last + 2 * (n - 1) * 3 * vit.patch_size**2 * w


@cache
def matrix_rate() -> float:
    """Operations a second of one core as it is now, in a product as large as an encoder's parts."""
    rows, width, times = 512, 256, 20
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x, w = torch.ones(rows, width), torch.ones(4 * width, width)
        torch.nn.functional.linear(x, w)
        start = time.perf_counter()
        for _ in range(times):
            torch.nn.functional.linear(x, w)
        return times * 2 * rows * width * 4 * width / (time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)


def corruption_ms(shifts: Iterable[Shift], size: int) -> float:
    """Milliseconds to corrupt one image, mean over shifts.

    Args:
        shifts: clean costs nothing and is left out.
        size: of the images, pixels; beyond those that were timed, by their area.
    """
    known = [CORRUPTIONS[s.corruption].ms for s in shifts if s.corruption in CORRUPTIONS]
    if not known:
        return 0.0
    at_32, at_224 = (sum(pair[k] for pair in known) / len(known) for k in (0, 1))
    return at_32 * (size / 32) ** 2 if size < 100 else at_224 * (size / 224) ** 2


def seconds_of(
    encoder: Encoder,
    *,
    predictions: int,
    routed: float,
    shown: float,
    experts: int,
    corrupted: int,
    milliseconds: float,
) -> float:
    """Seconds on one core.

    Args:
        encoder: of all of it.
        predictions: images to classify.
        routed: the share of them that is weighed image by image.
        shown: images that trainings go through, each as a plain one (see :func:`burden`).
        experts: to fine-tune or download.
        corrupted: images to corrupt.
        milliseconds: that one of these takes (see :func:`corruption_ms`).
    """
    predicted, learned = speeds(encoder)
    recipe, own = encoder.recipe, encoder.experts == "finetuned"
    expert = recipe.steps * recipe.shown / learned if own else 60 / DOWNLOADS_A_MINUTE
    expert += TO_START
    return (
        predictions * (1 + (ROUTED - 1) * routed) / predicted
        + shown / learned
        + experts * expert
        + corrupted * milliseconds / 1000
    )
