"""Fisher merging against Jacobians, its weights against NumPy, and its limits."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mergeshift import UserError
from methods import Needs
from methods.common.vit import PlainOps, encode
from methods.contract import TASKS, VIT, Recorder, build, images, small_checkpoints
from methods.fisher import Fisher, diagonal_fisher


def by_jacobian(
    expert: dict[str, Tensor], head: Tensor, batches: list[Tensor], name: str
) -> Tensor:
    """F of one tensor: gradients of every class's log-probability, put together by hand."""

    def logs(value: Tensor, batch: Tensor) -> Tensor:
        features = F.normalize(encode(batch, PlainOps(expert | {name: value}), VIT), dim=-1)
        return (features @ head.T).log_softmax(-1)

    found = torch.zeros_like(expert[name])
    for batch in batches:
        jacobian = torch.autograd.functional.jacobian(lambda v, b=batch: logs(v, b), expert[name])
        roots = logs(expert[name], batch).exp().sqrt()
        found += torch.einsum("bc,bc...->...", roots, jacobian).square()
    return found / sum(map(len, batches))


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_diagonal_is_the_squared_gradient_of_each_batch(size):
    ckpts = small_checkpoints()
    expert = {name: tensor.double() for name, tensor in ckpts.experts["three"].items()}
    batches, head = images().double().split(size), ckpts.heads["three"].double()
    got = diagonal_fisher(expert, head, batches, VIT)
    assert set(got) == set(expert)
    for name in ("proj", "ln_pre.bias", "transformer.resblocks.1.attn.in_proj_bias"):
        want = by_jacobian(expert, head, list(batches), name)
        torch.testing.assert_close(got[name], want)


def test_a_model_equals_numpy():
    ckpts = small_checkpoints()
    got = build(Fisher, ckpts, scale=0.8, batch=4)
    above, below = {}, {}
    for task in TASKS:
        expert = dict(ckpts.experts[task])
        batches = images().split(4)
        fisher = {k: v.double().numpy() for k, v in
                  diagonal_fisher(expert, ckpts.heads[task], batches, VIT).items()}  # fmt: skip
        norm = np.sqrt(sum((one**2).sum() for one in fisher.values()))
        for name, one in fisher.items():
            weight = (one + 1e-6) / (norm + 1e-6)
            above[name] = above.get(name, 0) + weight * expert[name].double().numpy()
            below[name] = below.get(name, 0) + weight
    for name, merged in got.models["all"]().items():
        base = ckpts.base[name].double().numpy()
        want = base + 0.8 * (above[name] / below[name] - base)
        np.testing.assert_allclose(merged, want, rtol=0, atol=1e-5, err_msg=name)


def test_it_lies_between_the_experts():
    ckpts = small_checkpoints()
    merged = build(Fisher, ckpts).models["all"]()
    for name, tensor in merged.items():
        experts = torch.stack([expert[name] for expert in ckpts.experts.values()])
        assert (tensor >= experts.amin(0) - 1e-5).all(), name
        assert (tensor <= experts.amax(0) + 1e-5).all(), name


class Few(Recorder):
    """Images one by one, some tasks without any."""

    def __init__(self, without: str = ""):
        super().__init__()
        self.without, self.given = without, dict.fromkeys(TASKS, 0)

    def unlabeled(self, task: str) -> Iterator[Tensor]:
        for image in images() if task != self.without else ():
            self.given[task] += 1
            yield image[None]


def test_it_looks_at_so_many_images_and_no_more():
    access = Few()
    Fisher(Fisher.Config(images=5)).build(small_checkpoints(), access)
    assert access.given == dict.fromkeys(TASKS, 5)
    assert Fisher().needs == Needs.IMAGES


def test_a_task_without_images_is_one_line():
    with pytest.raises(UserError, match="fisher learns from images of every task; three has none"):
        Fisher().build(small_checkpoints(), Few("three"))
