"""Clocks around work of a device: it is asked first and works later."""

import torch

from bench.plan import resolve
from bench.runtime import devices
from bench.stages.build import bind
from bench.stages.scoring import score
from bench.sweeps import SWEEPS
from bench.zoo.encoders import ENCODERS
from corruptions.base import CLEAN
from methods.common import timer


def test_clocks_wait_for_the_device(monkeypatch):
    """A GPU is asked and works later: it has settled before a clock starts, and before it stops."""
    waited: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("cpu", "cuda:1", "mps"):
        with devices.using(name):
            devices.synchronize()
    assert waited == [torch.device("cuda:1"), "mps"]
    watch = timer.Timer(torch.device("cuda:1"))
    with watch("work"):
        waited.append("working")
    assert waited[2:] == [torch.device("cuda:1"), "working", torch.device("cuda:1")]
    assert watch.times == {"work": 1}


def test_predicting_is_timed_between_two_waits(smoke, monkeypatch):
    """``eval_s`` counts neither what was asked before it, nor leaves out what is still to do."""
    events: list[str] = []

    def tick() -> float:
        events.append("clock")
        return float(len(events))

    run = resolve(SWEEPS["smoke"]).runs[0]
    method, _ = bind(run).build(run.config)
    monkeypatch.setattr(devices, "synchronize", lambda: events.append("settled"))
    monkeypatch.setattr("bench.stages.scoring.perf_counter", tick)
    predict = method.predict
    monkeypatch.setattr(method, "predict", lambda *x: events.append("asked") or predict(*x))
    panel, _ = score(
        {"m": method}, bind(run).data([CLEAN]), "test", normalise=ENCODERS["toy-vit"].normalise
    )
    assert events == ["settled", "clock", "asked", "settled", "clock"] * 3  # one batch a task
    assert set(panel.seconds.values()) == {3.0}
