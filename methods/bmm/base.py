"""What BMM and its control share: learning merged matrices around an anchor, and keeping them."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mergeshift import seed_of
from methods.base import MergingMethod
from methods.bmm.config import AnchorConfig, BMMConfig
from methods.bmm.inner import (
    Hyperparameters,
    MergedModels,
    SolvedLayer,
    anchor_of,
    keys_of,
    modules_of,
    ordered,
)
from methods.bmm.outer import Validation, expert_accuracies, search_hyperparameters
from methods.common.checkpoints import Checkpoints
from methods.common.data_access import DataAccess, Needs
from methods.common.linear_layers import LinearLayer, with_layers
from methods.common.regression import MatrixNormalPosterior
from methods.common.timer import Timer
from methods.common.weights import TensorBuffers, Weights


class AnchoredMethod(MergingMethod):
    """W = W_0 + s (M - W_0) for each matrix, M around an anchor; the anchor's other tensors."""

    cfg: Any  # an AnchorConfig
    learned: nn.ModuleDict | None
    learns_weights = True
    trial_seed_key: ClassVar[str]  # methods of one name draw the same trials from the same seed

    # -- what a method of this kind overrides ------------------------------------------------

    @abstractmethod
    def regressions(
        self,
        ckpts: Checkpoints,
        anchor: Mapping[str, Tensor],
        modules: Sequence[LinearLayer],
        access: DataAccess,
        clock: Timer,
    ) -> list[MatrixNormalPosterior]:
        """What each module is solved with; ``anchor`` holds the parameters of the modules."""

    @abstractmethod
    def merge_without_data(self, ckpts: Checkpoints, rest: Weights) -> Weights:
        """The merged weights where nothing is looked at; ``rest`` is the anchor."""

    @property
    def default_hyperparameters(self) -> dict[str, float]:
        """The kinds of constants, with their values where none are searched."""
        return {"scale": self.cfg.scale}

    def prepare_learned(self, ckpts: Checkpoints, modules: Sequence[LinearLayer]) -> nn.ModuleDict:
        """Room for what is learned."""
        names = dict.fromkeys(module.name for module in modules)
        return nn.ModuleDict({"matrices": zeros({k: ckpts.base.shape(k) for k in names})})

    def store(
        self, family: MergedModels, constants: Hyperparameters, validation: Validation | None
    ) -> None:
        """Fill ``learned`` with the model at these constants."""
        write(self.part("matrices"), family.matrices(constants))

    # -- what they share ---------------------------------------------------------------------

    @property
    def needs(self) -> Needs:
        return Needs.VAL_LABELS if self.cfg.trials else Needs.NOTHING

    @property
    def num_validation_passes(self) -> int:
        if not self.cfg.trials:
            return 0
        return self.cfg.trials + 1 + (self.cfg.objective == "normalised")  # the best; the experts

    def part(self, name: str) -> TensorBuffers:
        """One part of what was learned."""
        assert self.learned is not None
        found = self.learned[name]
        assert isinstance(found, TensorBuffers)
        return found

    def prepare(self, ckpts: Checkpoints) -> None:
        if self.needs != Needs.NOTHING:
            self.learned = self.prepare_learned(ckpts, modules_of(ckpts.base, self.cfg))

    @torch.no_grad()
    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        if self.learned is None:
            return
        cfg, ckpts, clock, validation = self.cfg, ordered(ckpts), Timer(self.device), None
        family = self.family(ckpts, access, clock)
        constants = {
            f"{kind}.{k}": v
            for kind, v in self.default_hyperparameters.items()
            for k in family.keys
        }
        if Needs.VAL_LABELS in self.needs:
            heads = {task: self.heads()[task] for task in ckpts.experts}
            validation = Validation(access, heads, self.vit, cfg.val_images)
        if cfg.trials and validation:
            experts = dict.fromkeys(validation.data, 1.0)
            if cfg.objective == "normalised":
                experts = expert_accuracies(validation, ckpts)
            constants, self.report = search_hyperparameters(
                cfg, family, validation, experts, clock,
                seed_of(self.trial_seed_key, self.seed), access.journal,
            )  # fmt: skip
        self.report["constants"] = constants
        self.store(family, constants, validation)
        self.report["seconds"] = clock.report()

    def family(self, ckpts: Checkpoints, access: DataAccess, clock: Timer) -> MergedModels:
        """All models that the constants may choose from."""
        cfg: AnchorConfig = self.cfg
        modules, rest = modules_of(ckpts.base, cfg), anchor_of(ckpts, cfg)
        with clock("anchor"):
            whole = {name: rest[name].clone() for name in rest}
        solvers = self.regressions(ckpts, whole, modules, access, clock)
        parts = [
            SolvedLayer(module, key, ckpts.base[module.name][module.rows].clone(), solver)
            for module, key, solver in zip(
                modules, keys_of(modules, cfg.depth), solvers, strict=True
            )
        ]
        done = {module.name for module in modules}
        others = {name: tensor for name, tensor in whole.items() if name not in done}
        return MergedModels(parts, others, cfg.assembly if isinstance(cfg, BMMConfig) else "base")

    def merge(self, ckpts: Checkpoints) -> Weights | Mapping[str, Weights]:
        rest = anchor_of(ckpts, self.cfg)
        return (
            self.merge_without_data(ckpts, rest)
            if self.learned is None
            else self.merge_from_state(ckpts, rest)
        )

    def merge_from_state(
        self, ckpts: Checkpoints, rest: Weights
    ) -> Weights | Mapping[str, Weights]:
        """The merged weights out of ``learned``; matrices of the anchor are not read."""
        held = self.part("matrices")()
        return with_layers(rest, modules_of(ckpts.base, self.cfg), lambda name, _: held[name])


def zeros(shapes: Mapping[str, tuple[int, ...]]) -> TensorBuffers:
    """Room for tensors."""
    return TensorBuffers({name: torch.zeros(shape) for name, shape in shapes.items()})


def write(held: TensorBuffers, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors where there is room for them."""
    room = held()
    for name, tensor in tensors.items():
        room[name].copy_(tensor)
