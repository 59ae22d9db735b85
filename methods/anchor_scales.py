"""The control of BMM: the anchor alone, given the same search."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from methods.base import METHODS, NO_PAPER, Checkpoints, DataAccess, Weights
from methods.bmm.base import AnchoredMethod
from methods.bmm.config import AnchorConfig
from methods.bmm.inner import modules_of, scaled
from methods.common.linear_layers import LinearLayer, with_layers
from methods.common.regression import MatrixNormalPosterior
from methods.common.timer import Timer


@METHODS.register("anchor_scales")
class AnchorScales(AnchoredMethod):
    """W = W_0 + s (W_A - W_0), a scale for each group of matrices, searched as BMM's are.

    It is BMM at an infinite alpha: what BMM gains over it, it gains by its regression.
    """

    title = "Anchor + scales"
    paper = NO_PAPER
    identity_config = {"anchor": "ta", "anchor_scale": 1.0, "trials": 0}
    quick_config = {"trials": 4, "startup": 2}
    trial_seed_key = "anchor_scales"

    class Config(AnchorConfig):
        """An anchor and a search."""

    def regressions(
        self,
        ckpts: Checkpoints,
        anchor: Mapping[str, Tensor],
        modules: Sequence[LinearLayer],
        access: DataAccess,
        clock: Timer,
    ) -> list[MatrixNormalPosterior]:
        return [MatrixNormalPosterior.prior(anchor[module.name][module.rows]) for module in modules]

    def merge_without_data(self, ckpts: Checkpoints, rest: Weights) -> Weights:
        def make(name: str, modules: list[LinearLayer]) -> Tensor:
            anchor = rest[name]
            return scaled(ckpts.base[name], anchor, anchor, self.cfg.scale, "base")

        return with_layers(rest, modules_of(ckpts.base, self.cfg), make)
