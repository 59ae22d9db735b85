"""What weights do not tell: activation, heads and pixels, from the configuration beside a file.

With another of these the same weights fit, and all numbers are a little off.
"""

import json
from collections import ChainMap
from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any

from mergeshift import UserError
from methods.common.vit import ViT

EPSILON = 1e-5  # of every layer norm here
WORDS = {  # fact -> how a message says it
    "activation": "computes with {}",
    "heads": "computes with {} heads of attention",
    "epsilon": "computes with an epsilon of {} in its layer norms",
    "mean": "takes pixels of the mean {}",
    "std": "takes pixels of the standard deviation {}",
}
PIXELS = ("mean", "std")

Facts = Mapping[str, Any]


def activation(config: Mapping[str, Any]) -> str:
    """The image tower's in a ``config.json``, found as transformers finds it.

    Of a whole CLIP it is that of ``vision_config``, over which ``vision_config_dict`` goes in
    older files; what stands beside these is not read.

    >>> activation({"hidden_act": "gelu"}), activation({"vision_config": {}, "hidden_act": "gelu"})
    ('gelu', 'quick_gelu')
    """
    return str(_vision(config).get("hidden_act", "quick_gelu"))


def of_transformers(config: Mapping[str, Any]) -> Facts:
    """The facts of a ``config.json``; none if it is of no CLIP."""
    kind = str(config.get("model_type", ""))
    if not (kind.startswith("clip") or {"hidden_act", "vision_config"} & config.keys()):
        return {}
    vision = _vision(config)
    return {
        "activation": activation(config),
        "heads": vision.get("num_attention_heads"),
        "epsilon": vision.get("layer_norm_eps"),
    }


def of_open_clip(config: Mapping[str, Any]) -> Facts:
    """The facts of an ``open_clip_config.json``."""
    model, pixels = (config.get(name, {}) for name in ("model_cfg", "preprocess_cfg"))
    vision = model.get("vision_cfg", {}) if isinstance(model, Mapping) else {}
    if not isinstance(vision, Mapping) or "layers" not in vision:
        return {}
    width, head = vision.get("width", 768), vision.get("head_width", 64)
    pixels = pixels if isinstance(pixels, Mapping) else {}
    return {
        "activation": "quick_gelu" if model.get("quick_gelu") else "gelu",
        "heads": width // head if isinstance(width, int) and isinstance(head, int) else None,
        "mean": pixels.get("mean"),
        "std": pixels.get("std"),
    }


def of_preprocessor(config: Mapping[str, Any]) -> Facts:
    """The facts of a ``preprocessor_config.json``."""
    return {"mean": config.get("image_mean"), "std": config.get("image_std")}


FILES = {
    "config.json": of_transformers,
    "open_clip_config.json": of_open_clip,
    "preprocessor_config.json": of_preprocessor,
}


def _vision(config: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = [config.get(name) for name in ("vision_config", "vision_config_dict")]
    parts = [dict(part) for part in nested if isinstance(part, Mapping)] or [dict(config)]
    return ChainMap(*reversed(parts))


def of_encoder(vit: ViT, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Facts:
    """The facts of an encoder here; of its pixels only where they are given."""
    facts = {
        "activation": "quick_gelu" if vit.quick_gelu else "gelu",
        "heads": vit.heads,
        "epsilon": EPSILON,
    }
    return facts | ({"mean": list(mean), "std": list(std)} if mean else {})


def require_same(found: Facts, wanted: Facts, what: str, other: str = "this encoder") -> None:
    """Refuse weights that compute otherwise than what they would be loaded into.

    Raises:
        UserError: a fact that both state is another.
    """
    for name, words in WORDS.items():
        theirs, ours = found.get(name), wanted.get(name)
        if theirs is not None and ours is not None and not _equal(theirs, ours):
            is_said = words.format(theirs)
            raise UserError(f"{what} {is_said}, {other} with {ours}: not the same")


def beside(path: Path) -> dict[str, Facts]:
    """Name of each configuration in the folder of a file of weights -> what it says.

    Raises:
        UserError: one of them cannot be read.
    """
    found = {}
    for name, facts_of in FILES.items():
        file = path.with_name(name)
        if file.is_file():
            try:
                config = json.loads(file.read_bytes())
            except ValueError as error:
                raise UserError(
                    f"{file} is no JSON, and what {path.name} computes with is not known: mend it, "
                    "or move it away if it is not of these weights"
                ) from error
            found[name] = facts_of(config) if isinstance(config, Mapping) else {}
    return found


def require_fit(path: Path, wanted: Facts) -> None:
    """Refuse weights whose configuration, beside them, is not that of an encoder.

    Raises:
        UserError: it says something else.
    """
    for name, found in beside(path).items():
        require_same(found, wanted, f"{path}, by the {name} beside it,")


def require_one_model(paths: Sequence[Path]) -> None:
    """Refuse a base and experts, in this order, that compute differently.

    Raises:
        UserError: the configurations beside them differ.
    """
    base, *experts = map(_all, paths)
    for path, facts in zip(paths[1:], experts, strict=True):
        own = {name: fact for name, fact in facts.items() if name not in PIXELS}
        require_same(own, base, f"expert {path}, by the configuration beside it,", "the base")


def _all(path: Path) -> Facts:
    return {name: fact for facts in beside(path).values() for name, fact in facts.items()}


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return isclose(one, other, rel_tol=1e-3)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
