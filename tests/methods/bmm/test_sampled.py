"""BMM's samples: how large their noise is, how their answers are averaged, which size is chosen."""

import numpy as np
import pytest
import torch

from methods import METHODS
from methods.bmm.inner import SolvedLayer
from methods.bmm.outer import Validation
from methods.bmm.sampled import KAPPAS, ensemble_logits, root_of, sample_weights
from methods.common.linear_layers import LinearLayer
from methods.common.weights import Weights
from methods.contract import TASKS, VIT, images, logits, small_checkpoints
from tests.helpers.bmm_parts import MATRICES, Shown, make, weights_of
from tests.helpers.regressions import regression

SETTINGS = {"trials": 0, "anchor": "ta"}


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def a_part() -> SolvedLayer:
    x, anchor = random(9, 3, seed=1), random(4, 3, seed=2)
    found = regression([x.T @ x], [random(4, 3, seed=3)], anchor)
    return SolvedLayer(
        LinearLayer("w", slice(0, 4), "w", "out", 0), "out", random(4, 3, seed=4), found
    )


def test_noise_has_the_shape_of_the_posterior_and_the_size_of_what_the_anchor_changes():
    part = a_part()
    root = root_of(part, {"alpha.out": 0.5, "scale.out": 2.0})
    inverse = torch.linalg.inv(random(9, 3, seed=1).T @ random(9, 3, seed=1) + 0.5 * torch.eye(3))
    size = (part.regression.anchor - part.base).norm()
    torch.testing.assert_close(root @ root.T, 4 * size**2 * inverse / (4 * inverse.trace()))
    assert (len(part.base) * (root**2).sum()).sqrt().item() == pytest.approx(2 * size.item())


def test_samples_of_one_parameter():
    rows = [slice(0, 2), slice(2, 4)]
    modules = [LinearLayer("w", some, "w", "qkv", 0) for some in rows]
    roots = {"w:0": torch.eye(3), "w:2": torch.zeros(3, 3)}
    mean = torch.zeros(4, 3)

    def generator(name: str) -> torch.Generator:
        return torch.Generator().manual_seed(len(name))

    found = sample_weights(mean, modules, roots, generator)
    assert torch.equal(found[:2], torch.randn(2, 3, generator=generator("w:0")))
    assert not found[2:].any()
    assert not mean.any()


def test_samples_lie_around_bmm():
    ckpts = small_checkpoints()
    mean = weights_of(make("bmm", ckpts, **SETTINGS))
    method = make("bmm_sampled", ckpts, kappa=0.1, samples=40, **SETTINGS)
    models = [Weights(model()) for model in method.models.values()]
    anchor = METHODS["task_arithmetic"]().merge(ckpts)
    assert len(models) == 40
    for name in ckpts.base:
        noise = torch.stack([model[name] - mean[name] for model in models])
        if name not in MATRICES:
            assert not noise.any()
            continue
        size = 0.1 * (anchor[name] - ckpts.base[name]).norm().item()
        rms = noise.square().sum((1, 2)).mean().sqrt().item()
        assert rms == pytest.approx(size, rel=0.1)
        assert noise.mean(0).norm().item() < 2.5 * size / 40**0.5


def test_answers_are_averaged_as_probabilities():
    found = ensemble_logits(torch.tensor([[[0.0, 2.0, 5.0]], [[3.0, -1.0, 4.0]]]))[0]
    each = np.exp([[0, 2, 5], [3, -1, 4]])
    shares = (each / each.sum(1, keepdims=True)).mean(0)
    np.testing.assert_allclose(found.softmax(-1).numpy(), shares, rtol=1e-5)
    assert found.mean().item() == pytest.approx(13 / 6)  # as high as the logits
    same = torch.tensor([[[0.5, 2.0, 5.0]]]).repeat(3, 1, 1)
    torch.testing.assert_close(ensemble_logits(same), same[0])
    assert not torch.allclose(found.softmax(-1), torch.tensor([1.5, 0.5, 4.5]).softmax(-1))


def test_predictions_are_those_of_the_samples():
    method = make("bmm_sampled", kappa=0.3, samples=3, **SETTINGS)
    features = torch.nn.functional.normalize(method.all_features(images()), dim=-1)
    for task, got in logits(method).items():
        shares = (features @ method.heads()[task].T).softmax(-1).mean(0)
        torch.testing.assert_close(got.softmax(-1), shares)


def test_the_size_of_the_noise_is_the_one_of_the_least_loss():
    method = make("bmm_sampled", samples=4, **SETTINGS)
    told = method.report["nll"]
    assert list(told) == [str(kappa) for kappa in KAPPAS]
    assert told[str(method.report["constants"]["kappa"])] == min(told.values())
    for kappa in (KAPPAS[0], KAPPAS[-1]):
        fixed = make("bmm_sampled", samples=4, kappa=kappa, **SETTINGS)
        losses = []
        for task, count in TASKS.items():
            found = fixed.predict(Shown().draw("val", task), task).softmax(-1)
            losses.append(-found[range(12), torch.arange(12) % count].log().mean().item())
        assert told[str(kappa)] == pytest.approx(np.mean(losses), rel=1e-4)
    chosen = make("bmm_sampled", samples=4, kappa=method.report["constants"]["kappa"], **SETTINGS)
    assert all(torch.equal(logits(chosen)[t], logits(method)[t]) for t in TASKS)
    for task, count in TASKS.items():  # what is told of val is of the samples, not of their mean
        found = chosen.predict(Shown().draw("val", task), task).argmax(-1)
        right = (found == torch.arange(12) % count).double().mean().item()
        assert method.report["val"][task] == pytest.approx(right)


def test_with_a_size_that_is_given_val_is_of_the_samples_all_the_same():
    access, settings = Shown(), {"trials": 2, "anchor": "ta", "samples": 3, "kappa": 1.0}
    method = make("bmm_sampled", access=access, **settings)
    for task, count in TASKS.items():
        found = method.predict(access.draw("val", task), task).argmax(-1)
        right = (found == torch.arange(12) % count).double().mean().item()
        assert method.report["val"][task] == pytest.approx(right)
    assert method.report["budget"] == 2  # nothing is chosen among the samples
    assert method.report["constants"]["kappa"] == 1
    assert (
        access.told == method.num_validation_passes == 2 + 1 + 1 + 3
    )  # trials, the best, experts, samples


def test_samples_follow_the_seed_and_nothing_else():
    def built(seed: int, count: int = 2):
        cls = METHODS["bmm_sampled"]
        cfg = cls.Config(kappa=0.3, samples=count, **SETTINGS)
        return cls(cfg, seed).build(small_checkpoints(), Shown())

    first, again, other, more = built(0), built(0), built(1), built(0, 3)
    name = next(iter(MATRICES))
    assert all(torch.equal(logits(first)[t], logits(again)[t]) for t in TASKS)
    assert not torch.equal(first.models["0"]()[name], other.models["0"]()[name])
    assert torch.equal(first.models["1"]()[name], more.models["1"]()[name])
    assert not torch.equal(first.models["0"]()[name], first.models["1"]()[name])


def test_without_images_or_labels_it_still_samples():
    method = make("bmm_sampled", kappa=0.1, calibration=0, samples=3, **SETTINGS)
    assert str(method.needs) == "weights only"
    assert len(method.models) == 3
    assert method.stores == "3 models"
    assert method.num_stored == 3 * small_checkpoints().base.num_entries
    validation = Validation(Shown(), method.heads(), VIT)
    assert 0 <= validation.accuracy(method.models["0"](), "two") <= 1
