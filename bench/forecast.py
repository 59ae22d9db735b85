"""How long the work of a sweep takes, roughly: for the line that a plan prints."""

from collections.abc import Iterable

from bench.config import Run
from bench.stages.build import bind
from bench.zoo.encoders import ENCODERS, Encoder
from corruptions.base import CORRUPTIONS, Shift

# Measured on one core of a 2023 server CPU.
PREDICTIONS_A_SECOND = {
    "pocket-vit": 2000.0, "toy-vit": 20000.0, "ViT-B-32": 10.0, "ViT-B-16": 2.3, "ViT-L-14": 0.45
}  # fmt: skip
LEARNED_A_SECOND = {  # images, forward and backward
    "pocket-vit": 700.0, "toy-vit": 15000.0, "ViT-B-32": 3.5, "ViT-B-16": 0.8, "ViT-L-14": 0.12
}  # fmt: skip
ROUTED = 4.0  # predictions that one of a routed method takes, its oracle's included
LEARNED_ROUTED = 3.0  # images that one takes whose gradient goes through a mixture
DOWNLOADS_A_MINUTE = 1.0  # of experts
TO_START = 1.0  # seconds, whatever an expert's training is like


def burden(run: Run) -> float:
    """How long one learning takes, in images of each task that a plain training goes through."""
    bound = bind(run)
    shown = bound.images_shown * (LEARNED_ROUTED if bound.routes else 1.0)
    if bound.passes:
        sizes = [task.sizes[2] for task in bound.seen]
        predicted, learned = speeds(bound.encoder)
        shown += bound.passes * sum(sizes) / len(sizes) * learned / predicted
    return shown


def speeds(encoder: Encoder) -> tuple[float, float]:
    """Images a second, to classify and to learn from; of one that was not timed: a guess."""
    name, known = encoder.plain, ENCODERS["ViT-B-32"]
    if name in PREDICTIONS_A_SECOND:
        return PREDICTIONS_A_SECOND[name], LEARNED_A_SECOND[name]
    work = [v.num_tokens * v.width**2 * v.layers for v in (known.vit, encoder.vit)]
    predicted, learned = speeds(known)
    return predicted * work[0] / work[1], learned * work[0] / work[1]


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
    expert = recipe.steps * recipe.batch / learned if own else 60 / DOWNLOADS_A_MINUTE
    expert += TO_START
    return (
        predictions * (1 + (ROUTED - 1) * routed) / predicted
        + shown / learned
        + experts * expert
        + corrupted * milliseconds / 1000
    )
