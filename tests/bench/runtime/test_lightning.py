"""A Trainer inside a SLURM job: the job's ranks and signals are not its own."""

import signal

import pytest
import torch
from lightning import Callback, LightningModule
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from bench.runtime.lightning import make_trainer
from bench.zoo.finetune import Spread

JOB = {  # the third of four tasks on the second of two nodes
    "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "2", "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1", "SLURM_NNODES": "2",
    "SLURM_NODELIST": "node[1-2]", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_RESTART_COUNT": "0",
}  # fmt: skip


class Handlers(Callback):
    """What a batch is trained under."""

    def on_train_batch_end(self, *_):
        self.found = [signal.getsignal(one) for one in (signal.SIGUSR1, signal.SIGTERM)]


class Line(LightningModule):
    """One number, moved once."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def training_step(self, batch, _):
        return (self.weight * batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def job(monkeypatch):
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("job")
def test_a_trainer_in_a_slurm_job_is_one_process_of_its_own():
    assert SLURMEnvironment.detect()  # what Lightning alone would take the job for
    trainer = make_trainer(accelerator="cpu", max_steps=1)
    assert (trainer.global_rank, trainer.world_size, trainer.num_nodes) == (0, 1, 1)
    assert isinstance(trainer._accelerator_connector.cluster_environment, LightningEnvironment)
    handlers = Handlers()
    trainer = make_trainer(accelerator="cpu", max_steps=1, callbacks=[handlers])
    before = signal.getsignal(signal.SIGUSR1)
    line = Line()
    trainer.fit(line, torch.utils.data.DataLoader(torch.ones(2), batch_size=2))
    assert line.weight.item() == pytest.approx(0.8)  # 1 - 0.1 * (1 + 1)
    assert handlers.found[0] == before  # SLURM's signal of a job that is about to end is not taken


@pytest.mark.usefixtures("job")
def test_several_devices_are_started_by_lightning_itself():
    """As ``zoo build --devices 2`` does; and a caller may still say how."""
    spread = Spread(devices=2).for_trainer()
    trainer = make_trainer(**{**spread, "accelerator": "cpu"})
    assert trainer.num_devices == trainer.world_size == 2
    assert isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)
    own = SLURMEnvironment(auto_requeue=False)
    other = make_trainer(accelerator="cpu", plugins=[own])
    assert other._accelerator_connector.cluster_environment is own
