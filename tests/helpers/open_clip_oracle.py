"""What a tower of the tiny suite is worth, worked out by open_clip alone."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from tests.helpers import tiny_vision_suite as tiny


def prompts(data: tiny.Data, label: int) -> list[str]:
    return [template.format(data.classes[label]) for template in data.templates]


def by_hand(
    data: tiny.Data,
    weights: dict[str, torch.Tensor],
    pictures: Sequence[np.ndarray],
    labels: np.ndarray,
) -> tuple[float, float]:
    """Accuracy and NLL on all of a part, by open_clip alone, as CLIP's authors do it."""
    import open_clip
    from open_clip.transform import image_transform

    model, tokens = tiny.clip(), open_clip.SimpleTokenizer()
    transform = image_transform(
        48, is_train=False, mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD
    )
    if data.format == "JPEG":
        pictures = [reopened(picture) for picture in pictures]
    images = torch.stack([transform(Image.fromarray(picture)) for picture in pictures])
    rows = []
    for label in range(len(data.classes)):
        features = F.normalize(model.encode_text(tokens(prompts(data, label))), dim=-1)
        rows.append(F.normalize(features.mean(0), dim=0))
    before = {k: t.clone() for k, t in model.visual.named_parameters()}
    model.visual.load_state_dict(weights)
    features = F.normalize(model.encode_image(images), dim=-1)
    model.visual.load_state_dict(before)
    logits = model.logit_scale.exp() * features @ torch.stack(rows).T
    target = torch.from_numpy(labels)
    return float((logits.argmax(1) == target).float().mean()), float(
        F.cross_entropy(logits, target)
    )


def reopened(picture: np.ndarray) -> np.ndarray:
    """A picture after JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG")
    return np.asarray(Image.open(buffer))
