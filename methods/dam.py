"""DAM: Concrete AdaMerging whose mask also keeps predictions sure under a learned perturbation."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import METHODS, Checkpoints, DataAccess, Paper, Setting
from methods.common.losses import entropy
from methods.common.vit import PlainOps, encode
from methods.concrete import ConcreteAdaMerging


@METHODS.register("dam")
class DAM(ConcreteAdaMerging):
    """theta^l = theta_0^l + m^l sum_t lambda_t^l tau_t^l, m = argmin sum_t H(x) + alpha H(x + d_t).

    d_t is one perturbation of all images of task t, 0 at first, that learns to turn predictions: a
    stand-in for the trigger of a backdoored expert. A meta-step moves lambda as Concrete AdaMerging
    does, then d_t up the cross-entropy with the model's own answers, then the mask's logits. As in
    the authors' code there is one mask, and nothing bounds d_t but its step. That code then clamps
    images that are normalised already to [0, 1], which wipes out what is darker than the mean:
    ``clamp=published``; by default nothing is clamped [R]. ``term=consistency`` takes the
    cross-entropy with the answers to the clean image in place of the entropy [R].
    """

    title = "DAM"
    paper = Paper(
        key="yang2025dam",
        arxiv="2410.13910",
        where="Algorithm 1, as the public code has it",
        year=2025,
        title="Mitigating the Backdoor Effect for Multi-Task Model Merging via Safety-Aware "
        "Subspace",
        authors="Yang, Jinluan and Tang, Anke and Zhu, Didi and Chen, Zhengyu and Shen, Li and "
        "Wu, Fei",
        venue="International Conference on Learning Representations",
    )

    class Config(ConcreteAdaMerging.Config):
        """The defaults are those of the authors' code, but for the clamp."""

        alpha: float = Setting(0.1, low=0)  # weight of the perturbed images
        perturbation_lr: float = Setting(1e-4, low=0)  # Adam's, in normalised pixels
        clamp: Literal["none", "published"] = "none"  # of perturbed images [R]
        term: Literal["entropy", "consistency"] = "entropy"  # of the perturbed images

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        super().learn(ckpts, access)
        side = (3, self.vit.image_size, self.vit.image_size)
        some = next(iter(self.base().values()))
        self.triggers = {task: some.new_zeros(side).requires_grad_() for task in self.tasks}
        self.trigger_adam = torch.optim.Adam(
            list(self.triggers.values()), lr=self.cfg.perturbation_lr
        )

    def logits(self, images: Tensor, task: str, model: Mapping[str, Tensor]) -> Tensor:
        """Of one task.  ``[B, 3, H, W] -> [B, C]``."""
        features = F.normalize(encode(images, PlainOps(model), self.vit), dim=-1)
        return features @ self.heads()[task].T

    def before_mask_step(self, images: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> None:
        """The perturbations turn the predictions of the model that is merged now."""
        with torch.no_grad():
            model = self.merged(self.base(), self.taus(), mask)
        self.trigger_adam.zero_grad()
        for task in sorted(images):
            with torch.no_grad():
                answers = self.logits(images[task], task, model).argmax(1)
            with torch.enable_grad():
                moved = self.logits(images[task] + self.triggers[task], task, model)
                (-F.cross_entropy(moved, answers)).backward()
        self.trigger_adam.step()

    def mask_loss(self, images: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Tensor:
        loss = self.entropy(images, model)
        if not self.cfg.alpha:
            return loss
        for task in sorted(images):
            perturbed = images[task] + self.triggers[task].detach()
            if self.cfg.clamp == "published":
                perturbed = perturbed.clamp(0, 1)
            found = self.logits(perturbed, task, model)
            if self.cfg.term == "entropy":
                term = entropy(found).mean()
            else:
                answers = self.logits(images[task], task, model).argmax(1)
                term = F.cross_entropy(found, answers)
            loss = loss + self.cfg.alpha * term
        return loss

    def on_fit_end(self) -> None:
        super().on_fit_end()
        del self.triggers, self.trigger_adam
