"""OTA merging and FFG: experts weighed by curvature, entries that hardly matter left out."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from mergeshift import UserError
from methods.base import (
    METHODS,
    Checkpoints,
    DataAccess,
    Needs,
    Paper,
    Setting,
    TensorBuffers,
    Weights,
)
from methods.fisher import CurvatureWeighted
from methods.ties import kth_largest

EPSILON = 1e-26  # where no expert's loss bends, it is the mean of all


class Masked(CurvatureWeighted):
    """theta = theta_0 + scale * sum_t P_t m_t tau_t / sum_t P_t m_t, P_t = v_t^power."""

    paper = Paper(
        key="mahdavinia2025ota",
        arxiv="2509.11167",
        where="OTA",
        year=2025,
        title="Harnessing Optimization Dynamics for Curvature-Informed Model Merging",
        authors="Mahdavinia, Pouria and Mahdavi, Hamed and Mireshghallah, Niloofar and Mahdavi, "
        "Mehrdad",
    )
    identity_config = {"density": 1.0, "scale": 1.0}

    class Config(CurvatureWeighted.Config):
        """The power is that of the main configuration."""

        power: float = Setting(0.5, low=0)  # p; 1 in other configurations
        density: float = Setting(1.0, above=0, high=1)  # share of each task vector that is kept

    def weighed(
        self, curvature: Mapping[str, Tensor], expert: Mapping[str, Tensor], base: Weights
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        taus = {name: tensor - base[name] for name, tensor in expert.items()}
        bound = threshold(curvature, taus, self.cfg.density)
        for name, tau in taus.items():
            weight = curvature[name] ** self.cfg.power + EPSILON
            yield name, weight * (curvature[name] * tau.square() >= bound), tau

    def merge(self, ckpts: Checkpoints) -> Weights:
        return ckpts.base + self.cfg.scale * Weights(self.learned())


@METHODS.register("ota")
class OTA(Masked):
    """theta = theta_0 + scale * sum_t P_t m_t tau_t / sum_t P_t m_t, P_t = v_t^power.

    Entry by entry. v_t is how much expert t's loss bends along an entry, and m_t keeps the share
    ``density`` of the entries of tau_t with the largest v_t tau_t^2 (FFG). Where nothing is kept,
    theta_0 stays [R: the authors' code can do so, and by default takes the plain mean of what it
    has masked]. The paper takes v_t from Adam's state at the end of fine-tuning (``ota_adam``),
    which published experts lack: here it is the squared gradient on unlabelled images that Fisher
    merging has [R]. The scale is ours [R]: weights that sum to 1 hardly move a merge of many
    experts.
    """

    title = "OTA (curvature from images)"
    version = 2  # images are drawn by the seed
    paper = replace(
        Masked.paper, where="OTA, with squared gradients in place of Adam's second moments"
    )

    class Config(Masked.Config):
        """The gradients are Fisher's."""

        images: int = Setting(256, low=1)  # of each task, at most
        batch: int = Setting(32, low=1)  # images whose gradients are summed before they are squared


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


@METHODS.register("ota_adam")
class OTAAdam(Masked):
    """theta = theta_0 + scale * sum_t P_t m_t tau_t / sum_t P_t m_t, P_t = v_t^power, v_t Adam's.

    As published: v_t are the second moments that Adam holds at the end of fine-tuning, which
    ``python -m bench zoo build --keep-curvature`` keeps beside an expert. They are no more than
    proportional to a curvature, with a factor that all experts of one recipe share.
    """

    title = "OTA"
    needs = Needs.OPTIMIZER_STATE
    depends_on_seed = False  # no image is drawn

    def curvature(
        self, task: str, expert: Mapping[str, Tensor], ckpts: Checkpoints, access: DataAccess
    ) -> Mapping[str, Tensor]:
        if lacking := sorted(ckpts.experts.keys() - ckpts.curvature.keys()):
            raise UserError(
                f"{self.name} weighs by the second moments that Adam had at the end of fine-tuning,"
                f" and these experts have none: {', '.join(lacking)}; keep them (python -m bench "
                f"zoo build --keep-curvature), or take {self.name.replace('_adam', '')}, which "
                "measures curvature on images"
            )
        return TensorBuffers(ckpts.curvature[task])()


@METHODS.register("ota_adam_ffg")
class OTAAdamFFG(OTAAdam):
    """theta = theta_0 + scale * sum_t P_t m_t tau_t / sum_t P_t m_t, v_t Adam's, m_t of FFG.

    OTA as published, with a share of each task vector alone.
    """

    title = "OTA + FFG"
    paper = replace(OTAAdam.paper, where="OTA and FFG")

    class Config(OTAAdam.Config):
        """The share is that of an example configuration."""

        density: float = Setting(0.4, above=0, high=1)  # share of each task vector that is kept


def threshold(curvature: Mapping[str, Tensor], taus: Mapping[str, Tensor], density: float) -> float:
    """The saliency v tau^2 from which on entries of a whole task vector are kept."""
    if density == 1:
        return 0.0
    saliency = Weights({name: curvature[name] * tau.square() for name, tau in taus.items()})
    return kth_largest(saliency, max(1, round(density * saliency.num_entries)))
