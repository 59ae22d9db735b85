"""What experts are like beside their base: probes, task vectors, own lines, harm, low rank.

Axes: ``N`` images, ``D`` features, ``C`` classes, ``K`` experts. All accuracies are on the first
images of the val split.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.runtime import devices
from bench.runtime.workers import report_progress
from bench.zoo.encoders import ENCODERS, Encoder
from bench.zoo.experts import Expert
from methods import MergingMethod
from methods.common.linear_layers import is_matrix
from methods.common.vit import encode_plain
from methods.common.weights import Weights
from tasks import TASKS, Images, Task, load
from tasks.datamodule import BATCH

STEPS = (0.125, 0.3, 0.5)  # s of theta_0 + s tau, along an expert's own line
RANKS = (0.05, 0.125)  # shares of the singular values of every matrix
PROBED = 1500  # train images of a task that a linear probe is fitted on
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the ridge, on unit features


class Probe(NamedTuple):
    """A linear probe of the pretrained features of one task."""

    accuracy: float
    penalty: float


# -- weights


def along(base: Weights, expert: Weights, step: float) -> Weights:
    """theta_0 + step (theta - theta_0)."""
    return base + step * (expert - base)


def cut(base: Weights, expert: Weights, share: float) -> Weights:
    """The expert, of its task vector only the largest singular values of every matrix.

    What has two axes is a matrix; ``max(1, round(share * min(out, in)))`` of its singular values
    are kept. All other tensors stay as they are.
    """

    def read(name: str) -> Tensor:
        if not is_matrix(base, name):
            return expert[name]
        tau = expert[name] - base[name]
        rank = max(1, round(share * min(tau.shape)))
        if rank >= min(tau.shape):
            return expert[name]
        left, sizes, right = torch.linalg.svd(tau, full_matrices=False)
        return base[name] + (left[:, :rank] * sizes[:rank]) @ right[:rank]

    return Weights.lazy({name: base.shape(name) for name in base}, read)


def geometry(base: Weights, experts: Sequence[Weights]) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and angles of task vectors, each taken as one vector.

    Returns:
        |tau| / |theta_0|, ``[K]``, and the cosines of all pairs, ``[K, K]``.
    """
    products, square = torch.zeros(len(experts), len(experts)).double(), 0.0
    for name, start in base.items():  # one tensor of each model is held at a time
        taus = torch.stack([(one[name] - start).flatten() for one in experts]).double()
        products += taus @ taus.T
        square += float(start.double().square().sum())
    norms = products.diagonal().sqrt()
    return (norms / square**0.5).numpy(), (products / norms.outer(norms)).numpy()


# -- features


@torch.inference_mode()
def features(weights: Weights, encoder: Encoder, split: Images) -> Tensor:
    """Unit features of all images of a split.  ``-> [N, D]``, on the CPU."""
    device = devices.device()
    held = {name: tensor.to(device) for name, tensor in weights.items()}
    found = []
    for start in range(0, len(split), BATCH):
        pixels = torch.from_numpy(np.array(split.images[start : start + BATCH])).to(device)
        found.append(encode_plain(encoder.normalise(pixels), held, encoder.vit).cpu())
        report_progress(len(pixels))
    return F.normalize(torch.cat(found), dim=-1)


def accuracy(unit: Tensor, head: Tensor, labels: np.ndarray) -> float:
    """Share of images whose class has the largest logit.

    Args:
        unit: features, ``[N, D]``.
        head: ``[C, D]``.
        labels: ``int [N]``.
    """
    return float(((unit @ head.T).argmax(1).numpy() == labels).mean())


def ridge(unit: Tensor, labels: np.ndarray, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Regression of one class against the rest, targets 1 and -1; the intercept is not penalised.

    Args:
        unit: features, ``[N, D]``.
        labels: ``int [N]``.
        classes: C.
        penalty: times the squared length of each class's weights, added to the squared errors.

    Returns:
        Weights ``[C, D]`` and intercepts ``[C]``, float64.
    """
    x = unit.double()
    y = 2 * F.one_hot(torch.from_numpy(labels), classes).double() - 1
    centre, height = x.mean(0), y.mean(0)
    x, y = x - centre, y - height
    weights = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).double(), x.T @ y).T
    return weights, height - weights @ centre


def probe(train: Tensor, train_labels: np.ndarray, val: Tensor, labels: np.ndarray) -> Probe:
    """The best ridge of ``PENALTIES`` on val; the first of equals.

    Args:
        train: unit features, ``[M, D]``.
        train_labels: ``int [M]``.
        val: ``[N, D]``. The penalty is chosen and the accuracy measured on these.
        labels: ``int [N]``.
    """
    classes, found = int(max(train_labels.max(), labels.max())) + 1, []
    for penalty in PENALTIES:
        weights, intercept = ridge(train, train_labels, classes, penalty)
        predicted = (val.double() @ weights.T + intercept).argmax(1).numpy()
        found.append(Probe(float((predicted == labels).mean()), penalty))
    return max(found, key=lambda one: one.accuracy)


# -- units of work


def val(task: Task, limit: int | None) -> Images:
    """The val images that a diagnosis looks at."""
    return load(task, "val").first(limit)


def measure_base(encoder_name: str, task_name: str, limit: int | None) -> tuple[float, Probe]:
    """Zero-shot accuracy of the base on a task, and the linear probe of its features."""
    encoder, task = ENCODERS[encoder_name], TASKS[task_name]
    base, split = encoder.base(), val(task, limit)
    train = load(task, "train").first(PROBED)
    unit = features(base, encoder, split)
    found = probe(features(base, encoder, train), train.labels, unit, split.labels)
    return accuracy(unit, encoder.heads([task])[task_name], split.labels), found


def measure_expert(
    expert: Expert, tasks: Sequence[str], limit: int | None
) -> dict[str, dict[str, float]]:
    """Accuracies of one expert.

    Returns:
        ``cross``: task -> accuracy, of all ``tasks``; ``own_line``: step -> accuracy on its own
        task; ``kept``: rank share -> accuracy on its own task. The keys of the latter are texts.
    """
    encoder, own = ENCODERS[expert.encoder], TASKS[expert.task]
    base, weights = encoder.base(), Weights.open(expert.path).materialise()
    every = [TASKS[name] for name in tasks]
    heads, splits = encoder.heads(every), {task.name: val(task, limit) for task in every}

    def on(task: str, model: Weights) -> float:
        return accuracy(features(model, encoder, splits[task]), heads[task], splits[task].labels)

    return {
        "cross": {task: on(task, weights) for task in tasks},
        "own_line": {f"{s:g}": on(own.name, along(base, weights, s)) for s in STEPS},
        "kept": {f"{share:g}": on(own.name, cut(base, weights, share)) for share in RANKS},
    }


@torch.inference_mode()
def accuracy_of(method: MergingMethod, encoder: Encoder, task: Task, limit: int | None) -> float:
    """Accuracy of a built method on a task."""
    split, device, right = val(task, limit), devices.device(), 0
    method.to(device)
    for start in range(0, len(split), BATCH):
        pixels = torch.from_numpy(np.array(split.images[start : start + BATCH])).to(device)
        predicted = method.predict(encoder.normalise(pixels), task.name).argmax(1).cpu().numpy()
        right += int((predicted == split.labels[start : start + BATCH]).sum())
        report_progress(len(pixels))
    method.cpu()
    return right / len(split)


def images_of_base(task: Task, limit: int | None) -> int:
    """How many images :func:`measure_base` encodes."""
    return min(task.sizes[2], limit or task.sizes[2]) + min(PROBED, task.sizes[0])


def images_of_expert(task: Task, tasks: Sequence[Task], limit: int | None) -> int:
    """How many images :func:`measure_expert` encodes for the expert of ``task``."""
    counts: Mapping[str, int] = {
        one.name: min(one.sizes[2], limit or one.sizes[2]) for one in tasks
    }
    return sum(counts.values()) + (len(STEPS) + len(RANKS)) * counts[task.name]
