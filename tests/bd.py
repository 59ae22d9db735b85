"""BD-Merging at the size of a test."""

import torch

from methods import METHODS, Checkpoints, Needs
from methods.bd_merging import BDMerging
from methods.probe import TASKS, Recorder, few_steps, small_checkpoints
from tests.adapting import random_images

BOTH = ("bd_merging", "bd_merging_task")
ORDER = sorted(TASKS)  # four, three, two
IGNORED = "ignore:.*the head:UserWarning"  # features are random: classes are not found
QUICK = {"head_steps": 5, "nearest": 4}


class Varied(Recorder):
    """Images that differ from task to task."""

    def images(self, task):
        self.seen |= Needs.IMAGES
        yield random_images(24)[task]


def built(name="bd_merging", ckpts=None, fit=few_steps, **config) -> BDMerging:
    """Built and trained, by default for two steps."""
    cls = METHODS[name]
    method = cls(cls.Config.make(QUICK | config))
    return method.build(ckpts or small_checkpoints(), Varied(), fit)


def before_training(
    name: str = "bd_merging", ckpts: Checkpoints | None = None, **config
) -> BDMerging:
    """As it is in front of its first step, with weights that are not quite equal."""
    method = built(name, ckpts, fit=lambda _: None, **config)
    random = torch.Generator().manual_seed(5)
    last = method.learned.router.last
    last.weight.data = 0.3 * torch.randn(last.weight.shape, generator=random)
    method.learned.router.requires_grad_()
    return method
