"""Task Arithmetic: add the task vectors, scaled."""

from dataclasses import dataclass
from typing import Annotated

from methods.base import METHODS, Checkpoints, MergingMethod, Paper
from methods.weights import Weights, total


@METHODS.register("task_arithmetic")
class TaskArithmetic(MergingMethod):
    """theta = theta_0 + scale * sum_t tau_t."""

    title = "Task Arithmetic"
    paper = Paper("ilharco2023editing", "2212.04089", "Sec. 2, addition", 2023)
    lone_expert_at = {"scale": 1.0}

    @dataclass(frozen=True, kw_only=True)
    class Config(MergingMethod.Config):
        """One number."""

        scale: Annotated[float, "[0, inf)"] = 0.3  # lambda; 1/K is averaging

        grid = {
            "scale": (0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.22, 0.25, 0.28,
                      0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
        }  # fmt: skip

    def merge(self, ckpts: Checkpoints) -> Weights:
        return ckpts.base + self.cfg.scale * total(ckpts.task_vectors)
