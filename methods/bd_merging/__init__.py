"""BD-Merging: an evidential head, neighbours that disagree, and a router that learns from both."""

from methods.bd_merging.method import BDMerging, BDMergingTask

__all__ = ["BDMerging", "BDMergingTask"]
