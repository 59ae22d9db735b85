"""AdaMerging with one coefficient per task: task arithmetic that tunes itself."""

from dataclasses import dataclass
from typing import Literal

from methods.adamerging import AdaMerging
from methods.base import METHODS, Paper


@METHODS.register("adamerging_task")
class AdaMergingTask(AdaMerging):
    """theta = theta_0 + sum_t lambda_t tau_t, lambda = argmin of the predictions' entropy."""

    title = "AdaMerging (task-wise)"
    paper = Paper("yang2024adamerging", "2310.02575", "Sec. 3.2, task-wise", 2024)

    @dataclass(frozen=True, kw_only=True)
    class Config(AdaMerging.Config):
        """The authors' constants."""

        granularity: Literal["layer", "block", "task"] = "task"
