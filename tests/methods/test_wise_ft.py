"""WiSE-FT: the line between the pretrained model and each expert."""

import numpy as np
import pytest
import torch

from methods.contract import TASKS, build, logits, small_checkpoints
from methods.wise_ft import WiseFT


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_every_model_equals_numpy(share):
    ckpts = small_checkpoints()
    models = WiseFT(WiseFT.Config(share=share)).merge(ckpts)
    assert list(models) == list(TASKS)
    for task, expert in ckpts.experts.items():
        want = (1 - share) * ckpts.base.flat().numpy() + share * expert.flat().numpy()
        np.testing.assert_allclose(models[task].flat().numpy(), want, atol=1e-6)


def test_at_the_ends_are_the_pretrained_model_and_the_expert():
    ckpts = small_checkpoints()
    whole = WiseFT(WiseFT.Config(share=1.0)).merge(ckpts)
    none = WiseFT(WiseFT.Config(share=0.0)).merge(ckpts)
    for task, expert in ckpts.experts.items():
        torch.testing.assert_close(whole[task].flat(), expert.flat())
        assert torch.equal(none[task].flat(), ckpts.base.flat())


def test_each_task_has_its_own():
    method = build(WiseFT, small_checkpoints())
    assert method.num_stored == 3 * small_checkpoints().base.num_entries
    assert set(logits(method)) == set(TASKS)
