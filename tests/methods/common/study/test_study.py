"""The outer search: what it finds, that it repeats, and that a kill changes nothing."""

import random
import warnings
from functools import lru_cache

import numpy as np
import optuna
import pytest
import torch

from mergeshift import UserError
from methods.common.study import SAMPLERS, Trial, best, search, study_of
from tests.helpers.toy_study import SPACE, STARTS, bowl, find, points


def states():
    theirs = np.random.get_state()[1].tolist()  # noqa: NPY002
    return random.getstate(), theirs, torch.get_rng_state().tolist()


@lru_cache
def usual(sampler):
    """A search of eight trials, five of them before the sampler has its say."""
    return find(sampler=sampler, trials=8)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_starts_come_first_and_everything_is_inside_the_space(sampler):
    found = usual(sampler)
    assert len(found) == 8
    assert [trial.params for trial in found[:2]] == list(STARTS)
    assert [trial.value for trial in found] == [bowl(trial.params) for trial in found]
    for trial in found:
        assert 1e-4 <= trial.params["alpha"] <= 1e6
        assert 0.3 <= trial.params["scale"] <= 2
        assert trial.seconds >= 0
    assert len({tuple(trial.params.values()) for trial in found}) == 8


def test_log_ranges_are_drawn_in_decades():
    found = find(trials=300, sampler="random", starts=())
    decades = np.log10([trial.params["alpha"] for trial in found])
    assert np.histogram(decades, 5, (-4, 6))[0].min() > 35  # 60 expected in each two decades
    scales = [trial.params["scale"] for trial in found]
    assert np.mean(scales) == pytest.approx(1.15, abs=0.1)


@pytest.mark.parametrize(("sampler", "seeds"), [("tpe", (0, 1, 2)), ("gp", (0,))])
def test_a_model_of_the_score_beats_chance(sampler, seeds):
    # in the best of 20 random points (10 seeds) the value is about -.05
    trials = 14 if sampler == "gp" else 20  # it is the slow one, and needs fewer
    drawn = [best(find(trials=20, sampler="random", seed=seed)).value for seed in range(10)]
    ours = [
        best(find(trials=trials, sampler=sampler, seed=seed, startup=10)).value for seed in seeds
    ]
    assert np.mean(ours) > np.mean(drawn)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_repeats_and_another_seed_searches_elsewhere(sampler):
    """Whatever random numbers others have drawn; and they draw theirs as if it had not been."""
    first = points(usual(sampler))
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002 the generator that a library might read
    torch.manual_seed(7)
    seeded = states()
    assert points(find(sampler=sampler, trials=8)) == first
    assert states() == seeded
    other = points(find(sampler=sampler, trials=8, seed=1))
    assert other[:2] == first[:2]
    assert all(point not in first for point in other[2:])


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_longer_search_begins_as_a_shorter_one(sampler):
    longer = points(find(sampler=sampler))
    assert longer[:7] == points(find(sampler=sampler, trials=7))
    assert longer[:1] == points(find(sampler=sampler, trials=1))


def test_every_trial_is_told_also_those_of_the_journal(tmp_path):
    for trials, seen in ((3, 3), (5, 5), (5, 5)):
        told = []
        search(
            SPACE, bowl, starts=STARTS, trials=trials, startup=2, sampler="random", seed=0,
            journal=tmp_path / "study.journal", watch=lambda told=told: told.append(1),
        )  # fmt: skip
        assert len(told) == seen


def test_parameters_come_in_the_order_of_the_space(tmp_path):
    space = dict(reversed(SPACE.items()))
    for _ in range(2):  # made; and read from the journal
        found = search(
            space, bowl, starts=STARTS[:1], trials=4, startup=2, sampler="tpe", seed=0,
            journal=tmp_path / "study.journal",
        )  # fmt: skip
        assert all(list(trial.params) == ["scale", "alpha"] for trial in found)


def test_of_equal_values_the_first_is_best():
    trials = [Trial({"a": float(n)}, value, 0) for n, value in enumerate([1, 3, 2, 3])]
    assert best(trials).params == {"a": 1}
    assert best(find(score=lambda params: 1.0)).params == STARTS[0]


def test_without_startup_or_starts():
    for sampler in SAMPLERS:
        found = find(sampler=sampler, startup=0, starts=(), trials=4)
        assert len({tuple(trial.params.values()) for trial in found}) == 4


# -- what is refused, and what is said -----------------------------------------------------------


def test_wrong_use_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no sampler 'cma'; there are: tpe, gp, random"):
        find(sampler="cma")
    for start in ({"alpha": 1.0}, {"alpha": 1e7, "scale": 1.0}, {"alpha": 1.0, "scale": 0.2}):
        with pytest.raises(ValueError, match="is no point of"):
            find(starts=[start])
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="must be finite"):
            find(lambda params, value=value: value)
    with pytest.raises(FileNotFoundError):  # of the score's own, not of the journal
        find(lambda params: float((tmp_path / "none").read_text()), journal=tmp_path / "journal")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        find(journal=tmp_path / "file" / "study.journal")


def test_optuna_is_quiet_and_left_as_it_was(capfd, tmp_path):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sampler in SAMPLERS:
            find(sampler=sampler, trials=7, journal=tmp_path / sampler)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def test_optuna_can_weigh_the_parameters_of_what_was_found():
    found = find(lambda params: params["scale"], trials=30, sampler="random")
    study = study_of(SPACE, found)
    assert [trial.value for trial in study.trials] == [trial.value for trial in found]
    share = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
    )
    assert share["scale"] > 0.9
