"""How long the work of a sweep takes, roughly: for the line that a plan prints."""

from bench.config import Run
from bench.members import images_of, routes

# Measured on one core of a 2023 server CPU.
PREDICTIONS_A_SECOND = {"pocket-vit": 2000.0, "toy-vit": 20000.0}
LEARNED_A_SECOND = {"pocket-vit": 700.0, "toy-vit": 15000.0}  # images, forward and backward
ROUTED = 4.0  # predictions that one of a routed method takes, its oracle's included
LEARNED_ROUTED = 3.0  # images that one takes whose gradient goes through a mixture
TRAININGS_A_MINUTE = {"pocket-vit": 1.0, "toy-vit": 60.0}
CORRUPTIONS_A_SECOND = 10000.0


def burden(run: Run) -> float:
    """How long one training takes, in images of each task that a plain one would go through."""
    return images_of(run) * (LEARNED_ROUTED if routes(run) else 1.0)


def seconds_of(
    encoder: str, *, predictions: int, routed: float, shown: float, experts: int, corrupted: int
) -> float:
    """Seconds on one core.

    Args:
        encoder: its name.
        predictions: images to classify.
        routed: the share of them that is weighed image by image.
        shown: images that trainings go through, each as a plain one (see :func:`burden`).
        experts: to fine-tune.
        corrupted: images to corrupt.
    """
    return (
        predictions * (1 + (ROUTED - 1) * routed) / PREDICTIONS_A_SECOND[encoder]
        + shown / LEARNED_A_SECOND[encoder]
        + 60 * experts / TRAININGS_A_MINUTE[encoder]
        + corrupted / CORRUPTIONS_A_SECOND
    )
