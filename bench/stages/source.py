"""What the code of a method is: a hash of its file or folder, which comments do not change.

Read from the files, so that a table of stored results need not import a method.
"""

import ast
import linecache
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from bench import index

SOURCE = "source"  # its place among the facts of a run
WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def source_of(method: str) -> dict[str, str]:
    """File or folder -> hash of its code, of a method and of those that it is made from.

    Empty for a name that no file of ``methods`` registers.
    """
    places = sorted(index.method_places(method))
    return {
        place.name + "/" * place.is_dir(): _hash(tuple((p, _changed(p)) for p in _files(place)))
        for place in places
    }


def changed_since(method: str, facts: Mapping[str, Any]) -> list[str]:
    """The files and folders of a method whose code is another than it was.

    Args:
        method: its name.
        facts: of a run of it; those from before there were hashes tell nothing.
    """
    before = facts.get(SOURCE, {})
    now = source_of(method) if before else {}
    return [place for place, told in before.items() if now and now.get(place) != told]


def version_of(cls: type) -> int:
    """A number that a class which is defined in a notebook or script has as long as its code stays.

    Told from the text of the cell or file; 1 where that is not known.
    """
    codes = (getattr(value, "__code__", None) for value in vars(cls).values())
    files = [code.co_filename for code in codes if code is not None]
    text = "".join(linecache.getlines(files[0])) if files else ""
    try:
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    except SyntaxError:  # not of Python: a cell with a line of a shell
        return 1
    own = [node for node in nodes if node.name == cls.__name__]
    if not own:
        return 1
    parts: list[str] = []
    _tell(own[-1], parts)
    return int(blake2b("".join(parts).encode(), digest_size=6).hexdigest(), 16)


def normalised(text: str) -> str:
    """The code of a file: its syntax tree, without comments, docstrings and places.

    >>> normalised("x = 1  # one") == normalised('x=1')
    True
    >>> normalised("x = 1") == normalised("x = 2")
    False
    """
    parts: list[str] = []
    _tell(ast.parse(text), parts)
    return "".join(parts)


def _tell(node: Any, parts: list[str]) -> None:
    """A tree as text; what is empty is left out, so that a newer Python tells the same.

    Tables wait for it: one list that grows takes a third of the time of nested iterators.
    """
    if isinstance(node, list):
        for item in node:
            _tell(item, parts)
        return
    if not isinstance(node, ast.AST):
        parts.append(f"{node!r},")
        return
    has_docstring = isinstance(node, WITH_DOCSTRING)
    parts.append(f"{type(node).__name__}(")
    for name in node._fields:
        value: Any = getattr(node, name, None)
        if has_docstring and name == "body":
            value = _without_docstring(value)
        if value is not None and value != [] and name not in ("kind", "type_comment"):
            parts.append(f"{name}=")
            _tell(value, parts)
    parts.append(")")


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return body[1:] if isinstance(first.value.value, str) else body
    return body


def _files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


@cache
def _hash(files: tuple[tuple[Path, int], ...]) -> str:
    """16 hex digits of the code of some files; the times make the same files another key."""
    text = "\n".join(f"{path.name}: {normalised(path.read_text('utf-8'))}" for path, _ in files)
    return blake2b(text.encode(), digest_size=8).hexdigest()
