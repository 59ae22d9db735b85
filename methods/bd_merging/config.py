"""The settings of BD-Merging: what is published, and what had to be chosen.

[F] is found in public notes on the paper. [R] is a reconstruction, the most plausible guess. [?] is
open. No code is public.
"""

from typing import Literal

from methods.common.config import Setting
from methods.routing.method import RoutedMethod


class BDConfig(RoutedMethod.Config):
    """Router, head, discrepancy; what is left out in ablations; an addition of ours."""

    # the router and its training
    granularity: Literal["layer", "task"] = "layer"  # weights for each group of layers [F]; groups
    # are the blocks, what lies before and what lies after [R]
    normalise: bool = True  # LayerNorm in front of the MLP, d -> d -> K' for each token [R]
    activation: Literal["gelu", "relu"] = "gelu"  # [R]
    init_std: float = Setting(0.01, low=0)  # of the last layer [R]
    temperature: float = Setting(1.0, above=0)  # of the softmax over the tasks [R]
    lr: float = Setting(1e-3, above=0)  # Adam [R]
    steps: int = Setting(300, low=1)  # "epochs" [F]; one is one step [R]
    batch: int = Setting(16, low=1)  # images [F] of every task [R]
    entropy_over: Literal["task", "joint"] = "task"  # classes of the image's task, or of all [R]
    eta: float = Setting(0.1, low=0)  # weight of the contrastive loss [F]
    spread: float = Setting(0.1, low=0)  # less H of the batch's mean weights, group by
    # group, as else experts that are seldom sure are left out [R]

    # the evidential head and its training
    head: Literal["text", "linear"] = "text"  # frozen text classifiers, or free ones [?]
    evidence: Literal["exp", "softplus"] = "exp"  # [R]
    clip: float = Setting(10.0, above=0)  # of what goes into the exponential [R]
    soft_clip: bool = True  # by a tanh: where a hard clip cuts, nothing is learned any more [R]
    kl: float = Setting(0.1, low=0)  # lambda, weight of KL(Dir(alpha) || Dir(1)) [F]
    kl_by: Literal["classes", "constant"] = "classes"  # times 10 / L, as else evidence dies out [R]
    expected: bool = False  # E[H(p)] in place of H(E[p]) [?]
    balance: bool = True  # less H of the batch's mean p, as else one class may take all [R]
    gamma: float = Setting(0.1, low=0)  # weight of the inverse correlation [F]
    inverse: Literal["separation", "literal"] = "separation"  # of u with log 1 / nu, or with nu [R]
    head_lr: float = Setting(1e-2, above=0)  # Adam [R]
    head_steps: int = Setting(300, low=0)  # of ``batch`` images of every task [R]

    # neighbours, their discrepancy, and the loss on it
    near: Literal["nearest", "radius"] = "nearest"  # of the batch [R]; the paper has a radius [F]
    nearest: int = Setting(16, low=1)  # [R]
    radius: float = Setting(0.5, above=0)  # between unit features of theta_0 [?]
    sharpness: Literal["softplus", "plain"] = "softplus"  # plain [F] has either sign; softplus [R]
    own: bool = False  # an image counts in its own Sharp [R]
    threshold: Literal["first_pass", "batch", "value"] = "first_pass"  # epsilon: a quantile of d
    quantile: float = Setting(0.9, low=0, high=1)  # over one pass, or each batch
    epsilon: float = 0.0  # [R]; or this value [?]
    similarity: float = Setting(0.1, above=0)  # temperature of the contrastive loss [R]

    # ablations
    router: bool = True  # or equal weights
    contrast: bool = True  # L_Dis
    ads: bool = True  # or the distance of the two features in place of d [R]
    sharp: bool = True
    div: bool = True
    conf: bool = True  # without it d is alike for all neighbours of an image, and L_Dis is 0

    # ours
    gate: bool = False  # theta_0 + (1 - u) sum_k w_k tau_k: the less evidence, the less of experts
