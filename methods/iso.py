"""Isotropic merging: a merged matrix whose singular values are all alike.

Iso-C takes the singular vectors of the sum of the task vectors, Iso-CTS gives the least important
of them to what is particular to each task.
"""

from dataclasses import replace

import torch
from torch import Tensor

from methods.base import METHODS, MatrixMethod, Paper
from methods.common.spectral import polar, singular_values, triplets

COMMON = 0.8  # the share of the singular vectors that stay those of the sum


@METHODS.register("iso_c")
class IsoC(MatrixMethod):
    """theta = theta_0 + scale * mean(S) U V^T, U S V^T the SVD of sum_t tau_t.

    Directions with a singular value of 0 count in the mean and are left out of U V^T, where the
    authors' are any [R]. What is no matrix moves by scale times the mean of the task vectors.
    """

    title = "Iso-C"
    paper = Paper(
        key="marczak2025iso",
        arxiv="2502.04959",
        where="Iso-C",
        year=2025,
        title="No Task Left Behind: Isotropic Model Merging with Common and Task-Specific "
        "Subspaces",
        authors=r"Marczak, Daniel and Magistri, Simone and Cygert, Sebastian and Twardowski, "
        r"Bart{\l}omiej and Bagdanov, Andrew D. and van de Weijer, Joost",
        venue="International Conference on Machine Learning",
    )

    class Config(MatrixMethod.Config):
        """The scale is searched, as the authors do."""

    def merge_matrix(self, taus: Tensor) -> Tensor:
        return isotropic(taus)


@METHODS.register("iso_cts")
class IsoCTS(IsoC):
    """theta = theta_0 + scale * mean(S) polar([U_1 .. U_K U_c]) polar([V_1 .. V_K V_c])^T.

    U_c S_c V_c^T are the top triplets of sum_t tau_t, four fifths of min(out, in); the places that
    are left are shared out among the tasks, whose U_t S_t V_t^T are the top triplets of
    tau_t - U_c U_c^T tau_t. S are the singular values of all of them.
    """

    title = "Iso-CTS"
    paper = replace(IsoC.paper, where="Iso-CTS")

    class Config(IsoC.Config):
        """The scale is searched, as the authors do."""

    def merge_matrix(self, taus: Tensor) -> Tensor:
        return common_and_specific(taus)


def isotropic(taus: Tensor) -> Tensor:
    """Iso-C of one matrix.  ``[K, out, in] -> [out, in]``.

    >>> isotropic(torch.tensor([[[3.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 2.0]]])).tolist()
    [[3.5, 0.0], [0.0, 3.5]]
    """
    whole = taus.sum(0)
    return singular_values(whole).mean() * polar(whole)


def common_and_specific(taus: Tensor) -> Tensor:
    """Iso-CTS of one matrix.  ``[K, out, in] -> [out, in]``."""
    count, places = len(taus), min(taus.shape[1:])
    own = min(round((places - int(COMMON * places)) / count), places // count)  # of each task
    left, sizes, right = triplets(taus.sum(0), places - own * count)
    parts = [(left, sizes, right)]
    if own:
        parts = [*(triplets(tau - left @ (left.T @ tau), own) for tau in taus), *parts]
    lefts, values, rights = zip(*parts, strict=True)
    return torch.cat(values).mean() * polar(torch.cat(lefts, 1)) @ polar(torch.cat(rights, 1)).T
