"""The settings of BMM: what is published, and what had to be chosen.

[F] is found in public notes on the paper. [R] is a reconstruction, the most plausible guess. [?] is
open. No code is public.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from mergeshift import UserError
from methods.common.config import BaseConfig

ALPHAS = (1e-2, 1.0, 0.1, 10.0)  # what a search tries after the anchor, for all modules at a scale
# of 1: the first always [R], the others with ``ladder`` [R]
SCALES = (0.7, 1.3, 0.85, 1.6)  # and, where there is no alpha, these scales with ``ladder`` [R]


@dataclass(frozen=True, kw_only=True)
class AnchorConfig(BaseConfig):
    """The anchor, and the search on validation images around it."""

    anchor: Literal["ta", "tsv", "wudi"] = "tsv"  # all three [F]; Task Arithmetic, TSV-M, WUDI
    anchor_scale: Annotated[float, "[0, inf)"] = 0.0  # of the anchor; 0: its own default [R]
    in_proj: Literal["fused", "split"] = "fused"  # q, k and v as one matrix, or as three [?]
    scale: Annotated[float, "[0, inf)"] = 1.0  # assembly scale s where nothing is searched [R]

    trials: Annotated[int, "[0, inf)"] = 32  # of the search, each one validation pass [?]; 0: none
    startup: Annotated[int, "[1, inf)"] = 10  # of them the first, not yet by the sampler [R]
    ladder: bool = True  # whether the first include some constants that are alike for all [R]
    sampler: Literal["tpe", "gp", "random"] = "tpe"  # TPE is multivariate [R]
    depth: bool = False  # constants for each group of modules and third of the depth [R]
    objective: Literal["normalised", "accuracy"] = "normalised"  # mean over tasks: over the
    # expert's accuracy, or plain [?]
    val_images: Annotated[int, "[0, inf)"] = 0  # of each task; 0: all there are [?]
    scale_low: Annotated[float, "(0, 1]"] = 0.3  # the range of s [R]; the anchor's 1 is within
    scale_high: Annotated[float, "[1, inf)"] = 2.0  # [R]


@dataclass(frozen=True, kw_only=True)
class BMMConfig(AnchorConfig):
    """The regression, too."""

    gram: Literal["data", "taskvector", "hybrid"] = "data"  # of each expert's own inputs [F], of
    # its task vector [F], or a mixture [F] as below [R]
    calibration: Annotated[int, "[0, inf)"] = 256  # images of each task [R]; 0: task vectors alone
    normalise: Literal["trace", "frobenius", "none"] = "trace"  # of each Gram: its mean eigenvalue
    # is 1, its trace is 1, or neither [R]; tasks weigh alike after it [R]
    centre: bool = False  # task vectors less their mean row, as ACE-Merging has them [R]
    rho: Annotated[float, "[0, 1]"] = 0.5  # hybrid: the share of the task vectors' Gram [R]
    rho_images: Annotated[float, "[0, inf)"] = 0.0  # hybrid: c in rho = c / (c + images of the
    # task), in place of rho; 0: rho [R]
    assembly: Literal["base", "anchor"] = "base"  # W_0 + s (M - W_0), or W_A + s (M - W_A) [R]
    alpha: Annotated[float, "(0, inf)"] = 1.0  # strength of the prior where none is searched [R]
    alpha_low: Annotated[float, "(0, inf)"] = 1e-4  # the range of alpha, on a log scale [R]
    alpha_high: Annotated[float, "(0, inf)"] = 1e6  # as good as the anchor [R]

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
