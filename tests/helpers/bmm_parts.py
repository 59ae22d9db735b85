"""What tests of BMM share: a support with as many images as wanted, and its formula in NumPy."""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
import torch
from torch import Tensor

from methods import METHODS, Checkpoints, MergingMethod
from methods.common.vit import PlainOps, tokens
from methods.common.weights import Weights
from methods.contract import TASKS, VIT, small_checkpoints

LAYERS = {  # a parameter of a residual block -> the layer that it is of
    "attn.in_proj_weight": "attn.in_proj", "attn.out_proj.weight": "attn.out_proj",
    "mlp.c_fc.weight": "mlp.c_fc", "mlp.c_proj.weight": "mlp.c_proj",
}  # fmt: skip
MATRICES = {f"{b}.{name}": f"{b}.{layer}" for b in VIT.blocks for name, layer in LAYERS.items()}
VARIANTS = ("bmm", "bmm_datafree", "bmm_hybrid")
SETTINGS = {"trials": 0, "anchor": "ta"}
PAIRS = [*product(VARIANTS, ("ta", "tsv")), ("bmm", "wudi")]


class Shown:
    """A support of random images, other ones for each task and use."""

    journal = None

    def __init__(self, count: int = 12, scale: float = 1.0):
        self.count, self.scale, self.told = count, scale, 0

    def draw(self, *key: str) -> Tensor:
        seed = sum(map(ord, "".join(key)))
        random = torch.Generator().manual_seed(seed)
        return self.scale * torch.randn(self.count, 3, 32, 32, generator=random)

    def unlabeled(self, task: str) -> Iterator[Tensor]:
        yield from self.draw("images", task).split(5)

    def validation(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        labels = torch.arange(self.count) % TASKS[task]
        return zip(self.draw("val", task).split(5), labels.split(5), strict=True)

    def count_pass(self) -> None:
        self.told += 1


def make(name: str, ckpts: Checkpoints | None = None, access=None, **config) -> MergingMethod:
    """A method built on random images."""
    cls = METHODS[name]
    return cls(cls.Config.make(config)).build(ckpts or small_checkpoints(), access or Shown())


def weights_of(method: MergingMethod) -> Weights:
    return Weights(method.models["all"]())


class Recording(PlainOps):
    """Keeps the inputs of every layer, one row a token."""

    def __init__(self, weights: Mapping[str, Tensor]):
        super().__init__(weights)
        self.inputs: dict[str, np.ndarray] = {}

    def linear(self, name: str, x: Tensor) -> Tensor:
        self.inputs[name] = x.flatten(0, -2).double().numpy()
        return super().linear(name, x)


def inputs_of(ckpts: Checkpoints, access: Shown) -> dict[str, dict[str, np.ndarray]]:
    """Task -> layer -> what the task's expert gives it.  ``[tokens, in]``."""
    found = {}
    for task, expert in ckpts.experts.items():
        ops = Recording(expert)
        tokens(access.draw("images", task), ops, VIT)
        found[task] = ops.inputs
    return found


def normal(gram: np.ndarray) -> np.ndarray:
    """Mean eigenvalue 1, or nothing at all."""
    return gram / (np.trace(gram) / len(gram)) if gram.any() else gram


def regression(anchor: np.ndarray, weights: list, grams: list, alpha: float) -> np.ndarray:
    """M = [alpha W_A + mean_t W_t G_t] [alpha I + mean_t G_t]^-1."""
    left = alpha * anchor + sum(w @ g for w, g in zip(weights, grams, strict=True)) / len(grams)
    right = alpha * np.eye(len(grams[0])) + sum(grams) / len(grams)
    return np.linalg.solve(right, left.T).T


def numpy(tensor: Tensor) -> np.ndarray:
    return tensor.double().numpy()


def task_arithmetic(ckpts: Checkpoints, name: str, scale: float = 0.3) -> np.ndarray:
    base = numpy(ckpts.base[name])
    return base + scale * sum(numpy(expert[name]) - base for expert in ckpts.experts.values())


def vector_grams(ckpts: Checkpoints, name: str, rows: slice, centre: bool = False) -> list:
    base = numpy(ckpts.base[name])[rows]
    taus = [numpy(expert[name])[rows] - base for expert in ckpts.experts.values()]
    taus = [tau - tau.mean(0) for tau in taus] if centre else taus
    return [normal(tau.T @ tau) for tau in taus]
