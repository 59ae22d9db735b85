"""CLIP's image tower in the names of transformers and of open_clip: the same numbers, exactly.

open_clip fuses the queries, keys and values of a layer into one matrix and keeps the projection to
features as ``[in, out]``; transformers keeps all of them apart, and ``[out, in]``.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mergeshift import UserError
from methods.common.state_dicts import plain_names, require_model, same
from methods.common.vit import ViT
from methods.common.weights import Weights, check_finite, some

Names = dict[str, tuple[str, ...]]  # one of open_clip's -> those of transformers, to be joined

PROJECTION = "visual_projection.weight"  # of transformers; beside the tower, not in it
WRAPPED = "vision_model."  # in front of the tower's names in most files of transformers
MARK = "embeddings.patch_embedding.weight"  # a name that tells transformers' towers
OPEN_CLIP, TRANSFORMERS = "open_clip", "transformers"  # whose names they are
IGNORED = {"embeddings.position_ids", PROJECTION}  # 0, 1, 2, ...; and what is read apart


def names(layers: int) -> Names:
    """Every parameter of a tower with ``layers`` blocks, but the projection."""
    found: Names = {
        "class_embedding": ("embeddings.class_embedding",),
        "conv1.weight": (MARK,),
        "positional_embedding": ("embeddings.position_embedding.weight",),
    }
    parts = [("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")]  # the typo is theirs
    for i in range(layers):
        ours, theirs = f"transformer.resblocks.{i}.", f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            qkv = (f"{theirs}self_attn.{part}_proj.{kind}" for part in "qkv")
            found[f"{ours}attn.in_proj_{kind}"] = tuple(qkv)
        inner = [("ln_1", "layer_norm1"), ("attn.out_proj", "self_attn.out_proj"),
                 ("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1"),
                 ("mlp.c_proj", "mlp.fc2")]  # fmt: skip
        parts += [(ours + mine, theirs + other) for mine, other in inner]
    for mine, other in parts:
        found |= {f"{mine}.{kind}": (f"{other}.{kind}",) for kind in ("weight", "bias")}
    return found


def from_transformers(
    state: Mapping[str, Tensor], projection: Tensor | None = None, what: str = "this file"
) -> dict[str, Tensor]:
    """A ``CLIPVisionModel`` of transformers in open_clip's names.

    Args:
        state: its tensors, with nothing in front of their names.
        projection: ``[W, D]`` to features, where the file has none; the base's, as it is not
            trained with such a model.
        what: begins the message of an error.

    Raises:
        UserError: there is no projection, or names are missing or foreign.
    """
    known = names(sum(name.endswith("layer_norm1.weight") for name in state))
    theirs = {name for group in known.values() for name in group}
    if odd := sorted(theirs ^ (state.keys() - IGNORED)):
        raise UserError(
            f"{what} is not a CLIPVisionModel: {len(odd)} names are missing or foreign, {some(odd)}"
        )
    proj = state[PROJECTION].T.contiguous() if PROJECTION in state else projection
    if proj is None:
        raise UserError(
            f"{what} has no {PROJECTION}; give a CLIPVisionModelWithProjection, or the base's"
        )
    found = {mine: torch.cat([state[name] for name in group]) for mine, group in known.items()}
    return {"proj": proj, **found}


def to_transformers(tower: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of :func:`from_transformers`: a ``CLIPVisionModelWithProjection``.

    ``CLIPVisionModel`` reads it as well, and leaves the projection.
    """
    layers = sum(name.endswith("attn.in_proj_weight") for name in tower)
    found = {PROJECTION: tower["proj"].T.contiguous()}
    for mine, group in names(layers).items():
        for name, part in zip(group, tower[mine].chunk(len(group)), strict=True):
            found[WRAPPED + name] = part.clone()
    return found


def config_of(vit: ViT) -> dict[str, Any]:
    """The ``config.json`` that transformers builds a model of this architecture from."""
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "hidden_size": vit.width,
        "intermediate_size": int(vit.width * vit.mlp_ratio),
        "num_hidden_layers": vit.layers,
        "num_attention_heads": vit.heads,
        "image_size": vit.image_size,
        "patch_size": vit.patch_size,
        "projection_dim": vit.output_dim,
        "hidden_act": "quick_gelu" if vit.quick_gelu else "gelu",
        "layer_norm_eps": 1e-5,
        "num_channels": 3,
        "attention_dropout": 0.0,
        "dtype": "float32",
    }


def image_tower(
    state: Mapping[str, Tensor],
    what: str,
    projection: Tensor | None = None,
    wanted: str = "",
    vit: ViT | None = None,
) -> dict[str, Tensor]:
    """The image tower in a state dict of transformers or open_clip, in open_clip's names.

    It may be a tower alone, one in a whole CLIP, or either in a wrapper of somebody's (the
    checkpoints of task arithmetic and of tall_masks have ``model.visual.`` in front).

    Args:
        state: name -> tensor, of any floating type; integers are left out.
        what: begins the message of an error.
        projection: see :func:`from_transformers`.
        wanted: of several towers that whose names begin so.
        vit: of several towers that of this architecture, if it is one alone.

    Returns:
        float32

    Raises:
        UserError: there is no such tower, or there are several and it is not said which.
    """
    state = {name: tensor.float() for name, tensor in state.items() if tensor.is_floating_point()}
    require_model(state, what)
    state = {name: state[given] for name, given in plain_names(state).items()}
    prefix = _chosen(state, what, wanted, vit)
    if f"{prefix}{MARK}" in state:
        outer = prefix.removesuffix(WRAPPED)
        inner = {**_below(prefix, state), **_only(PROJECTION, _below(outer, state))}
        return from_transformers(inner, projection, what)
    tower = _below(prefix, state)
    return tower if "proj" in tower or projection is None else {"proj": projection, **tower}


def towers_in(names: Iterable[str]) -> list[str]:
    """What stands in front of the names of each image tower; the shorter first.

    >>> towers_in(["visual.conv1.weight", "visual.class_embedding", "ema.embeddings.x"])
    ['visual.']
    """
    known = set(names)
    theirs = [name.removesuffix(MARK) for name in known if f".{name}".endswith(f".{MARK}")]
    convolutions = [n for n in known if f".{n}".endswith(".conv1.weight")]
    ours = [name.removesuffix("conv1.weight") for name in convolutions]
    found = theirs + [prefix for prefix in ours if f"{prefix}class_embedding" in known]
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def format_of(names: Iterable[str]) -> str:
    """Whose names an image tower has: open_clip's or transformers'; nothing where there is none.

    >>> format_of(["visual.conv1.weight", "visual.class_embedding"]), format_of(["a", "b"])
    ('open_clip', '')
    """
    known = set(names)
    if not towers_in(known):
        return ""
    return TRANSFORMERS if any(f".{n}".endswith(f".{MARK}") for n in known) else OPEN_CLIP


def require_one_format(given: Sequence[tuple[str, Iterable[str]]]) -> None:
    """Refuse to merge image towers whose names are of two programs.

    Args:
        given: of every model how it was called, and the names of its tensors; the base first.

    Raises:
        UserError: it says which is which, and how they become alike.
    """
    formats = {path: format_of(names) for path, names in given}
    base = next(iter(formats))
    for path, form in formats.items():
        if form and formats[base] and form != formats[base]:
            ours = base if formats[base] == OPEN_CLIP else path
            raise UserError(
                f"{base} has its tensors in {formats[base]}'s names, {path} in {form}'s: python -m "
                f"bench zoo export --weights {ours} --encoder NAME -o FOLDER writes an image tower "
                "in transformers' names; merge FOLDER with the others"
            )


def _chosen(state: Mapping[str, Tensor], what: str, wanted: str, vit: ViT | None) -> str:
    """The prefix of the tower to take."""
    there = towers_in(state)
    if not there:
        raise UserError(
            f"{what} holds no image tower of CLIP, in neither open_clip's names nor transformers'; "
            f"it has {some(list(state)) if state else 'no tensor'}"
        )
    start = f"{wanted.rstrip('.')}."
    asked = [p for p in there if p.startswith(start) or f".{start}" in f".{p}"] if wanted else there
    if not asked:
        raise UserError(f"{what} has no image tower under {wanted!r}; it has {_listed(there)}")
    found = [p for p in asked if vit is None or _looks_like(_below(p, state), vit)] or asked
    first, *others = (_below(prefix, state) for prefix in found)
    if any(not same(Weights(first), Weights(other)) for other in others):
        raise UserError(
            f"{what} holds {len(found)} image towers, {_listed(found)}: which? "
            "--tower PREFIX takes one"
        )
    return found[0]


def _looks_like(tower: Mapping[str, Tensor], vit: ViT) -> bool:
    """Whether patches and positions are those of an architecture."""
    wanted = {vit.shapes()[name] for name in ("conv1.weight", "positional_embedding")}
    names = ("conv1.weight", MARK, "positional_embedding", "embeddings.position_embedding.weight")
    return {tuple(tower[name].shape) for name in names if name in tower} == wanted


def _listed(prefixes: Sequence[str]) -> str:
    return " and ".join(prefix or "one without a prefix" for prefix in prefixes)


def fitted(
    state: Mapping[str, Tensor],
    vit: ViT,
    what: str,
    projection: Tensor | None = None,
    wanted: str = "",
) -> dict[str, Tensor]:
    """:func:`image_tower`, checked: of this architecture, and finite.

    Raises:
        UserError: it is not.
    """
    tower = image_tower(state, what, projection, wanted, vit)
    vit.require_fit(Weights(tower), what)
    check_finite(Weights(tower), what)
    return {name: tower[name] for name in vit.shapes()}


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): tensor for k, tensor in state.items() if k.startswith(prefix)}


def _only(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[name]} if name in state else {}
