"""A sample of the campaign of random files of weights; see tests/helpers/state_dict_fuzz.py."""

from tests.helpers.state_dict_fuzz import campaign


def test_random_files_are_read_as_numpy_has_them_or_refused_in_one_line():
    ends = campaign(36)
    assert ends["merged"] > 8
    assert ends["read"] > 3
    assert sum(ends.values()) - ends["merged"] - ends["read"] > 3
