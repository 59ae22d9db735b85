"""MagMax against NumPy; duplicates, ties, and what no scale is."""

import numpy as np
import pytest
import torch

from methods.contract import small_checkpoints
from methods.magmax import MagMax, extreme
from tests.helpers.numpy_models import assert_moved, random


def by_hand(taus: list[np.ndarray]) -> np.ndarray:
    stack = np.stack(taus)
    return np.take_along_axis(stack, np.abs(stack).argmax(0)[None], 0)[0]


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.3])
def test_a_model_equals_numpy(scale):
    ckpts = small_checkpoints()
    got = MagMax(MagMax.Config(scale=scale)).merge(ckpts)
    assert_moved(got, ckpts, lambda name, taus: scale * by_hand(taus))


def test_it_is_a_maximum():
    taus = random(4, 6, 5)
    want = extreme(taus)
    torch.testing.assert_close(extreme(taus.flip(0)), want)  # in any order
    torch.testing.assert_close(extreme(torch.stack([extreme(taus[:2]), extreme(taus[2:])])), want)
    torch.testing.assert_close(extreme(torch.cat([taus, taus[1:3]])), want)  # and any number
    assert torch.equal(want.abs(), taus.abs().amax(0))


def test_opposites_cancel_in_any_order():
    taus = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [1.0, 0.0]])
    assert extreme(taus).tolist() == extreme(taus.flip(0)).tolist() == [0, 0]
