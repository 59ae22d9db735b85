"""Each image by the expert of the task whose images it resembles most."""

from torch import nn

from methods.base import METHODS, NO_PAPER, Checkpoints, DataAccess, Needs
from methods.routing.method import RoutedMethod
from methods.routing.routers import Centroids


@METHODS.register("centroid_router")
class CentroidRouter(RoutedMethod):
    """w_t(x) = 1 for t = argmax_t cos(f_0(x), c_t), else 0.

    f_0 is the pretrained encoder, c_t the mean of f_0(x) / |f_0(x)| over images of task t, and that
    of the null route the mean of all c_t.
    """

    title = "Centroid router"
    paper = NO_PAPER
    needs = Needs.IMAGES | Needs.TASK_IDS
    depends_on_seed = False
    identity_config = {}
    learned: Centroids

    def new_router(self) -> nn.Module:
        return Centroids(len(self.order), self.vit.output_dim)

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        self.learned.fit(self.collect_router_features(access.unlabeled))
