"""The base of every method that weighs the experts anew for each image."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mergeshift import UserError
from methods.base import MergingMethod, Setting
from methods.common.checkpoints import Checkpoints
from methods.common.vit import encode_plain
from methods.common.weights import TensorBuffers, Weights, total
from methods.routing.compression import knowledge_of, num_numbers
from methods.routing.mixing import Mixer
from methods.routing.routers import Classifier, plain_mlp

NULL = "null"  # the name of the route that adds nothing
KINDS = {"dense": "a task vector", "svd": "low-rank matrices", "magnitude": "a sparse task vector"}


class RoutedMethod(MergingMethod):
    """theta(x) = theta_a + sum_t w_t(x) v_t, v_t = compress(theta_t - theta_a).

    A subclass says who weighs: ``new_router`` makes ``learned``, a module ``[B, d] -> [B, K']`` on
    what ``look`` sees; or it overrides ``route``. Inside, tasks are in the order of their names
    (``order``), so that what is learned does not depend on the order of the suite.
    """

    class Config(MergingMethod.Config):
        """What is mixed; any router goes with any of it."""

        anchor: Literal["pretrained", "shared"] = "pretrained"  # theta_a: theta_0, or the shared
        scale: float = Setting(0.29, low=0)  # one, theta_0 + scale * sum_t tau_t [R]
        knowledge: Literal["dense", "svd", "magnitude"] = "dense"  # how v_t is compressed
        share: float = Setting(0.1, above=0, high=1)  # of the rank, or of the entries, that is kept
        others: Literal["routed", "merged", "task"] = "routed"  # tensors that are no matrices:
        # mixed too, or the anchor's, or the true task's, which then has to be known
        null_route: bool = False  # one more route, v = 0

    router_encoder_weights: ClassVar[Literal["pretrained", "anchor"]] = (
        "pretrained"  # the router's encoder
    )
    routes: list[str]  # the tasks in the order of the suite, and "null" if there is that route
    order: list[str]  # the same in the order of the names, as the mixer and the router have them
    mixer: Mixer  # theta_a and v_1 .. v_K
    curves: dict[str, list[float]]  # what learning was like, where no Trainer was run
    sizes: tuple[int, int]  # numbers in one model, and in the knowledge
    pretrained: (
        TensorBuffers | None
    )  # theta_0, if the router looks through it and it is not the anchor

    # -- what a subclass overrides -----------------------------------------------------------

    def new_router(self) -> nn.Module | None:
        """The router, untrained, drawn from the seed; its outputs are in the order ``order``."""
        return None

    def route(self, images: Tensor, task: str) -> Tensor:
        """Weights of the ``routes``; rows sum to 1.  ``[B, 3, H, W] -> [B, K'] or [B, G, K']``.

        A single row, ``[1, K']``, is for all images.
        """
        assert self.learned is not None
        weights: Tensor = self.learned(self.router_features(images))
        return weights[..., [self.order.index(name) for name in self.routes]]

    def router_features(self, images: Tensor) -> Tensor:
        """What the router sees, by default features, not normalised.  ``[B, ...] -> [B, d]``."""
        with torch.no_grad():
            return encode_plain(images, self.router_encoder(), self.vit)

    # -- what the harness calls --------------------------------------------------------------

    @property
    def knows_task(self) -> bool:
        return self.cfg.others == "task"

    @property
    def stores(self) -> str:
        models = "two models" if self.has_two_models else "one model"
        return f"{models}, {KINDS[self.cfg.knowledge]} per task and a router"

    def merge(self, ckpts: Checkpoints) -> Mapping[str, Weights]:
        """Theta_a, onto which the knowledge is mixed."""
        if self.cfg.anchor == "pretrained":
            return {"anchor": ckpts.base}
        taus = [ckpts.experts[task] - ckpts.base for task in sorted(ckpts.experts)]
        return {"anchor": ckpts.base + self.cfg.scale * total(taus)}

    def prepare(self, ckpts: Checkpoints) -> None:
        tasks, null = sorted(ckpts.experts), [NULL] * self.cfg.null_route
        self.routes, self.order = [*ckpts.experts, *null], [*tasks, *null]
        ckpts = replace(ckpts, experts={task: ckpts.experts[task] for task in tasks})
        anchor, how = self.merge(ckpts)["anchor"].materialise(), self.cfg.knowledge
        parts = knowledge_of(ckpts, anchor, how, self.cfg.share, others=self.cfg.others != "merged")
        self.sizes = ckpts.base.num_entries, num_numbers(parts, how)
        self.mixer = Mixer(self.vit, anchor, parts)
        self.pretrained = TensorBuffers(ckpts.base) if self.has_two_models else None
        with self.seeded("router"):
            self.learned = self.new_router()

    def hold(self, merged: Weights | Mapping[str, Weights]) -> None:
        """Nothing is left to do: ``prepare`` gave them to the mixer, which routers look through."""

    @property
    def num_stored(self) -> int:
        """Models, knowledge (of sparse one the entries alone, without their places), router."""
        one_model, knowledge = self.sizes
        learned = sum(t.numel() for t in self.learned.state_dict().values()) if self.learned else 0
        return (1 + self.has_two_models) * one_model + knowledge + learned

    def features(self, images: Tensor, task: str) -> Tensor:
        return self.features_with(images, self.route(images, task), task)

    def features_with(self, images: Tensor, weights: Tensor, task: str) -> Tensor:
        """Features through the weighted experts.  ``[B, 3, H, W], [B or 1, .., K'] -> [B, D]``."""
        others = (
            self.to_mixer_order(self.one_hot_route(task)) if self.cfg.others == "task" else None
        )
        features: Tensor = self.mixer(images, self.to_mixer_order(weights), others)
        return features

    def predict_routed(self, images: Tensor, task: str) -> tuple[Tensor, Tensor]:
        """Logits, and the weights that led to them.  ``-> [B, C_task], [B, K'] or [B, G, K']``."""
        weights = self.route(images, task)
        logits = self.classify(self.features_with(images, weights, task), task)
        return logits, weights.expand(len(images), *weights.shape[1:])

    def predict_oracle(self, images: Tensor, task: str) -> Tensor:
        """Logits if all weight is on the true task's knowledge.  ``-> [B, C_task]``."""
        return self.classify(self.features_with(images, self.one_hot_route(task), task), task)

    # -- parts -------------------------------------------------------------------------------

    def classify(self, features: Tensor, task: str) -> Tensor:
        """Logits of features.  ``[B, D] -> [B, C_task]``."""
        return F.normalize(features, dim=-1) @ self.heads()[task].T

    def one_hot_route(self, task: str) -> Tensor:
        """The weights that pick one route.  ``[1, K']``."""
        picked = [float(name == task) for name in self.routes]
        return next(self.heads.buffers()).new_tensor([picked])

    def to_mixer_order(self, weights: Tensor) -> Tensor:
        """Weights of the routes as the mixer has them.  ``[.., K'] -> [.., K]``."""
        return weights[..., [self.routes.index(name) for name in self.order if name != NULL]]

    @property
    def has_two_models(self) -> bool:
        """Whether theta_0 is kept beside the anchor, for the router."""
        return self.router_encoder_weights == "pretrained" and self.cfg.anchor == "shared"

    def router_encoder(self) -> dict[str, Tensor]:
        """The weights that the router looks through."""
        return self.mixer.base() if self.pretrained is None else self.pretrained()

    def collect_router_features(
        self, batches: Callable[[str], Iterator[Tensor]]
    ) -> dict[str, Tensor]:
        """What the router sees of the images of every task, by name.  ``[n, d]`` each.

        Raises:
            UserError: there is no image of a task.
        """
        found = {}
        for task in [name for name in self.order if name != NULL]:
            seen = [self.router_features(images.to(self.device)) for images in batches(task)]
            if not seen:
                raise UserError(f"{self.name} learns from images of every task; got none of {task}")
            found[task] = torch.cat(seen)
        return found


class MLPRoutedMethod(RoutedMethod):
    """w(x) = softmax(MLP(f_0(x) / |f_0(x)|)), f_0 the pretrained encoder; a subclass trains it."""

    learned: Classifier

    def new_router(self) -> nn.Module:
        return plain_mlp(self.vit.output_dim, len(self.order))
