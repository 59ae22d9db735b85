"""Arithmetic on whole models, lazily, so that methods read like the papers they come from.

And the files of checkpoints: safetensors, or files of torch that hold tensors alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mergeshift import DamagedFileError, UserError, atomic
from methods.common.file_formats import Format, format_of, require_file

Shape = tuple[int, ...]


class Weights(Mapping[str, Tensor]):
    """The floating-point tensors of one model, as a vector that is evaluated name by name.

    ``a - b`` or ``0.3 * a`` only writes down an expression; reading a name evaluates that tensor
    and nothing else, so that merging twenty large models holds one tensor of each at a time.
    Names and shapes are known beforehand: operands that differ are refused at once. Half
    precision is raised to float32 when read; float64 stays. Integer tensors are never merged.

    >>> a = Weights({"w": torch.tensor([1.0, 2.0])})
    >>> (a + 2 * a)["w"]
    tensor([3., 6.])
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        held = dict(tensors)
        if odd := [name for name, tensor in held.items() if not tensor.is_floating_point()]:
            raise TypeError(f"only floating-point tensors are merged; others: {some(odd)}")
        self._shapes: Mapping[str, Shape] = {k: tuple(v.shape) for k, v in held.items()}
        self._read: Callable[[str], Tensor] = held.__getitem__

    @classmethod
    def lazy(cls, shapes: Mapping[str, Shape], read: Callable[[str], Tensor]) -> "Weights":
        """Weights whose tensors ``read(name)`` makes, anew whenever one is asked for."""
        weights = cls({})
        weights._shapes, weights._read = dict(shapes), read
        return weights

    @classmethod
    def of(cls, module: nn.Module) -> "Weights":
        """A copy of the floating-point state of ``module``."""
        state = module.state_dict()
        return cls({k: v.detach().clone() for k, v in state.items() if v.is_floating_point()})

    @classmethod
    def open(cls, path: Path, prefix: str = "") -> "Weights":
        """The floating-point tensors of a safetensors file, memory-mapped.

        Args:
            path: the file.
            prefix: take only the names that begin with it, and cut it off.

        Raises:
            DamagedFileError: the file is truncated or not a safetensors file.
            UserError: there is no such file, or no such tensor in it.
        """
        file = open_safetensors(path)
        parts = {k: file.get_slice(k) for k in list(file.keys()) if k.startswith(prefix)}
        shapes = {
            k.removeprefix(prefix): tuple(v.get_shape())
            for k, v in parts.items()
            if "F" in v.get_dtype()  # F32, BF16, F8_E4M3, ...; the others are I64, U8, BOOL, ...
        }
        if not shapes:
            under = f" under {prefix!r}" if prefix else ""
            has = some(list(file.keys()))
            raise UserError(f"{path} holds no floating-point tensor{under}; it has {has}")
        return cls.lazy(shapes, lambda name: file.get_tensor(prefix + name))

    # -- reading -----------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._shapes:
            raise KeyError(name)
        tensor = self._read(name)
        return tensor if tensor.dtype == torch.float64 else tensor.float()

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __repr__(self) -> str:
        return f"Weights({len(self)} tensors, {self.num_entries:,} entries)"

    def shape(self, name: str) -> Shape:
        """The shape of one tensor, without reading it."""
        return self._shapes[name]

    @property
    def num_entries(self) -> int:
        """P, the length of :meth:`flat`, without reading anything."""
        return sum(prod(shape) for shape in self._shapes.values())

    def flat(self) -> Tensor:
        """All entries in one vector, in the order of the names.  ``[P]``."""
        return torch.cat([tensor.reshape(-1) for tensor in self.values()])

    def materialise(self) -> "Weights":
        """The same weights, evaluated once and held in memory."""
        return Weights(dict(self))

    def only(self, names: Iterable[str]) -> "Weights":
        """Some of the tensors."""
        return Weights.lazy({name: self.shape(name) for name in names}, self.__getitem__)

    # -- arithmetic --------------------------------------------------------------------------

    def map(self, fn: Callable[[Tensor], Tensor]) -> "Weights":
        """Apply ``fn`` to every tensor; it must keep the shape."""
        return self.zip(fn)

    def zip(self, fn: Callable[..., Tensor], *others: "Weights") -> "Weights":
        """Apply ``fn(mine, *theirs)`` tensor by tensor; it must keep the shape.

        Raises:
            UserError: names or shapes differ.
        """
        for other in others:
            self.require_same(other, "cannot combine weights")

        def read(name: str) -> Tensor:
            tensor = fn(self[name], *(other[name] for other in others))
            assert tensor.shape == self.shape(name), f"{fn} turned {name} to {tuple(tensor.shape)}"
            return tensor

        return Weights.lazy(self._shapes, read)

    def __add__(self, other: "Weights") -> "Weights":
        return self.zip(torch.add, other)

    def __sub__(self, other: "Weights") -> "Weights":
        return self.zip(torch.sub, other)

    def __mul__(self, scale: float) -> "Weights":
        return self.map(lambda tensor: tensor * scale)

    __rmul__ = __mul__

    def require_same(self, other: "Weights", what: str) -> None:
        """Refuse weights of another architecture; ``what`` begins the message.

        Raises:
            UserError: names or shapes differ; the message gives examples.
        """
        mine, theirs = self._shapes, other._shapes
        if mine == theirs:
            return
        if odd := sorted(mine.keys() ^ theirs.keys()):
            wrong = f"{len(odd)} names are in only one of the two, {some(odd)}"
        else:
            odd = [f"{k} is {mine[k]} and {theirs[k]}" for k in mine if mine[k] != theirs[k]]
            wrong = f"{len(odd)} shapes differ, {some(odd)}"
        raise UserError(f"{what}: {wrong}; give checkpoints of one architecture")


class TensorBuffers(nn.Module):
    """Tensors kept by a method, as buffers that follow it to its device. Call it to read them."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        self.names = list(tensors)
        for i, name in enumerate(tensors):
            key = f"{i}/{name.replace('.', '/')}"  # no dots, and never the name of an attribute
            self.register_buffer(key, tensors[name].detach().float().clone())

    def forward(self) -> dict[str, Tensor]:
        """Name -> tensor."""
        return dict(zip(self.names, self.buffers(), strict=True))


def total(weights: Sequence[Weights]) -> Weights:
    """Sum in the given order (float sums depend on it: never pass a set), one term at a time."""
    first, *rest = weights
    for other in rest:
        first.require_same(other, "cannot combine weights")

    def read(name: str) -> Tensor:
        result = first[name].clone()
        for other in rest:
            result += other[name]
        return result

    return Weights.lazy({name: first.shape(name) for name in first}, read)


def mean(weights: Sequence[Weights]) -> Weights:
    """(1 / n) sum_i w_i, summed in the given order."""
    return (1 / len(weights)) * total(weights)


def median(weights: Sequence[Weights]) -> Weights:
    """Entry by entry; the mean of the two in the middle, where their number is even.

    >>> few = [Weights({"w": torch.tensor([x])}) for x in (1.0, 5.0, 2.0, 9.0)]
    >>> median(few)["w"], median(few[:3])["w"]
    (tensor([3.5000]), tensor([2.]))
    """
    first, *rest = weights

    def middle(*tensors: Tensor) -> Tensor:
        ordered = torch.stack(tensors).sort(0).values
        return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2

    return first.zip(middle, *rest)


def check_finite(weights: Weights, what: str) -> None:
    """Refuse weights that hold NaN or infinity.

    Raises:
        UserError: names the tensor.
    """
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            kind = "NaN" if tensor.isnan().any() else "Inf"
            raise UserError(
                f"{what} holds {kind} in {name}; every entry must be finite: replace it"
            )


def some(names: Sequence[str]) -> str:
    """Up to three of ``names``, for an error message; whatever is in them, it is one line."""
    shown = (name if name.isprintable() else repr(name) for name in names[:3])
    return f"e.g. {', '.join(shown)}{', ...' if len(names) > 3 else ''}"


# -- files -----------------------------------------------------------------------------------------


def open_safetensors(path: Path) -> Any:
    """A memory-mapped safetensors file.

    Raises:
        DamagedFileError: it is cut off or altered.
        UserError: there is none, or it is a healthy file of another kind.
    """
    try:
        require_file(path)
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        if format_of(path) is not Format.SAFETENSORS:  # it refuses most others itself
            raise UserError(f"{path} is a file of torch; here safetensors is read") from error
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedFileError(f"{path} is damaged ({why}); copy or download it again") from error


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
