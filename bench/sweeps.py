"""The sweeps that have a name, and those in TOML files."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from bench.config import REFERENCES, STATIC, Sweep
from mergeshift import Registry, UserError, read_text

SWEEPS: Registry[Sweep] = Registry("sweep")

HEADLINE = (*REFERENCES, *STATIC, "tsv", "regmean", "adamerging", "twin_merging")

# Images of a task, to test on and to tune on. What other experts change is more than what 200
# further images would; one number for all, so that a sweep goes on from the cells of another.
IMAGES: dict[str, Any] = {"limit": 300, "val_limit": 300}

for _sweep in (
    Sweep(name="main", **IMAGES, methods=(*HEADLINE, "adamerging_task", "adamerging_pp")),
    # With several sets of experts, differences may be called real. What main measured is there.
    Sweep(name="expert-sets", **IMAGES, expert_seeds=(0, 1, 2), methods=HEADLINE),
    Sweep(name="routed", **IMAGES, seeds=(0, 1, 2), methods=(
        "pretrained", "average", *STATIC, "tsv", "regmean", "adamerging_task", "adamerging",
        "adamerging_pp", "twin_merging", "oracle_router", "centroid_router", "ce_router",
        "entropy_router", "logit_ensemble", "individual")),
    Sweep(name="bd", **IMAGES, seeds=(0, 1, 2), methods=(
        "pretrained", "average", *STATIC, "adamerging", "twin_merging", "bd_merging_task",
        "bd_merging", "individual")),
    # Without Conf all neighbours of an image are alike, L_Dis is 0: the line "no Conf" would be
    # that of contrast=false.
    Sweep(name="bd-ablation", **IMAGES, shifts=("clean", "L2"), methods=(
        "pretrained", "average", "bd_merging", *(f"bd_merging[{part}=false]" for part in (
            "router", "ads", "contrast", "div", "sharp")), "bd_merging[spread=0]", "individual")),
    # Four and four, as in the paper. What is unseen lies near to what is seen and far from it:
    # optdigits by mnist (digits of other hands), letters by scripts (the same typefaces),
    # brainplane by texture (crops of grey photographs), animals by nothing (silhouettes).
    Sweep(name="bd-unseen", **IMAGES, seeds=(0, 1, 2), methods=(
        "pretrained", "average", *STATIC, "adamerging", "twin_merging", "bd_merging_task",
        "bd_merging", "individual"), unseen=("optdigits", "animals", "brainplane", "letters")),
    Sweep(name="bmm", **IMAGES, seeds=(0, 1, 2), shifts=("clean",), methods=(
        "pretrained", "average", "task_arithmetic", "tsv", "wudi", "regmean",
        *(f"{method}[anchor={anchor}]" for method in ("anchor_scales", "bmm_datafree", "bmm")
          for anchor in ("ta", "tsv", "wudi")),
        "bmm_hybrid", "bmm_sampled", "individual")),
    # Every method that gives one model, beside the references.
    Sweep(name="field", **IMAGES, methods=(
        "pretrained", "average", "karcher", "wise_ft", *STATIC,
        *(f"dare[on={on}]" for on in ("average", "ta", "ties")), "magmax", "consensus_ta",
        "consensus_ties", *(f"lines[on={on}]" for on in ("ta", "ties", "tsv")), "tsv", "iso_c",
        "iso_cts", "wudi", "doge", "opcm", "dc_merge", "widen", "do_merging", "knots", "fisher",
        "ota", "ota_ffg", "regmean", "regmean_pp", "adamerging_task", "adamerging", "adamerging_pp",
        "concrete_ta", "concrete_adamerging", "dam", "fw_merging", "fw_merging_soft",
        *(f"tent[on={on}]" for on in ("average", "ta")), "map", "map_nested",
        "evo_merging", "mwa", "anchor_scales", "bmm_datafree",
        "bmm_hybrid", "bmm", "multitask", "individual")),
    # One of the experts is backdoored: `table --metric attack_rate --by task --shift
    # patch_trigger@3` says how often the trigger works, on its task and on the others.
    Sweep(name="backdoor", suite="pocket8_backdoor", **IMAGES,
        shifts=("clean", "patch_trigger@3"), methods=(
            "pretrained", "average", *STATIC, "tsv", "magmax", "consensus_ta", "regmean",
            "adamerging", "concrete_adamerging", "dam", "dam[alpha=1]", "dam[term=consistency]",
            "twin_merging", "individual")),
    # Beside main: experts of six tasks that nobody measures take part.
    Sweep(name="irrelevant", **IMAGES, extra_experts=(
        "climate", "icons", "speaker", "emoji", "kanji", "language"), methods=(
        "pretrained", "average", *STATIC, "tsv", "regmean", "adamerging_task", "adamerging",
        "fw_merging", "fw_merging_soft", "map", "individual")),
    # A longer search begins as a shorter one does: 32 are the first third of 100.
    Sweep(name="bmm-trials", **IMAGES, seeds=(0, 1, 2), shifts=("clean",), methods=(
        "pretrained", "tsv", *(f"{method}[trials={trials}]" for trials in (32, 100)
          for method in ("anchor_scales", "bmm_datafree", "bmm")), "individual")),
    # A task of pocket8 has 142 to 500 images to adapt on: more take all of them.
    Sweep(name="bmm-calibration", **IMAGES, seeds=(0, 1, 2), shifts=("clean",), methods=(
        "pretrained", "tsv", *(f"{method}[calibration={images}]" for method in ("bmm", "bmm_hybrid")
          for images in (0, 16, 64, 256, 1024)), "individual")),
    # Accuracy against the scale, clean and shifted: `plot scale`. The plain lines are tuned; TIES's
    # other constants are those that tuning chooses on pocket8.
    Sweep(name="scale", **IMAGES, shifts=("clean", "L2"), methods=(
        "pretrained", "individual", *STATIC, "tsv", *(f"{line}scale={scale}]" for line in (
            "task_arithmetic[", "ties[keep=0.5,merge=sum,", "tsv[")
            for scale in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)))),
    Sweep(name="smoke", suite="toy", shifts=("clean", "contrast@5"), limit=24),
    # mCE needs equal severities of every corruption, and clean for its relative form.
    Sweep(name="all19", limit=200, val_limit=200, shifts=("clean", "all19@1,3,5"), methods=(
        "pretrained", "average", *STATIC, "individual")),
    Sweep(name="severity", **IMAGES, shifts=(
        "clean", "motion_blur", "impulse_noise", "gaussian_noise", "pixelate", "spatter",
        "contrast", "jpeg_compression")),
):  # fmt: skip
    SWEEPS.add(_sweep.name, _sweep)


def read_sweep(path: Path) -> Sweep:
    """A sweep from a TOML file.

    Raises:
        UserError: no such file, not TOML, a field that a sweep does not have, or a wrong type.
    """
    try:
        values = tomllib.loads(read_text(path))
    except FileNotFoundError:
        raise UserError(f"no sweep file {path}; named sweeps: {', '.join(SWEEPS)}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a TOML file") from None
    except ValueError as error:  # not TOML, or not even text
        raise UserError(f"{path} is not TOML: {error}") from None
    return with_fields(Sweep(name=path.stem), values)


def with_fields(sweep: Sweep, values: Mapping[str, Any]) -> Sweep:
    """``sweep`` with some fields replaced; lists become tuples.

    ``expert_seed``, a number, is the former name of ``expert_seeds``.
    """
    values = _renamed(values)
    known = {f.name: getattr(sweep, f.name) for f in fields(sweep)}
    new: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise UserError(f"a sweep has no field {name!r}; it has: {', '.join(known)}")
        new[name] = tuple(value) if isinstance(value, list) else value
        may_lack = name in ("limit", "val_limit")  # None: all images
        wanted = int if may_lack else type(known[name])
        if type(new[name]) is not wanted and not (may_lack and value is None):
            kind = "a list" if wanted is tuple else f"of type {wanted.__name__}"
            raise UserError(f"{name} of a sweep is {kind}; got {value!r}")
        if wanted is tuple:
            item = int if name in ("seeds", "expert_seeds") else str
            if any(type(part) is not item for part in new[name]):
                raise UserError(f"{name} of a sweep is a list of {item.__name__}; got {value!r}")
    return replace(sweep, **new)


def _renamed(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fields of a sweep by their names of now."""
    if "expert_seed" not in values:
        return values
    others = {name: value for name, value in values.items() if name != "expert_seed"}
    if type(one := values["expert_seed"]) is not int:
        raise UserError(f"expert_seed of a sweep is of type int; got {one!r}")
    if "expert_seeds" in others:
        raise UserError("a sweep has expert_seeds, a list, or expert_seed, a number; give one")
    return others | {"expert_seeds": [one]}


def find_sweep(name: str) -> Sweep:
    """A named sweep, or the one in a TOML file."""
    return read_sweep(Path(name)) if name.endswith(".toml") else SWEEPS[name]
