"""Evo-Merging: what its scales make, a search that never ends below its start, and its budget."""

import numpy as np

from methods import METHODS
from methods.common.config import TUNING_BUDGET
from methods.contract import TASKS, Recorder, build, of_weights, small_checkpoints
from methods.evo_merging import EvoMerging


def test_the_start_is_task_arithmetic():
    ckpts = small_checkpoints()
    got = build(EvoMerging, ckpts, passes=1).models["all"]()
    want = METHODS["task_arithmetic"](METHODS["task_arithmetic"].Config(scale=0.3)).merge(ckpts)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], atol=1e-6)


def test_scales_of_tasks_and_blocks_equal_numpy():
    ckpts = small_checkpoints()
    method = build(EvoMerging, ckpts, passes=1)
    blocks = method.blocks
    assert len(blocks) == 4
    point = {f"task.{task}": s for task, s in zip(sorted(TASKS), (0.5, -0.2, 0.0), strict=True)}
    point |= {f"block.{name}": a for name, a in zip(blocks, (2.0, 0.0, 1.0, 0.5), strict=True)}
    method.take(point)
    merged = method.merge(ckpts)
    for name, share in (("conv1.weight", 2.0), ("proj", 0.5), ("ln_post.bias", 0.5),
                        ("transformer.resblocks.0.mlp.c_fc.weight", 0.0),
                        ("transformer.resblocks.1.mlp.c_fc.weight", 1.0)):  # fmt: skip
        base = ckpts.base[name].double().numpy()
        taus = {
            task: expert[name].double().numpy() - base for task, expert in ckpts.experts.items()
        }
        order = sorted(TASKS)
        want = base + share * (0.5 * taus[order[0]] - 0.2 * taus[order[1]])
        np.testing.assert_allclose(merged[name], want, atol=1e-5, err_msg=name)
    assert method.coefficients[blocks[0]] == {
        task: 2 * scale for task, scale in zip(order, (0.5, np.float32(-0.2), 0.0), strict=True)
    }


def test_it_ends_with_the_best_of_its_trials_and_repeats():
    access = Recorder()
    method = EvoMerging(EvoMerging.Config(passes=12)).build(small_checkpoints(), access)
    assert access.num_validation_passes == 12
    assert EvoMerging().num_validation_passes == TUNING_BUDGET
    trials = method.report["trials"]
    values = [trial["value"] for trial in trials]
    chosen = trials[method.report["best"]]
    assert chosen["value"] == max(values) >= values[0] == method.report["start"]
    points = np.array([list(trial["params"].values()) for trial in trials])
    tasks, blocks = points[:, :3], points[:, 3:]
    np.testing.assert_allclose(points[0], [0.3] * 3 + [1.0] * 4)
    assert tasks.min() >= -0.4
    assert tasks.max() <= 1.0
    assert blocks.min() >= 0
    assert blocks.max() <= 2
    assert points[1:].std(0).min() > 0.01  # every scale is searched
    shares = [
        (of_weights(small_checkpoints(), method.models["all"]())[task].argmax(1).numpy()
         == np.arange(8) % count).mean() for task, count in TASKS.items()
    ]  # fmt: skip
    assert np.mean(shares) == np.float64(chosen["value"])
    again = EvoMerging(EvoMerging.Config(passes=12)).build(small_checkpoints(), Recorder())
    assert [t["params"] for t in again.report["trials"]] == [t["params"] for t in trials]
    other = EvoMerging(EvoMerging.Config(passes=3), seed=1).build(small_checkpoints(), Recorder())
    assert other.report["trials"][1]["params"] != trials[1]["params"]
