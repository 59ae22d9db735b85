"""What the README and REFERENCE.md say of the code is what the code says."""

from dataclasses import replace

import pytest

from bench import docs
from bench.docs import ROOT, bibliography, filled, reference
from bench.index import method_order
from bench.reporting.sweep_index import load_sweep, rows_of
from bench.sweeps import SWEEPS
from mergeshift import UserError
from methods import METHODS
from methods.base import NO_PAPER
from results.latex.bibliography import entries, typeset
from results.render.text import render
from results.tables.comparison import compare


def test_generated_pages_are_up_to_date():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert filled(text) == text, "run `python -m bench.docs`"
    text = (ROOT / "REFERENCE.md").read_text(encoding="utf-8")
    assert reference() == text, "run `python -m bench.docs`"


def test_every_paper_has_its_entry_in_the_bibliography():
    text = (ROOT / "results" / "methods.bib").read_text(encoding="utf-8")
    assert bibliography() == text, "run `python -m bench.docs`"
    papers = {cls.paper.key: cls.paper for cls in METHODS.values() if cls.paper != NO_PAPER}
    assert entries().keys() == papers.keys()
    for cls in METHODS.values():
        paper = replace(papers.get(cls.paper.key, NO_PAPER), where=cls.paper.where)
        assert paper == cls.paper, "two methods of one paper differ in its facts"
    for key, paper in papers.items():
        assert entries()[key] == paper.bibtex
        assert f"arXiv:{paper.arxiv}." in typeset(key)


def test_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make sweep" in text
    assert "make test" in text


def test_results_of_the_readme_are_made_of_the_results(smoke, tmp_path, monkeypatch):
    """`make results` writes the table as `table --format md` does, and touches nothing else."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {"main", "severity"} <= set(docs.sweeps_of(text))
    with pytest.raises(UserError, match="no sweep 'main'"):
        docs.with_results(text, smoke)
    monkeypatch.setattr(docs, "TABLES", {"leaderboard": "smoke"})
    new = docs.with_results(text, smoke)
    table = compare(rows_of(smoke, load_sweep(smoke, "smoke")), order=method_order())
    shown = new.split("<!-- leaderboard -->")[1].split("<!-- /leaderboard -->")[0]
    assert shown.strip() == render(table, "md").strip()
    outside = [text.split(mark)[side] for mark, side in (("<!-- leaderboard -->", 0),
                                                         ("<!-- /leaderboard -->", 1))]  # fmt: skip
    assert [part in new for part in outside] == [True, True]
    monkeypatch.setattr(docs, "FIGURES", {"severity": ("smoke", ())})
    (figure,) = docs.draw(text, smoke, tmp_path)
    assert figure == tmp_path / "severity.png"
    for name in ("severity", "routing"):
        assert f"results/figures/{name}.png" in text


def test_a_place_in_the_readme_is_enough(smoke, tmp_path, monkeypatch):
    """For another table and another figure: `make results` runs their sweeps and makes them."""
    text = "<!-- leaderboard -->\n\n<!-- /leaderboard -->\n"
    assert docs.sweeps_of(text) == ["main"]
    text += "<!-- bmm -->\n\nSTALE\n\n<!-- /bmm -->\n![](results/figures/scale.png)\n"
    assert docs.sweeps_of(text) == ["main", "bmm", "scale"]
    assert set(docs.sweeps_of(text)) | {"severity"} <= set(SWEEPS)
    monkeypatch.setattr(docs, "TABLES", {"bmm": "smoke"})
    monkeypatch.setattr(docs, "FIGURES", {"scale": ("smoke", ())})
    new = docs.with_results(text, smoke)
    assert "STALE" not in new
    assert "| TIES |" in new.split("<!-- bmm -->")[1]
    (figure,) = docs.draw(text, smoke, tmp_path)
    assert figure.name == "scale.png"
    assert figure.stat().st_size > 5_000
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "bench.docs sweeps" in makefile.split("\nresults:")[1].split("\n\n")[0]
