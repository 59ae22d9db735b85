"""Merged models against NumPy: task vectors as arrays, and the comparison."""

from collections.abc import Callable

import numpy as np
import torch

from methods import Checkpoints
from methods.common.weights import Weights

Rule = Callable[[str, list[np.ndarray]], np.ndarray]  # a name and its task vectors -> the merged


def task_vectors(ckpts: Checkpoints) -> dict[str, list[np.ndarray]]:
    """Name -> tau_1 .. tau_K, float64, in the order of the experts."""
    base = {name: tensor.double().numpy() for name, tensor in ckpts.base.items()}
    experts = [{k: t.double().numpy() for k, t in e.items()} for e in ckpts.experts.values()]
    return {name: [expert[name] - base[name] for expert in experts] for name in base}


def assert_moved(got: Weights, ckpts: Checkpoints, rule: Rule, atol: float = 1e-5) -> None:
    """Every tensor is the base's plus what NumPy says."""
    for name, taus in task_vectors(ckpts).items():
        want = ckpts.base[name].double().numpy() + rule(name, taus)
        np.testing.assert_allclose(got[name].numpy(), want, rtol=0, atol=atol, err_msg=name)


def is_matrix(name: str, taus: list[np.ndarray]) -> bool:
    """What spectral methods merge as one, by their defaults."""
    return taus[0].ndim == 2 and "text_projection" not in name


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
