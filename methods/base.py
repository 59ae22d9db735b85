"""The interface that every merging method implements, and what it is given."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from mergeshift import Registry, UserError, seed_of
from methods.common.checkpoints import Checkpoints
from methods.common.config import BaseConfig, Setting
from methods.common.data_access import AdaptationSchedule, CheckedDataAccess, DataAccess, Needs
from methods.common.linear_layers import linear_layers, merge_matrices
from methods.common.spectral import nothing_kept
from methods.common.timer import CPU
from methods.common.vit import ViT, encode_plain
from methods.common.weights import TensorBuffers, Weights, mean, median, total

__all__ = [  # what a method's file needs: one import
    "JOINT", "METHODS", "NO_PAPER", "AdaptationSchedule", "Checkpoints", "DataAccess",
    "MatrixMethod", "MergingMethod", "Needs", "Paper", "Setting", "TensorBuffers", "Weights",
    "WrapperMethod", "mean", "median", "total",
]  # fmt: skip


@dataclass(frozen=True)
class Paper:
    """Where a method comes from. ``python -m bench.docs`` makes ``results/methods.bib`` of it."""

    key: str  # of its BibTeX entry, as LaTeX tables cite it
    arxiv: str  # arXiv id
    where: str  # the section, equation or algorithm that merge() implements
    year: int
    title: str = ""  # as in BibTeX: {braces} keep capitals
    authors: str = ""  # as in BibTeX, "Yadav, Prateek and Tam, Derek"
    venue: str = ""  # the conference; none: it is on arXiv alone
    series: str = ""
    volume: int = 0
    pages: str = ""  # "7093--7115"

    @property
    def bibtex(self) -> str:
        """Its BibTeX entry."""
        facts = {
            "title": self.title,
            "author": self.authors,
            "booktitle": self.venue,
            "series": self.series,
            "volume": self.volume,
            "pages": self.pages,
            "year": self.year,
            "eprint": self.arxiv,
            "archiveprefix": "arXiv",
        }
        lines = [f"  {name} = {{{fact}}}," for name, fact in facts.items() if fact]
        kind = "inproceedings" if self.venue else "misc"
        return "\n".join([f"@{kind}{{{self.key},", *lines, "}"])


JOINT = "*"  # in place of a task: the heads of all tasks, one below the other
ONE = "one model"  # what most methods keep, and whatever a wrapper stands on

NO_PAPER = Paper(key="", arxiv="", where="a reference point", year=0)


class Methods(Registry[type["MergingMethod"]]):
    """The registry of methods; it tells each class the name that it is registered under."""

    def add(self, name: str, item: type["MergingMethod"]) -> type["MergingMethod"]:
        if "Config" not in vars(item):
            names = {"__module__": item.__module__, "__qualname__": f"{item.__qualname__}.Config"}
            own = type("Config", (item.Config,), {"__doc__": item.Config.__doc__, **names})
            item.Config = own  # type: ignore[misc,assignment]
        item.name = item.Config.method = name
        return super().add(name, item)


METHODS = Methods("method")


Fit = Callable[["MergingMethod"], None]  # runs a Trainer on the method's stream of images


class MergingMethod(LightningModule, ABC):
    """Turns K experts into one model for all tasks.

    ``build`` calls ``prepare``, then ``learn`` and a Trainer where the method learns from images,
    then ``merge``; evaluation calls ``predict``. All that images decide is kept in ``learned``:
    it is saved when learning has ended, and a method that is built with it need not learn again.
    """

    class Config(BaseConfig):
        """No settings."""

    name: ClassVar[str]  # set by registration: the file's name
    title: ClassVar[str]  # as printed in tables
    paper: ClassVar[Paper]
    version: ClassVar[int] = 1  # raise it when results change: stored ones are then not reused
    learns_weights: ClassVar[bool] = False  # whether ``learned`` holds weights that are then merged
    identity_config: ClassVar[Mapping[str, Any] | None] = None  # settings, if there are any, at
    # which one expert alone comes out as it went in
    duplicates: ClassVar[Literal["ignored", "averaged", "added", ""]] = ""  # where weights alone
    # are merged, if it holds. ignored: an expert that is given twice changes nothing; averaged: all
    # of them given twice change nothing; added: all given twice move the model twice as far

    quick_config: ClassVar[Mapping[str, Any]] = {}  # settings that the contract is checked at,
    # where the defaults would take long

    cfg: Any  # the subclass's own Config
    vit: ViT
    heads: TensorBuffers
    learned: nn.Module | None  # what images decide, as parameters and buffers; set by prepare
    report: dict[str, Any]  # what learning was like, ready for JSON; "problems" if it failed
    models: nn.ModuleDict  # "all", or one entry per task

    def __init__(self, cfg: BaseConfig | None = None, seed: int = 0):
        super().__init__()
        self.cfg = self.Config() if cfg is None else cfg
        self.seed = seed
        self.learned, self.report = None, {}
        self.save_hyperparameters({"method": self.name, "seed": seed, **self.cfg.as_dict()})

    # -- what a method overrides -------------------------------------------------------------

    @property
    def needs(self) -> Needs:
        """What it looks at besides weights."""
        return Needs.NOTHING

    @property
    def stores(self) -> str:
        """What has to be kept to run it, in words."""
        return ONE

    @property
    def knows_task(self) -> bool:
        """Whether ``features`` depends on the task's name, beyond the choice of the head."""
        return False

    @property
    def adaptation(self) -> AdaptationSchedule | None:
        """How long a Trainer minimises ``adapt_loss``; ``None`` if it has nothing to do."""
        return None

    @property
    def num_validation_passes(self) -> int:
        """How often ``learn`` classifies the val split; ``access.count_pass`` counts."""
        return 0

    def prepare(self, ckpts: Checkpoints) -> None:
        """Create the parts, without looking at an image. By default none."""

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        """Fill ``learned`` from images, or make ready for the Trainer. By default nothing."""

    @abstractmethod
    def merge(self, ckpts: Checkpoints) -> Weights | Mapping[str, Weights]:
        """The merged weights, or one set per task, learning over. Must not modify ``ckpts``."""

    def features(self, images: Tensor, task: str) -> Tensor:
        """Encode ``images`` of ``task``, not normalised.  ``[B, 3, H, W] -> [B, D]``."""
        model = self.models[task if self.knows_task else "all"]
        return encode_plain(images, model(), self.vit)

    def adapt_loss(self, images: Mapping[str, Tensor]) -> Tensor:
        """Unsupervised loss on one unlabelled batch per task, for the Trainer. Scalar."""
        raise NotImplementedError(f"{self.name} does not adapt")

    @property
    def coefficients(self) -> dict[str, dict[str, float]]:
        """What was learned, to be shown: row (layer, block or "all") -> task -> number."""
        return {}

    # -- what the harness calls --------------------------------------------------------------

    def build(
        self,
        ckpts: Checkpoints,
        access: DataAccess | None = None,
        fit: Fit | None = None,
        learned: Mapping[str, Tensor] | None = None,
        device: torch.device = CPU,
    ) -> Self:
        """Everything between the checkpoints and ``predict``.

        Args:
            ckpts: base, experts and heads.
            access: images, for a method that needs them.
            fit: runs a Trainer, for a method that adapts.
            learned: the state of ``learned`` of an earlier build; nothing is learned again.
            device: where it learns; ``access`` gives images that are there. It is merged, and
                comes back, on the CPU.

        Raises:
            UserError: there is no architecture, or something that the method needs is not given.
        """
        if ckpts.vit is None:
            raise UserError(f"{self.name} cannot run without an architecture; give Checkpoints.vit")
        self.vit, self.heads = ckpts.vit, TensorBuffers(ckpts.heads)
        self.prepare(ckpts)
        if learned is not None and self.learned is not None:
            self.learned.load_state_dict(dict(learned))
        else:
            self.to(device).learn(
                ckpts.to(device), CheckedDataAccess(access, self.needs, self.name)
            )
            if self.adapts:
                if fit is None:
                    raise UserError(f"{self.name} adapts: build it with a fit that runs a Trainer")
                fit(self)
            self.cpu()
        self.hold(self.merge(ckpts))
        return self.eval().requires_grad_(False)

    def hold(self, merged: Weights | Mapping[str, Weights]) -> None:
        """Evaluate merged weights and keep them."""
        sets = {"all": merged} if isinstance(merged, Weights) else merged
        self.models = nn.ModuleDict(
            {task: TensorBuffers(weights) for task, weights in sets.items()}
        )

    def predict(self, images: Tensor, task: str) -> Tensor:
        """Class logits.  ``[B, 3, H, W] -> [B, C_task]``."""
        return self.classify(self.features(images, task), task)

    def classify(self, features: Tensor, task: str) -> Tensor:
        """Logits of features under one head, or under ``JOINT``.  ``[B, D] -> [B, C_task]``."""
        return F.normalize(features, dim=-1) @ self.heads()[task].T

    def predict_mixed(self, images: Tensor, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Class logits of images of several tasks in one batch, each under its own task's head.

        The images are encoded together; by a method that knows the task, task by task.

        Args:
            images: ``[B, 3, H, W]``.
            parts: task -> which of the images are of it, ``int64 [b]``.

        Returns:
            Task -> ``[b, C_task]``.
        """
        if self.knows_task:
            return {task: self.predict(images[rows], task) for task, rows in parts.items()}
        features = self.features(images, next(iter(parts)))
        return {task: self.classify(features[rows], task) for task, rows in parts.items()}

    @property
    def depends_on_seed(self) -> bool:
        """Whether another seed may give another result; if not, one seed is measured."""
        return self.needs != Needs.NOTHING

    @property
    def measured_version(self) -> int:
        """What a run is stored under: ``version``, and that of a method that it stands on."""
        return self.version

    @property
    def adapts(self) -> bool:
        """Whether a Trainer has to run it."""
        return self.adaptation is not None

    @property
    def num_stored(self) -> int:
        """Numbers kept by a built method: weights and learned parts, without the heads."""
        kept: nn.Module = self.models if self.learns_weights else self
        heads = {id(tensor) for tensor in self.heads.buffers()}
        return sum(t.numel() for t in (*kept.parameters(), *kept.buffers()) if id(t) not in heads)

    def generator(self, *parts: object) -> torch.Generator:
        """Random numbers that depend on the method, its seed and ``parts``, and on nothing else."""
        return torch.Generator().manual_seed(seed_of(self.name, self.seed, *parts))

    @contextmanager
    def seeded(self, *parts: object) -> Iterator[None]:
        """Seed torch's own generator like :meth:`generator` in a block, and put it back."""
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(self.name, self.seed, *parts))
            yield

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """One adaptation step; the batch holds images only, so labels cannot leak."""
        return self.adapt_loss(batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Logits of one batch of one task; counting them is the harness's work."""
        return self.predict(batch["images"], batch["task"])


class MatrixMethod(MergingMethod):
    """theta = theta_0 + scale * merge_matrix(tau_1 .. tau_K), one matrix at a time.

    What is no matrix moves by the mean of the task vectors, times the scale.
    """

    class Config(MergingMethod.Config):
        """Which tensors are merged as matrices."""

        scale: float = Setting(1.0, low=0, grid=tuple(i / 10 for i in range(1, 31)))
        in_proj: Literal["fused", "split"] = "fused"  # q, k and v: one matrix, or three
        matrices: Literal["blocks", "all"] = "all"  # the linear weights of the residual blocks, or
        # every tensor of two axes; in a model with other names than open_clip's always all

    @abstractmethod
    def merge_matrix(self, taus: Tensor) -> Tensor:
        """The merged task vector of one matrix.  ``float64 [K, out, in] -> [out, in]``."""

    def merge(self, ckpts: Checkpoints) -> Weights:
        rest = ckpts.base + self.cfg.scale * mean(ckpts.task_vectors)
        split = self.cfg.in_proj == "split"
        modules = linear_layers(ckpts.base, self.cfg.matrices, split=split)
        return merge_matrices(ckpts, rest, modules, self.merge_matrix, self.cfg.scale)


SHORT = {"ta": "task_arithmetic"}  # what a wrapper's ``on`` may call a method


class WrapperMethod(MergingMethod):
    """theta = change(merge(change(experts))), merge being another method, which ``on`` names.

    It merges at its defaults, but at a scale of 1 if it has one and ``unit_scale`` is set: the
    wrapper has a scale of its own. Any method will do that keeps one model and needs no Trainer;
    what it looks at, the wrapper looks at. A wrapper that is tuned takes none that makes validation
    passes itself: every candidate would make them again, and all of them are one budget.
    """

    unit_scale: ClassVar[bool] = True

    class Config(MergingMethod.Config):
        """What is wrapped."""

        on: str = "ta"  # a method's name; ta is short for task_arithmetic

        def __post_init__(self) -> None:
            super().__post_init__()
            wrapped = METHODS[SHORT.get(self.on, self.on)]()
            if wrapped.adapts or wrapped.stores != ONE:
                raise UserError(
                    f"{self.method}.on must be a method that gives one model and is not trained "
                    f"step by step; got {self.on!r}"
                )
            if self.grid and wrapped.num_validation_passes:
                raise UserError(
                    f"{self.method}.on must be a method that makes no validation passes, as "
                    f"{self.method} is tuned itself; got {self.on!r}, which makes "
                    f"{wrapped.num_validation_passes}"
                )

    # -- what a wrapper overrides ------------------------------------------------------------

    def changed_experts(self, ckpts: Checkpoints) -> Checkpoints:
        """What the wrapped method is given in place of the experts."""
        return ckpts

    def changed_merge(self, ckpts: Checkpoints, merged: Weights) -> Weights:
        """What is made of the wrapped method's result."""
        return merged

    # -- the rest is the wrapped method's ----------------------------------------------------

    @cached_property
    def inner(self) -> MergingMethod:
        """The wrapped method."""
        cls = METHODS[SHORT.get(self.cfg.on, self.cfg.on)]
        scaled = self.unit_scale and any(field.name == "scale" for field in fields(cls.Config))
        return cls(cls.Config.make({"scale": 1.0} if scaled else {}), self.seed)

    @property
    def needs(self) -> Needs:
        return self.inner.needs

    @property
    def depends_on_seed(self) -> bool:
        return super().depends_on_seed or self.inner.depends_on_seed

    @property
    def measured_version(self) -> int:
        return self.version + self.inner.measured_version - 1  # grows with either

    @property
    def num_validation_passes(self) -> int:
        return self.inner.num_validation_passes

    def prepare(self, ckpts: Checkpoints) -> None:
        self.inner.vit, self.inner.heads = self.vit, self.heads
        self.inner.prepare(self.changed_experts(ckpts))
        self.learned = self.inner.learned

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        self.inner.learn(self.changed_experts(ckpts), access)
        self.report = self.inner.report

    @property
    def num_stored(self) -> int:
        return sum(tensor.numel() for tensor in self.models.buffers())

    def merge(self, ckpts: Checkpoints) -> Weights:
        changed = self.changed_experts(ckpts)
        merged = self.inner.merge(changed)
        assert isinstance(merged, Weights), f"{self.cfg.on} says that it keeps {self.inner.stores}"
        return self.changed_merge(ckpts, merged if changed is ckpts else unshared(merged))


def unshared(weights: Weights) -> Weights:
    """The same; what reading a tensor decomposes is not kept for other methods.

    Task vectors that a wrapper has changed are no other method's, and would fill the folder.
    """

    def read(name: str) -> Tensor:
        with nothing_kept():
            return weights[name]

    return Weights.lazy({name: weights.shape(name) for name in weights}, read)
