"""Singular vectors of task vectors are kept, read again, and never change a number."""

import os

import pytest
import torch

from mergeshift import UserError
from methods import merge
from methods.common import spectral
from methods.common.spectral import (
    KEPT_FROM,
    LIMIT,
    folder,
    key_of,
    shared_triplets,
    singular_values,
    triplets,
)
from tests.helpers.numpy_models import random

SIZE = KEPT_FROM


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path))
    monkeypatch.delenv(LIMIT, raising=False)
    return tmp_path


@pytest.fixture
def decomposed(monkeypatch) -> list[int]:
    """The ranks that were asked of a decomposition."""
    ranks: list[int] = []

    def watched(matrix, rank):
        ranks.append(rank)
        return triplets(matrix, rank)

    monkeypatch.setattr(spectral, "triplets", watched)
    return ranks


def tau(seed: int = 0) -> torch.Tensor:
    return random(SIZE, SIZE + 3, seed=seed)


def test_kept_numbers_are_those_that_were_worked_out(home, decomposed):
    want = triplets(tau(), 5)
    for _ in range(3):
        got = shared_triplets(tau(), 5)
        assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))
    assert decomposed == [5]
    assert [path.name for path in folder().iterdir()] == [f"{key_of(tau())}.safetensors"]


def test_the_larger_serves_the_smaller_and_is_put_in_its_place(home, decomposed):
    shared_triplets(tau(), 3)
    shared_triplets(tau(), 8)  # too few were kept
    got = shared_triplets(tau(), 2)
    assert decomposed == [3, 8]
    want = triplets(tau(), 2)
    assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))


@pytest.mark.parametrize("shape", [(SIZE, SIZE + 3), (SIZE + 40, SIZE)])
def test_a_smaller_rank_is_the_same_up_to_round_off(home, shape):
    matrix = random(*shape)
    kept = shared_triplets(matrix, 64)
    for rank in (64, 31, 1, 0):
        got, want = shared_triplets(matrix, rank), triplets(matrix, rank)
        assert [part.shape[-1] for part in got] == [rank] * 3
        for one, other, whole in zip(got, want, kept, strict=True):
            torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
            assert torch.equal(one, whole[..., :rank])


def test_no_triplets_and_more_than_there_are():
    matrix = random(4, 6)
    assert [tuple(part.shape) for part in triplets(matrix, 0)] == [(4, 0), (0,), (6, 0)]
    assert [tuple(part.shape) for part in triplets(matrix, 9)] == [(4, 4), (4,), (6, 4)]


def test_content_is_the_name(home, decomposed):
    assert key_of(tau()) == key_of(tau().clone())
    assert len({key_of(tau()), key_of(tau(1)), key_of(tau().T), key_of(tau().float())}) == 4
    shared_triplets(tau(), 2)
    shared_triplets(tau(1), 2)
    assert decomposed == [2, 2]


def test_small_matrices_and_a_limit_of_nothing_keep_nothing(home, monkeypatch):
    shared_triplets(random(SIZE - 1, SIZE), 2)
    monkeypatch.setenv(LIMIT, "0")
    shared_triplets(tau(), 2)
    assert not folder().exists()


def test_above_the_limit_nothing_more_is_kept(home, monkeypatch, decomposed):
    shared_triplets(tau(), 4)
    size = next(folder().iterdir()).stat().st_size
    monkeypatch.setenv(LIMIT, str(1.5 * size / 1e9))
    for _ in range(2):
        shared_triplets(tau(1), 4)
    assert decomposed == [4, 4, 4]  # worked out anew each time
    assert len(list(folder().iterdir())) == 1


def test_what_was_not_read_for_a_day_gives_way(home, monkeypatch):
    shared_triplets(tau(), 4)
    old = next(folder().iterdir())
    monkeypatch.setenv(LIMIT, str(1.5 * old.stat().st_size / 1e9))
    os.utime(old, (0, 0))
    shared_triplets(tau(1), 4)
    assert [path.name for path in folder().iterdir()] == [f"{key_of(tau(1))}.safetensors"]


def test_reading_keeps_it_fresh_and_a_damaged_file_is_made_anew(home, decomposed):
    shared_triplets(tau(), 4)
    path = next(folder().iterdir())
    os.utime(path, (0, 0))
    shared_triplets(tau(), 4)
    assert path.stat().st_mtime > 1e9
    path.write_bytes(path.read_bytes()[:100])
    got = shared_triplets(tau(), 4)
    assert decomposed == [4, 4]
    assert torch.equal(got[1], triplets(tau(), 4)[1])


@pytest.mark.parametrize("text", ["much", "-1", "inf"])
def test_a_limit_that_is_no_number_is_one_line(home, monkeypatch, text):
    monkeypatch.setenv(LIMIT, text)
    with pytest.raises(UserError, match=f"{LIMIT} is a number of GB"):
        shared_triplets(tau(), 2)


def test_a_merge_is_the_same_with_and_without(home, monkeypatch):
    base = {"w": torch.zeros(SIZE, SIZE)}
    experts = [{"w": random(SIZE, SIZE, seed=i).float()} for i in (1, 2)]
    first = merge("tsv", base, experts)["w"]
    assert len(list(folder().iterdir())) == 2
    assert torch.equal(merge("tsv", base, experts)["w"], first)
    monkeypatch.setenv(LIMIT, "0")
    assert torch.equal(merge("tsv", base, experts)["w"], first)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_singular_values_are_those_of_an_svd(shape):
    matrix = random(*shape)
    torch.testing.assert_close(singular_values(matrix), torch.linalg.svdvals(matrix))
    assert singular_values(torch.outer(matrix[:, 0], matrix[0]))[1:].abs().max() == 0


@pytest.mark.parametrize(("wrapper", "count"), [("dare", 0), ("lines", 2)])
def test_task_vectors_that_were_changed_first_are_not_kept(home, wrapper, count):
    base = {"w": torch.zeros(SIZE, SIZE)}
    experts = [{"w": random(SIZE, SIZE, seed=i).float()} for i in (1, 2)]
    merge(wrapper, base, experts, on="tsv")
    assert len(list(folder().glob("*"))) == count
