"""Random files of weights, and what reading and merging them must give, made plainly in NumPy.

``python -m tests.helpers.state_dict_fuzz --count 500`` runs the campaign; a fault ends it with the
seed that shows it.
"""

import argparse
import contextlib
import io
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.cli.app import main
from bench.zoo.conversion import to_transformers
from bench.zoo.encoders import ENCODERS
from bench.zoo.import_export import tower
from mergeshift import UserError

TOY = ENCODERS["toy-vit"]
CPU_SECONDS = 60  # of one case: more is a hang
WORDS = ("visual", "text", "conv1", "ln_1", "blocks", "0", "11", "head", "w-x", "\u00e9")
LAST = ("weight", "bias", "w", "running_mean", "g")
FRONTS = ("", "", "module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "clip.x.")
WRAPPERS = ((), (), ("state_dict",), ("model",), ("model_state_dict",), ("checkpoint", "model"))
JUNK: dict[str, Any] = {
    "epoch": 3, "name": "run", "best": None, "lr": 0.1, "args": {"lr": 0.1, "seed": 3},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(3)}}},
    "optimizer_states": [{"state": {}}], "lr_schedulers": [{"last_epoch": 3}],
    "scaler": {"scale": torch.tensor(2.0)}, "rng_state": torch.zeros(9, dtype=torch.uint8),
    "callbacks": {"best": {"score": torch.tensor(0.3)}}, "loops": {"fit": {"state_dict": {}}},
    "amp": {"loss_scaler0": {"unskipped": 3}}, "step": torch.tensor(7),
}  # fmt: skip
BUFFERS = {"steps": torch.tensor(7), "position_ids": torch.arange(5)[None],
           "mask": torch.ones(3, 3, dtype=torch.bool).tril()}  # fmt: skip
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".x")
TYPES = {torch.float32: 4, torch.float16: 1, torch.bfloat16: 1, torch.float64: 1}
GARBAGE = (b"", bytes(99), b"PK\x03\x04", b"<!DOCTYPE html>", b"version https://git-lfs\n",
           b"{}", "text".encode("utf-16"), b"\x80\x02.", b"\x80\x04N.", b"\x89PNG",
           b"\xff" * 64)  # fmt: skip

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file, and where in the state it is put."""

    name: str
    spoil: Callable[[dict[str, Tensor], str], None]


def _put(make: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor], str], None]:
    def spoil(state: dict[str, Tensor], name: str) -> None:
        state[name] = make(state[name])

    return spoil


FAULTS = (
    Fault("NaN", _put(lambda t: torch.full_like(t, torch.nan))),
    Fault("Inf", _put(lambda t: torch.full_like(t, -torch.inf))),
    Fault("int8", lambda s, n: s.update({n: torch.full((3, 3), 7, dtype=torch.int8)})),
    Fault("complex", _put(lambda t: torch.complex(t.float(), t.float()))),
    Fault("gone", lambda s, n: s.__delitem__(n)),
    Fault("one more", lambda s, n: s.update({"zz": torch.ones(2)})),
    Fault("shape", _put(lambda t: torch.ones(*t.shape, 2))),
)


class Dice:
    """Random choices from one seed."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)

    def of(self, options: Any) -> Any:
        """One of several."""
        options = list(options)
        return options[int(self.random.integers(len(options)))]

    def hit(self, share: float) -> bool:
        """Whether it happens."""
        return bool(self.random.random() < share)

    def some(self, options: Mapping[str, Any], share: float = 0.3) -> dict[str, Any]:
        """Each with this probability."""
        return {key: value for key, value in options.items() if self.hit(share)}


def draw_state(dice: Dice) -> State:
    """Names and shapes of a random architecture, with entries."""
    names: set[str] = set()
    for _ in range(int(dice.random.integers(2, 7))):
        parts = [dice.of(WORDS) for _ in range(int(dice.random.integers(0, 4)))]
        names.add(".".join([*parts, dice.of(LAST)]))
    shapes = ((), (1,), (5,), (3, 4), (2, 3, 2), (0, 3))
    # one tensor is large enough to be neither empty nor small beside the base
    found = {name: dice.of(shapes) for name in sorted(names)} | {"main.weight": (6, 6)}
    return {k: dice.random.standard_normal(shape).astype(np.float32) for k, shape in found.items()}


def near(state: State, dice: Dice) -> State:
    """The same, fine-tuned a little."""
    return {k: v + dice.random.normal(0, 0.05, v.shape).astype(np.float32)
            for k, v in state.items()}  # fmt: skip


def rounded(state: State, dtype: torch.dtype) -> dict[str, Tensor]:
    return {k: torch.from_numpy(np.array(v)).to(dtype) for k, v in state.items()}


def write(state: dict[str, Tensor], dice: Dice, folder: Path, stem: str) -> Path:
    """A state dict in a file as somebody's trainer would have written it."""
    path = folder / f"{stem}{dice.of(SUFFIXES)}"
    if dice.hit(0.4):
        save_file({k: v.contiguous() for k, v in state.items()}, path)
        return path
    content: dict[str, Any] = dict(state)
    for i, key in enumerate(reversed(dice.of(WRAPPERS))):
        content = {key: content} | (dice.some(JUNK) if i == 0 or dice.hit(0.5) else {})
    torch.save(content, path, _use_new_zipfile_serialization=dice.hit(0.7))
    return path


def dressed(state: dict[str, Tensor], dice: Dice) -> tuple[str, dict[str, Tensor]]:
    """What is put in front of all names, and the state with it."""
    front = dice.of(FRONTS)
    return front, {front + name: tensor for name, tensor in state.items()}


@contextmanager
def bounded() -> Iterator[None]:
    """End what takes too many seconds of the CPU."""

    def end(*_: Any) -> None:
        raise TimeoutError(f"it took more than {CPU_SECONDS} seconds")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run(words: list[object]) -> tuple[int, str]:
    """Exit code and stderr of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), bounded():
        code = main([str(word) for word in words])
    return code, err.getvalue()


def merge_case(seed: int, folder: Path) -> str:
    """Merge random files; what comes out is the mean or the sum that NumPy makes, or one line."""
    dice = Dice(seed)
    base = draw_state(dice)
    experts = [near(base, dice) for _ in range(int(dice.random.integers(1, 4)))]
    if dice.hit(0.2):
        experts.append(experts[0])
    kinds = [dice.of([t for t, n in TYPES.items() for _ in range(n)]) for _ in (base, *experts)]
    states = [rounded(s, kind) for s, kind in zip((base, *experts), kinds, strict=True)]
    plain = [{k: v.double().numpy() for k, v in state.items()} for state in states]
    buffers = dice.some(BUFFERS)
    fault = dice.of(FAULTS) if dice.hit(0.25) else None
    spoilt = int(dice.random.integers(1, len(states)))
    if fault:
        fault.spoil(states[spoilt], "main.weight")
    paths, front = [], ""
    for i, state in enumerate(states):
        own, named = dressed(state | dice.some(buffers) if i else state | buffers, dice)
        front = front if i else own
        paths.append(write(named, dice, folder, f"m{i}"))
    garbage = not fault and dice.hit(0.1)
    if garbage:
        paths[spoilt].write_bytes(dice.of(GARBAGE))
    method = dice.of(("average", "task_arithmetic"))
    out = folder / "out.safetensors"
    words: list[object] = ["merge", "--method", method, "--base", paths[0], "-o", out]
    for path in paths[1:]:
        words += ["--expert", path]
    if method == "task_arithmetic":
        words += ["--set", "scale=0.5"]
    code, said = run(words)
    if fault or garbage:
        assert (code, said.count("\n")) == (2, 1), (code, said)
        assert not out.exists()
        return fault.name if fault else "garbage"
    assert code == 0, said
    expected = {front + name: value for name, value in merged(method, *plain).items()}
    compare(load_file(out), expected, {front + name: t for name, t in buffers.items()})
    return "merged"


def merged(method: str, base: State, *experts: State) -> State:
    """The mean of the experts, or the base and half of all task vectors."""
    if method == "average":
        return {k: np.mean([expert[k] for expert in experts], axis=0) for k in base}
    return {k: v + 0.5 * np.sum([expert[k] - v for expert in experts], axis=0)
            for k, v in base.items()}  # fmt: skip


def compare(found: dict[str, Tensor], expected: State, buffers: dict[str, Tensor]) -> None:
    """A merged file has these tensors and no other."""
    assert found.keys() == expected.keys() | buffers.keys(), found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(found[name], tensor) for name, tensor in buffers.items())


def tower_case(seed: int, folder: Path) -> str:
    """Read the toy encoder's tower from a random file: exactly its numbers, or one line."""
    dice = Dice(seed)
    random = torch.Generator().manual_seed(seed)
    kind = dice.of(TYPES)
    whole = {k: (v + 0.01 * torch.randn(v.shape, generator=random)).to(kind)
             for k, v in TOY.base().items()}  # fmt: skip
    theirs = dice.hit(0.5)
    state = to_transformers(whole) if theirs else whole
    fault = dice.of(FAULTS[:5]) if dice.hit(0.25) else None
    names = [k for k in state if k.endswith(("mlp.c_fc.weight", "mlp.fc1.weight"))]
    if fault:
        fault.spoil(state, dice.of(names))
    inner = "" if theirs or dice.hit(0.3) else "visual."
    named = {inner + k: v for k, v in state.items()} | (BUFFERS if dice.hit(0.3) else {})
    if (inner or theirs) and dice.hit(0.3):  # beside the tower, not in it
        named |= {"logit_scale": torch.tensor(4.6), "text.ln.weight": torch.ones(3)}
    two = not fault and dice.hit(0.1)
    if two:
        named |= {f"teacher.{inner}{k}": 2 * v for k, v in state.items()}
    path = write(dressed(named, dice)[1], dice, folder, "tower")
    if fault or two:
        with pytest.raises(UserError) as caught, bounded():
            tower(path, TOY)
        assert "\n" not in str(caught.value)
        return fault.name if fault else "two towers"
    with bounded():
        found, _ = tower(path, TOY)
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in whole.items())
    return "read"


def campaign(count: int, first: int = 0) -> dict[str, int]:
    """How often each end came.

    Raises:
        AssertionError: a case ended otherwise than it must; its note names the seed.
    """
    ends: dict[str, int] = {}
    for seed in range(first, first + count):
        case = merge_case if seed % 3 else tower_case
        with tempfile.TemporaryDirectory() as folder:
            try:
                end = case(seed, Path(folder))
            except BaseException as error:
                error.add_note(f"{case.__name__}, seed {seed}")
                raise
        ends[end] = ends.get(end, 0) + 1
    return ends


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    sys.stdout.write(f"{campaign(given.count, given.first)}\n")
