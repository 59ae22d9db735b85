"""Adjacency discrepancy: how much what is said of an image disagrees with its neighbours.

Nothing here but :func:`contrastive_loss` is differentiated. Axes: ``B`` images of one batch; a
pair is ``[i, k]``, and no image is its own neighbour.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.bd_merging.evidential_head import Opinion


def distances(unit: Tensor) -> Tensor:
    """Euclidean, between the features of all images.  ``[B, D] -> [B, B]``."""
    return torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")


def others(count: int, like: Tensor) -> Tensor:
    """All pairs but those of an image with itself.  ``bool [B, B]``."""
    return ~torch.eye(count, dtype=torch.bool, device=like.device)


def k_nearest(apart: Tensor, count: int) -> Tensor:
    """The ``count`` nearest of each image, or all others if they are fewer.  ``-> bool [B, B]``."""
    among = others(len(apart), apart)
    far = apart.masked_fill(~among, torch.inf)
    found = far.topk(min(count, len(apart) - 1), largest=False).indices
    return torch.zeros_like(among).scatter(1, found, True)


def within_radius(apart: Tensor, radius: float) -> Tensor:
    """Those at most ``radius`` away.  ``-> bool [B, B]``."""
    return (apart <= radius) & others(len(apart), apart)


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over what is marked in each row; 0 where nothing is.  ``[B, B], [B, B] -> [B]``."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)


def neighbour_log_odds(found: Opinion) -> Tensor:
    """log(S / max_c alpha_c - 1), below 0 where the best class has more than half.  ``-> [B]``.

    If there is one class alone, another would have no evidence: its alpha is 1.
    """
    best = found.alpha.amax(-1)
    return ((found.alpha.sum(-1) - best).clamp(min=1) / best).log()


class DiscrepancyFactors(NamedTuple):
    """What the discrepancy is made of; see :func:`discrepancy`."""

    sharp: bool = True
    div: bool = True
    conf: bool = True
    plain: bool = False  # Sharp as it is, of either sign, in place of softplus(Sharp)
    own: bool = False  # x_i counts in Sharp(x_i), too


def discrepancy(
    found: Opinion,
    near: Tensor,
    use: DiscrepancyFactors = DiscrepancyFactors(),  # noqa: B008
) -> Tensor:
    """d_ik = Sharp(x_i) Div(x_i) Conf(x_i, x_k), of all pairs.  ``bool [B, B] -> [B, B]``.

    Sharp(x_i) is the mean :func:`neighbour_log_odds` of the neighbours j of i; Div(x_i) the mean of
    ``|p_i - p_j|_1``; Conf(x_i, x_k) = ``|p_i - p_k|_1 (1 - u_i) (1 - u_k)``. A mean over no
    neighbours is 0; a factor that is not used is 1.
    """
    found = Opinion(*(tensor.detach() for tensor in found))
    apart = torch.cdist(found.probability, found.probability, p=1)
    d = torch.ones_like(apart)
    if use.sharp:
        among = near | ~others(len(near), near) if use.own else near
        sharp = mean_over(neighbour_log_odds(found).expand_as(apart), among)
        d = d * (sharp if use.plain else F.softplus(sharp))[:, None]
    if use.div:
        d = d * mean_over(apart, near)[:, None]
    if use.conf:
        sure = 1 - found.uncertainty
        d = d * apart * sure[:, None] * sure
    return d


class Pairs(NamedTuple):
    """The neighbours of each image, parted."""

    positive: Tensor  # d < epsilon, bool [B, B]
    negative: Tensor  # d >= epsilon, bool [B, B]


def split_pairs(d: Tensor, near: Tensor, epsilon: float | Tensor) -> Pairs:
    """Neighbours on this side of epsilon and on the other.  ``[B, B], bool [B, B] ->``."""
    return Pairs(near & (d < epsilon), near & (d >= epsilon))


def has_both_pairs(pairs: Pairs) -> Tensor:
    """Images that have both kinds of neighbours.  ``-> bool [B]``."""
    return pairs.positive.any(1) & pairs.negative.any(1)


def contrastive_loss(features: Tensor, pairs: Pairs, temperature: float) -> Tensor:
    """Draw positive pairs together and negative ones apart. Scalar.

    L = -mean_i 1 / |M+| sum_{k in M+} log(exp(s_ik / t) / sum_{m in M+ or M-} exp(s_im / t)), s the
    cosine of two features, over the images for which :func:`has_both_pairs`. If there are none, it
    is 0, and so is its gradient.
    """
    unit = F.normalize(features, dim=-1)
    s = unit @ unit.T / temperature
    rows = has_both_pairs(pairs)
    if not rows.any():
        return 0 * s.sum()
    s, positive, every = s[rows], pairs.positive[rows], (pairs.positive | pairs.negative)[rows]
    logs = s - s.masked_fill(~every, -torch.inf).logsumexp(1, keepdim=True)
    return -mean_over(logs, positive).mean()


def same_task_share(negative: Tensor, tasks: Tensor) -> Tensor:
    """Share of negative pairs that are of one task, 0 if there are none.  ``[B, B], [B] -> []``."""
    same = negative & (tasks[:, None] == tasks)
    return same.sum() / negative.sum().clamp(min=1)
