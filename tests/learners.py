"""Methods that learn, for tests of sweeps: registered while a test runs, by :func:`register`."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import learned
from bench.config import SWEEPS, Run, Sweep
from bench.plan import resolve
from corruptions.base import Shift
from methods import METHODS, Needs
from methods.support import Adaptation
from results.store import Store
from tests.learner import Learner

SWEEP = replace(SWEEPS["smoke"], name="learning", methods=("learner",))


class OnTest(Learner):
    """theta = theta_0 + coef * sum_t tau_t, learned from the test images whatever the protocol."""

    needs = Needs.TEST_STREAM
    adaptation = None

    def learn(self, ckpts, support) -> None:
        batches = [batch for task in ckpts.experts for batch in support.test(task)]
        self.learned.coef.data.fill_(torch.cat(batches).std())


class Tuned(Learner):
    """theta = theta_0 + coef * sum_t tau_t, with something to tune."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Learner.Config):
        """One."""

        steps: int = 1
        grid = {"steps": (1, 4)}

    @property
    def adaptation(self) -> Adaptation:
        return Adaptation(self.cfg.steps, 4)


class Diverging(Learner):
    """theta = theta_0 + coef * sum_t tau_t, where coef becomes infinite."""

    def adapt_loss(self, images) -> torch.Tensor:
        return super().adapt_loss(images) * float("nan")


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the learners methods until the test ends."""
    found = {"learner": Learner, "on_test": OnTest, "tuned": Tuned, "diverging": Diverging}
    for name, cls in found.items():
        monkeypatch.setattr(cls, "name", name)
        monkeypatch.setitem(METHODS._items, name, cls)


def run_of(sweep: Sweep) -> Run:
    """The first run of the first method."""
    return next(run for run in resolve(sweep).runs if run.method == sweep.methods[0])


def coefficient(out: Path, sweep: Sweep = SWEEP, shift: Shift | None = None) -> float:
    """What the learner has learned."""
    tensors, _ = learned.load(learned.path(Store(out), run_of(sweep).id, shift))
    return float(tensors["coef"])


def by_hand(images: np.ndarray) -> np.ndarray:
    """Pixels as the encoder wants them.  ``uint8 [N, H, W, 3] -> [N, 3, H, W]``."""
    return (images.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25
