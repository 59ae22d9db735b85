"""Bad input is one line on stderr and exit code 2, and nothing is damaged by it."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.zoo.encoders import ENCODERS
from tests.helpers.toy_sweep import everything, stamps

ROOT = Path(__file__).resolve().parents[3]
NAME = "transformer.resblocks.1.mlp.c_fc.weight"  # a tensor of the toy encoder


@pytest.fixture
def base(tmp_path) -> dict[str, torch.Tensor]:
    """The toy encoder's weights, also at ``base.safetensors``."""
    tensors = dict(ENCODERS["toy-vit"].base())
    save_file(tensors, tmp_path / "base.safetensors")
    return tensors


@pytest.fixture
def refused(command, tmp_path, base) -> Callable[..., str]:
    """Run ``merge`` with an expert that must be refused; nothing may be written or changed."""

    def run(expert: Path, base: str = "base.safetensors", method: str = "average") -> str:
        before = everything(tmp_path)
        error = command("merge", "--method", method, "--base", tmp_path / base,
                        "--expert", expert, "-o", tmp_path / "out.safetensors").error  # fmt: skip
        assert everything(tmp_path) == before
        return error

    return run


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "said"), [
    ("sweep smoke --methods tie", "no method named 'tie'; did you mean 'ties'? Known: "),
    ("sweep smoke --suite pocket9", "no suite named 'pocket9'; did you mean 'pocket8'?"),
    ("sweep smoke --shifts clean rain@3", "no shift named 'rain'; Known: clean, L1,"),
    ("sweep smoke --shifts contrast@6", "severity of contrast is one of 1 2 3 4 5; got '6'"),
    ("sweep smoke --shifts L4", "no shift named 'L4'; Known: clean, L1, L2, L3"),
    ("sweep smoke --shifts clean@1", "clean has no severity"),
    ("sweep smoke --set ties.keep=20", "ties.keep must be a number in (0, 1]; got 20.0"),
    ("sweep smoke --constants cifar", "constants of a shift is one of cifar10-c, imagenet-c"),
    ("sweep smoke --placement native", "use --corrupt-at input"),
    ("sweep smoky", "no sweep named 'smoky'; did you mean 'smoke'?"),
    ("sweep absent.toml", "no sweep file absent.toml; named sweeps: main"),
    ("check tie", "no method, corruption or task named 'tie'; did you mean 'ties'?"),
    ("zoo build --suite toyy", "no suite named 'toyy'; did you mean 'toy'?"),
    ("table", "run `python -m bench sweep` first"),
    ("plot severity", "run `python -m bench sweep` first"),
])  # fmt: skip
def test_names_that_do_not_exist(words, said, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in command(*words.split()).error
    assert everything(tmp_path) == {}


@pytest.mark.parametrize(("words", "said"), [
    ("--metric accuracy", "no metric named 'accuracy'"),
    ("--methods tie", "no results of tie; there are: pretrained, individual, average"),
    ("--by task --shift contrast@4", "contrast@4"),
    ("--sweep main", "no sweep 'main' in"),
    ("--paired ties", "--paired takes two methods; got 1"),
    ("--paired ties tie", "'tie'"),
])  # fmt: skip
def test_results_that_are_not_there(words, said, command, smoke):
    assert said in command("table", *words.split(), "--out", smoke).error


def test_a_mistake_at_the_real_command_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench", "table", "--out", tmp_path / "out"],
        cwd=ROOT, env=os.environ | {"MERGESHIFT_HOME": str(tmp_path / "home")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "run `python -m bench sweep` first" in done.stderr
    assert done.stderr.count("\n") == 1
    assert everything(tmp_path) == {}


# -- checkpoints ---------------------------------------------------------------------------------


def test_experts_whose_names_or_shapes_differ(refused, base, tmp_path, smoke, command):
    expert = tmp_path / "expert.safetensors"
    save_file({k: v for k, v in base.items() if k != NAME}, expert)
    error = refused(expert)
    assert f"expert {expert} does not fit the base: 1 names are in only one" in error
    assert NAME in error
    save_file({**base, "extra": torch.zeros(1)}, expert)
    assert "extra" in refused(expert)
    save_file({**base, NAME: base[NAME].T.contiguous()}, expert)
    error = refused(expert)
    assert "shapes differ" in error
    assert f"{NAME} is (128, 32) and (32, 128)" in error
    error = command("evaluate", "--weights", expert, "--sweep", "smoke", "--out", smoke).error
    assert str(expert) in error
    assert NAME in error


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_checkpoint_that_is_not_finite_names_the_tensor(
    value, refused, base, tmp_path, command, smoke
):
    kind = "NaN" if value == "nan" else "Inf"
    spoilt = base[NAME].clone()
    spoilt[3, 5] = float(value)
    path = tmp_path / "spoilt.safetensors"
    save_file({**base, NAME: spoilt}, path)
    assert f"expert {path} holds {kind} in {NAME}" in refused(path)
    assert f"the base holds {kind} in {NAME}" in refused(tmp_path / "base.safetensors", path.name)
    before = stamps(smoke, "**/*.*")
    error = command("evaluate", "--weights", path, "--sweep", "smoke", "--out", smoke).error
    assert f"{path} holds {kind} in {NAME}" in error
    assert stamps(smoke, "**/*.*") == before


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_a_truncated_checkpoint_is_named(keep, refused, base, tmp_path, command, smoke):
    whole = (tmp_path / "base.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    assert f"{path} is damaged" in refused(path)
    assert f"{path} is damaged" in refused(tmp_path / "base.safetensors", base=path.name)
    error = command("evaluate", "--weights", path, "--sweep", "smoke", "--out", smoke).error
    assert f"{path} is damaged" in error


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors", ".pkl"])
@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(
    pickle.dumps(value))], ids=["torch", "pickle"])  # fmt: skip
def test_a_pickle_is_refused_and_never_run(suffix, write, refused, tmp_path, command, smoke):
    path, trace = tmp_path / f"evil{suffix}", tmp_path / "executed"
    write({"weight": Payload(trace)}, path)
    assert str(path) in refused(path)
    assert str(path) in refused(tmp_path / "base.safetensors", base=path.name)
    error = command("evaluate", "--weights", path, "--sweep", "smoke", "--out", smoke).error
    assert str(path) in error
    assert not trace.exists()
    with path.open("rb") as file:  # the payload does work
        torch.load(file, weights_only=False) if write is torch.save else pickle.load(file)
    assert trace.exists()


def test_what_cannot_be_merged_or_written(refused, base, tmp_path, command):
    whole = tmp_path / "base.safetensors"
    assert "no checkpoint at" in refused(tmp_path / "absent.safetensors")
    assert "no method named 'avrage'; did you mean 'average'?" in refused(whole, method="avrage")
    assert "individual keeps one model per task" in refused(whole, method="individual")
    merge = ("merge", "--method", "average", "--base", whole, "--expert", whole, "-o")
    assert "written as safetensors; got 'o.pt'" in command(*merge, tmp_path / "o.pt").error
    assert "cannot write" in command(*merge, whole / "inside.safetensors").error
