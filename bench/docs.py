"""What the pages say of the code, written by the code: README.md, CONTRIBUTING.md and docs/.

results/methods.bib is made of the papers that the methods declare, as a whole.

``python -m bench.docs`` rewrites every generated part of every page, ``--check`` only compares.
``python -m bench.docs results`` also makes the tables and figures of finished sweeps.

A generated part stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``, a generated number in a
sentence between ``<!-- n:NAME -->`` and ``<!-- /n -->``. A page gets a part by having its marks.
"""

import argparse
import ast
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from rich.console import Console

from bench.cli.list import markdown, methods, published, shifts, suites, tasks
from bench.cli.options import OUT
from bench.index import method_order
from bench.profiling.merges import markdown as merge_costs
from bench.reporting.sweep_index import load_sweep, rows_of
from mergeshift import UserError
from methods import METHODS
from results.diagnosis import read_all
from results.published.reference import reference
from results.render.text import render
from results.schema import NO_NEEDS
from results.store import Store
from results.tables.comparison import compare
from results.tables.diagnosis import beside
from tasks.sources.inspection import inspect

ROOT = Path(__file__).resolve().parents[1]
FIGURE_FOLDER, BIBLIOGRAPHY = "results/figures", "results/methods.bib"
PACKAGES = ("bench", "tasks", "methods", "corruptions", "results", "tests")

# Pages may show these tables, each of one sweep; it is made if a page has a place for it.
TABLES = {"summary": "expert-sets", "leaderboard": "main", "sets": "expert-sets", "bmm": "bmm"}
FIGURES = {  # results/figures/NAME.png -> its sweep, and methods if it shows a few alone
    "severity": ("severity", ()),
    "effective-robustness": ("expert-sets", ()),
    "routing": ("main", ("twin_merging",)),
    "scale": ("scale", ()),
}

SUMMARY = {  # lines of the short table, and what a first-time visitor calls them
    "pretrained": "Pretrained, before fine-tuning (lower bound)",
    "average": "Weight averaging",
    "task_arithmetic": "Task Arithmetic",
    "ties": "TIES-Merging",
    "tsv": "TSV-M",
    "regmean": "RegMean",
    "adamerging": "AdaMerging, layer-wise",
    "twin_merging": "Twin-Merging (routed)",
    "individual": "Individual experts (upper bound)",
}
METHOD_COLUMNS = {  # of a listing -> as the page calls it
    "name": "name",
    "title": "title",
    "needs": "data used",
    "stores": "storage",
    "tuned on val": "tuned on val",
    "paper": "paper",
}
SETTING_COLUMNS = {
    "name": "name",
    "settings": "settings",
    "presets": "presets",
    "knows task": "task id at test time",
}


# -- parts that need no measurement -------------------------------------------------------------


def method_table() -> str:
    """Every method at a glance."""
    return markdown(columns(methods(), METHOD_COLUMNS))


def setting_table() -> str:
    """The settings of every method with their defaults."""
    return markdown(columns(methods(), SETTING_COLUMNS))


def columns(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Some columns of a listing, under other headings."""
    return [{heading: row[name] for name, heading in names.items()} for row in rows]


def file_map() -> str:
    """Every Python file with the first line of its docstring."""
    lines = ["```"]
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            first = doc.splitlines()[0].rstrip(".") if doc else ""
            if path.name == "__init__.py":
                name = name.removesuffix("__init__.py")
            lines.append(f"{name:<34} {first}".rstrip())
    return "\n".join([*lines, "```"])


def diagnosis_table() -> str:
    """The settings that were diagnosed, beside published numbers: those in results/diagnoses."""
    return render(beside(reference(), read_all(ROOT / "results")), "md").strip()


def inspected() -> str:
    """What ``tasks inspect`` prints of the chest X-rays of Kaggle, as their archive unpacks."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    with TemporaryDirectory() as place:
        root = Path(place) / "xray"
        for part, count in (("train", 12), ("test", 6), ("val", 2)):
            for label in ("NORMAL", "PNEUMONIA"):
                folder = root / "chest_xray" / part / label
                folder.mkdir(parents=True)
                (folder / ".DS_Store").write_bytes(b"")
                for i in range(count):
                    width, mode = (64, "L") if i % 6 else (80, "RGB")
                    values = random.integers(0, 256, (48, width, 3), np.uint8)
                    Image.fromarray(values).convert(mode).save(folder / f"{i}.jpeg")
        for junk in ("__MACOSX/chest_xray/._train", "chest_xray/train/NORMAL/scan.dcm"):
            (root / junk).parent.mkdir(parents=True, exist_ok=True)
            (root / junk).write_bytes(b"no picture")
        lines, _ = inspect(root)
    return "\n".join(["```", *lines, "```"])


PARTS: dict[str, Callable[[], str]] = {
    "methods": method_table,
    "settings": setting_table,
    "suites": lambda: markdown(suites()),
    "tasks": lambda: markdown(tasks()),
    "shifts": lambda: markdown(shifts()),
    "published": lambda: markdown(published()),
    "diagnosis": diagnosis_table,
    "files": file_map,
    "inspected": inspected,
    "merges": lambda: merge_costs(ROOT / "results"),
}


def bibliography() -> str:
    """The text of results/methods.bib: the paper of every method, once."""
    papers = [METHODS[name].paper for name in method_order()]
    entries = {paper.key: paper.bibtex for paper in papers if paper.title}
    return "\n\n".join(entries.values()) + "\n"


def counts() -> dict[str, int]:
    """The numbers that sentences of the pages name."""
    from methods.contract import all_checks

    sources = published()
    return {
        "methods": len(METHODS),
        "checks": len(all_checks()),
        "numbers": sum(source["numbers"] for source in sources),
        "sources": len(sources),
        "tasks": len(tasks()),
    }


# -- parts that are measured --------------------------------------------------------------------


def full_table(rows: pd.DataFrame) -> str:
    """The table that a sweep ends in, with its notes."""
    return render(compare(rows, order=method_order()), "md").strip()


def summary_table(rows: pd.DataFrame) -> str:
    """A few methods, plain numbers: the table of the README."""
    table = compare(rows, order=method_order())
    shown = [entry for entry in table.entries if entry.key in SUMMARY]
    levels = table.columns
    texts: dict[str, list[str]] = {}
    for entry in shown:
        cells = [table.cells[entry.key, level] for level in levels]
        texts[entry.key] = [
            *(f"{100 * cell.value:.1f}" for cell in cells),
            f"{-100 * cells[-1].drop:.1f} %",
        ]
    ranked = [entry.key for entry in shown if not entry.is_reference]
    for column, level in enumerate(levels):
        for key in table.leaders.get(level, frozenset()) & set(ranked):
            texts[key][column] = f"**{texts[key][column]}**"
    for entry in shown:
        share = table.summary.get("recovered", {}).get(entry.key, float("nan"))
        printed = f"{100 * share:.0f} %" if share == share else "-"
        texts[entry.key].append("-" if entry.is_reference else printed)
    names = ["Clean" if level == "clean" else level for level in levels]
    change = f"Relative change at {levels[-1]}"
    heads = ["Merging method", *names, change, "Gap recovered", "Data it uses"]
    lines = [
        "| " + " | ".join(heads) + " |",
        "| :--- |" + " ---: |" * (len(levels) + 2) + " :--- |",
    ]
    for entry in shown:
        name = f"*{SUMMARY[entry.key]}*" if entry.is_reference else SUMMARY[entry.key]
        used = data_used(rows[rows["method"] == entry.method].iloc[0])
        lines.append("| " + " | ".join([name, *texts[entry.key], used]) + " |")
    margins = [table.cells[key, level].margin for key in ranked for level in levels]
    images, sets = rows["n"], rows["expert_seed"].nunique()
    of_each = " to ".join(dict.fromkeys(str(n) for n in (images.min(), images.max())))
    lines += [
        "",
        f"Mean accuracy in % over the {rows['task'].nunique()} tasks of "
        f"{table.setting['suite']}, {of_each} test images each; the 95 % "
        f"intervals are between \u00b1{100 * min(margins):.1f} and \u00b1{100 * max(margins):.1f}. "
        + (f"They cover the choice of test images and of experts ({sets} sets). Bold is the best "
           "merge of a column, with all that are not significantly worse."
           if sets > 1 else "They cover the choice of test images, not the choice of experts."),
        "Gap recovered: the share of the way from the pretrained model to the experts, on clean "
        "images.",
    ]  # fmt: skip
    return "\n".join(lines)


def data_used(row: Mapping[str, Any]) -> str:
    """What a method saw beyond weights, in the words of the short table."""
    used = [] if row["needs"] in NO_NEEDS else str(row["needs"]).split(", ")
    return " + ".join([*used, *(["task id at test time"] if row["knows_task"] else [])]) or "none"


WRITERS: dict[str, Callable[[pd.DataFrame], str]] = {
    "summary": summary_table,
    "leaderboard": full_table,
    "sets": full_table,
    "bmm": full_table,
}


# -- pages --------------------------------------------------------------------------------------


def pages() -> list[Path]:
    """Every page that may have generated parts."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def all_text() -> str:
    """All pages, one after the other."""
    return "\n".join(page.read_text(encoding="utf-8") for page in pages())


def filled(text: str) -> str:
    """``text`` with every generated part made anew, but for the results."""
    for name, write in PARTS.items():
        if has_place(text, name):
            text = replaced(text, name, write())
    if "<!-- n:" in text:
        numbers = counts()
        text = re.sub(
            r"<!-- n:(\w+) -->[\d,]*<!-- /n -->",
            lambda found: f"<!-- n:{found[1]} -->{numbers[found[1]]:,}<!-- /n -->",
            text,
        )
    return text


def has_place(text: str, name: str) -> bool:
    """Whether ``text`` has the marks of a part, each on a line of its own."""
    return f"<!-- {name} -->\n" in text


def replaced(text: str, name: str, content: str) -> str:
    """``text`` with another ``content`` between the marks of one part."""
    before, rest = text.split(f"<!-- {name} -->\n")
    after = rest.split(f"<!-- /{name} -->")[1]
    return f"{before}<!-- {name} -->\n\n{content}\n\n<!-- /{name} -->{after}"


def shown(text: str) -> tuple[dict[str, str], dict[str, tuple[str, tuple[str, ...]]]]:
    """The tables and the figures that ``text`` has a place for, and of which sweep each is."""
    tables = {name: sweep for name, sweep in TABLES.items() if has_place(text, name)}
    figures = {name: of for name, of in FIGURES.items() if f"{FIGURE_FOLDER}/{name}.png" in text}
    return tables, figures


def sweeps_of(text: str) -> list[str]:
    """The sweeps that ``text`` shows results of."""
    tables, figures = shown(text)
    return list(dict.fromkeys([*tables.values(), *(sweep for sweep, _ in figures.values())]))


def with_results(text: str, out: Path, only: Sequence[str] = ()) -> str:
    """``text`` with its tables of finished sweeps.

    Args:
        text: a page.
        out: the folder of the results.
        only: sweeps; none stands for all that the page shows.

    Raises:
        UserError: one was not run, or is not finished.
    """
    for name, sweep in shown(text)[0].items():
        if sweep in only or not only:
            text = replaced(text, name, WRITERS[name](rows_of(out, load_sweep(out, sweep))))
    return text


def draw(text: str, out: Path, folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """The figures of ``text``; see :func:`with_results`.

    Raises:
        UserError: a sweep that they show was not run, or is not finished.
    """
    from bench.reporting.tuning_history import trials_of
    from results.plots import comparison, learned, robustness, scale, style

    order, store = method_order(), Store(out)
    made = {
        "severity": lambda rows: comparison.severity(rows, order=order),
        "effective-robustness": lambda rows: robustness.draw(rows, order=order),
        "routing": learned.routing,
        "scale": lambda rows: scale.scale(rows, trials_of(rows, store), order=order),
    }
    found = {
        name: rows_of(out, load_sweep(out, sweep), methods)
        for name, (sweep, methods) in shown(text)[1].items()
        if sweep in only or not only
    }
    return [style.save(made[name](rows), folder / f"{name}.png") for name, rows in found.items()]


def changed(out: Path | None, only: Sequence[str]) -> dict[Path, str]:
    """The pages, and the bibliography, that are not as the code has them; what they should be.

    Args:
        out: the folder of the results; ``None`` leaves the measured parts alone.
        only: of which sweeps the measured parts are made; none stands for all.
    """
    found = {}
    if (path := ROOT / BIBLIOGRAPHY).read_text(encoding="utf-8") != bibliography():
        found[path] = bibliography()
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = filled(text)
        if out is not None:
            new = with_results(new, out, only)
        if new != text:
            found[page] = new
    return found


def main(words: Sequence[str]) -> int:
    """Rewrite what is generated, or compare it.

    Returns:
        The exit code: 1 if ``--check`` finds a page that is not up to date, 2 after a mistake.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.docs", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("pages", "results", "sweeps"), default="pages")
    parser.add_argument("only", nargs="*", metavar="SWEEP", help="results of these sweeps alone")
    parser.add_argument("--out", type=Path, default=OUT, help="the folder of the results")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    given = parser.parse_args(words)
    console = Console(highlight=False, soft_wrap=True)
    if given.what == "sweeps":
        console.print(*sweeps_of(all_text()))
        return 0
    results = given.what == "results"
    try:
        new = changed(given.out if results else None, given.only)
        if results and not given.check:
            draw(all_text(), given.out, ROOT / FIGURE_FOLDER, given.only)
    except UserError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}")
        return 2
    for page, text in new.items():
        name = page.relative_to(ROOT).as_posix()
        if given.check:
            console.print(f"{name} is not up to date")
        else:
            page.write_text(text, encoding="utf-8")
            console.print(f"wrote {name}")
    if given.check and new:
        console.print(f"run: python -m bench.docs{' results' if results else ''}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
