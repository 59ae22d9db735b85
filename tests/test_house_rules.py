"""The layout of the code: what imports what, what a folder holds, and what a name may be."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("bench", "tasks", "methods", "corruptions", "results")
LEAF = "mergeshift"  # everyone may import it, and it imports none of them
MAY_IMPORT = {  # package -> the other packages that it knows, besides the leaf
    "corruptions": set(),
    "methods": set(),
    "results": {"corruptions"},
    "tasks": {"corruptions"},
    "bench": {"tasks", "methods", "corruptions", "results"},
}
HEAVY = {"open_clip", "wandb", "matplotlib", "cv2", "imagecorruptions", "torchvision", "sklearn",
         "optuna"}  # fmt: skip
MACHINERY = {"__init__", "api", "base", "common", "contract", "routing"}  # of methods/
ENTRIES = 20  # that a package has at most, one level down

FILES = sorted(path for part in (*PARTS, "tests") for path in (ROOT / part).rglob("*.py"))
FILES.append(ROOT / f"{LEAF}.py")
PRODUCT = [path for path in FILES if path.relative_to(ROOT).parts[0] != "tests"]


def params(paths: list[Path]) -> list:
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


def module_of(path: Path) -> str:
    """``bench/zoo/hub.py`` -> ``bench.zoo.hub``; of a package its folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in PRODUCT}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere below a node: ``from a import b`` gives a.b too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def under(module: str, names: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def breach(part: str, tree: ast.AST) -> list[str]:
    """The imports of a file in ``part`` that point the wrong way."""
    ours = [name for name in imports(tree) if name.split(".")[0] in (*PARTS, LEAF, "tests")]
    return [name for name in ours if not under(name, MAY_IMPORT[part] | {part, LEAF})]


def modules_used(tree: ast.AST) -> set[str]:
    """The modules of the product that a file imports: ``from a import b`` is a.b if that is one."""
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            used |= {name if name in MODULES else node.module for name in names}
    return used & MODULES.keys()


def graph() -> dict[str, set[str]]:
    """Module -> the modules that it imports, at its top or anywhere in it."""
    trees = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
    return {name: modules_used(tree) - {name} for name, tree in trees.items()}


def between(folder: str, arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Entry of a folder (a file or a folder in it) -> the other entries that it imports."""

    def entry(module: str) -> str:
        return module.removeprefix(f"{folder}.").split(".")[0]

    found: dict[str, set[str]] = defaultdict(set)
    for module, used in arrows.items():
        if module.startswith(f"{folder}."):
            inside = {entry(other) for other in used if other.startswith(f"{folder}.")}
            found[entry(module)] |= inside - {entry(module)}
    return found


def circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """The modules of an import circle, if there is one."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def crowded(stems: list[str], methods: set[str]) -> list[str]:
    """Words that three or more files of a folder begin with: a folder that was not made.

    The names of registered methods are apart, and so is the ``test_`` of tests.
    """
    words = [stem.removeprefix("test_") for stem in stems]
    words = [word for word in words if not any(re.match(rf"{name}(_|$)", word) for name in methods)]
    counts = Counter(word.split("_")[0] for word in words if word)
    split = {word.split("_")[0] for word in words if "_" in word}
    return [word for word, count in counts.items() if count >= 3 and word in split]


def registered(path: Path) -> set[str]:
    """The names under which a file registers methods."""
    text = path.read_text()
    return set(re.findall(r'^@METHODS\.register\("(\w+)"\)', text, re.MULTILINE))


def methods_by_entry() -> dict[str, set[str]]:
    """Entry of methods/ -> the names that it registers."""
    found = {}
    for path in (ROOT / "methods").iterdir():
        if path.suffix == ".py":
            found[path.stem] = registered(path)
        elif any(path.glob("*.py")):
            found[path.name] = set().union(*map(registered, path.rglob("*.py")))
    return found


@pytest.mark.parametrize("path", params([path for path in PRODUCT if path.stem != LEAF]))
def test_imports_point_down(path):
    assert breach(path.relative_to(ROOT).parts[0], ast.parse(path.read_text())) == []


def test_the_leaf_imports_nothing_of_ours():
    names = imports(ast.parse((ROOT / f"{LEAF}.py").read_text()))
    assert not [name for name in names if name.split(".")[0] in PARTS]


def test_there_is_no_import_circle():
    assert circle(graph()) == []


@pytest.mark.parametrize("part", PARTS)
def test_no_two_entries_of_a_package_import_each_other(part):
    arrows = between(part, graph())
    assert not [(a, b) for a in arrows for b in arrows[a] if a in arrows.get(b, ())]


@pytest.mark.parametrize("part", PARTS)
def test_a_package_is_seen_at_a_glance(part):
    entries = [path for path in (ROOT / part).iterdir()
               if path.suffix == ".py" or any(path.glob("*.py"))]  # fmt: skip
    methods = len(methods_by_entry().keys() - MACHINERY) if part == "methods" else 0
    assert len(entries) - methods <= ENTRIES


def test_an_entry_of_methods_is_a_method_or_one_of_the_machinery():
    found = methods_by_entry()
    assert found.keys() >= MACHINERY
    for entry, names in found.items():
        if entry in MACHINERY:
            assert not names, entry
        else:
            assert names, f"{entry} registers no method"
            assert all(re.match(rf"{entry}(_|$)", name) for name in names), (entry, names)


def test_no_three_files_of_a_folder_share_their_first_word():
    methods = set().union(*methods_by_entry().values())
    folders = {path.parent for path in FILES}
    stems = {folder: [path.stem for path in folder.glob("*.py")] for folder in folders}
    found = {folder.relative_to(ROOT).as_posix(): crowded(stems[folder], methods)
             for folder in folders}  # fmt: skip
    assert not {folder: words for folder, words in found.items() if words}


@pytest.mark.parametrize("path", params(PRODUCT))
def test_heavy_libraries_are_imported_where_they_are_needed(path):
    """Not at the top of a file: `python -m bench list` must not wait for them."""
    body = ast.parse(path.read_text()).body
    top = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not [name for node in top for name in imports(node) if under(name, HEAVY)]


@pytest.mark.parametrize("path", params(PRODUCT))
def test_only_the_command_line_prints(path):
    calls = [node.func for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Call)]  # fmt: skip
    prints = [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]
    assert not prints or path.is_relative_to(ROOT / "bench" / "cli")


@pytest.mark.parametrize("path", params(FILES))
def test_nothing_is_left_for_later(path):
    text = path.read_text(encoding="utf-8")
    assert text.isascii()
    words = ("TO" + "DO", "FIX" + "ME", "mark." + "skip", "pytest." + "skip(", "import" + "orskip")
    assert not [word for word in words if word in text]


def test_the_rules_find_what_breaks_them():
    for part, line, found in (
        ("methods", "from bench.config import Run", True),
        ("methods", "from bench import config", True),
        ("methods", "import tasks", True),
        ("methods", "from mergeshift import UserError", False),
        ("results", "def f():\n    from methods import METHODS", True),
        ("results", "from corruptions.base import Shift", False),
        ("tasks", "from corruptions.base import CLEAN", False),
        ("corruptions", "from tasks import suite", True),
        ("bench", "from tests.helpers.toy_sweep import stamps", True),
    ):
        assert bool(breach(part, ast.parse(line))) == found, line
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}})
    arrows = {"results.tables.grid": {"results.latex.tabular"}, "results.latex.tabular": {"results.tables.notes"}}  # fmt: skip # noqa: E501
    assert between("results", arrows) == {"tables": {"latex"}, "latex": {"tables"}}
    assert crowded(["latex", "latex_long", "latex_sheet"], set()) == ["latex"]
    assert crowded(["bmm", "bmm_base", "bmm_config"], {"bmm"}) == []
    assert crowded(["test_adapt_kill", "test_adapt_plan", "test_adapt"], set()) == ["adapt"]
    assert crowded(["reproduce", "reporting", "records"], set()) == []
