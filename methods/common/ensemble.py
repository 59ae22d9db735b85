"""Several models that answer each image: their features, and the mean of their probabilities."""

from abc import abstractmethod
from collections.abc import Mapping
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
    _known: tuple[Tensor, Tensor] | None = None  # images that were encoded, and their features

    @abstractmethod
    def predict(self, images: Tensor, task: str) -> Tensor:
        """Class logits, made of :meth:`all_features`.  ``[B, 3, H, W] -> [B, C_task]``."""

    def predict_mixed(self, images: Tensor, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`methods.base.MergingMethod.predict_mixed`: every model encodes all once."""
        self._known = images, self.all_features(images)
        try:
            return {task: self.predict(images, task)[rows] for task, rows in parts.items()}
        finally:
            self._known = None

    def all_features(self, images: Tensor) -> Tensor:
        """Unit features of every model.  ``[B, 3, H, W] -> [S, B, D]``."""
        if self._known is not None and self._known[0] is images:
            return self._known[1]
        found = [encode_plain(images, model(), self.vit) for model in self.models.values()]
        return F.normalize(torch.stack(found), dim=-1)

    def features(self, images: Tensor, task: str) -> Tensor:
        """The mean of the models' unit features: under a head it gives the mean logits."""
        return self.all_features(images).mean(0)
