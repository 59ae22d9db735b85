"""AdaMerging++: trim the task vectors and elect signs as TIES does, then learn coefficients."""

from dataclasses import dataclass
from typing import Annotated

from methods.adamerging import AdaMerging
from methods.base import METHODS, Paper


@METHODS.register("adamerging_pp")
class AdaMergingPP(AdaMerging):
    """theta^l = theta_0^l + sum_t lambda_t^l phi_t(tau)^l, phi: trim and elect of TIES.

    What agrees with the elected signs is kept apart for every task, not merged. Where the kept
    entries cancel exactly none agrees, as in our TIES.
    """

    title = "AdaMerging++"
    paper = Paper("yang2024adamerging", "2310.02575", "Sec. 3.2, AdaMerging++, layer-wise", 2024)

    @dataclass(frozen=True, kw_only=True)
    class Config(AdaMerging.Config):
        """The authors' constants."""

        keep: Annotated[float, "(0, 1]"] = 0.2  # share of each task vector kept, by magnitude
