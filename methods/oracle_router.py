"""The true task's knowledge for every image: what a perfect router would do."""

from torch import Tensor

from methods.base import METHODS, NO_PAPER
from methods.routing.method import KINDS, RoutedMethod


@METHODS.register("oracle_router")
class OracleRouter(RoutedMethod):
    """w_t(x) = 1 if t is the task of x, which has to be known, else 0."""

    title = "Oracle router"
    paper = NO_PAPER
    identity_config = {}
    knows_task = True
    router_encoder_weights = "anchor"  # it does not look: theta_0 need not be kept for it

    class Config(RoutedMethod.Config):
        """What is mixed."""

    @property
    def stores(self) -> str:
        return f"one model, {KINDS[self.cfg.knowledge]} per task"

    def route(self, images: Tensor, task: str) -> Tensor:
        return self.one_hot_route(task)
