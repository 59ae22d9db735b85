"""Models drawn from the posterior of BMM, their noise scaled to what the anchor changes."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Generator, Tensor

from methods.bmm_merge import Constants, Family, Part
from methods.bmm_search import mean_share
from methods.matrices import Module


def roots_of(family: Family, constants: Constants) -> dict[str, Tensor]:
    """What noise of each module is multiplied by at kappa = 1.  Name -> ``[in, in]``."""
    return {name_of(part.module): root_of(part, constants) for part in family.parts}


def root_of(part: Part, constants: Constants) -> Tensor:
    """R = s c A^-1/2, c = ||W_A - W_0||_F / sqrt(out tr A^-1): so large is Z R^T."""
    solver, alpha = part.regression, constants[f"alpha.{part.key}"]
    size = (solver.anchor - part.base).norm() / solver.spread(alpha)
    return constants[f"scale.{part.key}"] * size * solver.root(alpha)


def drawn(
    mean: Tensor,
    modules: Sequence[Module],
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


def answer(logits: Tensor) -> Tensor:
    """The logarithm of mean probabilities, on average as high as the logits.  ``[S, B, C]``.

    A softmax does not see by how much the logits of an image are shifted.

    Returns:
        ``[B, C]``.
    """
    shares = mean_share(logits)
    return shares + (logits.mean(0) - shares).mean(-1, keepdim=True)


def name_of(module: Module) -> str:
    """A name for one module, of which a parameter may have several: q, k and v."""
    return f"{module.name}:{module.rows.start}"
