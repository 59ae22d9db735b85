"""A file is what its bytes say: healthy ones are named, and nobody is told to load one unsafely."""

import gzip
import io
import json
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mergeshift import DamagedFileError, UserError
from methods.common.state_dicts import load_checkpoint

STATE = {"a.weight": torch.tensor([[1.5, -2.0]]), "a.bias": torch.tensor([3.0])}
SUFFIXES = pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin", ".ckpt", ""])


def refusal(path: Path, content: bytes | None = None) -> str:
    """What is said of a file, in one line that gives no bad advice."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_checkpoint(path)
    said = str(caught.value)
    assert said.startswith(f"{path} ")
    assert "\n" not in said
    assert not re.search(r"weights_only|delete|unsafe|trust", said)
    return said


def assert_state(path: Path) -> None:
    found = load_checkpoint(path).weights
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        name: tensor.tolist() for name, tensor in STATE.items()
    }


# -- what is read --------------------------------------------------------------------------------


@SUFFIXES
def test_the_suffix_does_not_matter(suffix, tmp_path):
    """huggingface/safetensors: files of torch.save called .safetensors are HeaderTooLarge."""
    path = tmp_path / f"x{suffix}"
    torch.save(STATE, path)
    assert_state(path)
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    assert_state(path)
    save_file(STATE, path)
    assert_state(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_an_index_of_several_files_is_read_in_any_encoding(encoding, kind, tmp_path):
    parts = [{"a.weight": STATE["a.weight"]}, {"a.bias": STATE["a.bias"]}]
    files = [tmp_path / f"model-{i}.{kind}" for i in range(2)]
    for part, file in zip(parts, files, strict=True):
        (save_file if kind == "safetensors" else torch.save)(part, file)
    index = {"weight_map": {name: file.name for part, file in zip(parts, files, strict=True)
                            for name in part}}  # fmt: skip
    path = tmp_path / "model.safetensors.index.json"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    path.write_text(mark + json.dumps(index), encoding=encoding)
    assert_state(path)
    assert_state(tmp_path)  # a folder with an index
    assert load_checkpoint(path).files == tuple(files)
    files[1].unlink()
    assert "names 2 files, and 1 of them are not beside it, e.g. model-1" in refusal(path)
    index["weight_map"]["a.bias"] = "../x.safetensors"
    assert "files that do not lie beside it" in refusal(path, json.dumps(index).encode())


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "last.ckpt",
                                  "open_clip_pytorch_model.bin", "anything.pth"])  # fmt: skip
def test_a_folder_stands_for_its_file(name, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("a model")
    (save_file if name.endswith("safetensors") else torch.save)(STATE, tmp_path / name)
    assert_state(tmp_path)


def test_a_folder_without_one_is_refused(tmp_path):
    assert "is a folder with 0 files of weights" in refusal(tmp_path)
    for name in ("a.pt", "b.pt"):
        torch.save(STATE, tmp_path / name)
    assert "is a folder with 2 files of weights (e.g. a.pt, b.pt)" in refusal(tmp_path)
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    assert "is a distributed checkpoint" in refusal(tmp_path)


# -- what is healthy and no state dict -----------------------------------------------------------


class Net(nn.Module):
    """A whole module, as ``torch.save(model)`` pickles it."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.visual(x)


@SUFFIXES
def test_a_torchscript_archive_is_called_that(suffix, tmp_path):
    """OpenAI's own ViT-B-32.pt is one (github.com/ArrowLuo/CLIP4Clip/issues/70)."""
    path = tmp_path / f"ViT-B-32{suffix}"
    with warnings.catch_warnings(action="ignore"):  # torch says that it will go; files stay
        torch.jit.save(torch.jit.script(Net()), str(path))
    said = refusal(path)
    assert "is a TorchScript archive" in said
    assert "save the state_dict() of the model" in said
    assert "as safetensors" in said
    path.write_bytes(path.read_bytes()[:-50])
    assert isinstance(caught(path), DamagedFileError)


def caught(path: Path) -> UserError:
    with pytest.raises(UserError) as found:
        load_checkpoint(path)
    return found.value


@SUFFIXES
def test_a_pickled_module_names_what_it_would_run(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    torch.save({"model": Net()}, path)
    said = refusal(path)
    assert "holds Python objects beside tensors (e.g. " in said
    assert "Net" in said
    assert "nothing in it was read; where it was made, save model.state_dict()" in said
    torch.save(Net(), path, _use_new_zipfile_serialization=False)
    assert "nothing in it was run; save the state dict as safetensors" in refusal(path)


def bytes_of(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def tar(buffer: io.BytesIO) -> None:
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pt"))


def zipped(*names: str) -> bytes:
    def write(buffer: io.BytesIO) -> None:
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")

    return bytes_of(write)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605247071\n"
PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
OTHERS = {
    "a pointer of git-lfs": (POINTER.encode(), "run `git lfs pull`"),  # deepseek-ai/DeepSeek-V3/557
    "the same from Windows": (POINTER.replace("\n", "\r\n").encode("utf-8-sig"), "git lfs pull"),
    "a page": (PAGE.encode(), "is a web page and not weights"),
    "a page after empty lines": (b"\r\n\n  " + PAGE.lower().encode(), "is a web page"),
    "a page with a mark": (PAGE.encode("utf-8-sig"), "is a web page"),
    "a page in UTF-16": (PAGE.encode("utf-16"), "is a web page"),
    "an error of a store": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "is a web page"),
    "a text": (b"Entry not found", "is a text and not weights (it begins with 'Entry not found'"),
    "a text in UTF-16": ("Zugriff verweigert \u00e4".encode("utf-16"), "is a text and not weights"),
    "a table": ("image,label\n1,\u00e9\n".encode("utf-8-sig"), "is a text and not weights"),
    "a configuration": (b'{"hidden_act": "gelu"}', "is a text and not weights"),
    "half an index": (b'{"weight_map": {"a":', "is a text and not weights"),
    "an index of nothing": (b'{"weight_map": 3}', "is a text and not weights"),
    "an empty index": (b'{"weight_map": {}}', "names no file of weights"),
    "GGUF": (b"GGUF\x03\0\0\0", "is a GGUF file (weights quantised for llama.cpp)"),
    "Keras": (b"\x89HDF\r\n\x1a\n\0", "is an HDF5 file"),
    "an array": (bytes_of(lambda f: np.save(f, np.ones(3))), "is an array of NumPy"),
    "arrays": (bytes_of(lambda f: np.savez(f, w=np.ones(3))), "an archive of NumPy arrays"),
    "gzip": (gzip.compress(b"x" * 99), "is compressed (gzip); unpack it"),
    "tar": (bytes_of(tar), "is a tar archive; unpack it"),
    "a zip": (zipped("model/weights.pt"), "is a zip archive; unpack it"),
    "torch.export": (zipped("m/archive_format", "m/models/model.json"), "of torch.export"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "is a picture (PNG)"),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_what_is_something_else_is_named(kind, suffix, tmp_path):
    content, said = OTHERS[kind]
    assert said in refusal(tmp_path / f"x{suffix}", content)
    assert "damaged" not in refusal(tmp_path / f"x{suffix}")


# -- what is damaged -----------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "why"), [
    (b"", "empty"),
    (bytes(5000), "nothing but zeros"),  # a download that reserved its space
    (b"\x17\x93\xfe\x01random", "or no file of weights"),
    (b"PK\x03\x04 and no more", "cut off or altered"),
    ((1 << 20).to_bytes(8, "little") + b'{"a":', "copy or download it again"),
    ((2).to_bytes(8, "little") + b"{]", "copy or download it again"),
])  # fmt: skip
def test_what_is_damaged_is_called_that(content, why, tmp_path):
    for suffix in (".safetensors", ".pt"):
        said = refusal(tmp_path / f"x{suffix}", content)
        assert "is damaged" in said
        assert why in said
        assert isinstance(caught(tmp_path / f"x{suffix}"), DamagedFileError)


def test_no_file_is_no_checkpoint(tmp_path):
    for path in (tmp_path / "absent.pt", Path("/dev/null"), tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="no checkpoint at"):
            load_checkpoint(path)
