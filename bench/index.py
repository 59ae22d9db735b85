"""Names of what is registered, read from the source files: nothing is imported, so nothing waits.

Help, shell completion and the tables of stored results need to know which methods there are, in
which order tables list them, and what suites and tasks are called. Importing ``methods`` takes
seconds (torch, Lightning); reading the files takes hundredths of one. A method in a new file is
known at once. ``tests/bench/test_index.py`` compares all of it with the registries.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from mergeshift import DamagedFileError, UserError, home, read_json, version, write_json

ROOT = Path(__file__).resolve().parents[1]
FIRST, LAST = ("pretrained", "average"), ("oracle_router", "individual")  # of every table
NO_YEAR = 9999  # of a method without a paper: behind those that have one


class Entry(NamedTuple):
    """A registered class, as far as its file says it."""

    name: str  # "" of a class that is not registered, but may be the base of one that is
    bases: tuple[str, ...]
    year: int | None  # of its paper; None where it inherits that
    path: Path  # the file


def method_order() -> list[str]:
    """Methods as tables list them: by the year of the paper, references around them."""
    years = method_years()
    named = sorted(years, key=lambda name: (years[name] or NO_YEAR, name))
    first = [name for name in FIRST if name in named]
    last = [name for name in LAST if name in named]
    return first + [name for name in named if name not in (*first, *last)] + last


def method_years() -> dict[str, int]:
    """Method -> year of its paper, 0 if it has none.

    Where ``methods`` was imported already, its registry is asked: it also knows what was registered
    while the program ran.
    """
    if loaded := sys.modules.get("methods"):
        return {name: cls.paper.year for name, cls in loaded.METHODS.items()}
    classes = dict(_classes("methods"))

    def year(name: str) -> int:
        entry = classes.get(name)
        if entry is None:
            return 0
        return entry.year if entry.year is not None else max(map(year, entry.bases), default=0)

    return {entry.name: year(cls) for cls, entry in classes.items() if entry.name}


def methods() -> list[str]:
    """Every method."""
    return method_order()


def method_places(name: str) -> set[Path]:
    """The file or folder in ``methods`` of a method, and of each class that it is made from.

    Without those that all methods stand on. Empty where no file registers it.
    """
    classes = dict(_classes("methods"))
    waiting = [key for key, entry in classes.items() if entry.name == name]
    places: set[Path] = set()
    while waiting:
        entry = classes.pop(waiting.pop(), None)
        inside = entry.path.relative_to(ROOT / "methods").parts if entry else ("base.py",)
        if entry and inside[0] not in ("base.py", "common"):
            places.add(ROOT / "methods" / inside[0])
            waiting += entry.bases
    return places


@cache
def tasks() -> list[str]:
    """Every task that is listed, in the order of the files."""

    def read() -> list[str]:
        rows = [_text(call.args[0]) for _, call in _calls("tasks", "Row")]
        return sorted({*_added("tasks", "TASKS.add"), *rows} - {""})

    return remembered("tasks", read, "task_names")


@cache
def suites() -> list[str]:
    """Every suite that is listed."""
    return remembered(
        "tasks", lambda: list(dict.fromkeys(_added("tasks", "add_suite"))), "suite_names"
    )


@cache
def sweeps() -> list[str]:
    """Every sweep that has a name."""
    calls = (call for path, call in _calls("bench", "Sweep") if path.name == "sweeps.py")
    words = (word for call in calls for word in call.keywords if word.arg == "name")
    return list(dict.fromkeys(text for word in words if (text := _text(word.value))))


@cache
def shifts() -> list[str]:
    """Clean, the levels, every set and corruption at severity 3, and what shows other images."""
    names = [
        node.name
        for _, tree in _trees("corruptions")
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(_called(decorator) == "corruption" for decorator in node.decorator_list)
    ]
    sets = ("adamerging7", "imagenet-c15", "all19")
    domains = (_text(call.args[0]) for _, call in _calls("tasks", "add_domain"))
    others = ["prior", *sorted(f"domain:{name}" for name in domains if name)]
    return ["clean", "L1", "L2", "L3", *(f"{name}@3" for name in (*sets, *sorted(names))), *others]


def remembered(package: str, make: Callable[[], list[Any]], name: str = "") -> list[Any]:
    """What ``make`` lists of a package, from a file in the data folder where no source changed.

    Where the package was imported already it is asked itself: it also knows what was registered
    while the program ran.

    Args:
        package: ``methods``; its files are told by their names, sizes and times of change.
        make: rows that JSON can hold.
        name: of the file, where a package has several.
    """
    if package in sys.modules:
        return make()
    files = [(path, path.stat()) for path in sorted((ROOT / package).rglob("*.py"))]
    facts = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in files]
    key = blake2b(repr((version(), facts)).encode(), digest_size=8).hexdigest()
    path = home() / "index" / f"{name or package}.json"
    try:
        known = read_json(path) if path.exists() else {}
    except DamagedFileError:
        known = {}  # it is made anew
    if known.get("key") != key:
        known = {"key": key, "rows": make()}
        with suppress(UserError):  # without a data folder the next listing takes seconds again
            write_json(path, known)
    return list(known["rows"])


def _trees(folder: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path, _parsed(path, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, changed: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _calls(folder: str, name: str) -> Iterator[tuple[Path, ast.Call]]:
    """The calls of a function in the files of a folder."""
    for path, tree in _trees(folder):
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and _called(node) == name
                and (node.args or node.keywords)
            ):
                yield path, node


def _called(node: ast.AST) -> str:
    """``f`` of ``f(...)``, ``A.add`` of ``A.add(...)``; empty for what is no such call."""
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{function.value.id}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


def _text(node: ast.AST) -> str:
    """A literal text; empty for anything else."""
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(node.value) if is_text and isinstance(node, ast.Constant) else ""


def _added(folder: str, function: str) -> Iterator[str]:
    """The names of ``function("name", ...)``, loops over literal numbers written out."""
    for _, tree in _trees(folder):
        numbers: dict[str, list[object]] = {
            node.target.id: [
                item.value for item in node.iter.elts if isinstance(item, ast.Constant)
            ]
            for node in ast.walk(tree)
            if isinstance(node, ast.For)
            and isinstance(node.target, ast.Name)
            and isinstance(node.iter, ast.Tuple)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) == function and node.args:
                yield from _written(node.args[0], numbers)


def _written(node: ast.AST, values: dict[str, list[object]]) -> Iterator[str]:
    """What a literal text, or one with the variable of a loop in it, stands for."""
    if text := _text(node):
        yield text
    elif isinstance(node, ast.JoinedStr):
        pattern = ast.unparse(node)[2:-1]  # f'vision{count}'
        for name in re.findall(r"\{(\w+)\}", pattern):
            yield from (
                pattern.replace(f"{{{name}}}", str(value)) for value in values.get(name, ())
            )


def _classes(folder: str) -> Iterator[tuple[str, Entry]]:
    def read() -> list[list[Any]]:
        return [
            [cls, entry.name, entry.bases, entry.year, str(path.relative_to(ROOT))]
            for path in sorted((ROOT / folder).rglob("*.py"))
            for cls, entry in _classes_of(path, path.stat().st_mtime_ns)
        ]

    for cls, name, bases, year, path in remembered(folder, read, f"{folder}_classes"):
        yield cls, Entry(name, tuple(bases), year, ROOT / path)


@cache
def _classes_of(path: Path, changed: int) -> list[tuple[str, Entry]]:
    found = []
    for node in _parsed(path, changed).body:
        if isinstance(node, ast.ClassDef):
            calls = (one for one in node.decorator_list if _called(one) == "METHODS.register")
            names = [_text(call.args[0]) for call in calls if isinstance(call, ast.Call)]
            bases = tuple(base.id for base in node.bases if isinstance(base, ast.Name))
            found.append((node.name, Entry(names[0] if names else "", bases, _year(node), path)))
    return found


def _year(node: ast.ClassDef) -> int | None:
    """The year in ``paper = Paper(...)``; 0 for ``NO_PAPER``, None where there is no such line."""
    for line in node.body:
        if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "paper":
            if not isinstance(line.value, ast.Call):
                return 0
            values = [
                *line.value.args[3:4],
                *(k.value for k in line.value.keywords if k.arg == "year"),
            ]
            years = [value.value for value in values if isinstance(value, ast.Constant)]
            return int(str(years[0])) if years else None
    return None
