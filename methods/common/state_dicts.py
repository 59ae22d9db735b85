"""What people bring as weights: their files, the wrappers in them, and the names.

A file is what its bytes say, whatever it is called. Nothing in a pickle is ever run. What cannot
be read without doubt is refused in one line that says what it is.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

from mergeshift import DamagedFileError, Notice, UserError
from methods.common.file_formats import Format, format_of, json_of
from methods.common.weights import Shape, Weights, open_safetensors, some

INSIDE = {  # what FSDP, torch.compile, DeepSpeed and checkpointing put into names, anywhere
    "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module",
}  # fmt: skip
OUTER = INSIDE | {"module", "model", "net", "network", "state_dict"}  # in front of all names
BESIDE = re.compile(  # what checkpoints hold beside the weights
    r"_?(opt|optim\w*|\w*optimizers?|\w*optimizer_\w+|(lr_?)?sched\w*|\w*_sched\w*|\w*scaler\w*"
    r"|amp|\w*rng\w*|callbacks?|loops|hparams\w*|hyper_?parameters|args|cfg|config|metadata"
    r"|trainer\w*|history|logs?|metrics?|ema_updater|dataloader\w*|sampler\w*|version)",
    re.IGNORECASE,
)
FOLDER = (  # what holds the weights in a folder, the first that is there
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
    "pytorch_model.bin.index.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
)  # fmt: skip
SUFFIXES = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"}
ADAPTER = re.compile(r"(^|[._])(lora_(A|B|down|up|embedding_[AB])|hada_w\d|lokr_w\d|ia3_l)([._]|$)")
PACKED = re.compile(  # names that only quantised layers have
    r"(^|\.)(SCB|absmax|(nested_)?quant_map|nested_absmax|qweight|qzeros|weight_packed"
    r"|_packed_params)(\.|$)|quant_state"
)
SCALES = re.compile(r"(_scale|_scale_inv|scales?)$")  # beside 8-bit floats: they are quantised
TRAINED = re.compile(r"(weight|bias|kernel)$")
FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
EIGHT_BITS = {torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz}
COUNTS = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
          torch.uint16, torch.uint32, torch.uint64}  # fmt: skip
SMALL = 0.5  # norm of an expert over that of its base, below which it is hardly one; where it
SMALLER, ALIKE = 0.8, 0.5  # points elsewhere than the base: another share, a cosine below this
PART = 65_536  # entries of each tensor that are looked at for it
DEEPEST = 8  # wrappers in wrappers

Kinds = Mapping[str, tuple[torch.dtype, Shape]]


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds."""

    weights: Weights  # the floating-point tensors
    others: Mapping[str, Tensor]  # integer buffers
    files: tuple[Path, ...]  # that it was read from


# -- files -----------------------------------------------------------------------------------------


def load_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a checkpoint: of a file, of an index of several, or of a folder with one.

    safetensors is memory-mapped; a file of ``torch.save`` is read with ``weights_only``, so that
    no code in a pickle ever runs. Wrappers around the state dict are taken off, and optimizers and
    the like left out; where several models lie side by side, their names say which is which.

    Raises:
        DamagedFileError: the file is cut off or altered.
        UserError: there is no such file, it is of another kind, holds more than tensors, or
            weights that are quantised or complex.
    """
    path = weights_file(path)
    match format_of(path):
        case Format.SAFETENSORS:
            return _of_safetensors([path], path)
        case Format.SHARDS:
            return _of_shards(path)
        case Format.TORCH:
            return _of_state(read_state_dict(path), (path,), path)


def weights_file(path: Path) -> Path:
    """The file of weights in a folder; a path that is no folder is returned as it is.

    Raises:
        UserError: the folder holds none, or several and none of a usual name.
    """
    try:
        if not path.is_dir():
            return path
    except OSError:  # a name that is too long: it is refused where the file is opened
        return path
    for name in FOLDER:
        if (path / name).is_file():
            return path / name
    if any(path.glob("*.distcp")):
        raise UserError(
            f"{path} is a distributed checkpoint, in parts: gather it into one state dict where it "
            "was made, and save that as safetensors"
        )
    found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if len(found) == 1:
        return found[0]
    holds = some([file.name for file in found]) if found else f"none of {', '.join(FOLDER)}"
    raise UserError(f"{path} is a folder with {len(found)} files of weights ({holds}); give a file")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of ``torch.save``, in one dict.

    Raises:
        DamagedFileError: the file is cut off or altered.
        UserError: it holds more than tensors, or no tensors.
    """
    with warnings.catch_warnings(action="ignore"):  # about what is refused below anyway
        content = _load(path)
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is not a state dict (name -> tensor) but a {type(content).__name__}; "
            "save model.state_dict() as safetensors"
        )
    state = unwrapped(content)
    if not state:
        keys = [str(key) for key in content]
        has = f"its keys are {some(keys)}" if keys else "it is empty"
        raise UserError(f"{path} is not a state dict (name -> tensor): {has}")
    return state


def _load(path: Path) -> Any:
    try:
        if path.suffix != ".safetensors":  # torch goes by that name, here the bytes count
            return torch.load(path, map_location="cpu", weights_only=True)
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if objects := _objects(path):
            raise UserError(
                f"{path} holds Python objects beside tensors ({some(objects)}), which could run "
                "code: nothing in it was read; where it was made, save model.state_dict() as "
                "safetensors"
            ) from error
        raise UserError(
            f"{path} is not a file of tensors alone (a pickle with code, or damaged): refused, "
            "nothing in it was run; save the state dict as safetensors"
        ) from error
    except Exception as error:  # whatever a parser raises on damaged bytes
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedFileError(
            f"{path} is damaged ({why[:100]}); copy or download it again"
        ) from error


def _objects(path: Path) -> list[str]:
    """Classes that a file of torch names and that are no tensors; read off, never imported."""
    if not is_zipfile(path):  # of an older torch: what is in it is not known without reading it
        return []
    with path.open("rb") as file:
        return sorted(get_unsafe_globals_in_checkpoint(file))


def _of_safetensors(paths: Sequence[Path], path: Path) -> Checkpoint:
    """One or several memory-mapped files."""
    readers: dict[str, Any] = {}
    kinds: dict[str, tuple[torch.dtype, Shape]] = {}
    for part in paths:
        file = open_safetensors(part)
        for name in list(file.keys()):
            if name in readers:
                raise UserError(f"{path} holds {name} twice, in two of its files")
            piece = file.get_slice(name)
            kind = _DTYPES.get(piece.get_dtype(), torch.float4_e2m1fn_x2)
            readers[name], kinds[name] = file, (kind, tuple(piece.get_shape()))

    def read(name: str) -> Tensor:
        return readers[name].get_tensor(name)

    require_plain(kinds, read, str(path))
    floating = {name: shape for name, (kind, shape) in kinds.items() if kind.is_floating_point}
    others = {name: read(name) for name in kinds if name not in floating}
    return _checked(Checkpoint(Weights.lazy(floating, read), others, tuple(paths)), path)


def _of_shards(path: Path) -> Checkpoint:
    """The files that an index names, which lie beside it."""
    index = json_of(path)["weight_map"]
    assert isinstance(index, dict)
    names = sorted({str(name) for name in index.values()})
    if foreign := [name for name in names if Path(name).name != name]:
        raise UserError(f"{path} names files that do not lie beside it, {some(foreign)}")
    files = [path.with_name(name) for name in names]
    if absent := [file.name for file in files if not file.is_file()]:
        raise UserError(
            f"{path} names {len(files)} files, and {len(absent)} of them are not beside it, "
            f"{some(absent)}; get these too"
        )
    if not files:
        raise UserError(f"{path} names no file of weights")
    kinds = {file: format_of(file) for file in files}
    if set(kinds.values()) == {Format.SAFETENSORS}:
        found = _of_safetensors(files, path)
    elif set(kinds.values()) == {Format.TORCH}:
        state = {name: t for file in files for name, t in read_state_dict(file).items()}
        found = _of_state(state, tuple(files), path)
    else:
        raise UserError(f"{path} names files of different kinds; give those of one kind")
    if absent := sorted(index.keys() - found.weights.keys() - found.others.keys()):
        raise UserError(f"{path} names tensors that its files lack, {some(absent)}; get them again")
    return found


def _of_state(state: Mapping[str, Tensor], files: tuple[Path, ...], path: Path) -> Checkpoint:
    require_dense(state, str(path))
    require_plain(kinds_of(state), state.__getitem__, str(path))
    floating = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    others = {name: tensor for name, tensor in state.items() if name not in floating}
    return _checked(Checkpoint(Weights(floating), others, files), path)


def _checked(found: Checkpoint, path: Path) -> Checkpoint:
    if not found.weights:
        has = some(list(found.others)) if found.others else "no tensor"
        raise UserError(f"{path} holds no floating-point tensor; it has {has}")
    return found


# -- what is no plain weight -----------------------------------------------------------------------


def kinds_of(state: Mapping[str, Tensor]) -> Kinds:
    """Type and shape of every tensor."""
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()}


def require_dense(state: Mapping[str, Tensor], what: str) -> None:
    """Refuse tensors that do not hold all their numbers, one after the other.

    Raises:
        UserError: one is sparse or nested, or on the device ``meta``, which holds shapes alone.
    """
    for name, tensor in state.items():
        if tensor.is_meta or tensor.is_nested or tensor.layout is not torch.strided:
            kind = "without numbers (on the device meta)" if tensor.is_meta else "sparse or nested"
            raise UserError(
                f"{what} holds a tensor that is {kind}, {some([name])}: save a dense one"
            )


def require_plain(kinds: Kinds, read: Callable[[str], Tensor], what: str) -> None:
    """Refuse tensors that would be left out of a merge though they were trained.

    Integer buffers are plain: counters, positions, masks.

    Args:
        kinds: type and shape by name.
        read: a tensor by name; asked for small integers alone.
        what: begins the message.

    Raises:
        UserError: there are quantised or complex weights, or a part of a sharded model.
    """
    eight = any(dtype in EIGHT_BITS for dtype, _ in kinds.values())
    for name, (dtype, shape) in kinds.items():
        if dtype.is_complex:
            raise UserError(
                f"{what} holds complex numbers in {name}, which are not merged or evaluated here"
            )
        if "_flat_param" in name:
            raise UserError(
                f"{what} holds a part of a model that FSDP has flattened ({name}): save its full "
                "state dict where it was trained, and give that"
            )
        scaled = eight and SCALES.search(name)
        if PACKED.search(name) or scaled or _is_quantised(name, dtype, shape, read):
            raise UserError(
                f"{what} holds quantised weights ({name} is {str(dtype).removeprefix('torch.')}): "
                "give the floating-point model that they were made from"
            )


def _is_quantised(
    name: str, dtype: torch.dtype, shape: Shape, read: Callable[[str], Tensor]
) -> bool:
    """Whether a tensor is of whole numbers, and no counter, position or mask."""
    if dtype in FLOATS or dtype in EIGHT_BITS or dtype is torch.bool or 0 in shape:
        return False
    if dtype not in COUNTS:
        return True
    small = dtype in (torch.int8, torch.uint8) and len(shape) >= 2
    if not small and not (shape and TRAINED.search(name)):
        return False
    tensor = read(name)  # a mask of GPT-2 is called attn.bias: ones and zeros are none
    return bool((tensor.long().clamp(0, 1) != tensor.long()).any()) or name.endswith("weight")


_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool, "C64": torch.complex64,
}  # fmt: skip  # of safetensors; any other is of less than eight bits


# -- wrappers --------------------------------------------------------------------------------------


def unwrapped(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors in what was saved, without the keys that stand around a whole state dict.

    >>> w = torch.ones(2)
    >>> list(unwrapped({"epoch": 3, "model": {"a.w": w}, "optimizer": {"state": {}}}))
    ['a.w']
    >>> list(unwrapped({"student": {"w": w}, "teacher": {"w": w}}))
    ['student.w', 'teacher.w']
    """
    for _ in range(DEEPEST):
        tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
        inner = {k: v for k, v in content.items() if isinstance(v, Mapping) and _may_hold(k, v)}
        if not inner:
            return tensors
        own = {k: v for k, v in tensors.items() if v.is_floating_point() and v.dim()}
        if own or len(inner) > 1:
            return own | {f"{k}.{name}": t for k, v in inner.items() for name, t in _flat(v)}
        (content,) = inner.values()
    return {}


def _may_hold(key: Any, value: Mapping[Any, Any]) -> bool:
    return isinstance(key, str) and not BESIDE.fullmatch(key) and any(_flat(value))


def _flat(tree: Mapping[Any, Any], depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """The tensors below, by their keys joined with dots."""
    if depth > DEEPEST or any(not isinstance(key, str) for key in tree):  # of an optimizer
        return
    for key, value in tree.items():
        if isinstance(value, Tensor):
            yield key, value
        elif isinstance(value, Mapping) and not BESIDE.fullmatch(key):
            yield from ((f"{key}.{name}", tensor) for name, tensor in _flat(value, depth + 1))


# -- names -----------------------------------------------------------------------------------------


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without what wrappers put into it -> the name itself.

    Where two would become one, all stay as they are.

    >>> plain_names(["_orig_mod.a.w", "_orig_mod.b._fsdp_wrapped_module.w"])
    {'a.w': '_orig_mod.a.w', 'b.w': '_orig_mod.b._fsdp_wrapped_module.w'}
    """
    names = list(names)
    found = {".".join(p for p in name.split(".") if p not in INSIDE): name for name in names}
    return found if len(found) == len(names) else dict(zip(names, names, strict=True))


def under(prefix: str, read: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Of every file that has names below ``prefix`` these alone, without it; of others all.

    Raises:
        UserError: none of them has.
    """
    if not prefix:
        return list(read)
    found = [_below(one, prefix) for one in read]
    if not any(found):
        names = [name for one in read for name in one.weights]
        raise UserError(f"no file has a tensor under {prefix!r}; there are {some(names)}")
    return [part or whole for part, whole in zip(found, read, strict=True)]


def _below(whole: Checkpoint, prefix: str) -> Checkpoint | None:
    plain = plain_names(whole.weights)
    for cut in filter(_is_outer, _cuts(plain)):
        start = f"{cut}{prefix.rstrip('.')}."
        names = {n.removeprefix(start): name for n, name in plain.items() if n.startswith(start)}
        if names:
            others = {
                n.removeprefix(start): t for n, t in whole.others.items() if n.startswith(start)
            }
            return Checkpoint(_renamed(whole.weights, names), others, whole.files)
    return None


def aligned(expert: Weights, base: Weights, what: str) -> Weights:
    """An expert in the names of its base, where what stands in front of them is the difference.

    ``module.``, ``_orig_mod.`` and the like are cut or put in front, whatever else is in front of
    all names of one of the two is, and a part of a file that has exactly the base's names is taken.
    Otherwise the expert is returned as it is, for the caller to refuse.

    Raises:
        UserError: the base's names are there several times, with different tensors.
    """
    if expert.keys() == base.keys():
        return expert
    theirs, ours = plain_names(expert), plain_names(base)
    for cut in _cuts(ours):
        inner = {name.removeprefix(cut): base_name for name, base_name in ours.items()}
        if found := _taken(expert, base, theirs, inner, cut, what):
            return found
    return expert


def _taken(
    expert: Weights, base: Weights, theirs: dict[str, str], inner: dict[str, str], cut: str,
    what: str,
) -> Weights | None:  # fmt: skip
    """The expert in the base's names, which stand below one of its prefixes."""
    places = {
        prefix: _renamed(expert, {ours: theirs[prefix + name] for name, ours in inner.items()})
        for prefix in _places(theirs, inner)
        if _is_outer(cut) or _is_outer(prefix)  # else they may be two towers of one shape
    }
    fitting = {p: w for p, w in places.items() if all(w.shape(n) == base.shape(n) for n in base)}
    places = fitting or places
    if not places:
        return None
    (prefix, first), *others = places.items()
    if any(not same(first, other) for _, other in others):
        raise UserError(
            f"{what} holds {len(places)} models, {', '.join(p or 'one without' for p in places)}: "
            "which? --tower PREFIX takes one"
        )
    beside = [name for name in theirs if not name.startswith(prefix)]
    if len(theirs) - len(beside) > len(inner):
        return None  # more names than the base, beside them
    if beside:
        warnings.warn(
            f"{what}: {prefix.rstrip('.')} is taken, {len(beside)} other names are left out, "
            f"{some(beside)}", Notice, stacklevel=2,
        )  # fmt: skip
    return first


def _cuts(names: Mapping[str, str]) -> list[str]:
    """What could be cut from the front of all names: nothing, one part, two parts, ..."""
    parts = [name.split(".")[:-1] for name in names]
    shared = [p[0] for p in takewhile(lambda p: len(set(p)) == 1, zip(*parts, strict=False))]
    return ["".join(f"{part}." for part in shared[:i]) for i in range(len(shared) + 1)]


def _places(theirs: Mapping[str, str], inner: Mapping[str, str]) -> list[str]:
    """The prefixes under which all of ``inner`` stand; the shorter first."""
    one = max(inner, key=len)
    ends = [name for name in theirs if name == one or name.endswith(f".{one}")]
    prefixes = sorted((name.removesuffix(one) for name in ends), key=len)
    return [p for p in prefixes if all(p + name in theirs for name in inner)]


def _is_outer(prefix: str) -> bool:
    """Whether nothing but wrappers puts this in front of names; also of no prefix at all."""
    return all(part in OUTER for part in prefix.split(".") if part)


def _renamed(weights: Weights, names: Mapping[str, str]) -> Weights:
    """New name -> old name."""
    shapes = {new: weights.shape(old) for new, old in names.items()}
    return Weights.lazy(shapes, lambda name: weights[names[name]])


def same(one: Weights, other: Weights) -> bool:
    """Whether two models are one, entry by entry; the first difference ends it."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def of_task_vector(weights: Weights, base: Weights) -> str:
    """What to say of weights that are hardly a model, beside that which they come from.

    Fine-tuning changes weights by a small part: they are about as large as the base, and point
    where it points. What is much smaller, or smaller and elsewhere, is more likely the change.
    A part of each tensor tells: large models need not be read once more for it.
    """
    whole, own, shared = 0.0, 0.0, 0.0
    for name in base:
        one, other = (w[name].reshape(-1)[:PART].double() for w in (base, weights))
        whole += float(one.square().sum())
        own += float(other.square().sum())
        shared += float((one * other).sum())
    size = (own / whole) ** 0.5 if whole else 1.0
    cosine = shared / (own * whole) ** 0.5 if own and whole else 0.0
    if size >= (SMALL if cosine > ALIKE else SMALLER):
        return ""
    return (
        f"is {size:.2g} times as large as the base: is it a task vector? "
        "the fine-tuned weights are the base and the task vector added"
    )


def require_model(names: Iterable[str], what: str) -> None:
    """Refuse an adapter: changes of low rank, which are no model without their base.

    Raises:
        UserError: it is one.
    """
    if found := [name for name in names if ADAPTER.search(name)]:
        raise UserError(
            f"{what} is an adapter (LoRA or the like, {some(found)}) and no model: merge it into "
            "its own base first, with merge_and_unload() of peft, and give that"
        )
