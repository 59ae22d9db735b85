"""Each image by experts weighed by a classifier of tasks."""

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from methods.base import METHODS, NO_PAPER
from methods.common.checkpoints import Checkpoints
from methods.common.data_access import DataAccess, Needs
from methods.routing.method import RoutedMethod
from methods.routing.routers import Classifier, Schedule, examples, plain_mlp, train


@METHODS.register("ce_router")
class CERouter(RoutedMethod):
    """w(x) = softmax(MLP(f_0(x) / |f_0(x)|)), trained by cross-entropy on task ids.

    f_0 is the pretrained encoder. The null route is shown points halfway between two tasks' images.
    """

    title = "CE router"
    paper = NO_PAPER
    needs = Needs.IMAGES | Needs.TASK_IDS
    identity_config = {}
    learned: Classifier

    @dataclass(frozen=True, kw_only=True)
    class Config(RoutedMethod.Config):
        """Constants of our own."""

        lr: Annotated[float, "(0, inf)"] = 1e-3  # AdamW, falls to zero [R]
        batch: Annotated[int, "[1, inf)"] = 128  # images of all tasks [R]
        epochs: Annotated[int, "[1, inf)"] = 20  # the last one stays [R]

    def new_router(self) -> nn.Module:
        return plain_mlp(self.vit.output_dim, len(self.order))

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        null = self.generator("null") if self.cfg.null_route else None
        shown = examples(self.collect_router_features(access.unlabeled), null)
        schedule = Schedule(self.cfg.lr, self.cfg.batch, self.cfg.epochs)
        self.curves = train(self.learned, shown, None, schedule, self.generator("epochs"))
