"""The pocket CLIP: an open_clip model of our own size, and the file that it is kept in."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from mergeshift import DamagedFileError, UserError
from methods.common.vit import ViT
from methods.common.weights import save_checkpoint

POCKET = ViT(image_size=32, patch_size=8, width=192, layers=4, heads=6, output_dim=128)
CONTEXT = 16  # tokens of a prompt, start and end included
TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 64, 2, 2
MEAN, STD = (0.5,) * 3, (0.25,) * 3  # of the pixels, before the encoder, by channel
WORD = re.compile(r"\w+|[^\w\s]")
FILE = Path(__file__).with_name("pocket-vit.safetensors")


@lru_cache(maxsize=1)
def _bpe() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=CONTEXT)


@dataclass(frozen=True)
class Vocabulary:
    """The rows of CLIP's vocabulary that a model keeps, in CLIP's order.

    CLIP's text tower reads the feature at the largest token, the end of text: the order keeps it
    the largest.
    """

    ids: tuple[int, ...]  # CLIP's token numbers, ascending

    @classmethod
    def of(cls, texts: list[str]) -> "Vocabulary":
        """The tokens of ``texts``, and the padding."""
        return cls(tuple(sorted({0, *_bpe()(texts).flatten().tolist()})))

    @classmethod
    def stored(cls, path: Path = FILE) -> "Vocabulary":
        """The vocabulary of a stored model, without the model.

        Raises:
            DamagedFileError: the file is truncated, or holds another model.
        """
        return cls(tuple(_read(path, "token_ids")["token_ids"].tolist()))

    def unknown(self, texts: Iterable[str]) -> list[str]:
        """The words with a token that the model has never seen, each once."""
        known = set(self.ids)
        words = list(dict.fromkeys(word for text in texts for word in WORD.findall(text)))
        lines = _bpe()(words).tolist() if words else []
        return [word for word, line in zip(words, lines, strict=True) if not known.issuperset(line)]

    def readable(self, text: str) -> str:
        """A text without its unknown words; the text itself where all are known."""
        unknown = set(self.unknown([text]))
        return " ".join(w for w in WORD.findall(text) if w not in unknown) if unknown else text

    def encode(self, texts: list[str]) -> Tensor:
        """Rows of the stored table.  ``-> int64 [N, 16]``.

        Raises:
            UserError: a text has a token that the model has never seen.
        """
        tokens = _bpe()(texts)
        row = {token: i for i, token in enumerate(self.ids)}
        for text, line in zip(texts, tokens.tolist(), strict=True):
            if odd := [t for t in line if t not in row]:
                words = _bpe().decode(odd)
                raise UserError(
                    f"the pocket encoder does not know {words!r} in {text!r}: its text tower holds "
                    "the words of the pocket tasks alone; use a CLIP encoder for other classes"
                )
        return tokens.apply_(row.__getitem__)


def new_model(vocabulary: Vocabulary) -> Any:
    """An untrained open_clip CLIP of the pocket size."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(
        layers=POCKET.layers,
        width=POCKET.width,
        head_width=POCKET.width // POCKET.heads,
        patch_size=POCKET.patch_size,
        image_size=POCKET.image_size,
    )
    text = CLIPTextCfg(
        context_length=CONTEXT,
        vocab_size=len(vocabulary.ids),
        width=TEXT_WIDTH,
        heads=TEXT_HEADS,
        layers=TEXT_LAYERS,
    )
    return CLIP(POCKET.output_dim, vision, text)


def save_model(model: Any, vocabulary: Vocabulary, path: Path, recipe: dict[str, Any]) -> None:
    """Write the model, its vocabulary and the recipe it was made by."""
    tensors = {k: v.contiguous() for k, v in model.state_dict().items() if v.is_floating_point()}
    tensors["token_ids"] = torch.tensor(vocabulary.ids)
    save_checkpoint(path, tensors, {"recipe": json.dumps(recipe, sort_keys=True)})


def load_model(path: Path = FILE) -> tuple[Any, Vocabulary]:
    """Inverse of :func:`save_model`.

    Raises:
        DamagedFileError: the file is truncated, or holds another model.
    """
    tensors = _read(path)
    try:
        vocabulary = Vocabulary(tuple(tensors.pop("token_ids").tolist()))
        model = new_model(vocabulary)
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except (KeyError, RuntimeError) as error:  # no vocabulary, or other shapes
        raise DamagedFileError(f"{path} is not a pocket encoder") from error
    if unexpected or any(not name.endswith("attn_mask") for name in missing):
        raise DamagedFileError(f"{path} is not a pocket encoder: {[*missing, *unexpected][:3]}")
    return model.eval().requires_grad_(False), vocabulary


def _read(path: Path, *names: str) -> dict[str, Tensor]:
    """Tensors of a file, by default all."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names or file.keys()}
    except (SafetensorError, OSError) as error:
        raise DamagedFileError(f"{path} is damaged ({error}); restore it with git") from error


def captions(vocabulary: Vocabulary, prompts: Sequence[str], classes: Sequence[str]) -> list[str]:
    """The prompts as far as the model can read them, class by class.

    Args:
        vocabulary: what it knows; an unknown word is left out.
        prompts: one for each class and template, class by class.
        classes: their names.

    Raises:
        UserError: two classes differ in unknown words alone.
    """
    texts = [vocabulary.readable(prompt) for prompt in prompts]
    each = len(texts) // len(classes)
    seen: dict[tuple[str, ...], str] = {}
    for k, name in enumerate(classes):
        own = tuple(texts[k * each : (k + 1) * each])
        if own in seen:
            raise UserError(
                f"the pocket encoder reads {seen[own]!r} and {name!r} alike, as {own[0]!r}: its "
                "text tower holds the words of the pocket tasks alone; take --heads prototypes, "
                "other words in task.json, or a CLIP encoder"
            )
        seen[own] = name
    return texts


def logit_scale(path: Path = FILE) -> float:
    """What the model multiplies cosines by."""
    return float(_read(path, "logit_scale")["logit_scale"].exp().clamp(max=100))


def text_features(model: Any, vocabulary: Vocabulary, texts: list[str]) -> Tensor:
    """Unit rows.  ``-> [N, D]``."""
    return F.normalize(model.encode_text(vocabulary.encode(texts)), dim=-1)


def normalise(images: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """Pixels as an encoder wants them.  ``uint8 [B, H, W, 3] -> float [B, 3, H, W]``.

    Args:
        images: on any device; it is done there.
        mean: by channel, of pixels in [0, 1]; the pocket encoder's if not said.
        std: by channel.
    """
    x = images.permute(0, 3, 1, 2).float().div_(255)
    low, scale = (torch.tensor(value, device=x.device)[:, None, None] for value in (mean, std))
    return x.sub_(low).div_(scale)
