"""Task Arithmetic: add the task vectors, scaled."""

from dataclasses import dataclass
from typing import Annotated

from methods.base import METHODS, MergingMethod, Paper
from methods.common.checkpoints import Checkpoints
from methods.common.weights import Weights, total


@METHODS.register("task_arithmetic")
class TaskArithmetic(MergingMethod):
    """theta = theta_0 + scale * sum_t tau_t."""

    title = "Task Arithmetic"
    paper = Paper("ilharco2023editing", "2212.04089", "Sec. 2, addition", 2023)
    identity_config = {"scale": 1.0}

    @dataclass(frozen=True, kw_only=True)
    class Config(MergingMethod.Config):
        """One number."""

        scale: Annotated[float, "[0, inf)"] = 0.3  # lambda; 1/K is averaging

        grid = {"scale": (*(i / 50 for i in range(1, 21)), *(i / 20 for i in range(9, 21)))}

    def merge(self, ckpts: Checkpoints) -> Weights:
        return ckpts.base + self.cfg.scale * total(ckpts.task_vectors)
