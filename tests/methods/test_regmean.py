"""RegMean against NumPy, written from the paper's formula; and what is degenerate."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mergeshift import UserError
from methods import Checkpoints, Needs, merge
from methods.common.regression import SufficientStatistics
from methods.common.vit import PlainOps, tokens
from methods.common.weights import Weights
from methods.contract import TASKS, VIT, Recorder, build, small_checkpoints
from methods.regmean import RegMean, least_squares, shrink

PARTS = ("attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
LAYERS = [f"{block}.{part}" for block in VIT.blocks for part in PARTS]


def pictures(task: str, count: int = 48) -> Tensor:
    """Images of a task: 240 tokens, more than any layer has inputs."""
    random = torch.Generator().manual_seed(list(TASKS).index(task))
    return torch.randn(count, 3, 32, 32, generator=random)


class Own(Recorder):
    """Every task's own images, in batches of 10."""

    def __init__(self, count: int = 48):
        super().__init__()
        self.count, self.given = count, dict.fromkeys(TASKS, 0)

    def unlabeled(self, task: str) -> Iterator[Tensor]:
        for batch in pictures(task, self.count).split(10):
            self.given[task] += len(batch)
            yield batch


class Inputs(PlainOps):
    """Plain weights that keep what every linear layer is given."""

    def __init__(self, weights):
        super().__init__({name: tensor.double() for name, tensor in weights.items()})
        self.rows: dict[str, np.ndarray] = {}

    def linear(self, name: str, x: Tensor) -> Tensor:
        self.rows[name] = x.flatten(0, -2).numpy()
        return super().linear(name, x)


def trained() -> Checkpoints:
    """Experts with layer norms as training leaves them: with all gains alike and no offset, the
    outputs of a norm sum to zero, and the Gram of the layer after it is singular."""
    ckpts, random = small_checkpoints(), torch.Generator().manual_seed(5)

    def vary(expert: Weights) -> Weights:
        noise = {k: 0.3 * torch.randn(expert.shape(k), generator=random) for k in expert}
        return Weights({k: expert[k] + noise[k] * ("ln_" in k) for k in expert})

    return replace(ckpts, experts={task: vary(e) for task, e in ckpts.experts.items()})


def inputs(ckpts, count: int = 48) -> list[dict[str, np.ndarray]]:
    """For every expert, layer -> its inputs for images of its own task, in float64."""
    found = []
    for task, expert in ckpts.experts.items():
        ops = Inputs(expert)
        with torch.no_grad():
            tokens(pictures(task, count).double(), ops, VIT)
        found.append(ops.rows)
    return found


def weights_of(ckpts, layer: str) -> list[np.ndarray]:
    name = f"{layer}_weight" if layer.endswith("in_proj") else f"{layer}.weight"
    return [expert[name].double().numpy() for expert in ckpts.experts.values()]


def by_hand(rows: list[np.ndarray], weights: list[np.ndarray], share: float) -> np.ndarray:
    """W = [(sum_t G_t)^-1 sum_t G_t W_t^T]^T, entry by entry off the diagonal shrunk."""
    grams = []
    for x in rows:
        gram = x.T @ x / len(x)
        for i, j in np.ndindex(gram.shape):
            gram[i, j] *= 1 if i == j else share
        grams.append(gram)
    right = sum(gram @ weight.T for gram, weight in zip(grams, weights, strict=True))
    return np.linalg.solve(sum(grams), right).T


def merged_by(method: RegMean) -> dict[str, Tensor]:
    return method.models["all"]()


# -- the formula ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.95, 0.5, 1.0])
def test_a_model_equals_numpy_fused_and_split(share):
    ckpts = trained()
    method = RegMean(RegMean.Config(off_diagonal=share)).build(ckpts, Own())
    got, seen = merged_by(method), inputs(ckpts)
    done = set()
    for layer in LAYERS:
        rows, weights = [one[layer] for one in seen], weights_of(ckpts, layer)
        name = f"{layer}_weight" if layer.endswith("in_proj") else f"{layer}.weight"
        want = by_hand(rows, weights, share)
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-5, err_msg=name)
        if layer.endswith("in_proj"):  # q, k and v apart: the same, as their inputs are
            thirds = [np.split(weight, 3) for weight in weights]
            split = [by_hand(rows, [third[i] for third in thirds], share) for i in range(3)]
            np.testing.assert_allclose(np.concatenate(split), want, atol=1e-9)
        done.add(name)
    for name in ckpts.base.keys() - done:
        mean = sum(expert[name] for expert in ckpts.experts.values()) / 3
        torch.testing.assert_close(got[name], mean, msg=name)
    assert len(done) == 4 * VIT.layers


def test_without_shrinking_it_is_least_squares():
    # sum_t ||X_t W^T - X_t W_t^T||^2 / n_t, n_t alike: the rows of all tasks one below the other
    ckpts, layer = trained(), LAYERS[2]
    seen, weights = [one[layer] for one in inputs(ckpts)], weights_of(ckpts, layer)
    targets = np.vstack([x @ w.T for x, w in zip(seen, weights, strict=True)])
    want = np.linalg.lstsq(np.vstack(seen), targets, rcond=None)[0].T
    method = RegMean(RegMean.Config(off_diagonal=1.0)).build(ckpts, Own())
    np.testing.assert_allclose(merged_by(method)[f"{layer}.weight"], want, rtol=0, atol=1e-5)


def test_shrinking_to_nothing_weighs_every_input_by_itself():
    # G = diag(g): column j is the mean of the experts' columns, weighted by g_tj
    gram = [np.array([[1.0, 9.0], [9.0, 2.0]]), np.array([[3.0, 9.0], [9.0, 2.0]])]
    weights = [np.array([[4.0, 1.0]]), np.array([[8.0, 3.0]])]
    sums = SufficientStatistics.start(torch.tensor([[6.0, 2.0]]))
    for g, w in zip(gram, weights, strict=True):
        sums.add(shrink(torch.from_numpy(g), 0.0), torch.from_numpy(w), 1)
    # (1 * 4 + 3 * 8) / 4 = 7, (2 * 1 + 2 * 3) / 4 = 2
    np.testing.assert_allclose(least_squares(sums), [[7, 2]])


# -- images --------------------------------------------------------------------------------------


def test_so_many_images_of_each_task_are_seen_and_no_more():
    ckpts, few = small_checkpoints(), Own()
    got = RegMean(RegMean.Config(images=24)).build(ckpts, few)
    assert few.given == dict.fromkeys(TASKS, 30)  # three batches of ten
    want = RegMean().build(ckpts, Own(24))
    for name, tensor in merged_by(got).items():
        torch.testing.assert_close(tensor, merged_by(want)[name], rtol=0, atol=1e-5)


def test_a_task_without_images_is_refused():
    class Nothing(Recorder):
        def unlabeled(self, task: str) -> Iterator[Tensor]:
            yield from ()

    with pytest.raises(UserError, match="regmean learns from images of every task; four has none"):
        RegMean().build(small_checkpoints(), Nothing())


def test_it_needs_images_and_nothing_else():
    assert RegMean().needs == Needs.IMAGES
    with pytest.raises(UserError, match="regmean needs unlabelled images, and checkpoints alone"):
        merge("regmean", {"w": torch.zeros(2, 2)}, [{"w": torch.ones(2, 2)}])


def test_what_is_learned_is_not_counted_as_stored_besides_the_model():
    ckpts = small_checkpoints()
    assert build(RegMean, ckpts).num_stored == ckpts.base.num_entries


# -- what is degenerate --------------------------------------------------------------------------


def test_fewer_images_than_features_fit_them_and_keep_the_average_elsewhere():
    # 2 images of 5 tokens for each of three tasks: 30 rows, and layers of 32 and 128 inputs
    ckpts = small_checkpoints()
    cfg = RegMean.Config(off_diagonal=1.0)
    got, seen = merged_by(RegMean(cfg).build(ckpts, Own(2))), inputs(ckpts, 2)
    for layer in (LAYERS[2], LAYERS[3]):
        rows, weights = np.vstack([one[layer] for one in seen]), weights_of(ckpts, layer)
        mean = sum(weights) / 3
        targets = [one[layer] @ (w - mean).T for one, w in zip(seen, weights, strict=True)]
        # the solution of least norm is 0 where there are no inputs
        want = mean + np.linalg.lstsq(rows, np.vstack(targets), rcond=3e-4)[0].T
        np.testing.assert_allclose(got[f"{layer}.weight"], want, rtol=0, atol=1e-3)
        fitted = rows @ got[f"{layer}.weight"].double().numpy().T
        wanted = np.vstack([one[layer] @ w.T for one, w in zip(seen, weights, strict=True)])
        assert np.abs(fitted - wanted).max() < 2e-3  # as many unknowns as equations: no error


@pytest.mark.parametrize("share", [0.95, 1.0])
def test_one_task_gives_its_expert(share):
    ckpts = small_checkpoints()
    alone = replace(ckpts, experts={"two": ckpts.experts["two"]})
    method = RegMean(RegMean.Config(off_diagonal=share)).build(alone, Own(1))
    assert torch.equal(Weights(merged_by(method)).flat(), ckpts.experts["two"].flat())


def test_an_expert_that_did_not_move_counts_with_its_inputs():
    ckpts = small_checkpoints()
    still = replace(ckpts, experts={**ckpts.experts, "four": ckpts.base})
    got = merged_by(RegMean().build(still, Own()))
    seen, layer = inputs(still), LAYERS[0]
    want = by_hand([one[layer] for one in seen], weights_of(still, layer), 0.95)
    np.testing.assert_allclose(got[f"{layer}_weight"], want, rtol=0, atol=1e-5)
