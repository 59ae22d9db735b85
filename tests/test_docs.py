"""The README's generated parts are those of this code."""

from bench.docs import ROOT, filled
from corruptions import base
from results import schema


def test_generated_parts_of_the_readme_are_up_to_date():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert filled(text) == text, "run `python -m bench.docs`"


def test_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make sweep" in text
    assert "make test" in text


def test_results_and_corruptions_mean_the_same_protocol():
    """``results`` may not import ``corruptions``, so it names the protocol itself."""
    assert set(schema.PROTOCOL) == set(base.PROTOCOL)
    assert schema.LEVELS == base.LEVELS
