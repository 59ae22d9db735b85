"""What a method learned from images: one file beside the cells of its run, written when it is done.

``cells/<run_id>/learned.safetensors`` serves all shifts; a run that learns under each shift has one
``learned-<shift>.safetensors`` per shift. The tensors are the state of ``method.learned``; facts
about the learning are JSON in the file's metadata. A file that exists is finished: a learning
that is killed leaves none.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from corruptions.base import Shift
from mergeshift import DamagedFileError, UserError
from results.store import Store

if TYPE_CHECKING:
    from torch import Tensor


def path(store: Store, run_id: str, shift: Shift | None = None) -> Path:
    """Where it lies, or will lie; ``shift`` for what was learned under one shift alone."""
    name = f"learned-{shift.key}" if shift else "learned"
    return store.folder / "cells" / run_id / f"{name}.safetensors"


def has(store: Store, run_id: str, shift: Shift | None = None) -> bool:
    """Whether it is there, and so need not be learned again."""
    return path(store, run_id, shift).exists()


def save(file: Path, tensors: "Mapping[str, Tensor]", told: Mapping[str, Any]) -> None:
    """Write what was learned and the facts about it (:func:`facts`), whole or not at all.

    Raises:
        UserError: it learned NaN or infinity, or the disk is full.
    """
    from bench.zoo.experts import hash_of
    from methods.common.weights import save_checkpoint

    if bad := [name for name, t in tensors.items() if not t.isfinite().all()]:
        raise UserError(
            f"{file.parent.name} learned NaN or infinity in {bad[0]}: its loss diverged; "
            "lower its learning rate (--set)"
        )
    whole = {"facts": json.dumps({**told, "tensors": hash_of(tensors)}, sort_keys=True)}
    save_checkpoint(file, tensors, whole)  # one entry of metadata: no order, same file


def load(file: Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """What :func:`save` wrote, all of it: tensors, which are hashed, and facts.

    Raises:
        UserError: there is no such file.
        DamagedFileError: it is truncated or altered.
    """
    from bench.zoo.experts import hash_of

    with _opened(file, "pt") as (reader, found):
        tensors = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118
    if hash_of(tensors) != found.get("tensors"):
        raise DamagedFileError(f"{file} was altered; `--force` learns it again")
    return tensors, found


def metadata(file: Path) -> dict[str, Any]:
    """The facts alone: however large the file is, no tensor is read, and so none is checked.

    ``seconds``, ``peak_mb``, ``steps``, ``adapt_on``, ``shift`` (its key, or empty),
    ``config`` (canonical JSON), ``experts`` (hash of each), ``curves`` (name -> one number per
    step), ``coefficients`` (row -> task -> number), ``report`` (what learning was like, in the
    method's own words) and ``tensors`` (their hash).

    Raises:
        UserError: there is no such file.
        DamagedFileError: it is truncated, or the facts cannot be read.
    """
    with _opened(file, "numpy") as (_, found):  # torch takes seconds to import
        return found


@contextmanager
def _opened(file: Path, framework: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What reads the tensors of a file, for torch ("pt") or NumPy, and its facts."""
    if not file.is_file():
        raise UserError(f"no checkpoint at {file}; give the path of a file")
    try:
        with safe_open(file, framework=framework) as reader:
            yield reader, dict(json.loads(reader.metadata()["facts"]))
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise DamagedFileError(f"{file} is damaged; `--force` learns it again") from error


def files(store: Store, run_id: str) -> list[Path]:
    """Every such file of a run, sorted."""
    return sorted((store.folder / "cells" / run_id).glob("learned*.safetensors"))


def adaptation_records(store: Store, run_id: str) -> list[dict[str, Any]]:
    """The facts of everything that a run learned: once, or once for each shift."""
    return [metadata(file) for file in files(store, run_id)]


def diagnostics(store: Store, run_ids: list[str]) -> dict[str, list[str]]:
    """Run id -> how its learning failed, in the method's own words; of runs where it did."""
    found = {}
    for run_id in run_ids:
        reports = [one.get("report", {}) for one in adaptation_records(store, run_id)]
        if told := dict.fromkeys(text for one in reports for text in one.get("problems", ())):
            found[run_id] = list(told)
    return found


def damaged(store: Store, run_ids: list[str]) -> list[Path]:
    """The files of these runs that cannot be read back."""
    found = []
    for file in (file for run_id in run_ids for file in files(store, run_id)):
        try:
            load(file)
        except DamagedFileError:
            found.append(file)
    return found
