"""OTA merging and FFG: experts weighed by curvature, entries that hardly matter left out."""

from dataclasses import replace

import torch
from torch import Tensor

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
)
from methods.common.data_access import take_images
from methods.fisher import diagonal_fisher
from methods.ties import kth_largest

EPSILON = 1e-26  # where no expert's loss bends, it is the mean of all


@METHODS.register("ota")
class OTA(MergingMethod):
    """theta = theta_0 + scale * sum_t P_t m_t tau_t / sum_t P_t m_t, P_t = v_t^power.

    Entry by entry. v_t is how much expert t's loss bends along an entry, and m_t keeps the share
    ``density`` of the entries of tau_t with the largest v_t tau_t^2 (FFG). Where nothing is kept,
    theta_0 stays [R: the authors' code can do so, and by default takes the plain mean of what it
    has masked]. The paper takes v_t from Adam's state at the end of
    fine-tuning, which published experts lack: here it is the squared gradient on unlabelled images
    that Fisher merging has [R]. The scale is ours [R]: weights that sum to 1 hardly move a merge of
    many experts.
    """

    title = "OTA (curvature from images)"
    version = 2  # images are drawn by the seed
    paper = Paper(
        key="mahdavinia2025ota",
        arxiv="2509.11167",
        where="OTA, with squared gradients in place of Adam's second moments",
        year=2025,
        title="Harnessing Optimization Dynamics for Curvature-Informed Model Merging",
        authors="Mahdavinia, Pouria and Mahdavi, Hamed and Mireshghallah, Niloofar and Mahdavi, "
        "Mehrdad",
    )
    needs = Needs.IMAGES
    identity_config = {"density": 1.0, "scale": 1.0}
    learned: TensorBuffers  # the weighted task vector
    learns_weights = True

    class Config(MergingMethod.Config):
        """The power is that of the main configuration; the rest of the gradients is Fisher's."""

        power: float = Setting(0.5, low=0)  # p; 1 in other configurations
        density: float = Setting(1.0, above=0, high=1)  # share of each task vector that is kept
        images: int = Setting(256, low=1)  # of each task, at most
        batch: int = Setting(32, low=1)  # images whose gradients are summed before they are squared
        scale: float = Setting(1.0, low=0, grid=(0.5, 1.0, 1.5, 2.0, 2.5, 3.0))  # [R]

    def prepare(self, ckpts: Checkpoints) -> None:
        self.learned = TensorBuffers({k: torch.zeros(ckpts.base.shape(k)) for k in ckpts.base})

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        above, below = ({k: torch.zeros_like(t) for k, t in self.learned().items()} for _ in "ab")
        for task in sorted(ckpts.experts):
            found = take_images(zip(access.unlabeled(task)), self.cfg.images)
            images = [batch for (batch,) in found]
            if not images:
                raise UserError(f"{self.name} learns from images of every task; {task} has none")
            expert = TensorBuffers(ckpts.experts[task])()
            curvature = diagonal_fisher(
                expert, self.heads()[task], torch.cat(images).split(self.cfg.batch), self.vit
            )
            taus = {name: tensor - ckpts.base[name] for name, tensor in expert.items()}
            bound = threshold(curvature, taus, self.cfg.density)
            for name, tau in taus.items():
                weight = curvature[name] ** self.cfg.power + EPSILON
                weight = weight * (curvature[name] * tau.square() >= bound)
                above[name] += weight * tau
                below[name] += weight
        for name, held in self.learned().items():
            held.copy_(above[name] / below[name].where(below[name] > 0, 1))

    def merge(self, ckpts: Checkpoints) -> Weights:
        return ckpts.base + self.cfg.scale * Weights(self.learned())


@METHODS.register("ota_ffg")
class OTAFFG(OTA):
    """theta = theta_0 + scale * sum_t P_t m_t tau_t / sum_t P_t m_t, P_t = v_t^power, m_t of FFG.

    OTA with a share of each task vector alone.
    """

    title = "OTA + FFG (curvature from images)"
    paper = replace(OTA.paper, where="OTA and FFG, with squared gradients for second moments")

    class Config(OTA.Config):
        """The share is that of an example configuration."""

        density: float = Setting(0.4, above=0, high=1)  # share of each task vector that is kept


def threshold(curvature: dict[str, Tensor], taus: dict[str, Tensor], density: float) -> float:
    """The saliency v tau^2 from which on entries of a whole task vector are kept."""
    if density == 1:
        return 0.0
    saliency = Weights({name: curvature[name] * tau.square() for name, tau in taus.items()})
    return kth_largest(saliency, max(1, round(density * saliency.num_entries)))
