"""Several models that answer each image: their features, and the mean of their probabilities."""

from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.common.vit import ViT, encode_plain


def mean_log_prob(logits: Tensor) -> Tensor:
    """The logarithm of mean probabilities.  ``[S, B, C] -> [B, C]``."""
    return logits.log_softmax(-1).logsumexp(0) - log(len(logits))


class EnsembleMixin:
    """For a method that keeps several models, in ``models``, and asks all of them."""

    models: nn.ModuleDict
    vit: ViT

    def all_features(self, images: Tensor) -> Tensor:
        """Unit features of every model.  ``[B, 3, H, W] -> [S, B, D]``."""
        found = [encode_plain(images, model(), self.vit) for model in self.models.values()]
        return F.normalize(torch.stack(found), dim=-1)

    def features(self, images: Tensor, task: str) -> Tensor:
        """The mean of the models' unit features: under a head it gives the mean logits."""
        return self.all_features(images).mean(0)
