"""Units of work: build methods and score them on the cells of a suite.

A :class:`Panel` is a LightningModule over one or more built methods: a batch is decoded, corrupted
and normalised once, whoever looks at it. The :class:`Scorer` counts; methods hold no metric code.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from time import perf_counter
from typing import Any

import pandas as pd
import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from bench.config import Run
from bench.engines import step_done
from bench.external import External
from bench.memory import peak_memory
from bench.quiet import quiet_trainer
from bench.rows import Cost, cell_rows, facts_of, note
from bench.seeds import seed_of
from bench.zoo.clip import normalise
from bench.zoo.experts import checkpoints
from corruptions.base import CLEAN, Shift
from methods import METHODS, Checkpoints, MergingMethod
from results.store import Store
from tasks import TASKS, suite
from tasks.datamodule import SuiteData

BINS = 15  # of the calibration error, equal width
Cell = tuple[str, str, str]  # member, task, key of the shift


class Panel(LightningModule):
    """Several built methods that look at the same batches."""

    def __init__(self, members: Mapping[str, MergingMethod]):
        super().__init__()
        self.keys = list(members)
        self.members = nn.ModuleList(members.values())
        self.seconds: dict[Cell, float] = defaultdict(float)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Logits of every member on one batch of one cell."""
        images = normalise(batch["images"])
        answers = {}
        for key, member in zip(self.keys, self.members, strict=True):
            assert isinstance(member, MergingMethod)
            start = perf_counter()
            answers[key] = member.predict(images, batch["task"])
            if images.is_cuda:
                torch.cuda.synchronize()
            self.seconds[key, batch["task"], batch["shift"]] += perf_counter() - start
        return answers

    validation_step = test_step


class Scorer(Callback):
    """Collects the answers of every cell and measures them once, over all its images."""

    def __init__(self) -> None:
        self.logits: dict[Cell, list[Tensor]] = defaultdict(list)
        self.labels: dict[Cell, list[Tensor]] = defaultdict(list)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for member, logits in outputs.items():
            cell = (member, batch["task"], batch["shift"])
            self.logits[cell].append(logits.float().cpu())
            self.labels[cell].append(batch["labels"].cpu())
        step_done(len(batch["labels"]) * len(outputs))

    on_validation_batch_end = on_test_batch_end

    def hits(self, cell: Cell) -> Tensor:
        """Right or wrong.  ``bool [N]``."""
        return torch.cat(self.logits[cell]).argmax(1) == torch.cat(self.labels[cell])

    def measure(self, cell: Cell) -> dict[str, float]:
        """Accuracy, negative log-likelihood in nats, expected calibration error."""
        logits, labels = torch.cat(self.logits[cell]), torch.cat(self.labels[cell])
        error = multiclass_calibration_error(
            logits.softmax(-1), labels, num_classes=logits.shape[1], n_bins=BINS
        )
        return {
            "acc": float(self.hits(cell).double().mean()),
            "nll": float(F.cross_entropy(logits.double(), labels)),
            "ece": float(error),
        }


@lru_cache(maxsize=4)
def _checkpoints(encoder: str, tasks: tuple[str, ...], expert_seed: int) -> Checkpoints:
    return checkpoints(encoder, [TASKS[name] for name in tasks], expert_seed)


def build(run: Run, config: str) -> tuple[MergingMethod, Cost]:
    """The method of ``run`` with ``config`` (canonical JSON), merged."""
    ckpts = _checkpoints(
        run.encoder, tuple(task.name for task in suite(run.suite)), run.expert_seed
    )
    seed_everything(seed_of("method", run.method, run.seed), verbose=False)
    cls = External if run.weights else METHODS[run.method]
    start = perf_counter()
    with peak_memory() as peak:
        method = cls(cls.Config.make(json.loads(config)), run.seed).build(ckpts)
    cost = Cost(perf_counter() - start, peak.megabytes, method.num_stored)
    return method, cost


built = lru_cache(maxsize=32)(build)  # once per process


def score(
    members: Mapping[str, MergingMethod], data: SuiteData, split: str
) -> tuple[Panel, Scorer]:
    """Show every cell of ``data`` to every member."""
    panel, scorer = Panel(members), Scorer()
    trainer = quiet_trainer(callbacks=[scorer])
    if split == "test":
        trainer.test(panel, datamodule=data, verbose=False)
    else:
        trainer.validate(panel, datamodule=data, verbose=False)
    return panel, scorer


def data_of(run: Run, shifts: Sequence[Shift]) -> SuiteData:
    """The cells of a run."""
    return SuiteData(suite(run.suite), shifts, limit=run.limit, data_seed=run.data_seed)


def validate(run: Run, config: str) -> dict[str, float]:
    """Accuracy on every task's val split: one validation pass (a unit of work)."""
    method, _ = build(run, config)
    _, scorer = score({run.id: method}, data_of(run, []), "val")
    return {
        task.name: scorer.measure((run.id, task.name, CLEAN.key))["acc"]
        for task in suite(run.suite)
    }


def evaluate(runs: Sequence[tuple[Run, str]], shift: Shift, sweep: str, store: Store) -> None:
    """Measure several runs under one shift and store each as one file (a unit of work).

    Args:
        runs: each with its chosen config, canonical JSON.
        shift: the shift.
        sweep: name printed in the rows.
        store: where the files go; each is whole or absent.
    """
    ready = {run.id: built(run, config) for run, config in runs}
    data = data_of(runs[0][0], [shift])
    panel, scorer = score({key: method for key, (method, _) in ready.items()}, data, "test")
    for run, config in runs:
        method, cost = ready[run.id]
        facts, rows = facts_of(run, config, method), []
        for task in data.tasks:
            cell = (run.id, task.name, shift.key)
            measured = scorer.measure(cell) | {"eval_s": panel.seconds[cell]}
            hits = scorer.hits(cell).numpy()
            rows += cell_rows(facts, task, shift, sweep, hits, measured)
        note(run, config, cost, store)
        store.write(run.id, shift.key, pd.DataFrame(rows))
