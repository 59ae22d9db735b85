"""BD-Merging at the size of a test."""

import torch
from torch.nn import functional as F

from methods import METHODS, Checkpoints, Needs
from methods.bd_merging.method import BDMerging
from methods.common.vit import init_weights
from methods.contract import TASKS, VIT, Recorder, few_steps, small_checkpoints
from tests.helpers.learning_methods import random_images

BOTH = ("bd_merging", "bd_merging_task")
ORDER = sorted(TASKS)  # four, three, two
IGNORED = "ignore:.*the head:UserWarning"  # features are random: classes are not found
QUICK = {"head_steps": 5, "nearest": 4}


class Varied(Recorder):
    """Images that differ from task to task."""

    def __init__(self, tasks=TASKS):
        super().__init__()
        self.shown = random_images(24, tasks)

    def unlabeled(self, task):
        self.seen |= Needs.IMAGES
        yield self.shown[task]


def built(name="bd_merging", ckpts=None, fit=few_steps, **config) -> BDMerging:
    """Built and trained, by default for two steps."""
    cls = METHODS[name]
    method = cls(cls.Config.make(QUICK | config))
    ckpts = ckpts or small_checkpoints()
    return method.build(ckpts, Varied(ckpts.experts), fit)


def many_checkpoints(count: int) -> Checkpoints:
    """Experts of ``count`` tasks with one, two or three classes; one is the same for all."""
    few, random = small_checkpoints(), torch.Generator().manual_seed(count)
    names = [f"task{number:02}" for number in range(count)]
    experts = {name: (few.base + 0.3 * init_weights(VIT, random)).materialise() for name in names}
    heads = {
        name: 10 * F.normalize(torch.randn(1 + number % 3, VIT.output_dim, generator=random))
        for number, name in enumerate(names)
    }
    classes = {name: ("one",) for name, head in heads.items() if len(head) == 1}
    return Checkpoints(VIT, few.base, experts, heads, classes)


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
