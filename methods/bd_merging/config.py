"""The settings of BD-Merging: what is published, and what had to be chosen.

[F] is found in public notes on the paper. [R] is a reconstruction, the most plausible guess. [?] is
open. No code is public.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from methods.routing.method import RoutedMethod


@dataclass(frozen=True, kw_only=True)
class BDConfig(RoutedMethod.Config):
    """Router, head, discrepancy; what is left out in ablations; an addition of ours."""

    # the router and its training
    granularity: Literal["layer", "task"] = "layer"  # weights for each group of layers [F]; groups
    # are the blocks, what lies before and what lies after [R]
    normalise: bool = True  # LayerNorm in front of the MLP, d -> d -> K' for each token [R]
    activation: Literal["gelu", "relu"] = "gelu"  # [R]
    init_std: Annotated[float, "[0, inf)"] = 0.01  # of the last layer [R]
    temperature: Annotated[float, "(0, inf)"] = 1.0  # of the softmax over the tasks [R]
    lr: Annotated[float, "(0, inf)"] = 1e-3  # Adam [R]
    steps: Annotated[int, "[1, inf)"] = 300  # "epochs" [F]; one is one step [R]
    batch: Annotated[int, "[1, inf)"] = 16  # images [F] of every task [R]
    entropy_over: Literal["task", "joint"] = "task"  # classes of the image's task, or of all [R]
    eta: Annotated[float, "[0, inf)"] = 0.1  # weight of the contrastive loss [F]
    spread: Annotated[float, "[0, inf)"] = 0.1  # less H of the batch's mean weights, group by
    # group, as else experts that are seldom sure are left out [R]

    # the evidential head and its training
    head: Literal["text", "linear"] = "text"  # frozen text classifiers, or free ones [?]
    evidence: Literal["exp", "softplus"] = "exp"  # [R]
    clip: Annotated[float, "(0, inf)"] = 10.0  # of what goes into the exponential [R]
    soft_clip: bool = True  # by a tanh: where a hard clip cuts, nothing is learned any more [R]
    kl: Annotated[float, "[0, inf)"] = 0.1  # lambda, weight of KL(Dir(alpha) || Dir(1)) [F]
    kl_by: Literal["classes", "constant"] = "classes"  # times 10 / L, as else evidence dies out [R]
    expected: bool = False  # E[H(p)] in place of H(E[p]) [?]
    balance: bool = True  # less H of the batch's mean p, as else one class may take all [R]
    gamma: Annotated[float, "[0, inf)"] = 0.1  # weight of the inverse correlation [F]
    inverse: Literal["separation", "literal"] = "separation"  # of u with log 1 / nu, or with nu [R]
    head_lr: Annotated[float, "(0, inf)"] = 1e-2  # Adam [R]
    head_steps: Annotated[int, "[0, inf)"] = 300  # of ``batch`` images of every task [R]

    # neighbours, their discrepancy, and the loss on it
    near: Literal["nearest", "radius"] = "nearest"  # of the batch [R]; the paper has a radius [F]
    nearest: Annotated[int, "[1, inf)"] = 16  # [R]
    radius: Annotated[float, "(0, inf)"] = 0.5  # between unit features of theta_0 [?]
    sharpness: Literal["softplus", "plain"] = "softplus"  # plain [F] has either sign; softplus [R]
    own: bool = False  # an image counts in its own Sharp [R]
    threshold: Literal["first_pass", "batch", "value"] = "first_pass"  # epsilon: a quantile of d
    quantile: Annotated[float, "[0, 1]"] = 0.9  # over one pass, then fixed, or anew in each batch
    epsilon: float = 0.0  # [R]; or this value [?]
    similarity: Annotated[float, "(0, inf)"] = 0.1  # temperature of the contrastive loss [R]

    # ablations
    router: bool = True  # or equal weights
    contrast: bool = True  # L_Dis
    ads: bool = True  # or the distance of the two features in place of d [R]
    sharp: bool = True
    div: bool = True
    conf: bool = True  # without it d is alike for all neighbours of an image, and L_Dis is 0

    # ours
    gate: bool = False  # theta_0 + (1 - u) sum_k w_k tau_k: the less evidence, the less of experts
