"""Small files, imports that point one way, printing in one place."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("bench", "tasks", "methods", "corruptions", "results")
LEAVES = {"mergeshift"}
MAY_IMPORT = {  # part -> the other parts that it knows, besides the leaves
    "corruptions": set(),
    "methods": set(),
    "results": set(),
    "tasks": {"corruptions"},
    "bench": {"tasks", "methods", "corruptions", "results"},
}
HEAVY = {"open_clip", "wandb", "matplotlib", "cv2", "imagecorruptions", "torchvision", "sklearn",
         "optuna"}  # fmt: skip
HARNESS = {  # files of methods/ that register none
    "base", "bd_config", "bd_parts", "bd_problems", "bd_routed", "bd_stages", "bmm_base",
    "bmm_config", "bmm_merge", "bmm_posterior", "bmm_search", "checkpoints", "checks", "clock",
    "coefficients", "config", "discrepancy", "evidence", "files", "grams", "journal", "knowledge",
    "matrices", "merging", "mixing", "precision", "probe", "products", "regression", "routed",
    "routers", "search", "support", "vit", "weights",
}  # fmt: skip

FILES = sorted(path for part in (*PARTS, "tests") for path in (ROOT / part).rglob("*.py"))
PRODUCT = [path for path in FILES if path.relative_to(ROOT).parts[0] != "tests"]


def named(paths: list[Path]) -> list:
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


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
    known = MAY_IMPORT[part] | {part} | LEAVES
    ours = [name for name in imports(tree) if name.split(".")[0] in (*PARTS, "tests")]
    packages = {
        leaf.rpartition(".")[0] for leaf in LEAVES
    }  # `from bench import x` gives bench, too
    return [name for name in ours if not under(name, known) and name not in packages]


@pytest.mark.parametrize("path", named(PRODUCT))
def test_imports_point_one_way(path):
    assert breach(path.relative_to(ROOT).parts[0], ast.parse(path.read_text())) == []


@pytest.mark.parametrize("path", named(sorted(ROOT / f"{leaf.replace('.', '/')}.py"
                                              for leaf in LEAVES)))  # fmt: skip
def test_leaves_import_leaves_alone(path):
    ours = [n for n in imports(ast.parse(path.read_text())) if n.split(".")[0] in PARTS]
    assert all(under(name, LEAVES) for name in ours)


@pytest.mark.parametrize("path", named(PRODUCT))
def test_heavy_libraries_are_imported_where_they_are_needed(path):
    """Not at the top of a file: `python -m bench list` must not wait for them."""
    body = ast.parse(path.read_text()).body
    top = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not [name for node in top for name in imports(node) if under(name, HEAVY)]


@pytest.mark.parametrize("path", named(FILES))
def test_files_are_small(path):
    method = path.parent == ROOT / "methods" and path.stem not in {*HARNESS, "__init__"}
    assert len(path.read_text().splitlines()) <= (120 if method else 250)


@pytest.mark.parametrize("path", named(PRODUCT))
def test_only_the_command_line_prints(path):
    calls = [node.func for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Call)]  # fmt: skip
    prints = [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]
    assert not prints or path.is_relative_to(ROOT / "bench" / "cli")


@pytest.mark.parametrize("path", named(FILES))
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
        ("methods", "from bench import errors", False),
        ("results", "def f():\n    from methods import METHODS", True),
        ("tasks", "from corruptions.base import CLEAN", False),
        ("corruptions", "from tasks import suite", True),
        ("bench", "from tests.helpers.toy_sweep import stamps", True),
    ):
        assert bool(breach(part, ast.parse(line))) == found, line
