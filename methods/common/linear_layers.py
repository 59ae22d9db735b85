"""Which tensors of a model are merged as matrices, and how a fused in_proj is read.

Axes: ``K`` experts; a matrix is ``[out, in]``, as PyTorch has it.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from methods.common.checkpoints import Checkpoints
from methods.common.weights import Weights

GROUPS = {"attn.in_proj": "qkv", "attn.out_proj": "out", "mlp.c_fc": "fc1", "mlp.c_proj": "fc2"}
LINEAR = re.compile(
    r"(?P<layer>(?P<tower>.+\.|)transformer\.resblocks\.(?P<block>\d+)\."
    r"(?P<part>attn\.in_proj|attn\.out_proj|mlp\.c_fc|mlp\.c_proj))[._]weight"
)


class LinearLayer(NamedTuple):
    """One matrix: a whole parameter, or the rows of q, k or v in one that fuses them."""

    name: str  # of the parameter, "transformer.resblocks.0.attn.in_proj_weight"
    rows: slice  # of the parameter
    layer: str  # whose inputs are its inputs, as Ops.linear names it: the key of its Gram
    group: str  # "qkv", "out", "fc1" or "fc2"; "other" outside the residual blocks
    block: int  # which residual block; -1 outside


def modules_of(base: Weights, *, split: bool) -> list[LinearLayer]:
    """The four linear weights of every residual block, by open_clip's names, in order.

    Args:
        base: a model. Where the names are others, or the tensors no matrices, nothing is found.
        split: take q, k and v apart, three modules of one parameter.

    >>> names = {"transformer.resblocks.0.attn.in_proj_weight": torch.zeros(6, 2)}
    >>> [(m.group, m.rows.start, m.rows.stop) for m in modules_of(Weights(names), split=True)]
    [('qkv', 0, 2), ('qkv', 2, 4), ('qkv', 4, 6)]
    """
    parts = list(GROUPS)
    found = [(match, name) for name in base if (match := LINEAR.fullmatch(name))]
    found.sort(key=lambda pair: (pair[0]["tower"], int(pair[0]["block"]),
                                 parts.index(pair[0]["part"])))  # fmt: skip
    return [
        LinearLayer(name, rows, match["layer"], GROUPS[match["part"]], int(match["block"]))
        for match, name in found
        if is_matrix(base, name)
        for rows in rows_of(base, name, split)
    ]


def linear_layers(base: Weights, which: str, *, split: bool) -> list[LinearLayer]:
    """What is merged as a matrix in any model.

    Args:
        base: the model.
        which: ``blocks``, as :func:`modules_of`, if there are any; ``all``: every tensor of two
            axes except ``text_projection``, those of the blocks first.
        split: take q, k and v apart.
    """
    blocks = modules_of(base, split=split)
    if which == "blocks" and blocks:
        return blocks
    done = {module.name for module in blocks} | {n for n in base if "text_projection" in n}
    return blocks + [
        LinearLayer(name, rows, re.sub("[._]weight$", "", name), "other", -1)
        for name in base
        if is_matrix(base, name) and name not in done
        for rows in rows_of(base, name, split)
    ]


def is_matrix(base: Weights, name: str) -> bool:
    """Whether a tensor has two axes and an entry."""
    shape = base.shape(name)
    return len(shape) == 2 and 0 not in shape


def rows_of(base: Weights, name: str, split: bool) -> list[slice]:
    """All rows of a matrix, or those of q, k and v."""
    rows, columns = base.shape(name)
    if split and name.endswith("in_proj_weight") and rows == 3 * columns:
        return [slice(start, start + columns) for start in range(0, rows, columns)]
    return [slice(0, rows)]


def with_layers(
    rest: Weights, modules: Sequence[LinearLayer], make: Callable[[str, list[LinearLayer]], Tensor]
) -> Weights:
    """A model whose matrices are made when they are read, one parameter at a time.

    Args:
        rest: every other tensor, and all shapes.
        modules: the matrices; those of one parameter cover its rows, in order.
        make: from a parameter's name and its modules to the whole parameter.
    """
    parts: dict[str, list[LinearLayer]] = {}
    for module in modules:
        parts.setdefault(module.name, []).append(module)

    def read(name: str) -> Tensor:
        return make(name, parts[name]) if name in parts else rest[name]

    return Weights.lazy({name: rest.shape(name) for name in rest}, read)


def merge_matrices(
    ckpts: Checkpoints,
    rest: Weights,
    modules: Sequence[LinearLayer],
    merge: Callable[[Tensor], Tensor],
    scale: float = 1.0,
) -> Weights:
    """theta_0 + scale * merge(tau_1 .. tau_K) for every matrix, each expert's read once.

    Args:
        ckpts: base and experts.
        rest: the other tensors.
        modules: the matrices.
        merge: from task vectors to a merged one, ``float64 [K, out, in] -> [out, in]``.
        scale: of what ``merge`` gives.
    """

    def make(name: str, parts: list[LinearLayer]) -> Tensor:
        base, taus = ckpts.base[name], task_vectors_of(ckpts, name)
        merged = torch.cat([merge(taus[:, module.rows]) for module in parts])
        return (base + scale * merged).to(base.dtype)

    return with_layers(rest, modules, make)


def task_vectors_of(ckpts: Checkpoints, name: str) -> Tensor:
    """One tensor of every task vector, read one after the other.  ``-> float64 [K, *shape]``."""
    base = ckpts.base[name]
    found = base.new_empty(len(ckpts.experts), *base.shape, dtype=torch.float64)
    for tau, expert in zip(found, ckpts.experts.values(), strict=True):
        tau.copy_(expert[name] - base)
    return found
