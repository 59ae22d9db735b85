"""RegMean++: RegMean block by block, on what the merged blocks below give out."""

import torch
from torch import Tensor

from mergeshift import UserError
from methods.base import METHODS, Checkpoints, DataAccess, Paper, Setting, TensorBuffers, Weights
from methods.common.data_access import take_images
from methods.common.linear_layers import LinearLayer, modules_of
from methods.common.regression import SufficientStatistics
from methods.common.vit import TOKENS_AT_ONCE, GramOps, PlainOps, ViT, block, embed
from methods.regmean import RegMean, average, least_squares, shrink


@METHODS.register("regmean_pp")
class RegMeanPP(RegMean):
    """W = [sum_t W_t G_t] [sum_t G_t]^-1, G_t of expert t's block on inputs from merged blocks.

    The embeddings are averaged first. Then block by block: images of task t go through the merged
    blocks below; what comes out goes into expert t's own block, whose four linear layers give their
    Grams; all four are solved at once, as RegMean solves them, and all else of the block is
    averaged. The layers after the blocks are averaged too [R: the authors' code leaves ln_post
    pretrained].
    """

    title = "RegMean++"
    version = 2  # images are drawn by the seed
    paper = Paper(
        key="nguyen2025regmeanpp",
        arxiv="2508.03121",
        where="RegMean++",
        year=2025,
        title="{RegMean++}: Enhancing Effectiveness and Generalization of Regression Mean for "
        "Model Merging",
        authors="Nguyen, The-Hai and Huu-Tien, Dang and Suzuki, Takeshi and Nguyen, Le-Minh",
    )

    class Config(RegMean.Config):
        """The defaults are FusionBench's for CLIP."""

        off_diagonal: float = Setting(  # what is off the diagonal, times this
            0.95, low=0, high=1, grid=(0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98, 1.0)
        )

    @torch.no_grad()
    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        means, held = average(ckpts), self.learned()
        layers: dict[int, list[LinearLayer]] = {}
        for module in modules_of(ckpts.base, split=False):
            layers.setdefault(module.block, []).append(module)
        tokens = {task: self.embedded(task, means, access) for task in sorted(ckpts.experts)}
        for number, name in enumerate(self.vit.blocks):
            inside = [key for key in means if key.startswith(f"{name}.")]
            mean = dict(means.only(inside))
            sums = {m.name: SufficientStatistics.start(mean[m.name]) for m in layers[number]}
            for task, inputs in tokens.items():
                expert = TensorBuffers(ckpts.experts[task].only(inside))()
                grams = block_grams(name, inputs, expert, self.vit)
                for module in layers[number]:
                    gram = shrink(grams[module.layer], self.cfg.off_diagonal)
                    sums[module.name].add(gram, expert[module.name], 1)
            for key, one in sums.items():
                held[key].copy_(least_squares(one))
            ops = PlainOps(mean | {key: held[key] for key in sums})
            tokens = {
                task: torch.cat([block(name, part, ops, self.vit) for part in parts(x, self.vit)])
                for task, x in tokens.items()
            }

    def embedded(self, task: str, means: Weights, access: DataAccess) -> Tensor:
        """The tokens in front of the first block, of a task's images.  ``-> [N, tokens, W]``."""
        batches = take_images(zip(access.unlabeled(task)), self.cfg.images)
        ops = PlainOps(means)
        found = [embed(batch, ops, self.vit) for (batch,) in batches]
        if not found:
            raise UserError(f"{self.name} learns from images of every task; {task} has none")
        return torch.cat(found)


def parts(tokens: Tensor, vit: ViT) -> tuple[Tensor, ...]:
    """As many images at a time as fit into a core's cache."""
    return tokens.split(max(1, TOKENS_AT_ONCE // vit.num_tokens))


def block_grams(
    name: str, inputs: Tensor, weights: dict[str, Tensor], vit: ViT
) -> dict[str, Tensor]:
    """X^T X / tokens of each linear layer of one block, ``inputs`` going in.

    Args:
        name: of the block.
        inputs: ``[N, tokens, W]``.
        weights: of the block.
        vit: the architecture.
    """
    ops = GramOps(weights)
    for part in parts(inputs, vit):
        block(name, part, ops, vit)
    return {layer: gram / ops.counts[layer] for layer, gram in ops.grams.items()}
