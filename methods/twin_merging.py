"""Twin-Merging: a shared expert, and each task's own knowledge added image by image."""

from typing import Literal

import torch
from torch import Tensor, nn

from mergeshift import UserError
from methods.base import METHODS, Checkpoints, DataAccess, Needs, Paper, Setting
from methods.common.vit import PlainOps, tokens
from methods.routing.method import RoutedMethod
from methods.routing.routers import (
    Classifier,
    Examples,
    Schedule,
    examples,
    hold_out,
    train,
    twin_mlp,
)


@METHODS.register("twin_merging")
class TwinMerging(RoutedMethod):
    """theta(x) = theta_s + sum_t w_t(x) svd_r(theta_t - theta_s).

    theta_s = theta_0 + scale * sum_t tau_t, the shared expert, encodes images as f_s(x), and
    w(x) = softmax(MLP(f_s(x))) is trained by cross-entropy on task ids. The authors keep the epoch
    that is best on the test images and, while testing, the biases of the true task's expert; preset
    ``released`` does so with all that is no matrix. By default held-out images decide on the epoch,
    and all tensors are mixed.
    """

    title = "Twin-Merging"
    paper = Paper(
        key="lu2024twin",
        arxiv="2406.15479",
        where="Sec. 3.3, Twin Merging",
        year=2024,
        title="Twin-Merging: Dynamic Integration of Modular Expertise in Model Merging",
        authors="Lu, Zhenyi and Fan, Chenghao and Wei, Wei and Qu, Xiaoye and Chen, Dangyang and "
        "Cheng, Yu",
        venue="Advances in Neural Information Processing Systems",
        volume=37,
    )
    router_encoder_weights = "anchor"
    identity_config = {"knowledge": "dense"}
    learned: Classifier

    class Config(RoutedMethod.Config):
        """The released code's, but for what looks at the test images or at the true task."""

        anchor: Literal["pretrained", "shared"] = "shared"
        knowledge: Literal["dense", "svd", "magnitude"] = "svd"
        feature: Literal["pooled", "tokens"] = "pooled"  # features, or the mean over tokens [R]
        lr: float = Setting(5e-4, above=0)  # AdamW, falls to zero
        batch: int = Setting(1024, low=2)  # images of all tasks
        epochs: int = Setting(50, low=1)
        select_on: Literal["held_out", "test"] = "held_out"  # what the best epoch is the best on

        presets = {"released": {"others": "task", "select_on": "test"}}

    @property
    def needs(self) -> Needs:
        test = Needs.TEST_STREAM if self.cfg.select_on == "test" else Needs.NOTHING
        return Needs.IMAGES | Needs.TASK_IDS | test

    def new_router(self) -> nn.Module:
        dim = self.vit.output_dim if self.cfg.feature == "pooled" else self.vit.width
        return twin_mlp(dim, len(self.order))

    def router_features(self, images: Tensor) -> Tensor:
        if self.cfg.feature == "pooled":
            return super().router_features(images)
        with torch.no_grad():
            return tokens(images, PlainOps(self.router_encoder()), self.vit)[0].mean(1)

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        seen = self.collect_router_features(access.unlabeled)
        if self.cfg.select_on == "test":
            chosen_on: Examples | None = examples(self.collect_router_features(access.test_stream))
        else:
            seen, chosen_on = hold_out(seen, self.generator("held out"))
        shown = examples(seen, self.generator("null") if self.cfg.null_route else None)
        if len(shown.routes) < 2:
            raise UserError(
                f"{self.name} normalises over images and needs two to learn from; got 1"
            )
        schedule = Schedule(self.cfg.lr, self.cfg.batch, self.cfg.epochs)
        with self.seeded("dropout"):
            self.curves = train(self.learned, shown, chosen_on, schedule, self.generator("epochs"))
