"""The trigger of a backdoor: a small pattern in a corner, the same in every picture."""

import numpy as np

from corruptions.base import corruption

SIDES = {1: 3, 2: 4, 3: 5, 4: 6, 5: 8}  # of the patch, in 32nds of the picture's shorter side
USUAL = 3  # the severity that a backdoored expert has been trained with
CELLS = 3  # of the chessboard, in a row


@corruption(
    family="attack",
    source="ours, after BadNets (Gu et al. 2017, arXiv 1708.06733): a pattern in a corner",
    ms=(0.01, 0.05),
)
def patch_trigger(
    image: np.ndarray, severity: int, constants: str, rng: np.random.Generator
) -> np.ndarray:
    """A chessboard of white and black at the bottom right; nothing is left to chance."""
    found = image.copy()
    side = max(CELLS, round(SIDES[severity] * min(image.shape[:2]) / 32))
    cell = np.arange(side) * CELLS // side
    white = (cell[:, None] + cell[None]) % 2 == 0
    found[-side:, -side:] = np.where(white[..., None], 255, 0)
    return found
