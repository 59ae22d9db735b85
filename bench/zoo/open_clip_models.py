"""CLIP as OpenAI trained it, and any other CLIP of open_clip: fetched once, then kept here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor
from torch.nn import functional as F

from bench.config import digest
from bench.runtime import devices
from bench.zoo.heads import of_templates
from bench.zoo.hub import Place, commit_of, fetch, fetch_either
from mergeshift import DamagedFileError, UserError, home, read_json, sha256_of, write_json
from methods.common.vit import ViT
from methods.common.weights import Weights, open_safetensors, save_checkpoint
from tasks import Task

PARTS = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")  # of a configuration of a plain CLIP
SIZES = ("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size")
TRAINING = ("patch_dropout",)  # of a tower, without a meaning when it is evaluated
TOKENIZERS = ("hf_model_name", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs")
PREPROCESSING = {"interpolation": "bicubic", "resize_mode": "shortest"}  # how pictures are resized
HUB = "hf-hub:"  # in front of a repository that open_clip has no name for
FILE = "open_clip_model.safetensors"
TEXTS = 256  # prompts that go through the text tower at once
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the pixels that CLIP was trained on
STD = (0.26862954, 0.26130258, 0.27577711)

B32 = ViT(224, 32, width=768, layers=12, heads=12, output_dim=512, quick_gelu=True)
B16 = ViT(224, 16, width=768, layers=12, heads=12, output_dim=512, quick_gelu=True)
L14 = ViT(224, 14, width=1024, layers=24, heads=16, output_dim=768, quick_gelu=True)


@dataclass(frozen=True)
class OpenClip:
    """A pretrained CLIP: which it is, and where its copy lies.

    The copy is one safetensors file with both towers, float32; its hash is the identity of
    whatever is made from it. Once it is there, nothing is asked of the hub.
    """

    model: str  # open_clip's name, or "hf-hub:OWNER/REPOSITORY"
    pretrained: str  # open_clip's tag; empty for a repository
    vit: ViT  # what the image tower must be
    revision: str = "main"

    @property
    def path(self) -> Path:
        """The copy; its manifest lies beside it and is written last."""
        readable = re.sub(r"[^\w.-]", "_", f"{self.model}-{self.pretrained}".strip("-"))
        which = digest((self.model, self.pretrained, self.revision))[:8]
        return home() / "encoders" / f"{readable}-{which}.safetensors"

    @property
    def manifest(self) -> Path:
        """JSON: where it is from, its configuration, sha256 of the copy."""
        return self.path.with_suffix(".json")

    def is_ready(self) -> bool:
        """Whether the copy is there."""
        return self.manifest.exists() and self.path.exists()

    def facts(self) -> dict[str, Any]:
        """The manifest; the copy is made if need be."""
        if not self.is_ready():
            self.make()
        return read_json(self.manifest)

    def identity(self) -> str:
        """16 hex digits of the copy's sha256; the copy is made if need be."""
        return self.facts()["sha256"][:16]

    def base(self) -> Weights:
        """The image tower, memory-mapped."""
        self.facts()
        return Weights.open(self.path, prefix="visual.")

    def scale(self) -> float:
        """What the model multiplies cosines by."""
        self.facts()
        return float(Weights.open(self.path)["logit_scale"].exp())

    def make(self) -> None:
        """Fetch the model, check it and copy it.

        Raises:
            UserError: it cannot be had, or is not what this entry says.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            if self.is_ready():
                return
            place, file, config = self._download()
            model = _model(config)
            _fill(model, _tensors(file, model), str(place))
            if (found := ViT.of(model.visual)) != self.vit:
                raise UserError(f"{place} is {found}; expected {self.vit}")
            save_checkpoint(self.path, _floats(model))
            write_json(self.manifest, {
                "model": self.model, "pretrained": self.pretrained, "config": config,
                "source": asdict(place), "commit": commit_of(file),
                "sha256": sha256_of(self.path),
            })  # fmt: skip

    def _download(self) -> tuple[Place, Path, dict[str, Any]]:
        """The file of weights, and the configuration."""
        import open_clip

        if self.model.startswith(HUB):
            name, own = self.model.removeprefix(HUB), ""
            path = fetch(Place(name, "open_clip_config.json", self.revision))
            config = read_json(path)["model_cfg"]
        else:
            tag = open_clip.get_pretrained_cfg(self.model, self.pretrained)
            name, own = split_place(tag.get("hf_hub", ""))
            config = open_clip.get_model_config(self.model)
        if not name or not config or config.get("custom_text"):
            raise UserError(f"open_clip has no plain CLIP {self.model!r}, {self.pretrained!r}")
        return *fetch_either(Place(name, own or FILE, self.revision), bars=True), config

    def load(self) -> tuple[Any, Any]:
        """The whole model, and the tokenizer of its text tower."""
        from open_clip.tokenizer import SimpleTokenizer

        config = self.facts()["config"]
        model = _model(config)
        with open_safetensors(self.path) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _fill(model, tensors, str(self.path))
        length = config["text_cfg"].get("context_length", 77)
        return model.eval().requires_grad_(False), SimpleTokenizer(context_length=length)

    def heads(self, tasks: Sequence[Task]) -> dict[str, Tensor]:
        """Zero-shot heads by prompt ensembles.  task -> ``[C, D]``, unit rows times the scale.

        Of every class the features of all its prompts are made unit vectors, averaged, and made a
        unit vector again, as CLIP's authors do.
        """
        model, tokenize = self.load()
        device = devices.device()
        del model.visual
        model.to(device)
        with torch.inference_mode():
            scale = model.logit_scale.exp()
            found = {}
            for task in tasks:
                parts = tokenize(task.prompts).to(device).split(TEXTS)
                unit = torch.cat([F.normalize(model.encode_text(part), dim=-1) for part in parts])
                found[task.name] = (scale * of_templates(unit, task.num_classes)).cpu().clone()
        return found


def split_place(place: str) -> tuple[str, str]:
    """A place on the hub as open_clip writes it: the repository, and a file if it names one.

    >>> split_place("timm/vit_base.openai/"), split_place("apple/DFN/model.bin"), split_place("")
    (('timm/vit_base.openai', ''), ('apple/DFN', 'model.bin'), ('', ''))
    """
    owner, _, rest = place.strip("/").partition("/")
    name, _, file = rest.partition("/")
    return f"{owner}/{name}".strip("/"), file


def by_tag(model: str, tag: str) -> tuple[OpenClip, Mapping[str, Any]]:
    """A CLIP by open_clip's names of it, and what it says of its pixels; nothing is downloaded.

    Args:
        model: one that has a configuration in open_clip, ``ViT-B-32``.
        tag: of its weights, ``laion2b_s34b_b79k``.

    Raises:
        UserError: open_clip has no such model or tag, or a part of it is not computed here.
    """
    import open_clip

    config = open_clip.get_model_config(model)
    if config is None:
        raise UserError(_unknown("model", model, open_clip.list_models()))
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise UserError(_unknown(f"weights of {model}", tag, tags))
    facts = open_clip.get_pretrained_cfg(model, tag)
    vit = vit_of(config, f"{model}:{tag}")
    trained = bool(facts.get("quick_gelu"))
    if trained != vit.quick_gelu:
        other = f"{model}-quickgelu" if trained else model.removesuffix("-quickgelu")
        raise UserError(
            f"{model} computes with another GELU than {tag} was trained with; write {other}:{tag}"
        )
    for name, wanted in PREPROCESSING.items():
        if facts.get(name, wanted) != wanted:
            raise UserError(
                f"{model}:{tag} was trained on pictures with {name} {facts[name]!r}; here they "
                f"are resized with {wanted!r} alone"
            )
    if not facts.get("hf_hub"):
        raise UserError(f"{model}:{tag} does not lie on the hub; import it with zoo import")
    return OpenClip(model, tag, vit), facts


def vit_of(config: Mapping[str, Any], what: str) -> ViT:
    """The image tower of a configuration of open_clip.

    Args:
        config: what ``open_clip.get_model_config`` gives.
        what: begins the message of an error.

    Raises:
        UserError: it is no plain CLIP with a vision transformer; the message names the part.
    """
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    vision = {name: value for name, value in config["vision_cfg"].items() if name not in TRAINING}
    usual = asdict(CLIPVisionCfg())
    odd = [name for name in config if name not in PARTS]
    odd += [name for name, value in vision.items()
            if name not in SIZES and usual.get(name) != value]  # fmt: skip
    whole = {**{name: usual[name] for name in SIZES}, **vision}
    odd += [name for name in SIZES if not isinstance(whole[name], (int, float))]
    text = {**asdict(CLIPTextCfg()), **config["text_cfg"]}
    odd += [name for name in TOKENIZERS if text[name]]
    if odd:
        raise UserError(
            f"{what} is no plain CLIP with a vision transformer: it has {', '.join(odd)}; its "
            "image tower or its text tower is not computed here"
        )
    return ViT(
        image_size=whole["image_size"],
        patch_size=whole["patch_size"],
        width=whole["width"],
        layers=whole["layers"],
        heads=whole["width"] // whole["head_width"],
        output_dim=config["embed_dim"],
        mlp_ratio=float(whole["mlp_ratio"]),
        quick_gelu=bool(config.get("quick_gelu")),
    )


def _unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """What is said of a name that open_clip does not know."""
    close = get_close_matches(name, known, n=3, cutoff=0.4) or list(known[:3])
    return f"open_clip has no {kind} named {name!r}; it has {', '.join(close)} ... ({len(known)})"


def _model(config: dict[str, Any]) -> Any:
    """An untrained CLIP of open_clip's."""
    from open_clip.model import CLIP

    return CLIP(**{name: config[name] for name in PARTS if name in config})


def _tensors(path: Path, model: Any) -> dict[str, Tensor]:
    """What a file of open_clip's holds, in the names that ``model`` has now."""
    from open_clip.convert import convert_state_dict
    from open_clip.factory import load_state_dict

    try:
        return convert_state_dict(model, load_state_dict(str(path), weights_only=True))
    except Exception as error:  # whatever a parser raises on damaged bytes
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedFileError(f"{path} is damaged ({why}); delete it, run again") from error


def _fill(model: Any, tensors: dict[str, Tensor], what: str) -> None:
    """Load ``tensors``, all of them and no other.

    Raises:
        UserError: names or shapes differ.
    """
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise UserError(f"{what} does not fit its configuration: other shapes") from error
    odd = [name for name in missing if not name.endswith("attn_mask")] + list(unexpected)
    if odd:
        raise UserError(f"{what} does not fit its configuration: {len(odd)} names, {odd[:3]}")


def _floats(model: Any) -> dict[str, Tensor]:
    state = model.state_dict()
    return {name: t.float() for name, t in state.items()
            if t.is_floating_point() and not name.endswith("attn_mask")}  # fmt: skip
