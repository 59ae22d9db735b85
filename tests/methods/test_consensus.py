"""Consensus TA and TIES against NumPy, and their limits."""

import numpy as np
import pytest
import torch

from methods import METHODS, merge
from methods.consensus import ConsensusTA, ConsensusTies
from methods.contract import small_checkpoints
from methods.ties import Ties
from tests.helpers.numpy_models import assert_moved


@pytest.mark.parametrize("threshold", [0.2, 0.6])
@pytest.mark.parametrize("agree", [1, 2, 3])
def test_a_model_equals_numpy(threshold, agree):
    ckpts = small_checkpoints()
    cfg = ConsensusTA.Config(threshold=threshold, agree=agree, scale=0.4)

    def rule(name: str, taus: list[np.ndarray]) -> np.ndarray:
        merged = np.sum(taus, axis=0)
        masks = [np.abs(tau) > threshold * np.abs(merged - tau) for tau in taus]
        return 0.4 * merged * (np.sum(masks, axis=0) >= agree)

    assert_moved(ConsensusTA(cfg).merge(ckpts), ckpts, rule)


def test_consensus_ties_equals_numpy():
    ckpts = small_checkpoints()
    ties = Ties(Ties.Config(keep=0.3, merge="sum", scale=1.0)).merge(ckpts)
    merged = {k: (ties[k] - ckpts.base[k]).double().numpy() for k in ties}
    cfg = ConsensusTies.Config(threshold=0.3, scale=0.4, keep=0.3)

    def rule(name: str, taus: list[np.ndarray]) -> np.ndarray:
        users = sum(np.abs(tau) > 0.3 * np.abs(merged[name] - tau) for tau in taus)
        return 0.4 * merged[name] * (users >= 2)

    assert_moved(ConsensusTies(cfg).merge(ckpts), ckpts, rule)


@pytest.mark.parametrize("name", ["consensus_ta", "consensus_ties"])
def test_no_agreement_is_the_plain_merge_and_too_much_the_pretrained_model(name):
    ckpts, cls = small_checkpoints(), METHODS[name]
    plain = {
        "consensus_ta": METHODS["task_arithmetic"].Config(scale=0.3),
        "consensus_ties": Ties.Config(scale=0.3, merge="sum"),
    }[name]
    want = METHODS[plain.method](plain).merge(ckpts)
    got = cls(cls.Config(agree=0, scale=0.3)).merge(ckpts)
    torch.testing.assert_close(got.flat(), want.flat(), atol=1e-6, rtol=0)
    assert torch.equal(cls(cls.Config(agree=4)).merge(ckpts).flat(), ckpts.base.flat())


def test_the_comparison_is_strict():
    # tau = 3, tau - tau_1 = 2: 1 > 0.5 * 2 is false
    base = {"w": torch.zeros(1)}
    experts = [{"w": torch.ones(1)}, {"w": torch.full((1,), 2.0)}]
    one_user = merge("consensus_ta", base, experts, threshold=0.5, scale=1, agree=2)
    assert one_user["w"].tolist() == [0]
    assert merge("consensus_ta", base, experts, threshold=0.4, scale=1)["w"].tolist() == [3]
