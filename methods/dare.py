"""DARE: drop most entries of every task vector by chance, and make up for them in the others."""

from dataclasses import replace

import torch
from torch import Tensor

from methods.base import METHODS, Checkpoints, Paper, Setting, Weights, WrapperMethod


@METHODS.register("dare")
class Dare(WrapperMethod):
    """theta = theta_0 + scale * merge(d_1 .. d_K), d_t = m_t tau_t / (1 - drop), m_t ~ Bernoulli.

    The masks depend on the seed and on the names of expert and tensor, so that the order of the
    experts does not matter. What merges is another method, at its defaults and a scale of 1:
    ``dare[on=average]``, ``dare[on=ta]``, ``dare[on=ties]``, or any other that gives one model.
    """

    title = "DARE"
    paper = Paper(
        key="yu2024dare",
        arxiv="2311.03099",
        where="Sec. 3.2, drop and rescale",
        year=2024,
        title="Language Models are Super Mario: Absorbing Abilities from Homologous Models as a "
        "Free Lunch",
        authors="Yu, Le and Yu, Bowen and Yu, Haiyang and Huang, Fei and Li, Yongbin",
        venue="International Conference on Machine Learning",
        series="Proceedings of Machine Learning Research",
        volume=235,
    )
    identity_config = {"drop": 0.0, "scale": 1.0}
    depends_on_seed = True

    class Config(WrapperMethod.Config):
        """The paper drops up to 0.99 of a language model's entries; FusionBench 0.5."""

        drop: float = Setting(  # p, the probability that an entry is dropped
            0.5, low=0, below=1, grid=(0.3, 0.5, 0.7, 0.9)
        )
        scale: float = Setting(  # of the merged task vector
            1.0, low=0, grid=(0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5)
        )

    def changed_experts(self, ckpts: Checkpoints) -> Checkpoints:
        experts = {task: self.thinned(task, ckpts) for task in ckpts.experts}
        return replace(ckpts, experts=experts)

    def changed_merge(self, ckpts: Checkpoints, merged: Weights) -> Weights:
        return ckpts.base + self.cfg.scale * (merged - ckpts.base)

    def thinned(self, task: str, ckpts: Checkpoints) -> Weights:
        """theta_0 + d_t: the same masks whenever a tensor is read."""
        base, expert, drop = ckpts.base, ckpts.experts[task], self.cfg.drop

        def read(name: str) -> Tensor:
            chance = torch.rand(base.shape(name), generator=self.generator(task, name))
            tau = expert[name] - base[name]
            return base[name] + tau * (chance >= drop).to(tau) / (1 - drop)

        return Weights.lazy({name: base.shape(name) for name in base}, read)
