"""Twin-Merging and the ensemble of the experts."""

import math

import pytest
import torch

from mergeshift import UserError
from methods import METHODS, Needs
from methods.common.vit import PlainOps, encode, tokens
from methods.common.weights import TensorBuffers, total
from methods.contract import TASKS, VIT, Recorder, build, images, logits, small_checkpoints

TWIN, ENSEMBLE = METHODS["twin_merging"], METHODS["logit_ensemble"]


def shared_expert(ckpts):
    return (ckpts.base + 0.29 * total(ckpts.task_vectors)).materialise()


def test_with_whole_knowledge_the_shared_expert_cancels():
    # theta_s + sum w_t (theta_t - theta_s) = sum w_t theta_t, as the weights sum to one; so any
    # anchor gives the same: here theta_0
    ckpts = small_checkpoints()
    weights = torch.rand(8, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    shared = build(TWIN, ckpts, knowledge="dense")
    plain = build(METHODS["ce_router"], ckpts, knowledge="dense")
    with torch.no_grad():
        found, same = (method.features_with(images(), weights, "two") for method in (shared, plain))
        svd = build(TWIN, ckpts).features_with(images(), weights, "two")
    torch.testing.assert_close(found, same, rtol=0, atol=1e-5)
    assert (svd - same).abs().max() > 0.01  # compressed it does not


def test_the_router_looks_through_the_shared_expert():
    ckpts = small_checkpoints()
    ops = PlainOps(shared_expert(ckpts))
    pooled, mean = build(TWIN, ckpts), build(TWIN, ckpts, feature="tokens")
    torch.testing.assert_close(pooled.router_features(images()), encode(images(), ops, VIT))
    mean_token = tokens(images(), ops, VIT)[0].mean(1)
    torch.testing.assert_close(mean.router_features(images()), mean_token)
    with torch.no_grad():
        want = pooled.learned(encode(images(), ops, VIT))
    assert torch.allclose(pooled.route(images(), "two"), want[:, [2, 1, 0]])  # four, three, two


def test_the_defaults_are_the_published_ones_and_the_leaks_have_a_name():
    cfg = TWIN.Config()
    assert (cfg.scale, cfg.share, cfg.knowledge, cfg.anchor) == (0.29, 0.1, "svd", "shared")
    assert (cfg.lr, cfg.batch, cfg.epochs) == (5e-4, 1024, 50)
    assert (cfg.select_on, cfg.others) == ("held_out", "routed")
    released = TWIN(TWIN.Config.make({"preset": "released"}))
    assert (released.cfg.select_on, released.cfg.others) == ("test", "task")
    assert released.knows_task
    assert released.needs == Needs.IMAGES | Needs.TASK_IDS | Needs.TEST_STREAM


class Split(Recorder):
    """Test images that are not those to learn from."""

    def test_stream(self, task):
        self.seen |= Needs.TEST_STREAM
        yield -images()[:2]


def test_the_epoch_is_chosen_on_what_the_settings_say():
    ckpts = small_checkpoints()
    for select_on, held in (("held_out", 1), ("test", 2)):  # of 8 images of each of three tasks
        access = Split()
        method = TWIN(TWIN.Config(select_on=select_on)).build(ckpts, access)
        assert (Needs.TEST_STREAM in access.seen) == (select_on == "test")
        curves = method.curves
        assert [len(curve) for curve in curves.values()] == [50, 50]
        thirds = [a / 100 * 3 * held for a in curves["router_acc"]]
        assert all(math.isclose(a, round(a), abs_tol=1e-6) for a in thirds)
    assert [len(build(TWIN, ckpts, epochs=3).curves[k]) for k in curves] == [3, 3]


class One(Recorder):
    def unlabeled(self, task):
        yield images()[:1]


def test_one_image_of_one_task_is_too_little():
    ckpts = small_checkpoints()
    alone = type(ckpts)(ckpts.vit, ckpts.base, {"two": ckpts.experts["two"]}, ckpts.heads)
    with pytest.raises(UserError, match="twin_merging normalises over images and needs two"):
        TWIN().build(alone, One())
    TWIN().build(ckpts, One())  # of each of three tasks there is enough


# -- the ensemble --------------------------------------------------------------------------------


def two_experts_by_hand(monkeypatch, **config):
    method = build(ENSEMBLE, small_checkpoints(), **config)
    # unit features (1 0) and (0 1); under the head [2 0; 0 4] the logits are (2 0) and (0 4)
    features = torch.eye(2)[:, None]  # [K, B, D]
    monkeypatch.setattr(method, "all_features", lambda images: features)
    method.heads = TensorBuffers({"hand": torch.tensor([[2.0, 0.0], [0.0, 4.0]])})
    return method


def test_the_mean_of_logits_by_hand(monkeypatch):
    method = two_experts_by_hand(monkeypatch)
    assert method.predict(images(), "hand").tolist() == [[1, 2]]
    assert method.features(images(), "hand").tolist() == [[0.5, 0.5]]


def test_the_mean_of_probabilities_by_hand(monkeypatch):
    # (e^2, 1) / (e^2 + 1) = (.8808 .1192) and (1, e^4) / (e^4 + 1) = (.0180 .9820)
    method = two_experts_by_hand(monkeypatch, average="probabilities")
    found = method.predict(images(), "hand")
    want = [(0.880797 + 0.017986) / 2, (0.119203 + 0.982014) / 2]
    torch.testing.assert_close(found.exp(), torch.tensor([want]), rtol=0, atol=1e-5)


def test_the_ensemble_averages_what_the_experts_say():
    ckpts = small_checkpoints()
    found = logits(build(ENSEMBLE, ckpts))
    for task, head in ckpts.heads.items():
        every = [encode(images(), PlainOps(expert), VIT) for expert in ckpts.experts.values()]
        each = [torch.nn.functional.normalize(x, dim=-1) @ head.T for x in every]
        torch.testing.assert_close(found[task], sum(each) / 3, rtol=0, atol=1e-5)
    assert build(ENSEMBLE, ckpts).num_stored == len(TASKS) * ckpts.base.num_entries
