"""Averaging the weights: the baseline that every other method has to beat."""

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Weights, mean


@METHODS.register("average")
class Average(MergingMethod):
    """theta = (1/K) sum_t theta_t."""

    title = "Average"
    paper = Paper(
        key="wortsman2022soups",
        arxiv="2203.05482",
        where="Sec. 2, uniform soup",
        year=2022,
        title="Model soups: averaging weights of multiple fine-tuned models improves accuracy "
        "without increasing inference time",
        authors="Wortsman, Mitchell and Ilharco, Gabriel and Gadre, Samir Yitzhak and Roelofs, "
        "Rebecca and Gontijo-Lopes, Raphael and Morcos, Ari S. and Namkoong, Hongseok and "
        "Farhadi, Ali and Carmon, Yair and Kornblith, Simon and Schmidt, Ludwig",
        venue="International Conference on Machine Learning",
        series="Proceedings of Machine Learning Research",
        volume=162,
        pages="23965--23998",
    )
    identity_config = {}

    def merge(self, ckpts: Checkpoints) -> Weights:
        return mean(list(ckpts.experts.values()))
