"""BMM that keeps its uncertainty: weights drawn from its posterior, their answers averaged.

The noise is scaled to what the anchor changes.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Generator, Tensor, nn

from mergeshift import UserError
from methods.base import METHODS, Checkpoints, Needs, Setting, Weights
from methods.bmm.base import write, zeros
from methods.bmm.config import BMMConfig
from methods.bmm.inner import Hyperparameters, MergedModels, SolvedLayer, modules_of
from methods.bmm.method import BMM
from methods.bmm.outer import Validation
from methods.common.ensemble import EnsembleMixin, mean_log_prob
from methods.common.linear_layers import LinearLayer, with_layers

KAPPAS = (0.1, 0.3, 1.0, 3.0, 10.0)  # .01 to 1 was too narrow: the best lay at its end [R]


@METHODS.register("bmm_sampled")
class BMMSampled(EnsembleMixin, BMM):
    """p(y | x) = mean over samples of softmax(logits of W + s kappa c Z A^-1/2), Z ~ N(0, I).

    c = ||W_A - W_0||_F / sqrt(out tr A^-1) makes the noise of a matrix as large as kappa times what
    the anchor changes in it: in directions that no task sees the posterior is as wide as the prior.
    """

    title = "BMM, sampled (reimpl.)"
    version = 3  # images are drawn by the seed
    identity_config = {**BMM.identity_config, "kappa": 1e-9}
    quick_config = {**BMM.quick_config, "samples": 3}

    class Config(BMMConfig):
        """Grams of inputs, and the samples."""

        samples: int = Setting(10, low=1)  # 10 to 20 [R]
        kappa: float = Setting(0.0, low=0)  # size of the noise; 0: the one of KAPPAS with
        # the least negative log-likelihood of validation labels [R]

    cfg: Config

    @property
    def needs(self) -> Needs:
        return super().needs | (Needs.NOTHING if self.cfg.kappa else Needs.VAL_LABELS)

    @property
    def num_validation_passes(self) -> int:
        sizes = 1 if self.cfg.kappa else len(KAPPAS)
        return super().num_validation_passes + sizes * self.cfg.samples * (
            Needs.VAL_LABELS in self.needs
        )

    @property
    def stores(self) -> str:
        return f"{self.cfg.samples} models"

    def prepare(self, ckpts: Checkpoints) -> None:  # also where nothing is looked at
        self.learned = self.prepare_learned(ckpts, modules_of(ckpts.base, self.cfg))

    def prepare_learned(self, ckpts: Checkpoints, modules: Sequence[LinearLayer]) -> nn.ModuleDict:
        room = super().prepare_learned(ckpts, modules)
        widths = {name_of(module): ckpts.base.shape(module.name)[1] for module in modules}
        room["roots"] = zeros({name: (width, width) for name, width in widths.items()})
        return room

    def store(
        self, family: MergedModels, constants: Hyperparameters, validation: Validation | None
    ) -> None:
        super().store(family, constants, validation)
        cfg, roots, found = self.cfg, roots_of(family, constants), {}
        whole, modules = Weights(family.model(constants)), [part.module for part in family.parts]
        for size in (cfg.kappa,) if cfg.kappa else KAPPAS:
            self.write_roots(roots, size)
            if validation:
                models = (dict(self.sampled_models(n, whole, modules)) for n in range(cfg.samples))
                found[size] = validation.ensemble_nll(models)
        kappa = min(found, key=lambda size: found[size][0], default=cfg.kappa)
        self.write_roots(roots, kappa)
        self.report["constants"] = {**constants, "kappa": kappa}
        if validation:  # val is of the samples from here on, not of their mean
            self.report["nll"] = {str(size): loss for size, (loss, _) in found.items()}
            self.report["val"] = found[kappa][1]
            self.report["budget"] = cfg.trials + len(found) * cfg.samples * (not cfg.kappa)

    def write_roots(self, roots: Mapping[str, Tensor], kappa: float) -> None:
        """Keep the noise at one size."""
        write(self.part("roots"), {name: kappa * root for name, root in roots.items()})

    def sampled_models(self, number: int, rest: Weights, modules: Sequence[LinearLayer]) -> Weights:
        """One sample, lazily: a matrix is drawn when it is read."""
        means, roots = self.part("matrices")(), self.part("roots")()

        def make(name: str, own: list[LinearLayer]) -> Tensor:
            return sample_weights(
                means[name], own, roots, partial(self.generator, "sample", number)
            )

        return with_layers(rest, modules, make)

    def merge_from_state(self, ckpts: Checkpoints, rest: Weights) -> Mapping[str, Weights]:
        modules = modules_of(ckpts.base, self.cfg)
        return {str(n): self.sampled_models(n, rest, modules) for n in range(self.cfg.samples)}

    def merge_without_data(self, ckpts: Checkpoints, rest: Weights) -> Weights:
        raise UserError(f"{self.name} keeps {self.stores}: there is no single merged model")

    def predict(self, images: Tensor, task: str) -> Tensor:
        """The logarithm of the samples' mean probabilities, up to a number per image."""
        return ensemble_logits(self.all_features(images) @ self.heads()[task].T)


def roots_of(family: MergedModels, constants: Hyperparameters) -> dict[str, Tensor]:
    """What noise of each module is multiplied by at kappa = 1.  Name -> ``[in, in]``."""
    return {name_of(part.module): root_of(part, constants) for part in family.parts}


def root_of(part: SolvedLayer, constants: Hyperparameters) -> Tensor:
    """R = s c A^-1/2, c = ||W_A - W_0||_F / sqrt(out tr A^-1): so large is Z R^T."""
    solver, alpha = part.regression, constants[f"alpha.{part.key}"]
    size = (solver.anchor - part.base).norm() / solver.rms_deviation(alpha)
    return constants[f"scale.{part.key}"] * size * solver.covariance_sqrt(alpha)


def sample_weights(
    mean: Tensor,
    modules: Sequence[LinearLayer],
    roots: Mapping[str, Tensor],
    generator: Callable[[str], Generator],
) -> Tensor:
    """A sample of one parameter, W + Z R^T.  ``-> [out, in]``.

    Args:
        mean: W.
        modules: its modules.
        roots: by the name of the module, kappa included.
        generator: from the name of a module to where its Z comes from.
    """
    found = mean.clone()
    for module in modules:
        rows, name = found[module.rows], name_of(module)
        noise = torch.randn(rows.shape, generator=generator(name)).to(rows)
        rows += noise @ roots[name].T
    return found


def ensemble_logits(logits: Tensor) -> Tensor:
    """The logarithm of mean probabilities, on average as high as the logits.  ``[S, B, C]``.

    A softmax does not see by how much the logits of an image are shifted.

    Returns:
        ``[B, C]``.
    """
    shares = mean_log_prob(logits)
    return shares + (logits.mean(0) - shares).mean(-1, keepdim=True)


def name_of(module: LinearLayer) -> str:
    """A name for one module, of which a parameter may have several: q, k and v."""
    return f"{module.name}:{module.rows.start}"
