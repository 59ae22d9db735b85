"""Averaging the weights: the baseline that every other method has to beat."""

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Weights, total


@METHODS.register("average")
class Average(MergingMethod):
    """theta = (1/K) sum_t theta_t."""

    title = "Average"
    paper = Paper("wortsman2022soups", "2203.05482", "Sec. 2, uniform soup", 2022)
    identity_config = {}

    def merge(self, ckpts: Checkpoints) -> Weights:
        return (1 / len(ckpts.experts)) * total(list(ckpts.experts.values()))
