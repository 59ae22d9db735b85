"""What BD-Merging is when it has learned: it routes by tokens, and says how unsure it is."""

import torch
from torch import Tensor, nn

from methods.base import Checkpoints
from methods.bd_config import BDConfig
from methods.bd_parts import Learned, Seen, TokenRouter, adjacency, gated, new_head, see
from methods.discrepancy import mean_over
from methods.mixing import num_groups
from methods.routed import NULL, RoutedMethod


class BDRouted(RoutedMethod):
    """A routed method with an evidential head on theta_0, and a router on its last tokens."""

    learned: Learned

    @property
    def stores(self) -> str:
        router = ", a router" if self.cfg.router else ""
        return super().stores.replace(" and a router", f"{router} and an evidential head")

    @property
    def coefficients(self) -> dict[str, dict[str, float]]:
        """Mean weights at the end of the training."""
        if self.learned is None or self.learned.router is None:
            return {}
        return self.learned.table(self.vit, self.routes)

    @property
    def groups(self) -> int:
        """Groups of layers with weights of their own; 0 if all share theirs."""
        return num_groups(self.vit) if self.cfg.granularity == "layer" else 0

    def new_router(self) -> nn.Module | None:
        if not self.cfg.router:
            return None
        return TokenRouter(self.vit.width, len(self.order), self.groups, self.cfg)

    def prepare(self, ckpts: Checkpoints) -> None:
        super().prepare(ckpts)  # which makes the router
        head = new_head(ckpts, self.cfg)
        self.learned = Learned(head, self.learned, self.groups, self.order)
        if self.cfg.gate and not self.cfg.null_route:  # what the gate holds back goes there
            self.routes, self.order = [*self.routes, NULL], [*self.order, NULL]

    def see(self, images: Tensor) -> Seen:
        """One pass through theta_0 and the head."""
        return see(images, self.eyes(), self.vit, self.learned.head)

    def route(self, images: Tensor, task: str) -> Tensor:
        seen = self.see(images)
        weights = self.held_back(self.learned.shares(seen.tokens), seen)
        return weights[..., [self.order.index(name) for name in self.routes]]

    def held_back(self, weights: Tensor, seen: Seen) -> Tensor:
        """What the router gave, less what the gate keeps; both in the order of ``order``."""
        return gated(weights, seen.opinion, self.cfg.null_route) if self.cfg.gate else weights

    @torch.no_grad()
    def uncertainty(self, images: Tensor) -> Tensor:
        """u, the share of belief that no class got.  ``[B, 3, H, W] -> [B]``."""
        return self.see(images).opinion.uncertainty

    @torch.no_grad()
    def discrepancy(self, images: Tensor) -> Tensor:
        """Mean discrepancy from the neighbours within the batch.  ``[B, 3, H, W] -> [B]``."""
        seen, cfg = self.see(images), self.cfg
        assert isinstance(cfg, BDConfig)
        near, d = adjacency(seen.unit, seen.opinion, cfg)
        return mean_over(d, near)
