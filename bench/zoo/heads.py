"""Classification heads: unit rows times the encoder's logit scale, of captions or of pictures."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.config import HEADS
from bench.runtime import devices
from mergeshift import UserError
from methods.common.vit import ViT, encode_plain
from tasks import Task, load
from tasks.datamodule import BATCH

TEXT, PROTOTYPES = HEADS


def of_templates(unit: Tensor, num_classes: int) -> Tensor:
    """The prompt ensemble of CLIP's authors: the mean of a class's captions, made a unit vector.

    Args:
        unit: unit rows, class by class, ``[C * templates, D]``.
        num_classes: C.

    Returns:
        Unit rows, ``[C, D]``.
    """
    return F.normalize(unit.unflatten(0, (num_classes, -1)).mean(1), dim=-1)


@torch.inference_mode()
def class_means(
    task: Task,
    base: Mapping[str, Tensor],
    vit: ViT,
    normalise: Callable[[Tensor], Tensor],
    scale: float,
) -> Tensor:
    """A head of prototypes (nearest class mean): no caption is needed, labelled pictures are.

    A row is the mean of the unit features that theta_0 gives the train pictures of a class, made a
    unit vector again (Mensink et al. 2013, Distance-based image classification; Snell et al. 2017,
    arXiv 1703.05175), times the logit scale.

    Args:
        task: its train split is looked at.
        base: the pretrained tower, theta_0.
        vit: its shape.
        normalise: makes pixels what it wants.
        scale: of cosines, in logits.

    Returns:
        ``[C, D]``

    Raises:
        UserError: a class has no train picture.
    """
    split, device = load(task, "train"), devices.device()
    weights = {name: base[name].to(device) for name in base}
    sums = torch.zeros(task.num_classes, vit.output_dim, dtype=torch.float64)
    for start in range(0, len(split), BATCH):
        rows = slice(start, start + BATCH)
        images = torch.tensor(split.images[rows], device=device)
        unit = F.normalize(encode_plain(normalise(images), weights, vit), dim=-1)
        sums.index_add_(0, torch.from_numpy(split.labels[rows]), unit.cpu().double())
    if lacking := [name for name, row in zip(task.classes, sums, strict=True) if not row.any()]:
        raise UserError(
            f"class {lacking[0]!r} of {task.name} has no train picture, of which its prototype "
            "would be the mean: add some, or take --heads text"
        )
    return (scale * F.normalize(sums, dim=-1)).float()
