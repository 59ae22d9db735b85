"""The settings of BMM: what is published, and what had to be chosen.

[F] is found in public notes on the paper. [R] is a reconstruction, the most plausible guess. [?] is
open. No code is public.
"""

from typing import Literal

from mergeshift import UserError
from methods.common.config import BaseConfig, Setting

ALPHAS = (1e-2, 1.0, 0.1, 10.0)  # what a search tries after the anchor, for all modules at a scale
# of 1: the first always [R], the others with ``ladder`` [R]
SCALES = (0.7, 1.3, 0.85, 1.6)  # and, where there is no alpha, these scales with ``ladder`` [R]


class AnchorConfig(BaseConfig):
    """The anchor, and the search on validation images around it."""

    anchor: Literal["ta", "tsv", "wudi"] = "tsv"  # all three [F]; Task Arithmetic, TSV-M, WUDI
    anchor_scale: float = Setting(0.0, low=0)  # of the anchor; 0: its own default [R]
    in_proj: Literal["fused", "split"] = "fused"  # q, k and v as one matrix, or as three [?]
    scale: float = Setting(1.0, low=0)  # assembly scale s where nothing is searched [R]

    trials: int = Setting(32, low=0)  # of the search, each one validation pass [?]; 0: none
    startup: int = Setting(10, low=1)  # of them the first, not yet by the sampler [R]
    ladder: bool = True  # whether the first include some constants that are alike for all [R]
    sampler: Literal["tpe", "gp", "random"] = "tpe"  # TPE is multivariate [R]
    depth: bool = False  # constants for each group of modules and third of the depth [R]
    objective: Literal["normalised", "accuracy"] = "normalised"  # mean over tasks: over the
    # expert's accuracy, or plain [?]
    val_images: int = Setting(0, low=0)  # of each task; 0: all there are [?]
    scale_low: float = Setting(0.3, above=0, high=1)  # the range of s [R]; the anchor's 1 is within
    scale_high: float = Setting(2.0, low=1)  # [R]


class BMMConfig(AnchorConfig):
    """The regression, too."""

    gram: Literal["data", "taskvector", "hybrid"] = "data"  # of each expert's own inputs [F], of
    # its task vector [F], or a mixture [F] as below [R]
    calibration: int = Setting(256, low=0)  # images of each task [R]; 0: task vectors alone
    normalise: Literal["trace", "frobenius", "none"] = "trace"  # of each Gram: its mean eigenvalue
    # is 1, its trace is 1, or neither [R]; tasks weigh alike after it [R]
    centre: bool = False  # task vectors less their mean row, as ACE-Merging has them [R]
    rho: float = Setting(0.5, low=0, high=1)  # hybrid: the share of the task vectors' Gram [R]
    rho_images: float = Setting(0.0, low=0)  # hybrid: c in rho = c / (c + images of the
    # task), in place of rho; 0: rho [R]
    assembly: Literal["base", "anchor"] = "base"  # W_0 + s (M - W_0), or W_A + s (M - W_A) [R]
    alpha: float = Setting(1.0, above=0)  # strength of the prior where none is searched [R]
    alpha_low: float = Setting(1e-4, above=0)  # the range of alpha, on a log scale [R]
    alpha_high: float = Setting(1e6, above=0)  # as good as the anchor [R]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha_low >= self.alpha_high:
            raise UserError(
                f"{self.method}.alpha_low must be below alpha_high; "
                f"got {self.alpha_low} and {self.alpha_high}"
            )

    @property
    def sees_images(self) -> bool:
        """Whether a Gram is one of inputs."""
        return self.gram != "taskvector" and self.calibration > 0
