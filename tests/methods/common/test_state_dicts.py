"""Wrappers and prefixes: what was saved around a state dict, and in front of its names."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mergeshift import Notice, UserError
from methods import merge
from methods.common.state_dicts import (
    Checkpoint,
    aligned,
    load_checkpoint,
    plain_names,
    under,
    unwrapped,
)
from methods.common.weights import Weights

NAMES = ("visual.conv1.weight", "visual.ln.bias", "text.w")


def state(seed: int = 0, names: tuple[str, ...] = NAMES) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(2, 3, generator=random) for name in names}


def named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


A, B = state(0), state(1)
ADAM = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2, 3)}}, "param_groups": []}
BY_NAME = {"state": {"text.w": {"exp_avg": torch.ones(2, 3)}}}  # FSDP's optimizers name tensors


def is_state(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(torch.equal(found[k], expected[k]) for k in found)


# -- wrappers ------------------------------------------------------------------------------------

WRAPPED = {
    "nothing": A,
    "state_dict": {"state_dict": A},
    "open_clip": {"epoch": 3, "name": "run", "state_dict": A, "optimizer": ADAM,
                  "scaler": {"scale": torch.tensor(2.0)}},
    "Lightning": {"epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.4", "state_dict": A,
                  "loops": {"fit_loop": {"state_dict": {}}}, "lr_schedulers": [{"last_epoch": 3}],
                  "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.3)}},
                  "optimizer_states": [ADAM], "hparams_name": "args", "hyper_parameters": {"a": 1}},
    "model": {"model": A, "optimizer": BY_NAME, "lr_scheduler": {"base_lrs": [0.1]}},
    "model_state_dict": {"model_state_dict": A, "optimizer_state_dict": ADAM, "loss": 0.1},
    "DeepSpeed": {"module": A, "optimizer": None, "lr_scheduler": {"a": torch.ones(2)}},
    "an average alone": {"model": None, "ema": A},
    "a wrapper in a wrapper": {"checkpoint": {"model": {"state_dict": A}, "epoch": 3}},
    "a counter beside it": {"model": A, "step": torch.tensor(3), "loss": torch.tensor(0.3)},
    "junk beside tensors": {**A, "epoch": 3, "version": "1", "best": None, "_extra_state": b"x"},
    "an ordered dict": OrderedDict(A),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPED)
def test_what_stands_around_a_state_dict_is_taken_off(kind, tmp_path):
    assert is_state(unwrapped(WRAPPED[kind]), A)
    torch.save(WRAPPED[kind], tmp_path / "x.pt")
    found = load_checkpoint(tmp_path / "x.pt")
    assert is_state(dict(found.weights), A)
    assert not found.others


def test_several_state_dicts_keep_their_keys():
    found = unwrapped({"model": A, "model_ema": B, "epoch": 3})
    assert is_state(found, {**named("model.", A), **named("model_ema.", B)})
    nested = {"visual": {"conv1": {"weight": torch.ones(1)}}, "text": {"w": torch.zeros(1)}}
    assert list(unwrapped(nested)) == ["visual.conv1.weight", "text.w"]  # of JAX
    beside = unwrapped({"queue": torch.ones(9), "model": A})
    assert is_state(beside, {"queue": torch.ones(9), **named("model.", A)})


@pytest.mark.parametrize(("content", "said"), [
    (ADAM, "its keys are e.g. state, param_groups"),
    ({"optimizer": BY_NAME, "epoch": 3}, "its keys are e.g. optimizer, epoch"),
    ({"epoch": 3, "loss": 0.1}, "its keys are e.g. epoch, loss"),
    ({}, "it is empty"),
    ({3: torch.ones(1)}, "its keys are e.g. 3"),
    ([torch.ones(1)], "but a list"),
    (torch.ones(1), "but a Tensor"),
    (3, "but a int"),
    ({"model": {"model": {}}}, "its keys are e.g. model"),
])  # fmt: skip
def test_what_holds_no_weights_says_what_it_holds(content, said, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt is not a state dict") as caught:
        load_checkpoint(tmp_path / "x.pt")
    assert said in str(caught.value)


def test_a_dict_within_dicts_ends(tmp_path):
    deep: dict = {"w": torch.ones(1)}
    for _ in range(200):
        deep = {"model": deep}
    with pytest.raises(UserError, match="is not a state dict"):
        _load(deep, tmp_path)


def _load(content: object, folder: Path) -> Checkpoint:
    torch.save(content, folder / "x.pt")
    return load_checkpoint(folder / "x.pt")


@pytest.mark.parametrize(("tensor", "said"), [
    (torch.empty(3, device="meta"), "without numbers (on the device meta)"),
    (torch.eye(3).to_sparse(), "sparse or nested"),
    (torch.ones(3, dtype=torch.complex64), "complex numbers"),
])  # fmt: skip
def test_tensors_that_are_no_plain_numbers_are_refused(tensor, said, tmp_path):
    with pytest.raises(UserError) as caught:
        _load({"v": torch.ones(1), "w": tensor}, tmp_path)
    assert said in str(caught.value)


def test_a_part_of_a_sharded_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="a part of a model that FSDP has flattened"):
        _load({"_fsdp_wrapped_module._flat_param": torch.ones(9)}, tmp_path)


def test_only_whole_numbers_are_nothing_to_merge(tmp_path):
    with pytest.raises(UserError, match=r"holds no floating-point tensor; it has e\.g\. steps"):
        _load({"steps": torch.tensor(3)}, tmp_path)
    with pytest.raises(UserError, match="the base holds no floating-point tensor"):
        merge("average", {"steps": torch.tensor(3)}, [A])


def test_a_name_never_makes_a_second_line(tmp_path):
    with pytest.raises(UserError) as caught:
        merge("average", A, [{"a\nb\x1b[31m": torch.ones(1)}])
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


# -- prefixes ------------------------------------------------------------------------------------

INSIDE = {
    "_fsdp_wrapped_module.visual._fsdp_wrapped_module.conv1.weight": A["visual.conv1.weight"],
    "_fsdp_wrapped_module.visual.ln._checkpoint_wrapped_module.bias": A["visual.ln.bias"],
    "_fsdp_wrapped_module.text.w": A["text.w"],
}
FRONTS = [
    "module.",
    "_orig_mod.",
    "model.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "net.",
    "model.module.",
    "state_dict.",
    "_forward_module.model.",
    "clip.",
    "backbone.encoder.",
]


@pytest.mark.parametrize("front", FRONTS)
def test_what_all_names_share_is_cut_or_put_in_front(front):
    """DDP, torch.compile, Lightning: github.com/pytorch/pytorch/issues/41048, timm's 2003."""
    expected = merge("average", A, [A, B])
    assert is_state(merge("average", A, [A, named(front, B)]), expected)
    assert is_state(merge("average", named(front, A), [A, B]), named(front, expected))
    both = merge("average", named(front, A), [named(front, A), named(front, B)])
    assert is_state(both, named(front, expected))


def test_wrappers_within_names_are_cut():
    assert list(plain_names(INSIDE)) == list(NAMES)
    assert is_state(merge("average", B, [INSIDE]), A)
    assert list(aligned(Weights(B), Weights(INSIDE), "it")) == list(INSIDE)
    assert list(merge("average", INSIDE, [B])) == list(INSIDE)


def test_two_wrappers_are_one_model():
    expected = merge("average", A, [B])
    assert is_state(merge("average", named("model.", A), [named("module.", B)]),
                    named("model.", expected))  # fmt: skip


def test_what_becomes_two_of_one_name_stays():
    twice = {"a.w": torch.ones(1), "_orig_mod.a.w": torch.zeros(1)}
    assert plain_names(twice) == {name: name for name in twice}
    with pytest.raises(UserError, match=r"holds 2 models, one without, _orig_mod\.: which\?"):
        merge("average", {"a.w": torch.ones(1)}, [twice])


def test_one_of_two_models_is_asked_for_unless_they_are_one():
    two = {**named("student.", A), **named("teacher.", B)}
    with pytest.raises(UserError) as caught:
        merge("average", A, [two])
    assert str(caught.value) == (
        "expert 1 holds 2 models, student., teacher.: which? --tower PREFIX takes one"
    )
    same = {**named("student.", B), **named("teacher.", B)}
    with pytest.warns(Notice, match=r"expert 1: student is taken, 3 other names are left out"):
        assert is_state(merge("average", A, [same]), B)
    (taken,) = under("teacher", [Checkpoint(Weights(two), {}, ())])
    assert is_state(dict(taken.weights), B)
    with pytest.raises(UserError, match="no file has a tensor under 'pupil'"):
        under("pupil", [Checkpoint(Weights(two), {}, ())])


def test_what_is_left_out_is_said():
    """A Lightning module has its loss and metrics beside the model."""
    more = {**named("model.", B), "loss.weight": torch.ones(9)}
    with pytest.warns(Notice, match=r"model is taken, 1 other names are left out, e\.g\. loss\.w"):
        assert is_state(merge("average", A, [more]), B)


@pytest.mark.parametrize(("base", "expert"), [
    (named("visual.", state(0, ("a.w",))), named("text.", state(1, ("a.w",)))),  # other towers
    (A, {**B, "head.weight": torch.ones(2)}),  # a head beside it
    (A, {**named("model.", B), "model.head": torch.ones(2)}),
    (A, {k: v for k, v in B.items() if k != "text.w"}),
    (A, named("module", B)),  # no dot: no prefix
    (A, {**B, "text.w": torch.ones(3, 2)}),
    (A, named("module.", {**B, "text.w": torch.ones(3, 2)})),
])  # fmt: skip
def test_what_is_another_architecture_is_refused(base, expert):
    with pytest.raises(UserError, match="expert 1 does not fit the base"):
        merge("average", base, [expert])


def test_modules_in_wrappers_are_merged():
    """The real ones: DataParallel, and the attribute of a module as Lightning has it."""
    torch.manual_seed(0)
    base, one, two = (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)) for _ in range(3))
    holder = nn.Module()
    holder.model = two
    wrapped = [nn.DataParallel(one).state_dict(), holder.state_dict()]
    expected = merge("ties", base.state_dict(), [one.state_dict(), two.state_dict()])
    assert is_state(merge("ties", base.state_dict(), wrapped), expected)
