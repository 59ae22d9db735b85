"""Merge any state dicts: for people who bring their own checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mergeshift import UserError
from methods.base import METHODS
from methods.common.checkpoints import Checkpoints
from methods.common.data_access import Needs
from methods.common.weights import Weights, check_finite

State = Mapping[str, Tensor]


def merge(
    name: str, base: State, experts: Mapping[str, State] | Sequence[State], **config: Any
) -> dict[str, Tensor]:
    """Merge ``experts`` that were fine-tuned from ``base``, with the method ``name``.

    Floating-point tensors are merged and returned in float32 (float64 where given); integer
    buffers are copied from the base. Experts given as :class:`Weights` (from ``load_checkpoint``)
    are read tensor by tensor and never held whole.

    Raises:
        UserError: an unknown method or setting, a method that needs more than weights, models
            that do not fit, or NaN or infinity in one of them.
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
    ckpts = Checkpoints(None, floating(base), {k: floating(v) for k, v in named.items()}, {})
    check_finite(ckpts.base, "the base")
    for key, expert in ckpts.experts.items():
        check_finite(expert, f"expert {key}")
    merged = method.merge(ckpts)
    if not isinstance(merged, Weights):
        raise UserError(f"{name} keeps {method.stores}: there is no single merged model to write")
    return {k: merged[k] if k in merged else base[k] for k in base}


def floating(state: State) -> Weights:
    """The floating-point part of a state dict."""
    if isinstance(state, Weights):
        return state
    return Weights({k: v for k, v in state.items() if v.is_floating_point()})
