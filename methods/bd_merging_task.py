"""BD-Merging with one weight per task and image."""

from dataclasses import dataclass
from typing import Literal

from methods.base import METHODS
from methods.bd_merging import BDMerging


@METHODS.register("bd_merging_task")
class BDMergingTask(BDMerging):
    """theta(x) = theta_0 + sum_k w_k(x) tau_k, w(x) = softmax(MLP(tokens of f_0(x)))."""

    title = "BD-Merging, task-wise (reimpl.)"

    @dataclass(frozen=True, kw_only=True)
    class Config(BDMerging.Config):
        """Weights for all layers at once."""

        granularity: Literal["layer", "task"] = "task"
