"""Arithmetic on whole models: right, lazy, and strict about what it is given."""

import pickle
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mergeshift import DamagedFileError, UserError
from methods.common.state_dicts import load_checkpoint
from methods.common.weights import Weights, check_finite, save_checkpoint, total

SHAPES = {"m": (2, 3), "v": (4,), "s": ()}


def random_weights(seed: int) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return Weights({k: torch.randn(shape, generator=generator) for k, shape in SHAPES.items()})


class Source:
    """Weights that remember which names were read."""

    def __init__(self, weights: Weights):
        self.reads: list[str] = []
        self.weights = Weights.lazy(SHAPES, lambda name: self.reads.append(name) or weights[name])


# -- arithmetic ----------------------------------------------------------------------------------


def test_arithmetic_equals_numpy():
    a, b, c = (random_weights(seed) for seed in range(3))
    x, y, z = (w.flat().numpy() for w in (a, b, c))
    np.testing.assert_array_equal((a + b).flat(), x + y)
    np.testing.assert_array_equal((a - b).flat(), x - y)
    np.testing.assert_array_equal((0.3 * a).flat(), np.float32(0.3) * x)
    np.testing.assert_array_equal((a * 2).flat(), x * 2)
    np.testing.assert_array_equal(a.map(torch.abs).flat(), np.abs(x))
    np.testing.assert_array_equal(a.zip(torch.maximum, b).flat(), np.maximum(x, y))
    np.testing.assert_allclose((a + 0.5 * (b - c)).flat(), x + 0.5 * (y - z), rtol=1e-6)


def test_total_adds_in_the_given_order_and_spares_its_operands():
    # in float32 (1e8 + -1e8) + 1 = 1, but (1 + 1e8) + -1e8 = 0
    big, negative, one = (Weights({"w": torch.tensor(v)}) for v in (1e8, -1e8, 1.0))
    assert total([big, negative, one])["w"] == 1
    assert total([one, big, negative])["w"] == 0
    assert big["w"] == 1e8
    assert total([one])["w"] == 1


def test_names_shapes_and_counts_are_known_without_reading():
    source = Source(random_weights(0))
    expression = total([source.weights, 2 * source.weights]) - source.weights
    assert list(expression) == list(SHAPES)
    assert expression.shape("m") == (2, 3)
    assert expression.num_entries == 6 + 4 + 1
    assert len(expression) == 3
    assert "m" in expression
    assert "x" not in expression
    assert repr(expression) == "Weights(3 tensors, 11 entries)"
    assert source.reads == []


def test_reading_a_name_evaluates_that_tensor_alone():
    source, other = Source(random_weights(0)), random_weights(1)
    expression = other + 0.5 * (source.weights - other)
    assert expression["v"].shape == (4,)
    assert source.reads == ["v"]
    held = expression.materialise()
    assert source.reads == ["v", "m", "v", "s"]
    assert held["m"] is held["m"]
    assert len(source.reads) == 4
    torch.testing.assert_close(held.flat(), expression.flat(), rtol=0, atol=0)


def test_half_precision_is_merged_in_float32_and_double_stays():
    half = Weights({"w": torch.tensor([1 / 3], dtype=torch.bfloat16)})
    # in bfloat16 0.334 * 1.01 would be rounded to 8 bits
    torch.testing.assert_close((1.01 * half)["w"], 1.01 * half["w"], rtol=1e-7, atol=0)
    assert (half + half)["w"].dtype == torch.float32
    assert Weights({"w": torch.zeros(1, dtype=torch.float64)})["w"].dtype == torch.float64


def test_a_module_gives_its_floating_part_as_a_copy():
    module = nn.BatchNorm1d(3)
    weights = Weights.of(module)
    assert list(weights) == ["weight", "bias", "running_mean", "running_var"]
    module.weight.data.zero_()
    assert weights["weight"].tolist() == [1, 1, 1]


def test_integers_are_refused():
    with pytest.raises(TypeError, match=r"others: e\.g\. steps"):
        Weights({"steps": torch.arange(3)})


def test_a_rule_that_changes_the_shape_is_a_bug():
    with pytest.raises(AssertionError, match="turned m to"):
        random_weights(0).map(torch.flatten)["m"]


def test_other_names_are_refused_with_examples():
    other = Weights({"m": torch.zeros(2, 3), "v": torch.zeros(4), "t": torch.zeros(())})
    with pytest.raises(UserError, match=r"2 names are in only one of the two, e\.g\. s, t; give"):
        random_weights(0) - other


def test_other_shapes_are_refused_with_examples():
    other = Weights({**random_weights(0), "v": torch.zeros(5)})
    with pytest.raises(UserError, match=r"1 shapes differ, e\.g\. v is \(4,\) and \(5,\)"):
        total([random_weights(0), other])


def test_an_unknown_name_is_a_key_error():
    with pytest.raises(KeyError):
        (random_weights(0) + random_weights(1))["x"]


@pytest.mark.parametrize(("value", "kind"), [("nan", "NaN"), ("inf", "Inf"), ("-inf", "Inf")])
def test_what_is_not_finite_is_named(value, kind):
    bad = Weights({**random_weights(0), "v": torch.tensor([0, float(value), 0, 0])})
    with pytest.raises(UserError, match=f"expert 3 holds {kind} in v; "):
        check_finite(bad, "expert 3")
    check_finite(random_weights(0), "the base")


# -- files ---------------------------------------------------------------------------------------

STATE = {
    "w": torch.tensor([[1.5, -2.0]]),
    "h": torch.tensor([0.25], dtype=torch.bfloat16),
    "steps": torch.tensor([7]),
}


@pytest.fixture(params=["safetensors", "torch", "torch, wrapped", "torch, old format"])
def checkpoint(request, tmp_path) -> Path:
    path = tmp_path / "x.pt"
    if request.param == "safetensors":
        path = tmp_path / "x.safetensors"
        save_checkpoint(path, STATE, {"made by": "a test"})
    elif request.param == "torch, wrapped":
        torch.save({"state_dict": STATE}, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=request.param == "torch")
    return path


def test_a_checkpoint_comes_back(checkpoint):
    found = load_checkpoint(checkpoint)
    weights, others = found.weights, found.others
    assert set(weights) == {"w", "h"}
    assert weights["w"].tolist() == [[1.5, -2.0]]
    assert weights["h"].tolist() == [0.25]
    assert weights["h"].dtype == torch.float32
    assert others["steps"].tolist() == [7]
    assert list(others) == ["steps"]


@pytest.mark.parametrize("left", [0, 1, 7, 60, -1])
def test_a_truncated_file_is_named_as_damaged(checkpoint, left):
    checkpoint.write_bytes(checkpoint.read_bytes()[:left])
    with pytest.raises(UserError, match=checkpoint.name) as caught:
        load_checkpoint(checkpoint)
    assert "\n" not in str(caught.value)


def test_a_truncated_safetensors_file_is_a_damaged_file(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, STATE)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=r"x\.safetensors is damaged"):
        Weights.open(path)


class Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["x.pt", "x.pkl", "x.bin", "x.safetensors"])
@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_is_refused_and_never_run(tmp_path, name, write):
    path, mark = tmp_path / name, tmp_path / "it ran"
    with path.open("wb") as file:
        write({"w": Bomb(mark)}, file)
    with pytest.raises(UserError, match=name):
        load_checkpoint(path)
    assert not mark.exists()
    with path.open("rb") as file:
        torch.load(file, weights_only=False) if write is torch.save else pickle.load(file)
    assert mark.exists()  # the bomb was real


def test_what_is_not_a_state_dict_is_refused(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt is not a state dict"):
        load_checkpoint(tmp_path / "x.pt")


def test_a_missing_file_is_named(tmp_path):
    for name in ("x.pt", "x.safetensors"):
        with pytest.raises(UserError, match=f"no checkpoint at .*{name}"):
            load_checkpoint(tmp_path / name)


def test_a_prefix_selects_and_is_cut_off(tmp_path):
    save_file({"visual.w": torch.ones(1), "text.w": torch.zeros(1)}, tmp_path / "x.safetensors")
    weights = Weights.open(tmp_path / "x.safetensors", prefix="visual.")
    assert list(weights) == ["w"]
    assert weights["w"].item() == 1
    with pytest.raises(UserError, match=r"under 'image\.'; it has e\.g\. text\.w, visual\.w"):
        Weights.open(tmp_path / "x.safetensors", prefix="image.")


def test_views_and_shared_tensors_are_saved(tmp_path):
    path, matrix = tmp_path / "deep" / "x.safetensors", torch.arange(6.0).view(2, 3)
    save_checkpoint(path, {"a": matrix, "b": matrix.T, "c": matrix[0]})
    assert load_file(path)["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    again = Weights.open(path)  # memory-mapped tensors too
    save_checkpoint(tmp_path / "y.safetensors", again)
    assert torch.equal(Weights.open(tmp_path / "y.safetensors").flat(), again.flat())


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"w": torch.ones(3)})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*x\.safetensors.*free some space"):
            save_checkpoint(path, {"w": torch.ones(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, old)
    assert Weights.open(path)["w"].tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [path]
