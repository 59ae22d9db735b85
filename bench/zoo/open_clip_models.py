"""CLIP as OpenAI trained it, and any other CLIP of open_clip: fetched once, then kept here."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
            name = self.model.removeprefix(HUB)
            path = fetch(Place(name, "open_clip_config.json", self.revision))
            config = read_json(path)["model_cfg"]
        else:
            tag = open_clip.get_pretrained_cfg(self.model, self.pretrained)
            name = tag.get("hf_hub", "").strip("/")
            config = open_clip.get_model_config(self.model)
        if not name or not config or config.get("custom_text"):
            raise UserError(f"open_clip has no plain CLIP {self.model!r}, {self.pretrained!r}")
        return *fetch_either(Place(name, FILE, self.revision), bars=True), config

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


def _model(config: dict[str, Any]) -> Any:
    """An untrained CLIP of open_clip's."""
    from open_clip.model import CLIP

    known = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
    return CLIP(**{name: config[name] for name in known if name in config})


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
