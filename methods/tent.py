"""Tent on a merged model: is it the merge that adapts, or would adapting alone do it?"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from methods.base import (
    METHODS,
    AdaptationSchedule,
    Checkpoints,
    DataAccess,
    Needs,
    Paper,
    Setting,
    TensorBuffers,
    Weights,
    WrapperMethod,
)
from methods.common.losses import task_entropy

BATCH = 16  # images of a task whose mean entropy is one term of the loss: AdaMerging's


@METHODS.register("tent")
class Tent(WrapperMethod):
    """theta = merge(theta_1 .. theta_K) + delta, delta = argmin of the predictions' entropy.

    delta moves gains and offsets of the layer norms alone. The images, the loss and the number of
    steps are AdaMerging's: what AdaMerging gains over this, it gains because it merges. The merge
    is another method, ``tent[on=ties]``, at its defaults.
    """

    title = "Tent"
    paper = Paper(
        key="wang2021tent",
        arxiv="2006.10726",
        where="Sec. 3, on layer norms",
        year=2021,
        title="Tent: Fully Test-Time Adaptation by Entropy Minimization",
        authors="Wang, Dequan and Shelhamer, Evan and Liu, Shaoteng and Olshausen, Bruno and "
        "Darrell, Trevor",
        venue="International Conference on Learning Representations",
    )
    identity_config = {"on": "average", "lr": 0.0}
    unit_scale = False

    class Config(WrapperMethod.Config):
        """The step is Tent's for small images; how long it learns is AdaMerging's."""

        lr: float = Setting(1e-3, low=0)  # Adam's
        steps: int = Setting(500, low=1)
        batches: int = Setting(2, low=1)  # of 16 images, of every task, in a step

    learned: nn.ModuleDict  # "norms": delta; "inner": what the wrapped method has learned

    @property
    def needs(self) -> Needs:
        return self.inner.needs | Needs.IMAGES

    @property
    def adaptation(self) -> AdaptationSchedule:
        return AdaptationSchedule(self.cfg.steps, BATCH * self.cfg.batches)

    def prepare(self, ckpts: Checkpoints) -> None:
        super().prepare(ckpts)
        inner = self.inner.learned
        norms = {name: ckpts.base.shape(name) for name in ckpts.base if is_norm(name)}
        self.learned = nn.ModuleDict({"norms": Offsets(norms)})
        if inner is not None:
            self.learned["inner"] = inner

    @property
    def offsets(self) -> "Offsets":
        """Delta."""
        norms = self.learned["norms"]
        assert isinstance(norms, Offsets)
        return norms

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        super().learn(ckpts, access)
        merged = self.inner.merge(ckpts)
        assert isinstance(merged, Weights)
        self.merged = TensorBuffers(merged)

    def adapt_loss(self, images: Mapping[str, Tensor]) -> Tensor:
        model = self.merged()
        moved = {name: model[name] + delta for name, delta in self.offsets().items()}
        return self.cfg.batches * task_entropy(images, model | moved, self.heads(), self.vit)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.offsets.parameters(), lr=self.cfg.lr)

    def on_fit_end(self) -> None:
        del self.merged

    def changed_merge(self, ckpts: Checkpoints, merged: Weights) -> Weights:
        deltas = self.offsets()

        def read(name: str) -> Tensor:
            delta = deltas.get(name)
            return merged[name] if delta is None else merged[name] + delta.detach()

        return Weights.lazy({name: merged.shape(name) for name in merged}, read)


class Offsets(nn.Module):
    """One parameter for each of some tensors, 0 at first."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]):
        super().__init__()
        self.names = list(shapes)
        self.values = nn.ParameterList([torch.zeros(shape) for shape in shapes.values()])

    def forward(self) -> dict[str, Tensor]:
        """Name -> offset."""
        return dict(zip(self.names, self.values, strict=True))


def is_norm(name: str) -> bool:
    """Whether a tensor is the gain or the offset of a layer norm, by open_clip's names."""
    return any(part.startswith("ln_") for part in name.split("."))
