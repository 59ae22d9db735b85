"""The command that merges random experts from disk and watches the memory of each merge."""

import os
import shutil
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from bench.profiling import memory
from bench.profiling.memory import (
    COPIES,
    Cost,
    anonymous,
    require_space,
    size_of,
    table,
    write_experts,
)
from bench.zoo.encoders import ENCODERS
from mergeshift import UserError
from methods.common import weights
from methods.common.vit import ViT
from methods.common.weights import Weights, save_checkpoint

TOY = ENCODERS["toy-vit"].vit
L14 = ViT(224, 14, width=1024, layers=24, heads=16, output_dim=768, quick_gelu=True)


def test_the_size_of_vit_l_14_is_known():
    assert round(size_of(L14) / 1e6) == 304  # 303.97 M, as published


def test_experts_on_disk_are_near_their_base(tmp_path):
    base, first, second = map(Weights.open, write_experts(tmp_path, TOY, 2))
    TOY.require_fit(base, "the base")
    moves = [(expert - base).flat() for expert in (first, second)]
    assert all(move.std().item() == pytest.approx(1e-3, rel=0.1) for move in moves)
    assert abs(torch.corrcoef(torch.stack(moves))[0, 1].item()) < 0.1
    assert (tmp_path / "1.safetensors").stat().st_size < 2.2 * size_of(TOY)  # two bytes each


def test_a_small_disk_is_refused(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    # (2 bytes x 21 + 4 bytes) x 304 M = 13.98 GB, and 5 %
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 14.6e9))
    with pytest.raises(UserError, match=r"14\.6 GB free, 14\.7 GB are needed; set TMPDIR"):
        require_space(tmp_path, L14, 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 14.8e9))
    require_space(tmp_path, L14, 20)


def test_memory_of_a_process_is_its_own():
    before = anonymous(os.getpid())
    held = torch.ones(32 * 2**20)  # 128 MiB
    assert anonymous(os.getpid()) - before == pytest.approx(0.125, abs=0.02)
    assert held.sum() > 0
    assert anonymous(2**22 + 1) == 0  # no such process


def test_what_was_left_out_is_extrapolated(monkeypatch, capsys):
    half = replace(L14, layers=12)
    Console(width=100).print(table({"tsv[a=1]": Cost(10.0, 2.0), "big": Cost(1.0, 7.5)}, half, L14))
    shown = capsys.readouterr().out
    more = COPIES * 4 * (size_of(L14) - size_of(half)) / 2**30  # 12 x 12.6 M parameters
    assert more == pytest.approx(1.126, abs=0.01)
    tsv, big = shown.splitlines()[-2:]
    assert tsv.split() == ["tsv[a=1]", "10.0", "2.00", "about", "20", "about", "3.13", "fits"]
    assert big.split()[-3:] == ["8.63", "TOO", "MUCH"]


def test_what_is_whole_is_written_as_it_stands(tmp_path, monkeypatch):
    tensors, written = {"a": torch.ones(4), "b": torch.zeros(2, 3), "none": torch.ones(0)}, {}
    tensors["same"], tensors["part"] = tensors["a"], torch.ones(9)[:3]
    monkeypatch.setattr(weights, "save_file", lambda whole, *_: written.update(whole))
    save_checkpoint(tmp_path / "x.safetensors", tensors)
    assert {k: written[k].data_ptr() == v.data_ptr() for k, v in tensors.items() if len(v)} == {
        "a": True, "b": True, "same": False, "part": False,  # two names, or a view: a copy
    }  # fmt: skip
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors.items())


def test_the_command(command, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    words = ("time", "memory", "--encoder", "toy-vit", "--experts", 2, "--methods")
    shown = command(*words, "tsv[scale=0.5]").out
    assert "2 random experts of toy-vit shapes, 2 of 2 layers" in shown
    (line,) = (line for line in shown.splitlines() if line.strip().endswith("fits"))
    assert line.split()[0] == "tsv[scale=0.5]"
    assert 0.05 < float(line.split()[2]) < 2  # GiB: Python and its libraries
    monkeypatch.setattr(memory.sys, "executable", "/bin/false")
    assert command(*words, "tsv").error == "merging with tsv failed: exit code 1"
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_merged_is_refused_before_anything_is_written(command, monkeypatch):
    monkeypatch.setattr(memory, "write_experts", None)
    words = ("time", "memory", "--encoder", "toy-vit", "--experts", 2, "--methods")
    for wrong, said in (
        ("tie", "no method named 'tie'"),
        ("ties[kep=1]", "no setting 'kep'"),
        ("bmm", "bmm needs unlabelled images, validation labels; memory is measured of methods"),
    ):
        assert said in command(*words, wrong).error
    assert "toy-vit has 2 layers; got --layers 9" in command(*words, "ties", "--layers", 9).error
    monkeypatch.setattr(memory.Path, "exists", lambda _: False)
    assert "memory is read from /proc" in command(*words, "ties").error
