"""``merge``: what counts, what is refused, and that nothing of a user's is written over."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.zoo.conversion import image_tower, to_transformers
from bench.zoo.encoders import ENCODERS
from mergeshift import Notice
from methods import merge as merge_states
from tests.helpers.toy_sweep import Outcome, everything

NAMES = ("visual.a.weight", "visual.b.bias")


@pytest.fixture
def states(tmp_path) -> dict[str, dict[str, torch.Tensor]]:
    """A base and two experts, also as files."""
    random = np.random.default_rng(0)
    base = {name: random.standard_normal((8, 8)).astype(np.float32) for name in NAMES}
    found = {"base": base}
    for name in ("a", "b"):
        found[name] = {k: v + random.normal(0, 0.1, v.shape).astype(np.float32)
                       for k, v in base.items()}  # fmt: skip
    tensors = {name: {k: torch.from_numpy(v) for k, v in s.items()} for name, s in found.items()}
    for name, state in tensors.items():
        save_file(state, tmp_path / f"{name}.safetensors")
    return tensors


@pytest.fixture
def run(command, tmp_path, states) -> Callable[..., Outcome]:
    """Average experts, by default into a file that is not there."""

    def run(
        *experts: object, base: object = "base.safetensors", out: object = "out.safetensors",
        more: tuple = (), method: str = "average",
    ) -> Outcome:  # fmt: skip
        words = ["merge", "--method", method, "--base", tmp_path / str(base), *more]
        for expert in experts:
            words += ["--expert", tmp_path / str(expert)]
        return command(*words, "-o", tmp_path / str(out))

    return run


@pytest.fixture
def refused(run, tmp_path) -> Callable[..., str]:
    """As ``run``, and nothing is written or changed."""

    def refused(*words: object, **more: object) -> str:
        before = everything(tmp_path)
        error = run(*words, **more).error
        assert everything(tmp_path) == before
        return error

    return refused


def mean(*states: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {k: np.mean([s[k].double().numpy() for s in states], axis=0) for k in states[0]}


def assert_merged(path: Path, expected: dict[str, np.ndarray]) -> None:
    found = load_file(path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-6, atol=1e-7)


# -- experts that are given twice ----------------------------------------------------------------


def test_an_expert_that_is_given_twice_counts_twice(run, states, tmp_path):
    """A soup that weighs one double."""
    done = run("a.safetensors", "a.safetensors", "b.safetensors")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert "merged 3 experts with average" in done.out
    assert "hold the same weights, which count as often as they are given" in done.err
    assert_merged(tmp_path / "out.safetensors", mean(states["a"], states["a"], states["b"]))


@pytest.mark.parametrize("how", ["another path", "a copy", "a link", "another format", "a prefix"])
def test_however_it_is_called_twice_is_twice(how, run, states, tmp_path):
    other = tmp_path / "other.safetensors"
    match how:
        case "another path":
            other = tmp_path / "." / "x" / ".." / "a.safetensors"
            (tmp_path / "x").mkdir()
        case "a copy":
            other.write_bytes((tmp_path / "a.safetensors").read_bytes())
        case "a link":
            other.symlink_to("a.safetensors")
        case "another format":
            other = tmp_path / "other.pt"
            torch.save({"state_dict": states["a"]}, other)
        case "a prefix":
            save_file({f"module.{k}": v for k, v in states["a"].items()}, other)
    done = run("a.safetensors", other, "b.safetensors")
    assert done.code == 0, done.err
    assert "merged 3 experts" in done.out
    assert done.err.startswith("note: experts ")
    assert_merged(tmp_path / "out.safetensors", mean(states["a"], states["a"], states["b"]))


def test_settings_may_be_joined_by_commas(run, tmp_path):
    ways = ["keep=0.5,scale=2.0,merge=sum"], ["keep=0.5", "scale=2.0, merge=sum"]
    for number, given in enumerate(ways):
        more = tuple(word for setting in given for word in ("--set", setting))
        out = f"{number}.safetensors"
        done = run("a.safetensors", "b.safetensors", method="ties", more=more, out=out)
        assert done.code == 0, done.err
        assert all(text in done.out for text in ("'keep': 0.5", "'merge': 'sum'", "'scale': 2.0"))
    first, second = (load_file(tmp_path / f"{number}.safetensors") for number in range(2))
    assert all(torch.equal(first[name], second[name]) for name in NAMES)


# -- two programs' names for one model -----------------------------------------------------------


@pytest.mark.parametrize("ours", ["base", "expert"])
def test_a_base_and_experts_in_the_names_of_two_programs_are_refused(ours, command, tmp_path):
    tower = dict(ENCODERS["toy-vit"].base().items())
    tensors = {
        "open_clip": {f"visual.{k}": v.contiguous() for k, v in tower.items()},
        "transformers": to_transformers({k: v + 0.01 for k, v in tower.items()}),
    }
    for name, state in tensors.items():
        save_file(state, tmp_path / f"{name}.safetensors")
    base, expert = sorted(tensors, reverse=ours == "expert")
    words, out = ("merge", "--method", "average", "--base"), ("-o", tmp_path / "o.safetensors")
    files = {name: tmp_path / f"{name}.safetensors" for name in tensors}
    error = command(*words, files[base], "--expert", files[expert], *out).error
    assert f"{base}.safetensors has its tensors in {base}'s names" in error
    assert f"{expert}.safetensors in {expert}'s" in error
    told = f"zoo export --weights {tmp_path / 'open_clip.safetensors'} --encoder NAME -o FOLDER"
    assert told in error
    exported = told.replace("NAME", "toy-vit").replace("FOLDER", str(tmp_path / "made"))
    assert command(*exported.split()).code == 0
    files["open_clip"] = tmp_path / "made"
    done = command(*words, files[base], "--expert", files[expert], *out)
    assert done.code == 0, done.err
    merged = image_tower(load_file(tmp_path / "o.safetensors"), "it")
    for name, tensor in merged.items():
        wanted = tower[name] + 0.01 * (ours == "base")
        torch.testing.assert_close(tensor, wanted)


def test_one_expert_is_no_experts(run):
    assert "merged 1 expert with average" in run("a.safetensors").out


def test_experts_that_differ_are_nothing_to_note(run):
    assert run("a.safetensors", "b.safetensors").err == ""


# -- experts that are none -----------------------------------------------------------------------


def test_the_base_itself_is_noted_and_counts(run, states, tmp_path):
    done = run("base.safetensors", "b.safetensors")  # WiSE-FT, at one half
    assert done.code == 0
    assert done.err == (
        f"note: expert {tmp_path}/base.safetensors holds the base's own weights: merging it adds "
        "nothing to the others\n"
    )
    assert_merged(tmp_path / "out.safetensors", mean(states["base"], states["b"]))


@pytest.mark.parametrize("scale", [1, -1, 0.3, 0])
def test_a_task_vector_is_noted(scale, run, states, tmp_path):
    tau = {k: scale * (v - states["base"][k]) for k, v in states["a"].items()}
    save_file(tau, tmp_path / "tau.safetensors")
    done = run("tau.safetensors", "b.safetensors")
    assert done.code == 0
    assert done.err.count("\n") == 1
    assert "tau.safetensors is " in done.err
    assert "times as large as the base: is it a task vector?" in done.err
    with pytest.warns(Notice, match="expert 1 is .* times as large as the base"):
        merge_states("average", states["base"], [tau, states["b"]])


def test_an_adapter_is_refused(refused, tmp_path):
    """huggingface/peft: adapter_model.safetensors alone is no model."""
    for i, (one, other) in enumerate((
        ("base_model.model.a.lora_A.weight", "base_model.model.a.lora_B.weight"),
        ("visual.a.lora_A.default.weight", "visual.a.base_layer.weight"),
        ("lora_unet_a.lora_down.weight", "lora_unet_a.lora_up.weight"),
        ("a.hada_w1_a", "a.hada_w1_b"),
    )):  # fmt: skip
        save_file({one: torch.ones(2, 8), other: torch.ones(8, 2)}, tmp_path / f"{i}.safetensors")
        error = refused(f"{i}.safetensors")
        assert f"expert {tmp_path}/{i}.safetensors is an adapter" in error
        assert "merge_and_unload()" in error


# -- weights that are quantised ------------------------------------------------------------------


def quantised(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings(action="ignore"):  # torch says that it will go; files stay
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


WHOLE = torch.randint(-128, 128, (8, 8), generator=torch.Generator().manual_seed(0))
QUANTISED = {
    "bitsandbytes, 8 bits": {"visual.a.weight": WHOLE.to(torch.int8),
                             "visual.a.SCB": torch.ones(8)},
    "bitsandbytes, 4 bits": {"visual.a.weight": WHOLE.abs().to(torch.uint8).view(-1, 1),
                             "visual.a.weight.absmax": torch.ones(1)},
    "GPTQ": {"visual.a.qweight": WHOLE.int(), "visual.a.scales": torch.ones(1, 8)},
    "AWQ": {"visual.a.qzeros": WHOLE.int(), "visual.a.scales": torch.ones(1, 8)},
    "compressed-tensors": {"visual.a.weight_packed": WHOLE.int(),
                           "visual.a.weight_scale": torch.ones(8, 1)},
    "fp8 with scales": {"visual.a.weight": torch.ones(8, 8).to(torch.float8_e4m3fn),
                        "visual.a.weight_scale": torch.ones(1)},
    "whole numbers": {name: WHOLE.to(torch.int8) for name in NAMES},
    "no name of a weight": {"w": WHOLE.to(torch.int8), "scale": torch.ones(1)},
    "16 bits": {"visual.a.weight": WHOLE.to(torch.int16), "visual.b.bias": torch.ones(8, 8)},
}  # fmt: skip


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_weights_are_refused(kind, refused, tmp_path):
    """Not left out, which would return the base's (github.com/arcee-ai/mergekit/issues/75)."""
    state = QUANTISED[kind]
    save_file(state, tmp_path / "q.safetensors")
    torch.save({"model": state}, tmp_path / "q.pt")
    for name in ("q.safetensors", "q.pt"):
        error = refused(name)
        assert f"{tmp_path / name} holds quantised weights (" in error
        assert "give the floating-point model" in error
        assert refused("a.safetensors", base=name).startswith(f"{tmp_path / name} holds quantised")


def test_a_quantised_model_of_torch_is_refused(refused, states, tmp_path):
    whole = quantised(states["a"][NAMES[0]])
    torch.save({**states["a"], NAMES[0]: whole}, tmp_path / "q.pt")
    assert "holds quantised weights (visual.a.weight is qint8)" in refused("q.pt")
    with pytest.raises(Exception, match="expert 1 holds quantised weights"):
        merge_states("average", states["base"], [{**states["a"], NAMES[0]: whole}])


def test_complex_weights_are_refused_and_not_taken_from_the_base(refused, states, tmp_path):
    for name in ("base", "a"):
        save_file({**states[name], "fourier": torch.ones(2, dtype=torch.complex64)},
                  tmp_path / f"{name}.safetensors")  # fmt: skip
    assert "holds complex numbers in fourier" in refused("a.safetensors")


def test_buffers_of_whole_numbers_are_no_quantised_weights(run, states, tmp_path):
    """Counters, positions, masks: those of the base are written, as ever."""
    buffers = {
        "bn.num_batches_tracked": torch.tensor(7),
        "embeddings.position_ids": torch.arange(50)[None],
        "attn.relative_position_index": torch.arange(49 * 49).view(49, 49),
        "h.0.attn.bias": torch.ones(1, 1, 6, 6, dtype=torch.uint8).tril(),  # the mask of GPT-2
        "mask": torch.ones(4, 4, dtype=torch.bool).tril(),
        "te._extra_state": torch.arange(9, dtype=torch.uint8),
    }
    for name in ("base", "a", "b"):
        more = {k: v + (name != "base") if k.startswith("bn") else v for k, v in buffers.items()}
        save_file(states[name] | more, tmp_path / f"{name}.safetensors")
    done = run("a.safetensors", "b.safetensors")
    assert done.code == 0, done.err
    found = load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(found[name], buffer) for name, buffer in buffers.items())


# -- where it is written -------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["base.safetensors", "a.safetensors", "b.safetensors"])
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_an_input_is_never_written_over(out, force, refused):
    assert f"{out} is one of the inputs" in refused(
        "a.safetensors", "b.safetensors", out=out, more=force
    )  # fmt: skip


@pytest.mark.parametrize("how", ["dots", "symbolic", "hard", "folder"])
def test_an_input_by_another_name_is_an_input(how, refused, tmp_path):
    out = tmp_path / "other.safetensors"
    if how == "dots":
        (tmp_path / "x").mkdir()
        out = tmp_path / "x" / ".." / "base.safetensors"
    elif how == "symbolic":
        out.symlink_to(tmp_path / "base.safetensors")
    elif how == "hard":
        os.link(tmp_path / "base.safetensors", out)
    else:
        (tmp_path / "model").mkdir()
        (tmp_path / "base.safetensors").rename(tmp_path / "model" / "model.safetensors")
        out = tmp_path / "model" / "model.safetensors"
    base = "model" if how == "folder" else "base.safetensors"
    assert "is one of the inputs" in refused("a.safetensors", out=out, base=base, more=("--force",))


def test_what_is_there_is_replaced_with_force_alone(run, refused, states, tmp_path):
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"something of mine")
    assert refused("a.safetensors") == (
        f"{out} is there already; replace it with --force, or give another -o"
    )
    assert run("a.safetensors", more=("--force",)).code == 0
    assert_merged(out, mean(states["a"]))
    out.unlink()
    out.symlink_to(tmp_path / "nowhere")
    assert "is there already" in refused("a.safetensors")
    out.unlink()
    out.mkdir()
    assert "is a folder" in refused("a.safetensors", more=("--force",))


def test_an_export_replaces_no_model_unasked(command, tmp_path):
    from bench.zoo.encoders import ENCODERS

    save_file(dict(ENCODERS["toy-vit"].base()), tmp_path / "mine.safetensors")
    words = ("zoo", "export", "--encoder", "toy-vit", "-o", tmp_path, "--weights")
    assert command(*words, tmp_path / "mine.safetensors").code == 0
    before = everything(tmp_path)
    assert (
        "model.safetensors is there already" in command(*words, tmp_path / "mine.safetensors").error
    )
    for own in (tmp_path, tmp_path / "model.safetensors"):
        assert "is one of the inputs" in command(*words, own, "--force").error
    assert everything(tmp_path) == before
    assert command(*words, tmp_path / "mine.safetensors", "--force").code == 0
