"""What is written by the code itself: REFERENCE.md, the README's tables, methods.bib."""

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.cli.list import markdown, methods, published, shifts, suites, tasks
from bench.cli.options import OUT
from bench.index import method_order
from bench.reporting.sweep_index import load_sweep, rows_of
from methods import METHODS
from results.render.text import render
from results.store import Store
from results.tables.comparison import compare

ROOT = Path(__file__).resolve().parents[1]
# What the README may show, and of which sweep; it is made if the README has a place for it.
TABLES = {"leaderboard": "main", "bmm": "bmm"}  # between <!-- leaderboard --> and the mark's end
FIGURES = {  # results/figures/NAME.png
    "severity": ("severity", ()),
    "routing": ("main", ("twin_merging",)),
    "scale": ("scale", ()),
}
PARTS = ("bench", "tasks", "methods", "corruptions", "results", "tests")
AT_A_GLANCE = ("name", "title", "paper", "needs", "stores", "tuned on val")  # of a method
IN_DETAIL = ("name", "settings", "presets", "knows task")
REFERENCE = """\
# Reference

Everything that is registered, and every file. `python -m bench.docs` writes this page; `python -m bench list` prints its tables.

## Methods

The defaults of all settings, as `--set METHOD.NAME=VALUE` takes them. What they mean stands at the fields of `methods/METHOD.py`.

{methods}

## Suites

{suites}

## Tasks

{tasks}

## Published numbers

{published}

## Files

{files}
"""  # noqa: E501


def file_map() -> str:
    """Every Python file with the first line of its docstring."""
    lines = ["```"]
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            first = doc.splitlines()[0].rstrip(".") if doc else ""
            if path.name == "__init__.py":
                name = name.removesuffix("__init__.py")
            lines.append(f"{name:<34} {first}".rstrip())
    return "\n".join([*lines, "```"])


def reference() -> str:
    """The text of REFERENCE.md."""
    return REFERENCE.format(
        methods=markdown(columns(methods(), IN_DETAIL)),
        suites=markdown(suites()),
        tasks=markdown(tasks()),
        published=markdown(published()),
        files=file_map(),
    )


def filled(text: str) -> str:
    """``text`` with every generated part made anew, but for the results."""
    parts = {"methods": columns(methods(), AT_A_GLANCE), "shifts": shifts()}
    for name, rows in parts.items():
        text = replaced(text, name, markdown(rows))
    return text


def bibliography() -> str:
    """The text of results/methods.bib: the paper of every method, once."""
    papers = [METHODS[name].paper for name in method_order()]
    entries = {paper.key: paper.bibtex for paper in papers if paper.title}
    return "\n\n".join(entries.values()) + "\n"


def columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Some columns of a listing."""
    return [{name: row[name] for name in names} for row in rows]


def replaced(text: str, name: str, content: str) -> str:
    """``text`` with another ``content`` between the marks of one part."""
    before, rest = text.split(f"<!-- {name} -->\n")
    after = rest.split(f"<!-- /{name} -->")[1]
    return f"{before}<!-- {name} -->\n\n{content}\n\n<!-- /{name} -->{after}"


def shown(text: str) -> tuple[dict[str, str], dict[str, tuple[str, tuple[str, ...]]]]:
    """The tables and the figures that ``text`` has a place for, and of which sweep each is."""
    tables = {name: sweep for name, sweep in TABLES.items() if f"<!-- {name} -->" in text}
    figures = {name: of for name, of in FIGURES.items() if f"results/figures/{name}.png" in text}
    return tables, figures


def sweeps_of(text: str) -> list[str]:
    """The sweeps that ``text`` shows results of."""
    tables, figures = shown(text)
    return list(dict.fromkeys([*tables.values(), *(sweep for sweep, _ in figures.values())]))


def with_results(text: str, out: Path) -> str:
    """``text`` with its tables of finished sweeps.

    Raises:
        UserError: one was not run, or is not finished.
    """
    for name, sweep in shown(text)[0].items():
        table = compare(rows_of(out, load_sweep(out, sweep)), order=method_order())
        text = replaced(text, name, render(table, "md").strip())
    return text


def draw(text: str, out: Path, folder: Path) -> list[Path]:
    """The figures of ``text``.

    Raises:
        UserError: a sweep that they show was not run, or is not finished.
    """
    from bench.reporting.tuning_history import trials_of
    from results.plots import (
        comparison,
        learned,
        scale,
        style,
    )

    order, store = method_order(), Store(out)
    made = {
        "severity": lambda rows: comparison.severity(rows, order=order),
        "routing": learned.routing,
        "scale": lambda rows: scale.scale(rows, trials_of(rows, store), order=order),
    }
    figures = shown(text)[1].items()
    found = {name: rows_of(out, load_sweep(out, sweep), only) for name, (sweep, only) in figures}
    return [style.save(made[name](rows), folder / f"{name}.png") for name, rows in found.items()]


def main(words: Sequence[str]) -> None:
    """Rewrite both pages; with the word ``results``, the README's tables and figures, too.

    The word ``sweeps`` alone prints the sweeps that these are of.
    """
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    if "sweeps" in words:
        Console().print(*sweeps_of(text), highlight=False, soft_wrap=True)
        return
    text = filled(text)
    if "results" in words:
        text = with_results(text, OUT)
        draw(text, OUT, ROOT / "results" / "figures")
    path.write_text(text, encoding="utf-8")
    (ROOT / "REFERENCE.md").write_text(reference(), encoding="utf-8")
    (ROOT / "results" / "methods.bib").write_text(bibliography(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
