"""A sample of random command lines; the campaign of 1,000 is tests/helpers/command_lines.py."""

import shutil

from tests.helpers.command_lines import commands, junk, lines, ran


def test_no_command_line_ends_in_a_traceback(smoke, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    out, files = shutil.copytree(smoke, tmp_path / "out"), junk(tmp_path / "files")
    done = [ran(words) for words in lines(100, 3, out, files)]
    assert [(one.broken, one.words, one.err[-300:]) for one in done if one.broken] == []
    assert {one.code for one in done} >= {0, 2}
    assert len({tuple(one.words[:2]) for one in done}) > 20


def test_every_command_is_in_the_grammar():
    assert len(list(commands())) > 15
