"""What every method is given: a base, its experts and their heads."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mergeshift import UserError
from methods.common.timer import CPU
from methods.common.vit import ViT
from methods.common.weights import Weights


@dataclass(frozen=True)
class Checkpoints:
    """K experts fine-tuned from one pretrained encoder. Read-only for every method.

    Raises:
        UserError: there is no expert, or one without a head, or weights or names that do not fit.
    """

    vit: ViT | None  # None: weights of any model, to be merged but not run
    base: Weights  # theta_0
    experts: Mapping[str, Weights]  # task -> theta_t, in suite order
    heads: Mapping[str, Tensor]  # task -> [C, D], logit scale times unit rows; frozen
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # task -> names of the
    # head's rows; a task that is absent shares no class with another
    curvature: Mapping[str, Weights] = field(default_factory=dict)  # task -> Adam's second moments
    # at the end of fine-tuning, where they were kept
    extra: frozenset[str] = frozenset()  # tasks whose experts take part and that are not measured

    def __post_init__(self) -> None:
        if not self.experts:
            raise UserError("there is nothing to merge: give at least one expert")
        if self.vit:
            self.vit.require_fit(self.base, "the base")
            if odd := sorted(self.experts.keys() - self.heads.keys()):
                raise UserError(f"experts without a head: {', '.join(odd)}; give one per task")
        for name, named in self.classes.items():
            if name in self.heads and len(named) != len(self.heads[name]):
                rows = len(self.heads[name])
                raise UserError(f"{name} has {len(named)} class names for {rows} rows of its head")
        for name, expert in self.experts.items():
            self.base.require_same(expert, f"expert {name} does not fit the base")
        for name, moments in self.curvature.items():
            self.base.require_same(moments, f"the second moments of {name} do not fit the base")

    @property
    def measured(self) -> list[str]:
        """The tasks that a merged model is for, in suite order: those that are measured."""
        return [task for task in self.experts if task not in self.extra]

    @property
    def task_vectors(self) -> list[Weights]:
        """tau_t = theta_t - theta_0, in suite order."""
        return [expert - self.base for expert in self.experts.values()]

    def to(self, device: torch.device) -> "Checkpoints":
        """The same on a device: a tensor of the weights goes there whenever it is read."""
        if device == CPU:  # where they are
            return self

        def there(weights: Weights) -> Weights:
            return weights.map(lambda tensor: tensor.to(device))

        return replace(
            self,
            base=there(self.base),
            experts={task: there(expert) for task, expert in self.experts.items()},
            heads={task: head.to(device) for task, head in self.heads.items()},
            curvature={task: there(moments) for task, moments in self.curvature.items()},
        )
