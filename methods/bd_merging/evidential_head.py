"""Evidence for classes as a Dirichlet distribution, and a head that reads it off features.

Axes: ``B`` images, ``L`` classes of the joint label space, ``D`` features.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.common.checkpoints import Checkpoints

TENTH = 10  # the rank of the logit at which evidence starts to count before anything is learned
CONSTANT = 1e-12  # squared deviations of x times those of y: round-off, no correlation


class Opinion(NamedTuple):
    """What evidence e >= 0 says: Dir(alpha) with alpha = e + 1 and S = sum_c alpha_c."""

    alpha: Tensor  # [B, L]
    belief: Tensor  # b_c = e_c / S, [B, L]
    uncertainty: Tensor  # u = L / S, [B]; sum_c b_c + u = 1
    probability: Tensor  # p_c = alpha_c / S, [B, L]


def opinion(evidence: Tensor) -> Opinion:
    """Subjective logic.  ``[B, L] ->``.

    >>> opinion(torch.tensor([[6.0, 2.0, 1.0]])).uncertainty.item()  # 3 / (7 + 3 + 2)
    0.25
    """
    alpha = evidence + 1
    strength = alpha.sum(-1, keepdim=True)
    uncertainty = alpha.shape[-1] / strength[:, 0]
    return Opinion(alpha, evidence / strength, uncertainty, alpha / strength)


def two_best(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and the second largest alpha.  ``[B, L] -> [B], [B]``.

    If there is one class alone, a second would have no evidence: its alpha is 1.
    """
    first, second = F.pad(alpha, (0, 1), value=1.0).topk(2, -1).values.unbind(-1)
    return first, second


def evidence_contrast(alpha: Tensor) -> Tensor:
    """The contrast of evidence between classes (IEC), large where it is poor.  ``[B, L] -> [B]``.

    nu = (S / alpha_(1)) (L / S) (alpha_(2) / alpha_(1)) = L alpha_(2) / alpha_(1)^2.

    >>> evidence_contrast(torch.tensor([[6.0, 3.0, 1.0]])).item()  # 3 * 3 / 36
    0.25
    """
    first, second = two_best(alpha)
    return alpha.shape[-1] * second / first.square()


def kl_to_uniform(alpha: Tensor) -> Tensor:
    """KL(Dir(alpha) || Dir(1)), in nats.  ``[B, L] -> [B]``."""
    strength = alpha.sum(-1)
    flat = torch.full_like(strength, alpha.shape[-1])
    terms = (alpha - 1) * (alpha.digamma() - strength.digamma()[:, None]) - alpha.lgamma()
    return strength.lgamma() - flat.lgamma() + terms.sum(-1)


def entropy_of_mean(probability: Tensor) -> Tensor:
    """H(E[p]), in nats.  ``[B, L] -> [B]``."""
    tiny = torch.finfo(probability.dtype).tiny  # where p is 0 the gradient stays finite
    return -(probability * probability.clamp(min=tiny).log()).sum(-1)


def mean_entropy(alpha: Tensor) -> Tensor:
    """E[H(p)] for p ~ Dir(alpha), in nats.  ``[B, L] -> [B]``."""
    strength = alpha.sum(-1)
    return (strength + 1).digamma() - (alpha * (alpha + 1).digamma()).sum(-1) / strength


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's, and 0 where one of the two is constant.  ``[B], [B] -> []``.

    >>> correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 2.0, 0.0])).item()
    -1.0
    """
    x, y = x - x.mean(), y - y.mean()
    spread = x.square().sum() * y.square().sum()
    if spread < CONSTANT:
        return 0 * (x * y).sum()  # also without a gradient, which would be as large as it is noisy
    return (x * y).sum() / spread.sqrt()


def inverse_correlation_loss(found: Opinion, *, literal: bool) -> Tensor:
    """1 + corr(u, log 1 / nu) over the batch: sure images shall be the well separated ones.

    As transcribed it is 1 + corr(u, nu), where nu grows with u of itself (``literal``). Scalar.
    """
    nu = evidence_contrast(found.alpha)
    return 1 + correlation(found.uncertainty, nu if literal else -nu.log())


class LabelSpace(NamedTuple):
    """The classes of all experts, those of one name merged."""

    names: list[str]  # lower case; "task/number" where names are not known
    rows: Tensor  # [L, D], logit scale times unit rows


def label_space(ckpts: Checkpoints) -> LabelSpace:
    """The joint label space, in an order that does not depend on the suite's.

    The rows of classes whose names are equal in lower case are averaged on the sphere.
    """
    found: dict[str, list[Tensor]] = {}
    for task in sorted(ckpts.experts):
        head = ckpts.heads[task]
        named: Sequence[str] = ckpts.classes.get(task, [f"{task}/{i}" for i in range(len(head))])
        for name, row in zip(named, head, strict=True):
            found.setdefault(name.lower(), []).append(row)
    names = sorted(found)
    return LabelSpace(names, torch.stack([average(torch.stack(found[name])) for name in names]))


def average(rows: Tensor) -> Tensor:
    """Along the mean of the directions, as long as the rows are on average.  ``[n, D] -> [D]``."""
    return F.normalize(F.normalize(rows, dim=-1).mean(0), dim=-1) * rows.norm(dim=-1).mean()


class EvidentialHead(nn.Module):
    """e = exp(clip(a (z - m))), z the logits of the joint label space; unit features ``[B, D]``.

    What is learned are the scale a > 0 and the offset m, and the classifiers too if they are free.

    Args:
        rows: classifiers of the classes.  ``[L, D]``
        free: whether they are learned, or those of the text tower stay.
        softplus: e = log(1 + exp(a (z - m))) in place of the exponential.
        clip: largest size of what goes into the exponential.
        soft: clip x to clip * tanh(x / clip), so that there is a gradient everywhere.
    """

    def __init__(self, rows: Tensor, *, free: bool, softplus: bool, clip: float, soft: bool):
        super().__init__()
        self.rows = nn.Parameter(rows.detach().float().clone(), requires_grad=free)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(()))
        self.softplus, self.clip, self.soft = softplus, clip, soft

    def start(self, unit: Tensor) -> None:
        """Put the offset to the mean of the 10th best logits (or the worst, if there are fewer)."""
        with torch.no_grad():
            logits = unit @ self.rows.T
            rank = min(TENTH, logits.shape[1])
            self.offset.copy_(logits.topk(rank, -1).values[:, -1].mean())

    def evidence(self, unit: Tensor) -> Tensor:
        """``[B, D] -> [B, L]``, not negative."""
        z = self.log_scale.exp() * (unit @ self.rows.T - self.offset)
        if self.softplus:
            return F.softplus(z)
        bound = self.clip
        return (bound * torch.tanh(z / bound) if self.soft else z.clamp(-bound, bound)).exp()

    def forward(self, unit: Tensor) -> Opinion:
        return opinion(self.evidence(unit))
