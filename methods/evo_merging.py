"""Evo-Merging: scales of tasks and layers by an evolution strategy on validation accuracy."""

from collections.abc import Mapping

import torch
from torch import Tensor

from methods.adamerging import rows_of
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
from methods.common.study import best, search


@METHODS.register("evo_merging")
class EvoMerging(MergingMethod):
    """theta^l = theta_0^l + a^l sum_t s_t tau_t^l, (s, a) = argmax of mean val accuracy by CMA-ES.

    s_t belongs to a task and may be negative, a^l to a residual block, or to all that is before or
    after the blocks. What is searched is a box with Task Arithmetic at 0.3 in its middle, which is
    the first trial: the search never ends below it on val. The method itself is known by its
    abstract (no gradients, sparsity against noise, scales with signs), and no code is public: that
    scales are of tasks and blocks, and that entries are not thinned out, is a reconstruction [R].
    With the common budget of 32 passes an evolution strategy sees few generations: the population
    is small [R].
    """

    title = "Evo-Merging (reimpl.)"
    paper = Paper(
        key="chen2025evomerging",
        arxiv="2509.12951",
        where="abstract",
        year=2025,
        title="Black-box Model Merging for Language-Model-as-a-Service with Massive Model "
        "Repositories",
        authors="Chen, Shilian and Zhou, Jie and Huai, Tianyu and Lu, Yujiang and Li, Junsong and "
        "Zhan, Bihao and Pan, Qianjun and Yang, Yutao and Li, Xin and Chen, Qin and Yan, Hang and "
        "He, Liang",
    )
    needs = Needs.VAL_LABELS
    quick_config = {"passes": 5}
    learned: TensorBuffers  # "tasks": s, [K], in the order of the alphabet; "blocks": a, [G]

    class Config(MergingMethod.Config):
        """All passes are the common budget."""

        passes: int = Setting(32, low=1)
        population: int = Setting(6, low=4)
        start: float = Setting(0.3)  # every s_t at first
        reach: float = Setting(0.7, above=0)  # s_t stays so near to that
        val_images: int = Setting(0, low=0)  # of each task; 0: all there are

    @property
    def num_validation_passes(self) -> int:
        return int(self.cfg.passes)

    @property
    def coefficients(self) -> dict[str, dict[str, float]]:
        if self.learned is None:
            return {}
        scales, blocks = self.learned()["tasks"], self.learned()["blocks"]
        return {
            name: dict(zip(self.tasks, (share * scales).tolist(), strict=True))
            for name, share in zip(self.blocks, blocks, strict=True)
        }

    def prepare(self, ckpts: Checkpoints) -> None:
        self.tasks = sorted(ckpts.experts)
        self.row, self.blocks = rows_of("block", list(ckpts.base), ckpts.vit)
        self.learned = TensorBuffers({
            "tasks": torch.full((len(self.tasks),), self.cfg.start),
            "blocks": torch.ones(len(self.blocks)),
        })  # fmt: skip

    @torch.no_grad()
    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        heads = {task: self.heads()[task] for task in sorted(ckpts.measured)}
        validation = Validation(access, heads, self.vit, self.cfg.val_images)
        low, high = self.cfg.start - self.cfg.reach, self.cfg.start + self.cfg.reach
        space = {f"task.{task}": (low, high, False) for task in self.tasks}
        space |= {f"block.{name}": (0.0, 2.0, False) for name in self.blocks}
        start = {name: (ends[0] + ends[1]) / 2 for name, ends in space.items()}

        def score(point: Mapping[str, float]) -> float:
            self.take(point)
            found = validation.accuracies(self.merge(ckpts).materialise())
            return sum(found.values()) / len(found)

        trials = search(
            space, score, starts=[start], trials=self.cfg.passes, startup=1, sampler="cmaes",
            seed=self.seed, journal=access.journal, watch=access.count_pass,
            population=self.cfg.population,
        )  # fmt: skip
        chosen = best(trials)
        self.take(chosen.params)
        self.report = {
            "trials": [trial._asdict() for trial in trials],
            "best": trials.index(chosen),
            "start": trials[0].value,
            "problems": [] if chosen is not trials[0] else ["no trial was better than the first"],
        }

    def take(self, point: Mapping[str, float]) -> None:
        """Merge with these scales from now on."""
        for name, places in (("task", self.tasks), ("block", self.blocks)):
            values = [point[f"{name}.{place}"] for place in places]
            self.learned()[f"{name}s"].copy_(torch.tensor(values))

    def merge(self, ckpts: Checkpoints) -> Weights:
        scales = self.learned()["tasks"].tolist()
        blocks = self.learned()["blocks"].tolist()
        moved = total([
            scale * (ckpts.experts[task] - ckpts.base)
            for scale, task in zip(scales, self.tasks, strict=True)
        ])  # fmt: skip

        def read(name: str) -> Tensor:
            return ckpts.base[name] + blocks[self.row[name]] * moved[name]

        return Weights.lazy({name: ckpts.base.shape(name) for name in ckpts.base}, read)
