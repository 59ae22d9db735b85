"""A sample of random folders; ``python -m tests.helpers.fuzz_folders --count 500`` for more."""

import pytest

from tests.helpers.fuzz_folders import compare


@pytest.mark.parametrize("seed", range(20))
def test_what_is_read_of_a_random_folder_is_what_was_written(tmp_path, monkeypatch, seed):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path))
    assert compare(seed) == ""
