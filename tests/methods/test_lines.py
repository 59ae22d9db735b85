"""LiNeS: the ramp over the blocks, alpha by the norms, and what it stands on."""

import numpy as np
import pytest
import torch

from mergeshift import Notice, UserError
from methods import METHODS, merge
from methods.contract import Recorder, few_steps, logits, small_checkpoints
from methods.lines import Lines, depths
from tests.helpers.numpy_models import assert_moved, task_vectors

FIRST, LAST = "transformer.resblocks.0.", "transformer.resblocks.1."


def lines(**config: object) -> Lines:
    return Lines(Lines.Config.make(config))


def norm_1(tensors: dict[str, np.ndarray]) -> float:
    return sum(np.abs(tensor).sum() for tensor in tensors.values())


@pytest.mark.parametrize("beta", [0.0, 0.6])
def test_of_a_sum_alpha_is_one_over_the_number_of_experts(beta):
    ckpts = small_checkpoints()

    def rule(name: str, taus: list[np.ndarray]) -> np.ndarray:
        ramp = beta if name.startswith(LAST) else 0.0
        return (1 / 3 + ramp) * np.sum(taus, axis=0)

    assert_moved(lines(on="ta", beta=beta).merge(ckpts), ckpts, rule)


@pytest.mark.parametrize("on", ["ties", "tsv", "iso_c", "magmax"])
def test_alpha_gives_the_size_of_the_mean_task_vector(on):
    ckpts, cls = small_checkpoints(), METHODS[on]
    inner = cls(cls.Config(scale=1.0)).merge(ckpts)
    merged = {k: (inner[k] - ckpts.base[k]).double().numpy() for k in inner}
    summed = {k: np.sum(taus, axis=0) for k, taus in task_vectors(ckpts).items()}
    alpha = norm_1(summed) / norm_1(merged) / 3

    def rule(name: str, taus: list[np.ndarray]) -> np.ndarray:
        return (alpha + 0.4 * name.startswith(LAST)) * merged[name]

    got = lines(on=on, beta=0.4).merge(ckpts)
    assert_moved(got, ckpts, rule)
    flat = lines(on=on, beta=0.0).merge(ckpts)
    moved = {k: (flat[k] - ckpts.base[k]).double().numpy() for k in flat}
    assert norm_1(moved) == pytest.approx(norm_1(summed) / 3, rel=1e-4)


def test_alpha_one_without_a_ramp_is_what_it_stands_on():
    ckpts = small_checkpoints()
    got = lines(on="tsv", norm=False, alpha=1.0, beta=0.0).merge(ckpts)
    tsv = METHODS["tsv"]().merge(ckpts)
    torch.testing.assert_close(got.flat(), tsv.flat(), atol=1e-6, rtol=0)


def test_wrappers_compose():
    ckpts = small_checkpoints()
    thinned = METHODS["dare"]().merge(ckpts)
    got = lines(on="dare", norm=False, beta=0.0).merge(ckpts)
    torch.testing.assert_close(got.flat(), thinned.flat(), atol=1e-6, rtol=0)


def test_on_a_method_that_looks_at_images():
    ckpts, access = small_checkpoints(), Recorder()
    method = lines(on="regmean", norm=False, beta=0.0).build(ckpts, access, few_steps)
    assert access.seen == method.needs == METHODS["regmean"]().needs
    regmean = METHODS["regmean"]().build(ckpts, Recorder())
    assert method.num_stored == ckpts.base.num_entries
    for task, values in logits(regmean).items():
        torch.testing.assert_close(logits(method)[task], values, atol=1e-4, rtol=0)
    again = lines(on="regmean", norm=False, beta=0.0)
    again.build(ckpts, learned=method.learned.state_dict())
    assert all(torch.equal(logits(again)[task], logits(method)[task]) for task in logits(method))


def test_chance_of_what_it_stands_on_is_its_own():
    assert lines(on="opcm").depends_on_seed
    assert lines(on="dare").depends_on_seed
    assert lines(on="regmean").depends_on_seed
    assert not lines(on="ties").depends_on_seed


def test_what_searches_by_itself_is_refused_where_it_would_search_for_every_candidate():
    with pytest.raises(UserError, match=r"lines is tuned itself; got 'map', which makes 32$"):
        lines(on="map")
    assert METHODS["tent"](METHODS["tent"].Config(on="map")).num_validation_passes == 32


def test_its_version_grows_with_that_of_what_it_stands_on(monkeypatch):
    assert lines(on="ties").measured_version == lines(on="dare").measured_version == 1
    monkeypatch.setattr(METHODS["ties"], "version", 3)
    assert lines(on="ties").measured_version == 3
    monkeypatch.setattr(Lines, "version", 2)
    assert lines(on="ties").measured_version == 4
    assert lines(on="tsv").measured_version == 2


def test_places_of_blocks():
    assert depths(["a.0.w", "b", "a.1.w"]) == {"a.0.w": 0, "b": 0, "a.1.w": 1}
    assert depths(["encoder.layers.10.w", "encoder.layers.5.w"]) == {
        "encoder.layers.10.w": 1, "encoder.layers.5.w": 0.5,
    }  # fmt: skip
    assert set(depths(["w", "a.0.w"]).values()) == {0}  # a single block: no ramp, and no 0 / 0


def test_experts_that_cancel_and_none_that_moved():
    base = {"w": torch.zeros(2)}
    still = [{"w": torch.zeros(2)}, {"w": torch.ones(2)}]
    with pytest.warns(Notice, match="base's own weights"):
        assert merge("lines", base, still)["w"].tolist() == [0.5, 0.5]
    opposite = [{"w": torch.ones(2)}, {"w": -torch.ones(2)}]
    assert merge("lines", base, opposite)["w"].tolist() == [0, 0]
