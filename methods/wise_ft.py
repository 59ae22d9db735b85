"""WiSE-FT: every expert, drawn back towards the pretrained model."""

from collections.abc import Mapping

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Setting, Weights


@METHODS.register("wise_ft")
class WiseFT(MergingMethod):
    """theta_t = (1 - share) theta_0 + share theta_t for images of task t.

    The reference for robustness: how much of an expert's loss under a shift goes away when it is
    drawn back to the pretrained model, without any other task. It keeps a model per task.
    """

    title = "WiSE-FT"
    paper = Paper(
        key="wortsman2022wiseft",
        arxiv="2109.01903",
        where="Sec. 3, weight-space ensembles",
        year=2022,
        title="Robust fine-tuning of zero-shot models",
        authors="Wortsman, Mitchell and Ilharco, Gabriel and Kim, Jong Wook and Li, Mike and "
        "Kornblith, Simon and Roelofs, Rebecca and Gontijo-Lopes, Raphael and Hajishirzi, Hannaneh "
        "and Farhadi, Ali and Namkoong, Hongseok and Schmidt, Ludwig",
        venue="{IEEE/CVF} Conference on Computer Vision and Pattern Recognition",
    )
    stores = "one model per task"
    knows_task = True
    identity_config = {"share": 1.0}

    class Config(MergingMethod.Config):
        """The authors recommend 0.5 where nothing is known of the shift, and so it is not tuned."""

        share: float = Setting(0.5, low=0, high=1)  # alpha

    def merge(self, ckpts: Checkpoints) -> Mapping[str, Weights]:
        taus = zip(ckpts.experts, ckpts.task_vectors, strict=True)
        return {task: ckpts.base + self.cfg.share * tau for task, tau in taus}
