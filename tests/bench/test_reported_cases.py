"""Cases of public bug reports, from the command line to the number or the line that is right.

Those that end before or after a sweep lie elsewhere: a huge picture (tests/tasks/sources/
test_readers.py), files of predictions (reporting/test_own_names.py), names of lines, ranges of
seeds (cli/test_words.py), an expert given twice (cli/test_merge.py), two towers and other
activations (zoo/test_unclear_weights.py), figures (tests/results/plots/test_readable.py).
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from results.store import Store
from tests.helpers.small_encoder import NAME
from tests.helpers.toy_sweep import Outcome

COUNT = 12  # pictures of a class in a part


def colours(label: int, rng: np.random.Generator, size: int = 48) -> np.ndarray:
    """A noisy patch with one strong channel.  ``uint8 [size, size, 3]``."""
    patch = rng.integers(0, 60, (size, size, 3))
    patch[..., label % 3] += 150
    return patch.astype(np.uint8)


def write(
    root: Path,
    parts: tuple[str, str] = ("train", "test"),
    suffix: str = "png",
    make: Callable[[int, np.random.Generator], np.ndarray] = colours,
) -> None:
    """Pictures of two classes in two parts, the same whatever their folders are called."""
    rng = np.random.default_rng(0)
    for part in parts:
        for label, name in enumerate(("cat", "dog")):
            for number in range(COUNT):
                path = root / part / name / f"{number}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(make(label, rng)).save(path)


@pytest.fixture
def sweep(command, small_encoder, tmp_path, monkeypatch) -> Callable[[Path], Outcome]:
    """Average the experts of all tasks of a folder, made here, and measure them."""
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))

    def sweep(data: Path) -> Outcome:
        return command(
            "sweep", "--suite", "vision_local", "--data-dir", data, "--encoder", NAME,
            "--methods", "average", "--shifts", "clean", "--no-tune", "--wandb", "off",
            "--jobs", "1", "--out", data.parent / f"out-{data.name}",
        )  # fmt: skip

    return sweep


def answers(data: Path) -> tuple[float, int]:
    """What a sweep measured: accuracy, and images."""
    rows = Store(data.parent / f"out-{data.name}").read()
    (row,) = rows[rows["metric"] == "acc"].to_dict("records")
    return row["value"], row["n"]


def test_parts_in_capitals_are_measured_as_others(sweep, tmp_path):
    for name, parts in (("small", ("train", "test")), ("large", ("Train", "Test"))):
        write(tmp_path / name / "signs", parts)
        done = sweep(tmp_path / name)
        assert done.code == 0, done.err
    assert answers(tmp_path / "small") == answers(tmp_path / "large")
    assert answers(tmp_path / "large")[1] == 20  # two of twelve of a class are adapt and val


def test_16_bits_are_measured_as_8(sweep, tmp_path):
    def grey(bits: int) -> Callable[[int, np.random.Generator], np.ndarray]:
        def make(label: int, rng: np.random.Generator) -> np.ndarray:
            shades = np.clip(rng.normal((210, 90)[label], 12, (48, 48)), 40, 255)
            return (shades.astype(np.uint8) * np.uint16(257)) if bits == 16 else shades.astype("u1")

        return make

    for bits in (8, 16):
        write(tmp_path / f"data{bits}" / "xray", make=grey(bits))
        assert sweep(tmp_path / f"data{bits}").code == 0
    assert answers(tmp_path / "data8") == answers(tmp_path / "data16")


def test_an_unusual_suffix_loses_no_picture(sweep, tmp_path):
    root = tmp_path / "data" / "pets"
    write(root, suffix="jpg")
    for path in sorted(root.rglob("dog/*.jpg")):
        path.rename(path.with_suffix(".jfif"))
    done = sweep(tmp_path / "data")
    assert done.code == 0, done.err
    assert answers(tmp_path / "data")[1] == 20


def test_a_missing_picture_is_said_before_experts_are_trained(sweep, tmp_path):
    rng, root = np.random.default_rng(0), tmp_path / "data" / "table"
    root.mkdir(parents=True)
    for part, holes in (("train", 0), ("test", 1)):
        rows = []
        for number in range(24):
            file = io.BytesIO()
            Image.fromarray(colours(number % 2, rng)).save(file, "PNG")
            whole = {"bytes": file.getvalue(), "path": None}
            rows.append({"image": None if number < holes else whole, "label": number % 2})
        pq.write_table(pa.Table.from_pylist(rows), root / f"{part}.parquet")
    error = sweep(tmp_path / "data").error
    assert error.startswith("row 0 of the test part of")
    assert "has no picture" in error
    assert not list((tmp_path / "home").rglob("experts/**/*.safetensors"))


@pytest.fixture
def states(tmp_path) -> dict[str, dict[str, torch.Tensor]]:
    """A base and two experts; base and the second as files."""
    generator = torch.Generator().manual_seed(0)
    names = ("visual.a.weight", "visual.b.weight")
    found = {key: {name: torch.randn(8, 8, generator=generator) for name in names}
             for key in ("base", "a", "b")}  # fmt: skip
    for key in ("base", "b"):
        save_file(found[key], tmp_path / f"{key}.safetensors")
    return found


WRAPPERS = ("module.", "_orig_mod.", "state_dict", "model", "model_state_dict")


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_prefixes_and_wrappers_are_taken_off(wrapper, command, states, tmp_path):
    if wrapper.endswith("."):
        path = tmp_path / "expert.safetensors"
        save_file({wrapper + name: tensor for name, tensor in states["a"].items()}, path)
    else:
        front = "module." if wrapper == "state_dict" else ""
        inner = {front + name: tensor for name, tensor in states["a"].items()}
        path = tmp_path / "expert.pt"
        torch.save({"epoch": 3, "name": "run", wrapper: inner}, path)
    done = command("merge", "--method", "average", "--base", tmp_path / "base.safetensors",
                   "--expert", path, "--expert", tmp_path / "b.safetensors",
                   "-o", tmp_path / "out.safetensors")  # fmt: skip
    assert done.code == 0, done.err
    merged = load_file(tmp_path / "out.safetensors")
    assert merged.keys() == states["base"].keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, (states["a"][name] + states["b"][name]) / 2)


def test_an_archive_of_torchscript_is_called_what_it_is(command, states, tmp_path):
    path = tmp_path / "ViT-B-32.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 3)), str(path))
    files = "--expert", tmp_path / "b.safetensors", "-o", tmp_path / "out.safetensors"
    error = command("merge", "--method", "average", "--base", path, *files).error
    assert "TorchScript" in error
    assert "safetensors" in error
    assert not any(word in error for word in ("damaged", "delete", "weights_only"))
