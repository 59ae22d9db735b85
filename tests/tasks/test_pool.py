"""The pool of pictures without labels: of no task, and of none that looks like one."""

import numpy as np
import pytest

from mergeshift import UserError
from tasks import SUITES, TASKS, load, suite
from tasks.pocket import pool
from tasks.pocket.drawings import RADICALS, kanji_files


def test_the_pool_is_no_task_and_has_clean_rights():
    assert pool.POOL.name not in TASKS
    assert not any(pool.POOL.name in suite.names for suite in SUITES.values())
    assert pool.POOL.use in {"anyone", "attribution", "share-alike"}
    assert sum(pool.KINDS.values()) == sum(pool.POOL.sizes) == 4000
    with pytest.raises(UserError, match="no split 'test-b'"):
        load(pool.POOL, "test-b")


@pytest.mark.data
@pytest.mark.slow
def test_the_pool_shares_no_picture_with_a_task_that_reads_the_same_archives():
    found = pool.preservation_pool()
    assert (found.shape, found.dtype) == ((4000, 32, 32, 3), np.uint8)
    looks = {picture.tobytes() for picture in found}
    assert len(looks) > 3990
    for task in suite("pocket20"):
        if set(task.source.archives) & set(pool.POOL.source.archives):
            for split in ("train", "adapt", "val", "test", "test-b"):
                assert not looks & {picture.tobytes() for picture in load(task, split).images}


@pytest.mark.data
@pytest.mark.slow
def test_no_kanji_of_the_pool_has_a_radical_of_the_task(monkeypatch):
    drawn: list[str] = []
    monkeypatch.setattr(pool, "draw_kanji", lambda text: drawn.append(text) or np.zeros(1))
    pool._kanji(1200)
    assert len(drawn) == 1200
    assert not any(f'kvg:element="{radical}"' in text for radical in RADICALS for text in drawn)
    assert len(kanji_files()) > 6000


@pytest.mark.data
def test_pieces_of_a_map_do_not_overlap_and_show_something():
    found = pool._pieces("shadedrelief.jpg", 40)
    assert {piece.shape for piece in found} == {(32, 32, 3)}
    assert len({piece.tobytes() for piece in found}) == 40
    assert all(piece.std(axis=(0, 1)).max() > pool.FLAT for piece in found)
