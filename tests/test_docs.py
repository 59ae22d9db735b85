"""What the README and the pages of docs/ say of the code is what the code says."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from bench import docs
from bench.cli.app import COMMANDS, load, spread_lists
from bench.docs import ROOT, bibliography, filled
from bench.index import method_order
from bench.reporting.sweep_index import load_sweep, rows_of
from bench.sweeps import SWEEPS
from mergeshift import UserError
from methods import METHODS
from methods.base import NO_PAPER
from methods.contract import all_checks
from results.latex.bibliography import entries, typeset
from results.published import sources
from results.render.text import render
from results.tables.comparison import compare

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in docs.pages()
}
PLACE = "<!-- {0} -->\n\nSTALE\n\n<!-- /{0} -->\n"


def test_generated_pages_are_up_to_date(capsys):
    assert docs.main(["--check"]) == 0, capsys.readouterr().out
    parts = {name for name in docs.PARTS for text in TEXTS.values() if docs.has_place(text, name)}
    assert parts == set(docs.PARTS)  # none is written for no page
    assert set(docs.shown(docs.all_text())[0]) == set(docs.TABLES) == set(docs.WRITERS)
    assert set(docs.shown(docs.all_text())[1]) == set(docs.FIGURES)


def test_check_names_the_page_and_the_command_and_writes_nothing(tmp_path, monkeypatch, capsys):
    for folder in ("docs", "results"):
        (tmp_path / folder).mkdir()
    (tmp_path / "results" / "methods.bib").write_text("stale")
    (tmp_path / "README.md").write_text("<!-- n:methods -->7<!-- /n --> methods\n")
    (tmp_path / "CONTRIBUTING.md").write_text("no part\n")
    (tmp_path / "docs" / "tasks.md").write_text(PLACE.format("suites"))
    before = {path: path.read_text() for path in tmp_path.rglob("*.*")}
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    assert docs.main(["--check"]) == 1
    said = capsys.readouterr().out
    for name in ("results/methods.bib", "README.md", "docs/tasks.md"):
        assert f"{name} is not up to date\n" in said
    assert "CONTRIBUTING.md" not in said
    assert "run: python -m bench.docs\n" in said
    assert {path: path.read_text() for path in tmp_path.rglob("*.*")} == before
    assert docs.main([]) == 0
    assert (tmp_path / "README.md").read_text() == (
        f"<!-- n:methods -->{len(METHODS)}<!-- /n --> methods\n"
    )
    assert "| pocket8 | mnist, optdigits" in (tmp_path / "docs" / "tasks.md").read_text()
    assert docs.main(["--check"]) == 0
    assert docs.main(["results", "--out", str(tmp_path)]) == 0  # no page shows a result


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


def test_numbers_in_sentences_are_counted():
    assert docs.counts()["methods"] == len(METHODS)
    assert docs.counts()["checks"] == len(all_checks())
    assert docs.counts()["sources"] == len(sources.sources())
    assert docs.counts()["numbers"] == len(sources.read())
    assert f"-->{len(all_checks())}<!--" in filled("<!-- n:checks -->1<!-- /n -->")


def test_readme_names_the_two_commands_and_stays_short():
    assert "make sweep" in README
    assert "make test" in README
    assert len(README.splitlines()) <= 160


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    folder = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        page = (folder / path).resolve() if path else ROOT / name
        assert page.exists(), f"{name} links to {target}"
        if anchor:
            assert anchor in anchors(page), f"{name} links to {target}"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_command_and_every_named_sweep_has_its_place():
    page = TEXTS["docs/cli.md"]
    for word in COMMANDS:
        assert f"python -m bench {word}" in page
    for sweep in SWEEPS:
        assert f"`{sweep}`" in page


def examples() -> list[str]:
    """Every line of a page that calls the command line, without its comment."""
    found = []
    for text in TEXTS.values():
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line for line in lines if line.startswith("python -m bench ")]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("line", examples())
def test_examples_are_understood(line):
    """Commands, options and choices of every example exist; nothing is run."""
    name, *words = spread_lists(shlex.split(line, comments=True)[3:])
    assert name in COMMANDS
    command = load(name)
    if hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    options = {word for param in command.params for word in (*param.opts, *param.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in options, f"{line}: no option {word}"
    first = next((p for p in command.params if p.param_type_name == "argument"), None)
    choices = getattr(getattr(first, "type", None), "choices", ())
    if words and choices and not words[0].startswith("-"):
        assert words[0] in [getattr(choice, "value", choice) for choice in choices]


def table_of(text: str, name: str) -> dict[str, list[str]]:
    """First cell -> the other cells, of a generated Markdown table."""
    block = text.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]
    rows = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("|")]
    return {row[0].strip("*"): [cell.strip("*") for cell in row[1:]] for row in rows[2:]}


def test_what_the_readme_says_of_its_table_is_so():
    """Shares of the gap, steps between methods, ties; the order under shift."""
    table = table_of(README, "summary")
    assert set(table) == set(docs.SUMMARY.values())
    merges = {name: cells for name, cells in table.items() if "bound" not in name}
    levels = {name: [float(cell.strip("*")) for cell in cells[:4]] for name, cells in table.items()}
    clean = {name: values[0] for name, values in levels.items()}
    low, high = (clean[name] for name in table if "bound" in name)
    won = {name: (clean[name] - low) / (high - low) for name in merges}
    plain, ties = "Task Arithmetic", "TIES-Merging"
    assert 0.37 < won["Weight averaging"] < 0.43
    assert clean[plain] - clean["Weight averaging"] == pytest.approx(4.6, abs=0.15)
    assert clean[ties] - clean[plain] == pytest.approx(-0.3, abs=0.15)
    assert clean["TSV-M"] - clean[plain] == pytest.approx(2.5, abs=0.15)
    assert all(0.63 < won[name] < 0.7 for name in ("TSV-M", "RegMean"))
    assert clean[plain] - clean["AdaMerging, layer-wise"] == pytest.approx(3.3, abs=0.15)
    experts = next(levels[name] for name in table if "upper bound" in name)
    routed = levels["Twin-Merging (routed)"]
    assert all(0 <= one - other <= 1.5 for one, other in zip(experts, routed, strict=True))
    change = {name: float(cells[4].split()[0]) for name, cells in table.items()}
    ranked = sorted(change, key=change.get)
    assert ranked[0] == "RegMean"
    assert "upper bound" in ranked[1]
    full = table_of(TEXTS["docs/results.md"], "sets")  # and both tables are of one sweep
    assert [cell.split(" ")[0].strip("*") for cell in full["TIES"][:4]] == table[ties][:4]


def test_results_of_the_pages_are_made_of_the_results(smoke, tmp_path, monkeypatch):
    """`make results` writes the table as `table --format md` does, and touches nothing else."""
    text = TEXTS["docs/results.md"]
    assert {"main", "expert-sets", "severity", "scale", "bmm"} == set(docs.sweeps_of(text))
    with pytest.raises(UserError, match="no sweep 'main'"):
        docs.with_results(text, smoke)
    assert docs.with_results(text, smoke, ["severity"]) == text
    monkeypatch.setattr(docs, "TABLES", {"leaderboard": "smoke"})
    new = docs.with_results(text, smoke)
    table = compare(rows_of(smoke, load_sweep(smoke, "smoke")), order=method_order())
    shown = new.split("<!-- leaderboard -->")[1].split("<!-- /leaderboard -->")[0]
    assert shown.strip() == render(table, "md").strip()
    assert text.split("<!-- leaderboard -->")[0] in new
    assert text.split("<!-- /leaderboard -->")[1] in new
    monkeypatch.setattr(docs, "FIGURES", {"severity": ("smoke", ())})
    (figure,) = docs.draw(text, smoke, tmp_path)
    assert figure == tmp_path / "severity.png"


def test_the_short_table_has_the_numbers_of_the_rows(smoke, monkeypatch):
    monkeypatch.setattr(docs, "TABLES", {"summary": "smoke"})
    new = docs.with_results(PLACE.format("summary"), smoke)
    assert "STALE" not in new
    found = table_of(new, "summary")
    rows = rows_of(smoke, load_sweep(smoke, "smoke"))
    accuracy = rows[rows["metric"] == "acc"]
    for name, title in docs.SUMMARY.items():
        own = accuracy[accuracy["method"] == name]
        if own.empty:
            continue
        clean = own.loc[own["corruption"] == "clean", "value"].mean()
        shifted = own.loc[own["corruption"] == "contrast", "value"].mean()
        *numbers, used = found[title]
        assert numbers[0] == f"{100 * clean:.1f}"
        assert numbers[1] == f"{100 * shifted:.1f}"
        assert float(numbers[2].split()[0]) == pytest.approx(100 * (shifted / clean - 1), abs=0.051)
        assert used == ("task id at test time" if name == "individual" else "none")
    assert {"TIES-Merging", "Weight averaging"} <= set(found)


def test_a_place_in_a_page_is_enough(smoke, tmp_path, monkeypatch):
    """For another table and another figure: `make results` runs their sweeps and makes them."""
    text = PLACE.format("leaderboard")
    assert docs.sweeps_of(text) == ["main"]
    text += PLACE.format("bmm") + "![](../results/figures/scale.png)\n"
    assert docs.sweeps_of(text) == ["main", "bmm", "scale"]
    assert set(docs.sweeps_of(docs.all_text())) <= set(SWEEPS)
    monkeypatch.setattr(docs, "TABLES", {"bmm": "smoke"})
    monkeypatch.setattr(docs, "FIGURES", {"scale": ("smoke", ())})
    new = docs.with_results(text, smoke)
    assert "| TIES |" in new.split("<!-- bmm -->")[1]
    assert "STALE" not in new.split("<!-- bmm -->")[1]
    (figure,) = docs.draw(text, smoke, tmp_path)
    assert figure.name == "scale.png"
    assert figure.stat().st_size > 5_000
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "bench.docs sweeps" in makefile.split("\nresults:")[1].split("\n\n")[0]
