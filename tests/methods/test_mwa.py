"""MWA against NumPy and its limits: the average at k = 0, the best expert at a large k."""

import numpy as np
import pytest
import torch

from mergeshift import UserError
from methods.common.config import TUNING_BUDGET
from methods.contract import TASKS, Recorder, build, logits, of_weights, small_checkpoints
from methods.mwa import MWA, POWERS, SCALES, shares


def test_weights_by_hand():
    losses = torch.tensor([1.0, 2.0, 4.0])
    np.testing.assert_allclose(shares(losses, 0.0), [1 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(shares(losses, 1.0), np.array([4, 2, 1]) / 7, rtol=1e-6)
    np.testing.assert_allclose(shares(losses, 2.0), np.array([16, 4, 1]) / 21, rtol=1e-6)
    np.testing.assert_allclose(shares(7 * losses, 2.0), shares(losses, 2.0), rtol=1e-5)
    np.testing.assert_allclose(shares(losses, 60.0), [1, 0, 0], atol=1e-9)
    assert shares(torch.tensor([0.0, 1.0]), 0.0).tolist() == [0.5, 0.5]


def test_a_model_equals_numpy():
    ckpts, order = small_checkpoints(), sorted(TASKS)
    method = build(MWA, ckpts, passes=27)
    losses = []
    for expert in (ckpts.experts[task] for task in order):
        found = []
        for task, count in TASKS.items():
            z = of_weights(ckpts, expert)[task].double().numpy()
            logs = z - np.log(np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True))
            logs -= z.max(1, keepdims=True)
            found.append(-logs[np.arange(8), np.arange(8) % count].mean())
        losses.append(np.mean(found))
    report = method.report
    np.testing.assert_allclose([report["losses"][task] for task in order], losses, rtol=1e-4)
    assert [one[1:] for one in report["tried"]] == [(k, s) for k in POWERS for s in SCALES]
    assert report["val"] == max(one[0] for one in report["tried"])
    weights = np.array(losses) ** -report["power"]
    weights *= report["scale"] / weights.sum()
    np.testing.assert_allclose(list(method.coefficients["all"].values()), weights, rtol=1e-3)
    for name, tensor in method.models["all"]().items():
        base = ckpts.base[name].double().numpy()
        want = base + sum(
            w * (ckpts.experts[task][name].double().numpy() - base)
            for w, task in zip(weights, order, strict=True)
        )
        np.testing.assert_allclose(tensor, want, atol=1e-5)


def test_the_first_of_the_list_is_the_average_and_passes_are_counted():
    ckpts, access = small_checkpoints(), Recorder()
    method = MWA(MWA.Config(passes=4)).build(ckpts, access)  # three experts, and one more
    assert access.num_validation_passes == 4
    mean = {k: sum(e[k] for e in ckpts.experts.values()) / 3 for k in ckpts.base}
    want = of_weights(ckpts, type(ckpts.base)(mean))
    for task, values in logits(method).items():
        torch.testing.assert_close(values, want[task], atol=1e-4, rtol=0)
    access = Recorder()
    MWA().build(ckpts, access)
    assert access.num_validation_passes == TUNING_BUDGET
    with pytest.raises(UserError, match="each of 3 experts, and then at least once more; got pas"):
        MWA(MWA.Config(passes=3)).build(ckpts, Recorder())
