"""Methods that learn: what they are shown, what is kept of it, and what is never learned again."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from bench.plan import resolve
from bench.stages import artifacts
from bench.stages.adapt import AdaptationData, RunDataAccess
from bench.stages.build import bind
from bench.zoo.encoders import ENCODERS
from bench.zoo.experts import checkpoints
from corruptions.base import Shift
from mergeshift import UserError
from methods.common.data_access import AdaptationSchedule
from methods.common.vit import encode_plain
from results.schema import unpack
from results.store import Store
from tasks import load, suite
from tests.helpers.learning_methods import SWEEP, Learner, by_hand, coefficient, register, run_of
from tests.helpers.toy_sweep import measured, stamps, sweep_into

CONTRAST = Shift("contrast", 5)
TASKS = ("toy_two", "toy_three", "toy_four")
TOY_PIXELS = ENCODERS["toy-vit"].normalise


@pytest.fixture(autouse=True)
def learners(monkeypatch, smoke) -> None:
    """There are methods that learn, and experts for them."""
    register(monkeypatch)


def joined(batches) -> np.ndarray:
    return torch.cat(list(batches)).numpy()


# -- what a method is shown ----------------------------------------------------------------------


@pytest.mark.parametrize("task", suite("toy"), ids=lambda task: task.name)
def test_the_adapt_split_is_shown_in_an_order_drawn_by_the_seed(task):
    pictures = RunDataAccess(bind(run_of(SWEEP)).adaptation_data(None, None), TOY_PIXELS, seed=0)
    seen, split = joined(pictures.unlabeled(task.name)), load(task, "adapt")
    expected = by_hand(split.images)
    flat = [np.asarray(part).reshape(len(part), -1) for part in (seen, expected)]
    places = [int(np.abs(flat[1] - image).sum(axis=1).argmin()) for image in flat[0]]
    assert sorted(places) == list(range(len(places)))  # every image, once
    np.testing.assert_allclose(flat[0], flat[1][places], atol=1e-6)
    data = pictures.data
    again, other = (joined(RunDataAccess(data, TOY_PIXELS, seed=s).unlabeled(task.name))
                    for s in (0, 1))  # fmt: skip
    np.testing.assert_array_equal(seen, again)
    assert (seen != other).any()
    assert places != list(range(len(places)))
    for name, batches in (("val", pictures.validation), ("train", pictures.training)):
        images, labels = zip(*batches(task.name), strict=True)
        split = load(task, name)
        np.testing.assert_allclose(joined(images), by_hand(split.images), atol=1e-6)
        np.testing.assert_array_equal(joined(labels), split.labels)


@pytest.mark.parametrize(("adapt_on", "shift"), [("test", None), ("shifted", CONTRAST)])
def test_the_test_images_of_the_run_are_shown_where_the_protocol_says_so(adapt_on, shift):
    task = suite("toy")[0]
    data = bind(run_of(replace(SWEEP, adapt_on=adapt_on))).adaptation_data(shift, None)
    images = load(task, "test").images[:24]  # the limit of the sweep
    if shift:
        images = np.stack([shift.apply(x, 0, task.name, i) for i, x in enumerate(images)])
    for seen in (
        RunDataAccess(data, TOY_PIXELS, seed=0).unlabeled(task.name),
        RunDataAccess(data, TOY_PIXELS, seed=0).test_stream(task.name),
    ):  # in whatever order
        found, expected = (np.asarray(x).reshape(24, -1) for x in (joined(seen), by_hand(images)))
        places = [int(np.abs(expected - image).sum(axis=1).argmin()) for image in found]
        assert sorted(places) == list(range(24))
        np.testing.assert_allclose(found, expected[places], atol=1e-6)


def test_who_looks_at_the_test_stream_sees_it_whatever_the_protocol():
    task = suite("toy")[0]
    data = bind(run_of(SWEEP)).adaptation_data(None, None)
    seen = RunDataAccess(data, TOY_PIXELS, seed=0).test_stream(task.name)
    np.testing.assert_allclose(joined(seen), by_hand(load(task, "test").images[:24]), atol=1e-6)


def test_the_trainer_shows_images_of_the_split_and_nothing_else():
    stream = AdaptationData(
        bind(run_of(SWEEP)).adaptation_data(None, AdaptationSchedule(steps=2, batch=5)), TOY_PIXELS
    )
    batches = [stream.on_after_batch_transfer(b, 0) for b in stream.train_dataloader()]
    assert [list(batch) for batch in batches] == [list(TASKS)] * 2
    for task in suite("toy"):
        split = by_hand(load(task, "adapt").images).astype(np.float32)
        for batch in batches:
            assert batch[task.name].shape == (5, 3, 32, 32)
            for image in batch[task.name].numpy():
                assert np.isclose(split, image, atol=1e-6).all((1, 2, 3)).any()
    first, second = (torch.cat(list(batch.values())) for batch in batches)
    assert not torch.equal(first, second)


# -- what is kept --------------------------------------------------------------------------------


def test_what_was_learned_is_kept_with_facts_about_it(tmp_path):
    sweep_into(tmp_path, replace(SWEEP, methods=("learner", "average")))
    store, run = Store(tmp_path), run_of(SWEEP)
    facts = artifacts.metadata(artifacts.path(store, run.id))
    assert (facts["steps"], facts["adapt_on"], facts["shift"]) == (3, "adapt", "")
    assert len(facts["curves"]["loss"]) == 3
    assert facts["coefficients"] == {}
    assert facts["seconds"] > 0
    assert coefficient(tmp_path) != pytest.approx(0.3)  # where it began
    assert artifacts.files(store, run.id) == [artifacts.path(store, run.id)]
    average = run_of(replace(SWEEP, methods=("average",)))
    assert artifacts.files(store, average.id) == []
    assert store.run(average.id)["cost"]["adapt_s"] == 0
    cost = store.run(run.id)["cost"]
    assert cost["adapt_s"] == pytest.approx(max(0, facts["seconds"] - cost["merge_s"]))
    rows = store.read().groupby("method")[["adapt_on", "needs", "seeded"]].first()
    assert rows.loc["learner"].tolist() == ["adapt", "unlabelled images", True]
    assert rows.loc["average"].tolist() == ["", "nothing", False]


def test_the_loss_of_the_first_step_is_that_of_the_images_it_saw(tmp_path):
    """The entropy at coef = 0.3, on the rows that the data module draws for step 0."""
    sweep_into(tmp_path, SWEEP)
    run, ckpts = run_of(SWEEP), checkpoints("toy-vit", suite("toy"), 0)
    vit, loss = ENCODERS["toy-vit"].vit, 0.0
    merged = {
        name: base + 0.3 * sum(expert[name] - base for expert in ckpts.experts.values())
        for name, base in ckpts.base.items()
    }
    (batch, *_) = bind(run).adaptation_data(None, Learner.adaptation).train_dataloader()
    for task, images in batch.items():
        x = torch.from_numpy(by_hand(images.numpy())).float()
        features = encode_plain(x, merged, vit).double()
        features /= features.norm(dim=1, keepdim=True)
        p = torch.softmax(features @ ckpts.heads[task].double().T, -1).numpy()
        loss -= (p * np.log(p)).sum(1).mean()
    first = artifacts.metadata(artifacts.path(Store(tmp_path), run.id))["curves"]["loss"][0]
    assert first == pytest.approx(loss, rel=1e-4)


def test_the_measured_model_is_the_one_that_was_learned(tmp_path):
    sweep_into(tmp_path, SWEEP)
    ckpts, task = checkpoints("toy-vit", suite("toy"), 0), suite("toy")[2]
    scale = coefficient(tmp_path)
    merged = {
        name: base + scale * sum(expert[name] - base for expert in ckpts.experts.values())
        for name, base in ckpts.base.items()
    }
    test = load(task, "test").first(24)
    x = torch.from_numpy(by_hand(np.array(test.images))).float()
    logits = encode_plain(x, merged, ENCODERS["toy-vit"].vit) @ ckpts.heads[task.name].T
    hits = measured(tmp_path).loc[("learner", 0, task.name, "clean", 0, "acc"), "hits"]
    np.testing.assert_array_equal(unpack(hits, 24), logits.argmax(1).numpy() == test.labels)


# -- what is learned again, and what never -------------------------------------------------------


def test_one_training_serves_all_shifts_and_is_never_done_again(tmp_path, trained):
    sweep_into(tmp_path, SWEEP)
    assert trained == [("learner", "")]
    before = stamps(tmp_path, "**/learned*")
    Store(tmp_path).path(run_of(SWEEP).id, "clean").unlink()
    sweep_into(tmp_path, replace(SWEEP, shifts=(*SWEEP.shifts, "contrast@1")))
    assert trained == [("learner", "")]
    assert stamps(tmp_path, "**/learned*") == before


def test_what_was_lost_is_learned_again_where_it_is_needed(tmp_path, trained):
    sweep_into(tmp_path, SWEEP)
    first, scale = measured(tmp_path), coefficient(tmp_path)
    artifacts.path(Store(tmp_path), run_of(SWEEP).id).unlink()
    sweep_into(tmp_path, SWEEP)  # nothing is missing
    assert len(trained) == 1
    Store(tmp_path).path(run_of(SWEEP).id, "clean").unlink()
    sweep_into(tmp_path, SWEEP)
    assert len(trained) == 2
    assert coefficient(tmp_path) == scale
    pd.testing.assert_frame_equal(measured(tmp_path), first, check_exact=True)


def test_learning_depends_on_the_run_alone(tmp_path):
    """Not on who learns before, nor on what the global generator has given."""
    sweep_into(tmp_path / "alone", SWEEP)
    torch.manual_seed(5)
    torch.rand(7)
    sweep_into(tmp_path / "among", replace(SWEEP, methods=("on_test", "ties", "learner")))
    assert coefficient(tmp_path / "alone") == coefficient(tmp_path / "among")
    alone, among = measured(tmp_path / "alone"), measured(tmp_path / "among")
    pd.testing.assert_frame_equal(alone, among.loc[alone.index], check_exact=True)


def test_force_learns_again_and_finds_the_same(tmp_path, trained):
    sweep_into(tmp_path, SWEEP)
    before, first = stamps(tmp_path, "**/learned*"), measured(tmp_path)
    sweep_into(tmp_path, SWEEP, force=True)
    assert trained == 2 * [("learner", "")]
    assert stamps(tmp_path, "**/learned*") != before
    pd.testing.assert_frame_equal(measured(tmp_path), first, check_exact=True)


def test_seeds_are_learned_apart_and_a_method_without_chance_is_measured_once(tmp_path):
    sweep = replace(SWEEP, methods=("learner", "average"), seeds=(3, 5), shifts=("clean",))
    sweep_into(tmp_path, sweep)
    store = Store(tmp_path)
    pairs = [(run.method, run.seed) for run in resolve(sweep).runs]
    assert pairs == [("learner", 3), ("learner", 5), ("average", 3)]
    ours = [run.id for run in resolve(sweep).runs if run.method == "learner"]
    one, other = (artifacts.load(artifacts.path(store, run_id))[0]["coef"] for run_id in ours)
    assert one != other
    seeds = measured(tmp_path).reset_index().groupby("method")["seed"].unique()
    assert (list(seeds["learner"]), list(seeds["average"])) == ([3, 5], [3])


def test_experts_that_are_made_anew_after_the_learning_are_noticed(tmp_path):
    sweep_into(tmp_path, SWEEP)
    store, run = Store(tmp_path), run_of(SWEEP)
    file = artifacts.path(store, run.id)
    tensors, facts = artifacts.load(file)
    artifacts.save(file, tensors, facts | {"experts": ["another", *facts["experts"][1:]]})
    store.path(run.id, "clean").unlink()
    with pytest.raises(UserError, match=r"made anew since .*learned\.safetensors was learned"):
        sweep_into(tmp_path, SWEEP)
    sweep_into(tmp_path, SWEEP, force=True)
    assert artifacts.load(file)[1]["experts"] == facts["experts"]
