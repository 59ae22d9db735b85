"""The joint label space and the evidential head: by hand, and how it learns."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln
from torch.nn import functional as F

from bench.zoo.experts import checkpoints
from mergeshift import UserError
from methods.bd_merging.config import BDConfig
from methods.bd_merging.evidential_head import EvidentialHead, label_space, opinion
from methods.bd_merging.training import head_loss, head_problems, train_head
from methods.contract import small_checkpoints
from tasks import TASKS


def test_classes_of_one_name_are_merged():
    ckpts = small_checkpoints()
    unit = F.normalize(torch.randn(9, 16, generator=torch.Generator().manual_seed(2)), dim=-1)
    heads = {"two": 10 * unit[:2], "three": 20 * unit[2:5], "four": 10 * unit[5:]}
    classes = {"two": ("Cat", "dog"), "three": ("cat", "elk", "ant"), "four": ("a", "b", "c", "D")}
    ckpts = replace(ckpts, heads=heads, classes=classes)
    back = replace(ckpts, experts=dict(reversed(ckpts.experts.items())))
    space = label_space(ckpts)
    assert space.names == ["a", "ant", "b", "c", "cat", "d", "dog", "elk"]
    cat = (unit[0] + unit[2]) / (unit[0] + unit[2]).norm() * 15
    want = torch.stack([
        10 * unit[5], 20 * unit[4], 10 * unit[6], 10 * unit[7], cat, 10 * unit[8], 10 * unit[1],
        20 * unit[3],
    ])  # fmt: skip
    torch.testing.assert_close(space.rows, want)
    assert label_space(back).names == space.names
    assert torch.equal(label_space(back).rows, space.rows)


def test_without_names_every_class_is_its_own_and_tasks_without_experts_are_left_out():
    ckpts = small_checkpoints()
    names = label_space(ckpts).names
    assert len(names) == 9
    assert names[:4] == ["four/0", "four/1", "four/2", "four/3"]
    few = replace(ckpts, experts={"two": ckpts.experts["two"]})
    assert label_space(few).names == ["two/0", "two/1"]
    torch.testing.assert_close(label_space(few).rows, ckpts.heads["two"])


def test_names_have_to_fit_the_head():
    with pytest.raises(UserError, match="two has 3 class names for 2 rows of its head"):
        replace(small_checkpoints(), classes={"two": ("a", "b", "c")})


def test_the_zoo_knows_the_names(monkeypatch):
    tasks = [TASKS[name] for name in ("toy_two", "toy_four")]
    files = SimpleNamespace(open=lambda path: small_checkpoints().base)  # of the same architecture
    monkeypatch.setattr("bench.zoo.experts.Weights", files)
    ckpts = checkpoints("toy-vit", tasks, 0)
    assert ckpts.classes == {task.name: task.classes for task in tasks}
    assert label_space(ckpts).names == [f"direction {k}" for k in range(4)]


# -- the head ------------------------------------------------------------------------------------


HARD = {"free": False, "softplus": False, "clip": 10.0, "soft": False}


def head_of(rows, **settings):
    return EvidentialHead(rows, **(HARD | settings))


def test_the_head_by_hand():
    # logits (3 1 0) and (0 2 0); a = 2, m = 1: exponents (4 0 -2) and (-2 2 -2), at most 3
    rows, unit = torch.tensor([[3.0, 0.0], [1.0, 2.0], [0.0, 0.0]]), torch.eye(2)
    head = head_of(rows, clip=3.0)
    head.log_scale.data.fill_(math.log(2))
    head.offset.data.fill_(1)
    z = torch.tensor([[3.0, 0, -2], [-2, 2, -2]])
    torch.testing.assert_close(head.evidence(unit), z.exp())
    torch.testing.assert_close(head(unit).alpha, z.exp() + 1)
    z[0, 0], head.soft = 4, True
    torch.testing.assert_close(head.evidence(unit), (3 * torch.tanh(z / 3)).exp())
    head.softplus = True
    torch.testing.assert_close(head.evidence(unit), (1 + z.exp()).log())


def test_the_offset_starts_at_the_tenth_best_logit():
    # of 12 classes: logits 0 .. 11 and 0, -1, ..: the tenth best are 2 and -9
    rows = torch.stack([torch.arange(12.0), -torch.arange(12.0)], 1)
    head = head_of(rows)
    head.start(torch.eye(2))
    assert head.offset.item() == (2 - 9) / 2
    few = head_of(rows[:3])
    few.start(torch.eye(2))  # of three classes the worst: 0 and -2
    assert few.offset.item() == -1


def clusters(num_classes=20, count=40):
    """Features near the classifiers of 20 classes, in two tasks."""
    random = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(num_classes, 32, generator=random), dim=-1)
    labels = torch.arange(2 * count) % num_classes
    near = rows[labels] + 0.1 * torch.randn(2 * count, 32, generator=random)
    a, b = F.normalize(near, dim=-1).split(count)
    return 20 * rows, {"a": a, "b": b}


def trained(cfg, seed=0):
    rows, features = clusters()
    head = head_of(rows, free=cfg.head == "linear", soft=cfg.soft_clip)

    def generator(*parts):
        return torch.Generator().manual_seed(seed + len(parts[-1]))

    curves = train_head(head, features, cfg, generator)
    return head, head(torch.cat([*features.values()])), curves


@pytest.mark.parametrize("kind", ["text", "linear"])
def test_a_head_that_learns_does_not_collapse(kind):
    cfg = BDConfig(head=kind)
    head, found, curves = trained(cfg)
    assert head_problems(found, cfg) == []
    assert 0.01 < found.uncertainty.median() < 0.95
    assert len(found.alpha.argmax(1).unique()) == 20
    assert [len(curve) for curve in curves.values()] == [300, 300]
    assert curves["head_loss"][-1] < curves["head_loss"][0]
    assert torch.equal(head.rows, clusters()[0]) == (kind == "text")
    few = replace(cfg, head_steps=20)
    first, again, other = (trained(few, seed)[0].log_scale for seed in (0, 0, 1))
    assert torch.equal(again, first)
    assert not torch.equal(other, first)


def test_a_head_that_collapses_is_told_why():
    none, one = opinion(torch.zeros(4, 4)), opinion(torch.tensor([[9.0, 0, 0, 0]] * 9))
    problems = [
        (none, {"kl_by": "constant"}, r"lost its evidence .*u 1.000 > 0.95"
         r".*for 4 classes; set kl_by=classes"),
        (none, {}, "; lower kl$"),
        (opinion(1e6 * torch.eye(4)), {}, "sure of everything .*; raise kl"),
        (one, {"balance": False, "head": "linear"},
         "finds 1 of 4 classes in 9 images: set balance=true and head=text"),
        (one, {}, "theta_0 does not tell them apart"),
    ]  # fmt: skip
    for found, settings, said in problems:
        assert re.search(said, head_problems(found, BDConfig(**settings))[0])
    assert head_problems(opinion(9 * torch.eye(4)), BDConfig()) == []
    assert head_problems(opinion(9 * torch.eye(4)[:1]), BDConfig()) == []  # one image, one class


# -- its loss ------------------------------------------------------------------------------------


def by_hand(evidence, cfg):
    alpha = evidence + 1
    strength, num = alpha.sum(1), alpha.shape[1]
    p = alpha / strength[:, None]
    entropy = -(p * np.log(p)).sum(1)
    if cfg.expected:
        entropy = digamma(strength + 1) - (p * digamma(alpha + 1)).sum(1)
    kl = gammaln(strength) - gammaln(num) - gammaln(alpha).sum(1)
    kl += ((alpha - 1) * (digamma(alpha) - digamma(strength)[:, None])).sum(1)
    best = np.sort(alpha)[:, ::-1]
    nu = num * best[:, 1] / best[:, 0] ** 2
    y = nu if cfg.inverse == "literal" else np.log(1 / nu)
    corr = np.corrcoef(num / strength, y)[0, 1]
    middle = p.mean(0)
    weight = cfg.kl * (10 / num if cfg.kl_by == "classes" else 1)
    return (
        (entropy + weight * kl).mean()
        + cfg.gamma * (1 + corr)
        + cfg.balance * (middle * np.log(middle)).sum()
    )


@pytest.mark.parametrize("settings", [
    {}, {"kl_by": "constant", "balance": False}, {"expected": True, "kl": 0.3},
    {"inverse": "literal", "gamma": 0.7}, {"gamma": 0.0},
])  # fmt: skip
def test_the_loss_of_the_head(settings):
    cfg = BDConfig(**settings)
    evidence = torch.rand(7, 6, generator=torch.Generator().manual_seed(1)).double() * 5
    want = by_hand(evidence.numpy(), cfg)
    assert head_loss(opinion(evidence), cfg).item() == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize(("num_classes", "u"), [(736, 0.12), (81, 0.17), (10, 0.32)])
def test_evidence_survives_by_default_and_dies_out_as_published(num_classes, u):
    # all evidence on one class: as published the loss is least without any (6.6 with 736 classes);
    # with lambda * 10 / L it is least at a moderate u
    def losses(cfg, sizes):
        one = torch.zeros(1, num_classes, dtype=torch.float64)
        one[0, 0] = 1
        return [head_loss(opinion(size * one), cfg).item() for size in sizes]

    sizes = np.geomspace(1e-3, 1e5, 400)
    ours = BDConfig(balance=False, gamma=0.0)
    best = sizes[np.argmin(losses(ours, sizes))]
    assert num_classes / (num_classes + best) == pytest.approx(u, abs=0.02)
    if num_classes > 10:
        published = replace(ours, kl_by="constant")
        assert np.argmin(losses(published, sizes)) == 0
        assert losses(published, [0.0])[0] == pytest.approx(math.log(num_classes))
