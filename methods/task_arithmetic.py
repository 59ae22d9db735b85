"""Task Arithmetic: add the task vectors, scaled."""

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Setting, Weights, total

SCALES = (*(i / 50 for i in range(1, 21)), *(i / 20 for i in range(9, 21)))  # to 0.4, then to 1


@METHODS.register("task_arithmetic")
class TaskArithmetic(MergingMethod):
    """theta = theta_0 + scale * sum_t tau_t."""

    title = "Task Arithmetic"
    paper = Paper("ilharco2023editing", "2212.04089", "Sec. 2, addition", 2023)
    identity_config = {"scale": 1.0}

    class Config(MergingMethod.Config):
        scale: float = Setting(0.3, low=0, grid=SCALES)  # lambda; 1/K is averaging

    def merge(self, ckpts: Checkpoints) -> Weights:
        return ckpts.base + self.cfg.scale * total(ckpts.task_vectors)
