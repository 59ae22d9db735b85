"""Each image by experts weighed by a classifier of tasks."""

from methods.base import METHODS, NO_PAPER, Checkpoints, DataAccess, Needs, Setting
from methods.routing.method import MLPRoutedMethod
from methods.routing.routers import Schedule, examples, train


@METHODS.register("ce_router")
class CERouter(MLPRoutedMethod):
    """w(x) = softmax(MLP(f_0(x) / |f_0(x)|)), trained by cross-entropy on task ids.

    f_0 is the pretrained encoder. The null route is shown points halfway between two tasks' images.
    """

    title = "CE router"
    paper = NO_PAPER
    needs = Needs.IMAGES | Needs.TASK_IDS
    identity_config = {}

    class Config(MLPRoutedMethod.Config):
        lr: float = Setting(1e-3, above=0)  # AdamW, falls to zero [R]
        batch: int = Setting(128, low=1)  # images of all tasks [R]
        epochs: int = Setting(20, low=1)  # the last one stays [R]

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        null = self.generator("null") if self.cfg.null_route else None
        shown = examples(self.collect_router_features(access.unlabeled), null)
        schedule = Schedule(self.cfg.lr, self.cfg.batch, self.cfg.epochs)
        self.curves = train(self.learned, shown, None, schedule, self.generator("epochs"))
