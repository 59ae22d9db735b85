"""Same pixels whatever the batch, the order and the process; a cache that repairs itself."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from corruptions import cache
from corruptions.base import CLEAN, CONSTANTS, PROTOCOL, SEVERITIES, Shift
from corruptions.contract import photo
from mergeshift import UserError

IMAGENET = CONSTANTS[1]


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return np.stack([photo(seed=seed) for seed in range(12)])


def test_pixels_do_not_depend_on_subset_or_order(photos, tmp_path):
    order = np.random.default_rng(0).permutation(len(photos))
    for shift in (Shift(name, 3) for name in PROTOCOL):
        whole = cache.corrupted(photos, shift, data_seed=0, task="a", folder=tmp_path)
        for i in order:
            np.testing.assert_array_equal(shift.apply(photos[i], 0, "a", i), whole[i])
        part = cache.corrupted(photos[:5], shift, data_seed=0, task="a", folder=tmp_path)
        np.testing.assert_array_equal(part, whole[:5])


def test_chance_depends_on_each_part_of_the_identity(photos):
    shift = Shift("gaussian_noise", 3)
    outs = [shift.apply(photos[0], *who) for who in [(0, "a", 0), (1, "a", 0), (0, "b", 0)]]
    outs += [shift.apply(photos[0], 0, "a", 1), Shift("gaussian_noise", 2).apply(photos[0])]
    assert len({out.tobytes() for out in outs}) == 5


def test_jobs_and_blocks_do_not_change_a_pixel(photos, tmp_path, monkeypatch):
    shifts = [Shift(name, 2) for name in PROTOCOL] + [Shift("impulse_noise", 2, IMAGENET), CLEAN]
    requests = [(images, s, "a") for images in (photos, photos[::-1]) for s in shifts]
    where = {jobs: tmp_path / str(jobs) for jobs in (1, 2)}
    assert cache.missing(requests, data_seed=0, folder=where[2]) == 12 * 2 * 8
    cache.precompute(requests, data_seed=0, folder=where[1])
    monkeypatch.setattr(cache, "BLOCK", 5 * photos[0].nbytes)  # blocks of 5, 5 and 2 images
    done: list[int] = []
    cache.precompute(requests * 2, data_seed=0, folder=where[2], jobs=2, progress=done.append)
    assert sum(done) == 12 * 2 * 8
    assert cache.missing(requests, data_seed=0, folder=where[2]) == 0
    names = {path.name for path in where[1].iterdir()}
    assert len(names) == 16
    assert {path.name for path in where[2].iterdir() if path.name[:7] != "images-"} == names
    for name in names:
        assert (where[1] / name).read_bytes() == (where[2] / name).read_bytes()


def test_the_cache_is_read_only_mapped_and_keyed_by_content(photos, tmp_path, monkeypatch):
    shift = Shift("contrast", 3)
    keyed = {"data_seed": 0, "task": "a", "folder": tmp_path}
    found = cache.corrupted(photos, shift, **keyed)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert cache.corrupted(photos, CLEAN, **keyed) is photos
    assert cache.corrupted(photos[:0], shift, **keyed).shape == (0, 32, 32, 3)
    path = cache.path_of(photos, shift, **keyed)
    assert cache.path_of(photos.copy(), shift, **keyed) == path
    changed = photos.copy()
    changed[3, 1, 2, 0] ^= 1
    others = [
        cache.path_of(changed, shift, **keyed),
        cache.path_of(photos.reshape(6, 64, 32, 3), shift, **keyed),
        cache.path_of(photos, Shift("contrast", 3, IMAGENET), **keyed),
        cache.path_of(photos, Shift("contrast", 3, placement="native"), **keyed),
        cache.path_of(photos, shift, **{**keyed, "data_seed": 1}),
        cache.path_of(photos, shift, **{**keyed, "task": "b"}),
    ]
    monkeypatch.setattr(cache, "_libraries", lambda: "numpy==0")
    others.append(cache.path_of(photos, shift, **keyed))
    assert len({path, *others}) == 8


@pytest.mark.parametrize("damage", ["truncate", "empty", "pickle", "shape", "header", "open"])
def test_a_damaged_file_is_computed_again(photos, tmp_path, damage):
    shift = Shift("contrast", 3)
    keyed = {"data_seed": 0, "task": "a", "folder": tmp_path}
    expected = np.array(cache.corrupted(photos, shift, **keyed))
    path = cache.path_of(photos, shift, **keyed)
    whole = path.read_bytes()
    if damage == "pickle":
        np.save(path, np.array([print], dtype=object), allow_pickle=True)
    elif damage == "shape":
        np.save(path, photos[:3])
    else:
        cut = {"truncate": whole[:-1], "empty": b"", "header": whole[:20] + b"}(" + whole[22:]}
        cut["open"] = whole[:11] + b"(" + whole[12:]  # NumPy's tokenizer fails on this one
        path.write_bytes(cut[damage])
    assert cache.missing([(photos, shift, "a")], data_seed=0, folder=tmp_path) == 12
    np.testing.assert_array_equal(cache.corrupted(photos, shift, **keyed), expected)
    assert path.read_bytes() == whole


def test_a_failed_write_is_one_line_and_leaves_nothing(photos, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        cache.corrupted(photos, Shift("contrast", 3), data_seed=0, task="a", folder=blocked)
    with pytest.raises(UserError, match=r"images are uint8 \[N, H, W, 3\]"):
        cache.corrupted(photos / 255, Shift("contrast", 3), data_seed=0, task="a", folder=tmp_path)
    assert list(tmp_path.iterdir()) == [blocked]


def test_an_error_in_the_middle_leaves_no_half_file(photos, tmp_path):
    def stop(num_images: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.precompute(
            [(photos, Shift("contrast", 3), "a")], data_seed=0, folder=tmp_path, progress=stop
        )
    assert list(tmp_path.iterdir()) == []


def test_prune_evicts_what_was_used_longest_ago(photos, tmp_path):
    assert cache.prune(tmp_path / "absent", 0) == 0
    keyed = {"data_seed": 0, "task": "a", "folder": tmp_path}
    paths: list[Path] = []
    for age, severity in enumerate(SEVERITIES):
        cache.corrupted(photos, Shift("contrast", severity), **keyed)
        paths.append(cache.path_of(photos, Shift("contrast", severity), **keyed))
        os.utime(paths[-1], (1e9 - age, 1e9 - age))  # severity 5 is the oldest
    cache.corrupted(photos, Shift("contrast", 5), **keyed)  # and is used again
    size = paths[0].stat().st_size
    assert cache.prune(tmp_path, 5 * size) == 5 * size
    assert cache.prune(tmp_path, 3 * size + 1, keep=[paths[3]]) == 3 * size
    assert sorted(tmp_path.iterdir()) == sorted([paths[0], paths[3], paths[4]])
    assert cache.prune(tmp_path, 0, keep=[paths[3]]) == size
    assert list(tmp_path.iterdir()) == [paths[3]]


def test_prune_clears_what_killed_runs_left(tmp_path):
    old, new = tmp_path / ".a.npy.x1", tmp_path / ".b.npy.x2"
    for path in (old, new):
        path.write_bytes(b"12345")
    os.utime(old, (time.time() - 2 * cache.STALE,) * 2)
    assert cache.prune(tmp_path, 0) == 5
    assert list(tmp_path.iterdir()) == [new]
