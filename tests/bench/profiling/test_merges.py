"""The command that times every merge into one model: what is measured, kept and refused."""

import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.profiling import merges
from bench.profiling.bmm import Case
from bench.profiling.memory import write_experts
from bench.profiling.merges import (
    MergeCost,
    StepClock,
    in_own_process,
    markdown,
    measured,
    one_model_methods,
)
from bench.variants import parse
from mergeshift import UserError, read_json
from methods.common.vit import ViT

SMALL = Case("small", ViT(32, 16, width=32, layers=2, heads=2, output_dim=16), 3, 8, 0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    return write_experts(tmp_path_factory.mktemp("experts"), SMALL.vit, 3, torch.float32)


@pytest.mark.parametrize(("line", "needs", "steps", "passes"), [
    ("ties", "weights only", 0, 0),
    ("fisher", "unlabelled images", 0, 0),
    ("adamerging[steps=1000]", "unlabelled images", 1000, 0),  # of which four are run
    ("map[points=3]", "validation labels", 0, 4),
    ("ota_adam", "optimizer state", 0, 0),
])  # fmt: skip
def test_what_a_merge_takes(paths, line, needs, steps, passes):
    cost = measured(parse(line), SMALL, paths)
    assert (cost.needs, cost.steps, cost.passes) == (needs, steps, passes)
    assert cost.seconds > 0
    assert 0 <= cost.gib < 1


def test_the_first_step_is_not_timed():
    clock = StepClock()
    assert clock.seconds == 0
    clock.ends = [5.0, 7.0, 8.0, 9.5]
    assert clock.seconds == 1.5  # the median of 2, 1 and 1.5


def test_every_method_of_one_model_is_there_and_no_other():
    names = one_model_methods()
    assert {"average", "ties", "adamerging", "map", "bmm", "fw_merging_soft"} <= set(names)
    assert not {"individual", "twin_merging", "logit_ensemble", "multitask"} & set(names)


class Here:
    """A process that is none: it has ended when it has been started."""

    exitcode = -9

    def __init__(self, target, args):
        self.target, self.args = target, args

    def start(self) -> None:
        self.target(*self.args)

    def join(self) -> None:
        """It has ended."""


def test_a_merge_that_fails_is_one_line(paths, monkeypatch):
    context = SimpleNamespace(
        Pipe=multiprocessing.Pipe, Process=Here, set_forkserver_preload=lambda _: None
    )
    monkeypatch.setattr(merges.multiprocessing, "get_context", lambda _: context)
    assert in_own_process(parse("average"), SMALL, paths).needs == "weights only"
    with pytest.raises(UserError, match="merging with mwa failed: UserError: mwa looks at val"):
        in_own_process(parse("mwa[passes=2]"), SMALL, paths)
    monkeypatch.setattr(merges, "_tell", lambda pipe, *_: pipe.close())
    with pytest.raises(UserError, match="average failed: its process ended with exit code -9"):
        in_own_process(parse("average"), SMALL, paths)


def test_the_command_keeps_what_it_measures(command, monkeypatch, tmp_path):
    assert markdown(tmp_path) == "No merge has been measured yet."
    monkeypatch.setitem(merges.CASES, "small", SMALL)
    told = {"ties": MergeCost("weights only", 1.25, 0.5),
            "adamerging": MergeCost("unlabelled images", 123.4, 6.5, steps=500)}  # fmt: skip
    monkeypatch.setattr(merges, "in_own_process", lambda line, *_: told[line.method])
    words = ("profile", "merges", "--encoder", "small", "--out", tmp_path, "--methods")
    shown = command(*words, "ties").out
    assert "8 random experts of small, 2 layers: 0.1 M parameters each" in shown
    assert "ties: 1.2 s, 0.50 GiB" in shown
    command(*words, "adamerging")
    command(*words, "ties", "--layers", 1)  # of a part nothing is kept
    kept = read_json(tmp_path / "profiles" / "merges-small.json")
    assert sorted(kept["lines"]) == ["adamerging", "ties"]
    text = markdown(tmp_path)
    assert "| ties | weights only | 1.25 | 0.50 |" in text
    assert "| adamerging | unlabelled images | ~123 | 6.50 |" in text
    assert "above 6 GiB: adamerging" in text
    for wrong, said in (
        (("ties", "--encoder", "ViT-X"), "merges are timed for pocket-vit and ViT-B-32 and small"),
        (("ties", "--layers", 3), "small has 2 layers; got --layers 3"),
        (("individual",), "individual keeps one model per task; merges into one model are timed"),
        (("tie",), "no method named 'tie'"),
    ):
        assert said in command(*words, *wrong).error
    monkeypatch.setattr(merges.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e5))
    assert "GB are needed; set TMPDIR" in command(*words, "ties").error
