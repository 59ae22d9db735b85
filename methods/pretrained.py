"""The pretrained encoder, zero-shot: the floor."""

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Weights


@METHODS.register("pretrained")
class Pretrained(MergingMethod):
    """theta = theta_0."""

    title = "Pretrained"
    paper = Paper("radford2021clip", "2103.00020", "Sec. 3.1, zero-shot transfer", 2021)

    def merge(self, ckpts: Checkpoints) -> Weights:
        return ckpts.base
