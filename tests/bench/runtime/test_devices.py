"""Where a command computes, and how precisely."""

import os
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from bench.config import Sweep
from bench.plan import resolve
from bench.reporting.sweep_index import load_sweep
from bench.runtime import devices
from bench.runtime.lightning import make_trainer
from bench.runtime.workers import ProcessExecutor
from bench.stages.build import bind
from bench.stages.scoring import score
from bench.sweeps import SWEEPS, with_fields
from bench.zoo.encoders import ENCODERS
from corruptions.base import CLEAN
from mergeshift import UserError
from methods.common.precision import layers_in
from methods.common.vit import encode_plain
from results.store import Store
from tests.helpers.toy_sweep import measured, sweep_into

SMOKE = SWEEPS["smoke"]


@pytest.fixture
def gpus(monkeypatch):
    """Call it: so many GPUs seem to be here."""
    monkeypatch.delenv(devices.VARIABLE, raising=False)

    def seem(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")

    return seem


# -- which device --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count", "device", "trainer"), [
    ("auto", 0, "cpu", {"accelerator": "cpu", "devices": 1}),
    ("auto", 2, "cuda", {"accelerator": "gpu", "devices": [0]}),
    ("cpu", 2, "cpu", {"accelerator": "cpu", "devices": 1}),
    ("cuda", 1, "cuda", {"accelerator": "gpu", "devices": [0]}),
    ("cuda:1", 2, "cuda:1", {"accelerator": "gpu", "devices": [1]}),
    ("mps", 0, "mps", {"accelerator": "mps", "devices": 1}),
])  # fmt: skip
def test_a_device_by_its_name(gpus, monkeypatch, name, count, device, trainer):
    """A Trainer is told the same as everything else, also by ``auto`` on a Mac."""
    gpus(count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: count == 0)
    with devices.using(name):
        assert devices.device() == torch.device(device)
        assert devices.for_trainer() == trainer
        learning = "cpu" if name == "mps" else device  # which has no float64
        assert devices.for_learning() == torch.device(learning)
        cores, gpu = len(os.sched_getaffinity(0)), device != "cpu"
        assert devices.jobs() == (1 if gpu else cores)
        assert devices.cores(1) == (cores if gpu else 1)  # for what is done beside it
    assert devices.chosen() == "auto"


@pytest.mark.parametrize(("name", "count", "said"), [
    ("cuda", 0, "there is no cuda here (0 GPUs are seen); use --device cpu"),
    ("cuda:2", 2, "there is no cuda:2 here (2 GPUs are seen)"),
    ("mps", 1, "there is no mps here (it is Apple's GPU); use --device cpu"),
    ("gpu", 1, "--device is auto, cpu, cuda, cuda:NUMBER or mps; got 'gpu'"),
    ("cuda:-1", 1, "got 'cuda:-1'"),
    ("", 1, "got ''"),
])  # fmt: skip
def test_a_device_that_is_not_there_is_one_line(gpus, name, count, said):
    gpus(count)
    with pytest.raises(UserError) as caught, devices.using(name):
        pass
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert devices.VARIABLE not in os.environ


def test_what_was_chosen_before_comes_back(gpus):
    gpus(1)
    with devices.using("cuda"):
        with pytest.raises(KeyError), devices.using("cpu"):
            raise KeyError
        assert devices.chosen() == "cuda"
        assert devices.described() == "GPU None"
    assert devices.described() == "GPU None"  # auto takes it, too
    gpus(0)
    assert devices.described() == "cpu"


def test_workers_know_the_device(gpus):
    with devices.using("cpu"):
        local = ProcessExecutor(1)
        try:
            assert list(local.run(devices.chosen, [()])) == [((), "cpu")]
        finally:
            local.close()


def test_a_trainer_runs_where_it_was_told():
    with devices.using("cpu"):
        assert make_trainer().strategy.root_device == torch.device("cpu")
    assert make_trainer(accelerator="cpu", devices=2).num_devices == 2  # unless told otherwise


def test_the_command_line_knows_devices_and_precisions(command):
    sweep = ("sweep", "smoke", "--dry-run", "--device")
    assert "there is no cuda:7 here" in command(*sweep, "cuda:7").error
    assert "precision of a sweep is 32 or bf16; got '16'" in command(
        *sweep, "cpu", "--precision", "16"
    ).error  # fmt: skip
    assert "sweep smoke-bf16:" in command(*sweep, "cpu", "--precision", "bf16").out
    assert "sweep smoke:" in command(*sweep, "cpu", "--precision", "32").out
    assert devices.VARIABLE not in os.environ


# -- precision -----------------------------------------------------------------------------------


def test_32_bits_are_the_default_and_say_nothing():
    plain, said = resolve(SMOKE).runs, resolve(replace(SMOKE, precision="32")).runs
    assert [run.id for run in plain] == [run.id for run in said]
    half = resolve(with_fields(SMOKE, {"precision": "bf16"})).runs
    assert not {run.id for run in half} & {run.id for run in plain}
    assert {run.precision for run in half} == {"bf16"}
    assert Sweep(precision="32") == Sweep()


def test_bf16_is_for_the_layers_and_neither_for_weights_nor_logits(smoke, monkeypatch):
    run = resolve(SMOKE).runs[0]
    method, _ = bind(run).build(run.config)
    seen: list[torch.dtype] = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda *xs: seen.append(linear(*xs).dtype) or linear(*xs))
    logits = {}
    for precision in ("", "bf16"):
        _, scorer = score(
            {"m": method}, bind(run).data([CLEAN]), "test",
            normalise=ENCODERS["toy-vit"].normalise, precision=precision,
        )  # fmt: skip
        logits[precision] = scorer.all(("m", "toy_two", CLEAN.key), "logits")
        assert set(seen) == {torch.bfloat16 if precision else torch.float32}
        seen.clear()
    assert {tensor.dtype for tensor in method.buffers()} == {torch.float32}
    # bf16 has 8 bits: features of length 1 are off by 2^-8 or a little more, logits by 20 times
    # that; no logit is a number of 8 bits itself
    assert not torch.equal(logits[""], logits["bf16"])
    torch.testing.assert_close(logits["bf16"], logits[""], atol=20 * 2**-7, rtol=0)
    assert (logits["bf16"].bfloat16().float() != logits["bf16"]).float().mean() > 0.9


def test_layers_are_short_inside_a_block_alone():
    vit, weights = ENCODERS["toy-vit"].vit, dict(ENCODERS["toy-vit"].base())
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = encode_plain(x, weights, vit)
    with layers_in(None):
        assert torch.equal(encode_plain(x, weights, vit), whole)
    with layers_in(torch.bfloat16):
        short = encode_plain(x, weights, vit)
    assert torch.equal(encode_plain(x, weights, vit), whole)
    assert short.dtype == torch.float32
    gap = (short - whole).norm() / whole.norm()
    assert 2**-11 < gap < 2**-6  # roundings by up to 2^-9, many of them


def test_members_that_find_no_room_take_turns(smoke, monkeypatch):
    """The same answers; the panel itself holds none of them, each comes and goes."""
    run = resolve(SMOKE).runs[0]
    members = {name: bind(run).build(run.config)[0] for name in ("a", "b")}
    data, normalise = bind(run).data([CLEAN]), ENCODERS["toy-vit"].normalise
    panels, answers = {}, {}
    moves: list[tuple[str, str]] = []
    for name, member in members.items():
        monkeypatch.setattr(member, "cpu", lambda name=name: moves.append((name, "away")))
    for turns, room in ((False, float("inf")), (True, 0.0)):
        monkeypatch.setattr(devices, "room", lambda room=room: room)
        moves.clear()
        panels[turns], scorer = score(members, data, "test", normalise=normalise)
        answers[turns] = [scorer.all((m, "toy_two", CLEAN.key), "logits") for m in members]
    assert [len(list(panels[turns].parameters()) + list(panels[turns].buffers())) > 0
            for turns in (False, True)] == [True, False]  # fmt: skip
    assert moves == [("a", "away"), ("b", "away")] * 3  # a batch of each of three tasks
    assert all(torch.equal(a, b) for a, b in zip(answers[False], answers[True], strict=True))


def test_a_sweep_in_bf16_merges_as_ever_and_keeps_the_device(smoke, tmp_path):
    shared = replace(SMOKE, methods=("average", "individual"), shifts=("clean",))
    with devices.using("cpu"):
        sweep_into(tmp_path, replace(shared, precision="bf16"))
    half, full = measured(tmp_path), measured(smoke).loc[["average", "individual"]]
    full = full.xs("clean", level="corruption", drop_level=False)
    assert half.index.equals(full.index)
    assert set(Store(tmp_path).read()["precision"]) == {"bf16"}
    assert set(Store(smoke).read()["precision"]) == {"float32"}
    gap = (half["value"] - full["value"]).abs().groupby(level="metric").max()
    assert 0 < gap["nll"] < 0.1
    store = Store(tmp_path)
    for path in (tmp_path / "cells").iterdir():
        facts = store.run(path.name)
        assert (facts["run"]["precision"], facts["device"]) == ("bf16", "cpu")


def test_weights_from_elsewhere_are_compared_at_one_precision(smoke, command, tmp_path):
    """Beside a sweep in bf16 stands what was evaluated in bf16."""
    from safetensors.torch import save_file

    base = tmp_path / "base.safetensors"
    save_file(dict(ENCODERS["toy-vit"].base()), base)
    out = ("--out", tmp_path / "out", "--jobs", 1)
    assert command("sweep", "smoke", "--precision", "bf16", "--wandb", "off", *out).code == 0
    evaluate = ("evaluate", "--weights", base, "--sweep", "smoke")
    assert command(*evaluate, "--precision", "bf16", "--name", "half", *out).code == 0
    assert command(*evaluate, "--name", "full", *out).code == 0
    record = load_sweep(tmp_path / "out", "smoke-bf16")
    assert [record["runs"][run] for run in record["evaluated"]] == ["half"]


def test_the_device_is_taken_from_the_environment_also_where_there_is_a_gpu(gpus, monkeypatch):
    gpus(1)
    assert devices.device() == torch.device("cuda")
    monkeypatch.setenv(devices.VARIABLE, "cpu")  # as a process finds it that was started with it
    assert devices.device() == torch.device("cpu")
