"""What a routed method mixes: how each expert differs from an anchor, whole or compressed."""

from collections.abc import Mapping

import torch
from torch import Tensor

from methods.common.checkpoints import Checkpoints
from methods.routing.mixing import Factors

Parts = dict[str, Tensor | Factors]  # parameter name -> [K, *shape], or factors of it


def knowledge_of(
    ckpts: Checkpoints,
    anchor: Mapping[str, Tensor],
    how: str = "dense",
    share: float = 1.0,
    *,
    others: bool = True,
) -> Parts:
    """v_t = compress(theta_t - anchor), t in the order of the experts.

    At most one tensor of one expert is alive at a time. Only matrices are compressed (linear
    weights, the projection, the patch embedding); the other tensors are kept whole.

    Args:
        ckpts: the experts.
        anchor: theta_a, held in memory.
        how: ``dense`` (no compression), ``svd`` (see :func:`low_rank`) or ``magnitude`` (see
            :func:`largest`).
        share: of the rank, or of the entries, that is kept.
        others: whether the tensors that are no matrices are wanted.

    Returns:
        Parameter name -> ``[K, *shape]``, or factors ``[K, out, r], [K, r, in]``, where the patch
        embedding counts as the matrix ``[W, 3 * p * p]``.
    """
    found: Parts = {}
    for name, middle in anchor.items():
        differences = (expert[name] - middle for expert in ckpts.experts.values())
        if not is_matrix(name, middle):
            if others:
                found[name] = torch.stack(list(differences))
        elif how == "svd":
            factors = [low_rank(v.flatten(1), share) for v in differences]
            found[name] = Factors(*map(torch.stack, zip(*factors, strict=True)))
        else:
            kept = share if how == "magnitude" else 1.0
            found[name] = torch.stack([largest(v, kept) for v in differences])
    return found


def is_matrix(name: str, tensor: Tensor) -> bool:
    """Whether a parameter multiplies an input: the positions have two axes, but are added."""
    return tensor.ndim >= 2 and name != "positional_embedding"


def low_rank(matrix: Tensor, share: float) -> Factors:
    """The best approximation of rank r = max(1, int(share * min(m, n))).  ``[m, r], [r, n]``.

    >>> low_rank(torch.diag(torch.tensor([3.0, 2.0, 1.0])), 0.34).left.abs().flatten().tolist()
    [3.0, 0.0, 0.0]
    """
    rank = max(1, int(share * min(matrix.shape)))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return Factors(u[:, :rank] * s[:rank], v[:rank])


def largest(tensor: Tensor, share: float) -> Tensor:
    """Keep the k = max(1, int(share * n)) largest entries and what ties with them; zero elsewhere.

    >>> largest(torch.tensor([[3.0, -1.0], [-4.0, 2.0]]), 0.5).tolist()
    [[3.0, 0.0], [-4.0, 0.0]]
    """
    if share == 1:
        return tensor
    sizes = tensor.abs().flatten()
    smallest = sizes.topk(max(1, int(share * len(sizes)))).values[-1]
    return tensor.where(tensor.abs() >= smallest, 0.0)


def num_numbers(parts: Mapping[str, Tensor | Factors], how: str) -> int:
    """Numbers to be stored; of sparse tensors those that are not zero, without their places."""
    tensors = [
        t for part in parts.values() for t in (part if isinstance(part, Factors) else [part])
    ]
    return sum(int(t.count_nonzero()) if how == "magnitude" else t.numel() for t in tensors)
