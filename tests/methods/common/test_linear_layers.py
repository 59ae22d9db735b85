"""Which tensors are matrices, and models whose matrices are made when they are read."""

import pytest
import torch
from torch import nn

from methods.common.linear_layers import (
    linear_layers,
    merge_matrices,
    modules_of,
    task_vectors_of,
    with_layers,
)
from methods.common.vit import GramOps, ViT, init_weights, parameters_of
from methods.common.weights import Weights
from methods.contract import TASKS, VIT, small_checkpoints
from tests.helpers.counting_experts import counted

DEEP = ViT(image_size=32, patch_size=16, width=8, layers=12, heads=2, output_dim=4)


def zeros(**shapes: tuple) -> Weights:
    return Weights({name: torch.zeros(shape) for name, shape in shapes.items()})


def covered(modules) -> dict[str, list[tuple[int, int]]]:
    """Parameter -> the rows of its modules."""
    found: dict[str, list[tuple[int, int]]] = {}
    for module in modules:
        found.setdefault(module.name, []).append((module.rows.start, module.rows.stop))
    return found


# -- which ---------------------------------------------------------------------------------------


def test_the_blocks_have_four_matrices_each_in_order_whatever_the_order_of_the_names():
    base = init_weights(DEEP, torch.Generator().manual_seed(0))
    shuffled = Weights({name: base[name] for name in sorted(base)})  # block 10 before block 2
    modules = modules_of(shuffled, split=False)
    assert modules == modules_of(base, split=False)
    assert [module.block for module in modules] == [i for i in range(12) for _ in range(4)]
    assert [module.group for module in modules] == ["qkv", "out", "fc1", "fc2"] * 12
    for module in modules:
        assert parameters_of(module.layer)[0] == module.name
        assert base[module.name][module.rows].shape == base.shape(module.name)


def test_every_linear_layer_of_a_block_is_a_module_and_its_gram_fits():
    ckpts = small_checkpoints()
    ops = GramOps(ckpts.base)
    ops.observe(torch.zeros(1, 3, 32, 32), VIT)
    modules = modules_of(ckpts.base, split=True)
    assert {module.layer for module in modules} == ops.grams.keys() - {"proj"}
    for module in modules:
        assert len(ops.grams[module.layer]) == ckpts.base[module.name][module.rows].shape[1]


def test_q_k_and_v_are_three_modules_of_one_parameter_and_one_gram():
    base = small_checkpoints().base
    split = modules_of(base, split=True)
    assert len(split) == 6 * VIT.layers
    first = "transformer.resblocks.0.attn.in_proj_weight"
    assert covered(split)[first] == [(0, 32), (32, 64), (64, 96)]
    assert {m.layer for m in split if m.name == first} == {"transformer.resblocks.0.attn.in_proj"}
    assert covered(split).keys() == covered(modules_of(base, split=False)).keys()


def test_towers_within_a_larger_model_are_found_one_after_the_other():
    tower = init_weights(DEEP, torch.Generator().manual_seed(0))
    both = {f"{p}{name}": tower[name] for name in tower for p in ("visual.", "")}
    modules = modules_of(Weights(both), split=False)
    assert len(modules) == 2 * 4 * 12
    assert not any(module.name.startswith("visual.") for module in modules[:48])
    assert all(module.layer.startswith("visual.transformer") for module in modules[48:])


def test_other_names_have_no_blocks_and_then_every_tensor_of_two_axes_counts():
    base = zeros(**{"fc.weight": (3, 2), "fc.bias": (3,), "conv": (2, 2, 1, 1), "none": (0, 4),
                    "text_projection": (4, 4), "head": (5, 2)})  # fmt: skip
    assert modules_of(base, split=False) == []
    for which in ("blocks", "all"):
        modules = linear_layers(base, which, split=False)
        assert [(m.name, m.layer) for m in modules] == [("fc.weight", "fc"), ("head", "head")]
        assert {(m.group, m.block) for m in modules} == {("other", -1)}


def test_all_adds_what_is_outside_the_blocks():
    base = small_checkpoints().base
    blocks = linear_layers(base, "blocks", split=True)
    assert blocks == modules_of(base, split=True)
    every = linear_layers(base, "all", split=True)
    assert every[: len(blocks)] == blocks
    assert [module.name for module in every[len(blocks) :]] == ["positional_embedding", "proj"]


def test_torchs_own_attention_is_split_like_open_clips():
    layer = Weights.of(nn.TransformerEncoderLayer(4, 2, 8))
    rows = covered(linear_layers(layer, "blocks", split=True))
    assert rows["self_attn.in_proj_weight"] == [(0, 4), (4, 8), (8, 12)]
    assert rows["linear1.weight"] == [(0, 8)]
    fused = covered(linear_layers(layer, "blocks", split=False))
    assert fused["self_attn.in_proj_weight"] == [(0, 12)]


def test_what_only_looks_like_it_is_left_alone():
    name = "transformer.resblocks.0.attn.in_proj_weight"
    assert modules_of(zeros(**{name: (6,)}), split=True) == []  # a vector
    odd = modules_of(zeros(**{name: (5, 2)}), split=True)  # rows that are not q, k and v
    assert covered(odd) == {name: [(0, 5)]}
    assert modules_of(zeros(**{name + ".0": (6, 2)}), split=True) == []


# -- made when read ------------------------------------------------------------------------------


def test_a_matrix_is_made_when_it_is_read_and_the_rest_is_read_elsewhere():
    rest, made = small_checkpoints().base, []

    def make(name, parts):
        made.append((name, len(parts)))
        return torch.full(rest.shape(name), 7.0)

    modules = modules_of(rest, split=True)
    model = with_layers(rest, modules, make)
    assert list(model) == list(rest)
    assert made == []
    name = modules[0].name
    assert (model[name] == 7).all()
    assert torch.equal(model["proj"], rest["proj"])
    assert made == [(name, 3)]


@pytest.mark.parametrize("split", [False, True])
def test_reading_one_name_reads_that_tensor_of_each_expert_once(split):
    ckpts, reads = counted(small_checkpoints())
    modules = modules_of(ckpts.base, split=split)
    model = merge_matrices(ckpts, ckpts.base, modules, lambda taus: taus.sum(0))
    assert not reads
    name = modules[0].name
    got = model[name]
    assert reads == {(task, name): 1 for task in TASKS}
    want = ckpts.base[name] + sum(expert[name] - ckpts.base[name] for expert in
                                  ckpts.experts.values())  # fmt: skip
    torch.testing.assert_close(got, want)
    assert got.dtype == torch.float32


def test_every_module_is_merged_by_itself_and_scaled():
    ckpts = small_checkpoints()
    sizes = []

    def merge(taus):
        sizes.append(tuple(taus.shape))
        return torch.full(taus.shape[1:], float(len(sizes)), dtype=taus.dtype)

    modules = modules_of(ckpts.base, split=True)[:3]
    got = merge_matrices(ckpts, ckpts.base, modules, merge, 0.5)[modules[0].name]
    assert sizes == [(3, 32, 32)] * 3
    moved = got - ckpts.base[modules[0].name]
    want = torch.tensor([0.5, 1.0, 1.5]).repeat_interleave(32)[:, None].expand(96, 32)
    torch.testing.assert_close(moved, want)


def test_task_vectors_are_the_float32_differences_in_float64():
    ckpts = small_checkpoints()
    got = task_vectors_of(ckpts, "proj")
    assert got.dtype == torch.float64
    for tau, want in zip(got, ckpts.task_vectors, strict=True):
        assert torch.equal(tau.float(), want["proj"])
