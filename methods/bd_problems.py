"""What can go wrong in the two trainings of BD-Merging, each with its cause and what to set."""

from collections.abc import Mapping

import torch

from methods.bd_config import BDConfig
from methods.evidence import Opinion
from methods.routed import NULL


@torch.no_grad()
def head_problems(found: Opinion, cfg: BDConfig) -> list[str]:
    """How the head collapsed, if it did, each with its cause."""
    (images, num_classes), problems = found.alpha.shape, []
    u, used = found.uncertainty.median().item(), len(found.alpha.argmax(1).unique())
    if u > 0.95:
        problems.append(
            f"the head has lost its evidence (median u {u:.3f} > 0.95): the KL term outweighs the "
            f"entropy for {num_classes} classes; {advice(cfg, kl_by='classes') or 'lower kl'}"
        )
    if u < 0.01:
        problems.append(
            f"the head is sure of everything (median u {u:.4f} < 0.01): nothing holds evidence "
            "back; raise kl"
        )
    if 2 * used < min(images, num_classes):
        problems.append(
            f"the head finds {used} of {num_classes} classes in {images} images: "
            + (advice(cfg, balance=True, head="text") or "theta_0 does not tell them apart")
        )
    return problems


def advice(cfg: BDConfig, **good: str | bool) -> str:
    """What to set that is not set so.

    >>> advice(BDConfig(balance=False), balance=True, head="text")
    'set balance=true'
    """
    wrong = [f"{k}={v}".lower() for k, v in good.items() if getattr(cfg, k) != v]
    return f"set {' and '.join(wrong)}" if wrong else ""


def router_problems(usage: Mapping[str, float], largest: float) -> list[str]:
    """How the training of the router failed, if it did.

    Args:
        usage: route -> mean weight, over images of all tasks in equal parts.
        largest: mean of the largest weight of an image.
    """
    if len(usage) == 1:
        return []
    problems, top = [], max(usage, key=lambda name: usage[name])
    tasks = [name for name in usage if name != NULL]
    least = 1 / (4 * len(tasks))
    idle = [f"{task} ({usage[task]:.3f})" for task in tasks if usage[task] < least]
    if largest < 1.5 / len(usage):
        problems.append(
            f"the router is stuck at equal weights (mean largest {largest:.3f} < 1.5 / "
            f"{len(usage)}): raise lr or steps"
        )
    if usage[top] > 0.9:
        problems.append(f"the router gives all to {top} (mean weight {usage[top]:.3f} > 0.9)")
    if idle:
        problems.append(f"the router leaves out {', '.join(idle)}: below 1 / (4 * {len(tasks)})")
    return problems


def contrast_problems(anchors: float, negatives: float, cfg: BDConfig) -> list[str]:
    """Why the contrastive loss taught nothing in the last steps, if it did not.

    Args:
        anchors: share of the images that have positive and negative neighbours.
        negatives: share of the neighbours.
        cfg: the settings.
    """
    if anchors > 0 or not (cfg.contrast and cfg.eta):
        return []
    side = "epsilon" if cfg.threshold == "value" else "quantile"
    if cfg.ads and not cfg.conf:
        cause, remedy = "all neighbours of an image are alike", advice(cfg, conf=True)
    elif 0 < negatives < 1:
        cause, remedy = "those of one image are all alike", f"raise {cfg.near}"
    elif negatives:
        cause, remedy = "all are negative", f"raise {side}"
    else:
        cause, remedy = "none is negative", f"lower {side}"
        remedy += " or raise radius" * (cfg.near == "radius")
    return [
        "the contrastive loss taught nothing: in the last steps no image had both positive and "
        f"negative neighbours ({cause}); {remedy}"
    ]
