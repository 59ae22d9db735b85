"""Checkpoint files: safetensors, or files of torch that hold tensors alone."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.errors import DamagedFileError, UserError
from bench.files import atomic


def open_safetensors(path: Path) -> Any:
    """A memory-mapped safetensors file."""
    return _read(path, lambda: safe_open(path, framework="pt"))


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of ``torch.save``."""
    with warnings.catch_warnings(action="ignore"):  # about what is refused below anyway
        state = _read(path, lambda: torch.load(path, map_location="cpu", weights_only=True))
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} is not a state dict (name -> tensor); save one as safetensors")
    return state


def _read(path: Path, read: Callable[[], Any]) -> Any:
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; give the path of a file")
    try:
        return read()
    except UnpicklingError as error:
        raise UserError(
            f"{path} is not a file of tensors alone (a pickle with code, or damaged): refused, "
            "nothing in it was run; save the state dict as safetensors"
        ) from error
    except Exception as error:  # whatever a parser raises on damaged bytes
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedFileError(f"{path} is damaged ({why}); delete it, get it again") from error


def save_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    whole: dict[str, Tensor] = {}
    places: set[int] = set()  # safetensors refuses tensors that share memory
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu()
        storage = plain.untyped_storage()
        alone = storage.data_ptr() not in places and storage.nbytes() == plain.nbytes
        if not (alone and plain.is_contiguous()):
            plain = plain.clone(memory_format=torch.contiguous_format)
        places.add(plain.untyped_storage().data_ptr())
        whole[name] = plain
    with atomic(path) as temporary:
        try:
            save_file(whole, temporary, dict(metadata or {}))
        except SafetensorError as error:  # it is how a full disk shows
            raise UserError(f"cannot write {path}: {error}; free some space") from error
