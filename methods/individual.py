"""Every task by its own expert: the ceiling, and not a merge."""

from collections.abc import Mapping

from methods.base import METHODS, NO_PAPER, Checkpoints, MergingMethod, Weights


@METHODS.register("individual")
class Individual(MergingMethod):
    """theta = theta_t for an image of task t, which has to be known."""

    title = "Individual"
    paper = NO_PAPER
    identity_config = {}
    knows_task = True
    stores = "one model per task"

    def merge(self, ckpts: Checkpoints) -> Mapping[str, Weights]:
        return ckpts.experts
