"""Merge any state dicts: for people who bring their own checkpoints."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from torch import Tensor

from mergeshift import Notice, UserError
from methods.base import METHODS
from methods.common.checkpoints import Checkpoints
from methods.common.data_access import Needs
from methods.common.state_dicts import (
    aligned,
    kinds_of,
    of_task_vector,
    require_dense,
    require_model,
    require_plain,
    same,
)
from methods.common.weights import Weights, check_finite

State = Mapping[str, Tensor]


def merge(
    name: str, base: State, experts: Mapping[str, State] | Sequence[State], **config: Any
) -> dict[str, Tensor]:
    """Merge ``experts`` that were fine-tuned from ``base``, with the method ``name``.

    Floating-point tensors are merged and returned in float32 (float64 where given); integer
    buffers are copied from the base. Experts given as :class:`Weights` (from ``load_checkpoint``)
    are read tensor by tensor and never held whole. An expert that stands twice in a list counts
    twice. Its names may have what wrappers put in front (``module.``, ``_orig_mod.``).

    Warns:
        Notice: an expert is the base, or another expert once more, or as small as a task vector.

    Raises:
        UserError: an unknown method or setting, a method that needs more than weights, models
            that do not fit or are quantised, or NaN or infinity in one of them.
    """
    cls = METHODS[name]
    method = cls(cls.Config.make(config))
    if method.needs != Needs.NOTHING:
        raise UserError(
            f"{name} needs {method.needs}, and checkpoints alone do not give them; "
            "choose a method that needs weights only (python -m bench list methods)"
        )
    named = experts if isinstance(experts, Mapping) else {
        str(i): expert for i, expert in enumerate(experts, start=1)
    }  # fmt: skip
    theta_0 = floating(base, "the base")
    given = {k: floating(v, f"expert {k}") for k, v in named.items()}
    for key, expert in given.items():
        if expert.keys() != theta_0.keys():
            require_model(expert, f"expert {key}")
    fitting = {k: aligned(expert, theta_0, f"expert {k}") for k, expert in given.items()}
    ckpts = Checkpoints(None, theta_0, fitting, {})
    check_finite(ckpts.base, "the base")
    for key, expert in ckpts.experts.items():
        check_finite(expert, f"expert {key}")
    for notice in notices(ckpts):
        warnings.warn(notice, Notice, stacklevel=2)
    merged = method.merge(ckpts)
    if not isinstance(merged, Weights):
        raise UserError(f"{name} keeps {method.stores}: there is no single merged model to write")
    return {k: merged[k] if k in merged else base[k] for k in base}


def floating(state: State, what: str) -> Weights:
    """The floating-point part of a state dict.

    Raises:
        UserError: it holds quantised or complex weights, or no floating-point tensor.
    """
    if isinstance(state, Weights):
        return state
    require_dense(state, what)
    require_plain(kinds_of(state), state.__getitem__, what)
    found = Weights({k: v for k, v in state.items() if v.is_floating_point()})
    if not found:
        raise UserError(f"{what} holds no floating-point tensor: there is nothing to merge")
    return found


def notices(ckpts: Checkpoints) -> list[str]:
    """What is odd about experts that can be merged and may not be what they should be."""
    found = [
        f"expert {key} holds the base's own weights: merging it adds nothing to the others"
        for key, expert in ckpts.experts.items()
        if same(expert, ckpts.base)
    ]
    found += [
        f"experts {one} and {other} hold the same weights, which count as often as they are given"
        for one, other in combinations(ckpts.experts, 2)
        if same(ckpts.experts[one], ckpts.experts[other])
    ]
    hints = {key: of_task_vector(expert, ckpts.base) for key, expert in ckpts.experts.items()}
    return found + [f"expert {key} {hint}" for key, hint in hints.items() if hint]
