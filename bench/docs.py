"""The generated parts of the README: tables of what is registered, and the file map."""

import ast
from pathlib import Path

from bench.cli.listing import markdown, methods, shifts, tasks

ROOT = Path(__file__).resolve().parents[1]
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
        before, rest = text.split(f"<!-- {name} -->\n")
        after = rest.split(f"<!-- /{name} -->")[1]
        text = f"{before}<!-- {name} -->\n\n{content}\n\n<!-- /{name} -->{after}"
    return text


def main() -> None:
    """Rewrite the README."""
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
