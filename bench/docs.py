"""The generated parts of the README: what is registered, the file map; its results."""

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.cli.listing import markdown, methods, shifts, tasks
from bench.cli.options import OUT
from bench.leaderboard import method_order
from bench.records import recorded, rows_of
from results.render import render
from results.tables import compare

ROOT = Path(__file__).resolve().parents[1]
TABLE = "main"  # sweep that the table shows
FIGURES = {"severity": ("severity", ()), "routing": ("main", ("twin_merging",))}  # of what
PARTS = ("bench", "tasks", "methods", "corruptions", "results", "tests")


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


def filled(text: str) -> str:
    """``text`` with every generated part made anew."""
    parts = {
        "methods": markdown(methods()),
        "tasks": markdown(tasks()),
        "shifts": markdown(shifts()),
        "files": file_map(),
    }
    for name, content in parts.items():
        text = replaced(text, name, content)
    return text


def replaced(text: str, name: str, content: str) -> str:
    """``text`` with another ``content`` between the marks of one part."""
    before, rest = text.split(f"<!-- {name} -->\n")
    after = rest.split(f"<!-- /{name} -->")[1]
    return f"{before}<!-- {name} -->\n\n{content}\n\n<!-- /{name} -->{after}"


def with_results(text: str, out: Path, sweep: str = TABLE) -> str:
    """``text`` with the table of a finished sweep.

    Raises:
        UserError: it was not run, or is not finished.
    """
    table = compare(rows_of(out, recorded(out, sweep)), order=method_order())
    return replaced(text, "leaderboard", render(table, "md").strip())


def draw(out: Path, folder: Path) -> list[Path]:
    """The figures of the README.

    Raises:
        UserError: a sweep that they show was not run, or is not finished.
    """
    from results import drawing, heatmaps, plots

    found = {
        name: rows_of(out, recorded(out, sweep), only) for name, (sweep, only) in FIGURES.items()
    }
    made = {"severity": plots.severity, "routing": heatmaps.routing}
    return [drawing.save(made[name](rows), folder / f"{name}.png") for name, rows in found.items()]


def main(words: Sequence[str]) -> None:
    """Rewrite the README; with the word ``results``, its table and its figures, too."""
    path = ROOT / "README.md"
    text = filled(path.read_text(encoding="utf-8"))
    if "results" in words:
        text = with_results(text, OUT)
        draw(OUT, ROOT / "results" / "figures")
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
