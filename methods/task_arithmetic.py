"""Task Arithmetic: add the task vectors, scaled."""

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Setting, Weights, total

SCALES = (*(i / 50 for i in range(1, 21)), *(i / 20 for i in range(9, 21)))  # to 0.4, then to 1


@METHODS.register("task_arithmetic")
class TaskArithmetic(MergingMethod):
    """theta = theta_0 + scale * sum_t tau_t."""

    title = "Task Arithmetic"
    paper = Paper(
        key="ilharco2023editing",
        arxiv="2212.04089",
        where="Sec. 2, addition",
        year=2023,
        title="Editing Models with Task Arithmetic",
        authors="Ilharco, Gabriel and Ribeiro, Marco Tulio and Wortsman, Mitchell and Gururangan, "
        "Suchin and Schmidt, Ludwig and Hajishirzi, Hannaneh and Farhadi, Ali",
        venue="International Conference on Learning Representations",
    )
    identity_config = {"scale": 1.0}

    class Config(MergingMethod.Config):
        scale: float = Setting(0.3, low=0, grid=SCALES)  # lambda; 1/K is averaging

    def merge(self, ckpts: Checkpoints) -> Weights:
        return ckpts.base + self.cfg.scale * total(ckpts.task_vectors)
