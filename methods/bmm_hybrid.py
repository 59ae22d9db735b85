"""BMM for few calibration images: Grams of inputs and of task vectors, mixed."""

from dataclasses import dataclass
from typing import Literal

from methods.base import METHODS
from methods.bmm import BMM
from methods.bmm_config import BMMConfig


@METHODS.register("bmm_hybrid")
class BMMHybrid(BMM):
    """G_t = (1 - rho) X_t^T X_t / tr + rho tau_t^T tau_t / tr, and the rest as in BMM."""

    title = "BMM, hybrid (reimpl.)"
    version = 2  # trials drawn as those of bmm

    @dataclass(frozen=True, kw_only=True)
    class Config(BMMConfig):
        """Grams of both."""

        gram: Literal["data", "taskvector", "hybrid"] = "hybrid"
