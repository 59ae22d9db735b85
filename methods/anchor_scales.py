"""The control of BMM: the anchor alone, given the same search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from methods.base import METHODS, NO_PAPER, Checkpoints
from methods.bmm_base import Anchored
from methods.bmm_config import AnchorConfig
from methods.bmm_merge import modules_of, scaled
from methods.clock import Clock
from methods.matrices import Module, assemble
from methods.regression import Regression
from methods.support import Support
from methods.weights import Weights


@METHODS.register("anchor_scales")
class AnchorScales(Anchored):
    """W = W_0 + s (W_A - W_0), a scale for each group of matrices, searched as BMM's are.

    It is BMM at an infinite alpha: what BMM gains over it, it gains by its regression.
    """

    title = "Anchor + scales"
    paper = NO_PAPER
    lone_expert_at = {"anchor": "ta", "anchor_scale": 1.0, "trials": 0}
    drawn_as = "anchor_scales"

    @dataclass(frozen=True, kw_only=True)
    class Config(AnchorConfig):
        """An anchor and a search."""

    def regressions(
        self,
        ckpts: Checkpoints,
        anchor: Mapping[str, Tensor],
        modules: Sequence[Module],
        support: Support,
        clock: Clock,
    ) -> list[Regression]:
        return [Regression.prior(anchor[module.name][module.rows]) for module in modules]

    def unlearned(self, ckpts: Checkpoints, rest: Weights) -> Weights:
        def make(name: str, modules: list[Module]) -> Tensor:
            anchor = rest[name]
            return scaled(ckpts.base[name], anchor, anchor, self.cfg.scale, "base")

        return assemble(rest, modules_of(ckpts.base, self.cfg), make)
