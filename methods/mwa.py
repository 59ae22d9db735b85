"""MWA: experts averaged by how well they do on the validation images of all tasks."""

from itertools import product

import torch
from torch.nn import functional as F

from mergeshift import UserError
from methods.base import (
    METHODS,
    Checkpoints,
    DataAccess,
    MergingMethod,
    Needs,
    Paper,
    Setting,
    TensorBuffers,
    Weights,
    total,
)
from methods.bmm.outer import Validation

POWERS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
SCALES = (1.0, 1.5, 2.0, 2.5)


@METHODS.register("mwa")
class MWA(MergingMethod):
    """theta = theta_0 + scale * sum_t w_t tau_t, w_t = loss_t^-k / sum_s loss_s^-k.

    loss_t is the mean over tasks of expert t's cross-entropy on val. The method is one of
    checkpoints of a single training, known by its abstract: weights from a metric, and one exponent
    that penalises. To weigh experts of several tasks so is an analogue, and so is the formula [R].
    k = 0 is the average. k and the scale, which is ours, are those of a list that do best on val:
    the experts take a pass each, and what is left of the budget is tried from the list, the scales
    of a small k first.
    """

    title = "MWA (reimpl.)"
    paper = Paper(
        key="yu2025mwa",
        arxiv="2504.18580",
        where="abstract",
        year=2025,
        title="Parameter-Efficient Checkpoint Merging via Metrics-Weighted Averaging",
        authors="Yu, Shi Jie and Choi, Sehyun",
    )
    needs = Needs.VAL_LABELS
    quick_config = {"passes": 6}
    learned: TensorBuffers  # "weights": scale * w, [K], in the order of the alphabet

    class Config(MergingMethod.Config):
        """All passes are the common budget."""

        passes: int = Setting(32, low=2)  # one of each expert; the others try k and the scale
        val_images: int = Setting(0, low=0)  # of each task; 0: all there are

    @property
    def num_validation_passes(self) -> int:
        return int(self.cfg.passes)

    @property
    def coefficients(self) -> dict[str, dict[str, float]]:
        if self.learned is None:
            return {}
        return {"all": dict(zip(self.tasks, self.learned()["weights"].tolist(), strict=True))}

    def prepare(self, ckpts: Checkpoints) -> None:
        self.tasks = sorted(ckpts.experts)
        self.learned = TensorBuffers({"weights": torch.zeros(len(self.tasks))})

    @torch.no_grad()
    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        if (left := self.cfg.passes - len(self.tasks)) < 1:
            raise UserError(
                f"{self.name} looks at val with each of {len(self.tasks)} experts, and then at "
                f"least once more; got passes={self.cfg.passes}"
            )
        heads = {task: self.heads()[task] for task in sorted(ckpts.measured)}
        validation = Validation(access, heads, self.vit, self.cfg.val_images)
        losses = torch.zeros(len(self.tasks))
        for place, task in enumerate(self.tasks):
            model = {name: ckpts.experts[task][name].clone() for name in ckpts.base}
            found = [
                F.cross_entropy(validation.logits(model, other), validation.data[other][1])
                for other in validation.data
            ]
            losses[place] = torch.stack(found).mean()
            access.count_pass()
        tried = []
        for power, scale in list(product(POWERS, SCALES))[:left]:
            self.learned()["weights"].copy_(scale * shares(losses, power))
            shares_right = validation.accuracies(self.merge(ckpts).materialise())
            tried.append((sum(shares_right.values()) / len(shares_right), power, scale))
            access.count_pass()
        for _ in range(left - len(tried)):  # the list is shorter
            access.count_pass()
        value, power, scale = max(tried, key=lambda one: one[0])  # of equal ones the first
        self.learned()["weights"].copy_(scale * shares(losses, power))
        self.report = {
            "losses": dict(zip(self.tasks, losses.tolist(), strict=True)),
            "tried": tried, "power": power, "scale": scale, "val": value,
        }  # fmt: skip

    def merge(self, ckpts: Checkpoints) -> Weights:
        weights = self.learned()["weights"].tolist()
        return ckpts.base + total([
            weight * (ckpts.experts[task] - ckpts.base)
            for weight, task in zip(weights, self.tasks, strict=True)
        ])  # fmt: skip


def shares(losses: torch.Tensor, power: float) -> torch.Tensor:
    """Weights that sum to 1; a common factor of the losses changes nothing.

    >>> shares(torch.tensor([1.0, 2.0]), 1.0), shares(torch.tensor([1.0, 2.0]), 0.0)
    (tensor([0.6667, 0.3333]), tensor([0.5000, 0.5000]))
    """
    return (-power * losses.clamp(min=1e-12).log()).softmax(0)
