"""What commands do with the weights that a user names: which tower, what is odd, what is written.

A file that was read is never written over, and one that is there only with ``--force``.
"""

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mergeshift import Notice, UserError

Tower = Annotated[
    str,
    typer.Option(
        help="Where a file holds several models (student and teacher, a model and its average): "
        "what stands in front of the names of the one to take.",
        metavar="PREFIX",
    ),
]


ModelFormat = Annotated[
    str,
    typer.Option(
        "--format",
        help="hf | open_clip: a folder that transformers reads, or open_clip, with a model card.",
    ),
]


def merge_facts(path: Path) -> dict[str, Any]:
    """What `merge` wrote into its file: method, config, experts; nothing of any other file."""
    from methods.common.weights import open_safetensors

    if path.suffix != ".safetensors":
        return {}
    with open_safetensors(path) as file:
        return dict(json.loads((file.metadata() or {}).get("merge", "{}")))


def numbered(paths: Sequence[Path]) -> dict[str, Path]:
    """Each path by a name of its own: what is given twice counts twice.

    >>> list(numbered([Path("a.pt"), Path("b.pt"), Path("a.pt")]))
    ['a.pt', 'b.pt', 'a.pt (2)']
    """
    found: dict[str, Path] = {}
    for path in paths:
        times = sum(other == path for other in found.values())
        found[f"{path} ({times + 1})" if times else str(path)] = path
    return found


def require_free(output: Path, read: Sequence[Path], force: bool) -> None:
    """Refuse to write where something is.

    Args:
        output: a file.
        read: the files that it is made from; links to one file are that file.
        force: replace it if it is none of these.

    Raises:
        UserError: it is an input, or a folder, or there without ``force``.
    """
    try:
        there = output.exists() or output.is_symlink()
        own = [path for path in read if output.exists() and output.samefile(path)]
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from error
    if own:
        raise UserError(
            f"{output} is one of the inputs, which are never written over; give another -o"
        )
    if output.is_dir():
        raise UserError(f"{output} is a folder; give the path of a file")
    if there and not force:
        raise UserError(f"{output} is there already; replace it with --force, or give another -o")


@contextmanager
def notices() -> Iterator[None]:
    """Print what was odd about a user's data, a line on stderr each, when the work has ended well.

    A mistake that ends it is one line alone.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Notice)
        yield
    for warning in caught:
        if issubclass(warning.category, Notice):
            sys.stderr.write(f"note: {warning.message}\n")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
