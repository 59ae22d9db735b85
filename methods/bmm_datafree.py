"""BMM without calibration images: task vectors stand in for the inputs."""

from dataclasses import dataclass
from typing import Literal

from methods.base import METHODS
from methods.bmm import BMM
from methods.bmm_config import BMMConfig


@METHODS.register("bmm_datafree")
class BMMDataFree(BMM):
    """M = W_A + [sum_t beta_t (W_t - W_A) G_t] (sum_t beta_t G_t + alpha I)^-1, G = tau^T tau.

    With ``trials`` = 0 it needs nothing but weights, and merges them tensor by tensor.
    """

    title = "BMM, data-free (reimpl.)"
    version = 2  # trials drawn as those of bmm

    @dataclass(frozen=True, kw_only=True)
    class Config(BMMConfig):
        """Grams of task vectors."""

        gram: Literal["data", "taskvector", "hybrid"] = "taskvector"
