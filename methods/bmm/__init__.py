"""Bayesian Model Merging: regression around an anchor, with constants searched on val."""

from methods.bmm import sampled
from methods.bmm.method import BMM, BMMDataFree, BMMHybrid

__all__ = ["BMM", "BMMDataFree", "BMMHybrid", "sampled"]
