"""RegMean++ against NumPy, block by block; where it is RegMean."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mergeshift import UserError
from methods import Checkpoints
from methods.common.vit import PlainOps, block, embed
from methods.common.weights import Weights
from methods.contract import TASKS, VIT, Recorder, build, small_checkpoints
from methods.regmean import RegMean
from methods.regmean_pp import RegMeanPP

PARTS = ("attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")


def pictures(task: str) -> Tensor:
    """Images of a task: 240 tokens, more than any layer has inputs."""
    random = torch.Generator().manual_seed(list(TASKS).index(task))
    return torch.randn(48, 3, 32, 32, generator=random)


class Own(Recorder):
    """Every task's own images."""

    def unlabeled(self, task: str):
        yield from pictures(task).split(10)


class Inputs(PlainOps):
    """Plain weights that keep what every linear layer is given."""

    def __init__(self, weights):
        super().__init__({name: tensor.double() for name, tensor in weights.items()})
        self.rows: dict[str, np.ndarray] = {}

    def linear(self, name: str, x: Tensor) -> Tensor:
        self.rows[name] = x.flatten(0, -2).numpy()
        return super().linear(name, x)


def trained(*, alike: bool = False) -> Checkpoints:
    """Experts whose norms differ; ``alike``: up to the first block they are the base."""
    ckpts, random = small_checkpoints(), torch.Generator().manual_seed(5)

    def vary(expert: Weights) -> Weights:
        def one(name: str) -> Tensor:
            if alike and "resblocks" not in name:
                return ckpts.base[name]
            noise = 0.3 * torch.randn(expert.shape(name), generator=random)
            return expert[name] + noise * ("ln_" in name)

        return Weights({name: one(name) for name in expert})

    return replace(ckpts, experts={task: vary(expert) for task, expert in ckpts.experts.items()})


def learned(method: RegMean, ckpts: Checkpoints) -> dict[str, Tensor]:
    method.build(ckpts, Own())
    return method.models["all"]()


def weight_of(layer: str) -> str:
    return f"{layer}{'_' if layer.endswith('in_proj') else '.'}weight"


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_model_equals_numpy(share):
    ckpts = trained()
    got = learned(RegMeanPP(RegMeanPP.Config(off_diagonal=share)), ckpts)
    merged = {name: torch.stack([e[name] for e in ckpts.experts.values()]).double().mean(0)
              for name in ckpts.base}  # fmt: skip
    x = {task: embed(pictures(task).double(), PlainOps(merged), VIT) for task in TASKS}
    for name in VIT.blocks:
        grams, pulls = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0)
        for task, expert in ckpts.experts.items():
            ops = Inputs(expert)
            block(name, x[task], ops, VIT)
            for part in PARTS:
                rows = ops.rows[f"{name}.{part}"]
                gram = rows.T @ rows / len(rows)
                gram = share * gram + (1 - share) * np.diag(np.diag(gram))
                weight = expert[weight_of(f"{name}.{part}")].double().numpy()
                grams[part], pulls[part] = grams[part] + gram, pulls[part] + weight @ gram
        for part in PARTS:
            solved = np.linalg.solve(grams[part].T, pulls[part].T).T
            merged[weight_of(f"{name}.{part}")] = torch.from_numpy(solved)
        x = {task: block(name, tokens, PlainOps(merged), VIT) for task, tokens in x.items()}
    for name, want in merged.items():
        np.testing.assert_allclose(got[name], want, rtol=0, atol=2e-4, err_msg=name)


def test_where_experts_begin_alike_the_first_block_is_regmeans():
    ckpts = trained(alike=True)
    ours, plain = learned(RegMeanPP(), ckpts), learned(RegMean(), ckpts)
    first = [name for name in ours if name.startswith(VIT.blocks[0])]
    for name in first:
        torch.testing.assert_close(ours[name], plain[name], atol=1e-5, rtol=0)
    second = weight_of(f"{VIT.blocks[1]}.mlp.c_fc")
    assert (ours[second] - plain[second]).abs().max() > 1e-3


def test_a_task_without_images_is_one_line():
    class Without(Own):
        def unlabeled(self, task: str):
            yield from () if task == "two" else super().unlabeled(task)

    with pytest.raises(UserError, match=r"regmean_pp learns .* two has none"):
        RegMeanPP().build(trained(), Without())


def test_it_stores_one_model():
    ckpts = small_checkpoints()
    assert build(RegMeanPP, ckpts).num_stored == ckpts.base.num_entries
