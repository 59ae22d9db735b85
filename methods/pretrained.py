"""The pretrained encoder, zero-shot: the floor."""

from methods.base import METHODS, Checkpoints, MergingMethod, Paper, Weights


@METHODS.register("pretrained")
class Pretrained(MergingMethod):
    """theta = theta_0."""

    title = "Pretrained"
    paper = Paper(
        key="radford2021clip",
        arxiv="2103.00020",
        where="Sec. 3.1, zero-shot transfer",
        year=2021,
        title="Learning Transferable Visual Models From Natural Language Supervision",
        authors="Radford, Alec and Kim, Jong Wook and Hallacy, Chris and Ramesh, Aditya and Goh, "
        "Gabriel and Agarwal, Sandhini and Sastry, Girish and Askell, Amanda and Mishkin, "
        "Pamela and Clark, Jack and Krueger, Gretchen and Sutskever, Ilya",
        venue="International Conference on Machine Learning",
        series="Proceedings of Machine Learning Research",
        volume=139,
        pages="8748--8763",
    )

    def merge(self, ckpts: Checkpoints) -> Weights:
        return ckpts.base
