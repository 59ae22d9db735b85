"""Lead this process to a hub of :mod:`tests.helpers.fake_hub`, and what such a hub serves.

As a program, ``python -m tests.helpers.fake_hub_run sweep ...``, it is ``python -m bench`` where
the tiny suite and its encoder are registered; the environment says which hub they come from.
"""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.fake_hub import Files, Hub, serving

CHUNK = 256  # bytes of a download that are kept at a time: files are small here


def visit(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch, *, offline: bool = False) -> None:
    """Lead the libraries of this process, and those that it starts, to ``hub``.

    They read the environment when they are imported, which is long ago: their constants are set,
    as well. ``home`` is the folder of their caches.
    """
    import datasets
    from huggingface_hub import HfFileSystem, constants, file_download, hf_api
    from huggingface_hub.utils import _http

    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGINGFACE_"))]:
        monkeypatch.delenv(name)
    for name, value in hub.variables(home, offline).items():
        monkeypatch.setenv(name, value)
    cache, url = home / "datasets", f"{hub.url}/{{repo_id}}/resolve/{{revision}}/"
    for module, values in (
        (constants, {
            "ENDPOINT": hub.url, "HUGGINGFACE_CO_URL_TEMPLATE": url + "{filename}",
            "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"),
            "HUGGINGFACE_HUB_CACHE": str(home / "hub"), "HF_TOKEN_PATH": str(home / "token"),
            "AGENT_HARNESSES_PATH": str(home / "agents.json"), "HF_HUB_OFFLINE": offline,
            "DOWNLOAD_CHUNK_SIZE": CHUNK, "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
        }),
        (hf_api.api, {"endpoint": hub.url}),
        (datasets.config, {
            "HF_ENDPOINT": hub.url, "HF_CACHE_HOME": str(home),
            "HUB_DATASETS_URL": url.replace(hub.url, f"{hub.url}/datasets") + "{path}",
            "HF_DATASETS_CACHE": cache, "HF_MODULES_CACHE": home / "modules",
            "DOWNLOADED_DATASETS_PATH": cache / "downloads",
            "EXTRACTED_DATASETS_PATH": cache / "extracted",
            "HF_HUB_OFFLINE": offline, "HF_DATASETS_OFFLINE": offline,
        }),
        (_http, {"_HUB_ORIGINS": frozenset({_http._url_origin(hub.url)})}),
    ):  # fmt: skip
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    for module in (file_download, _http):  # before they try again
        impatient = SimpleNamespace(**vars(time) | {"sleep": lambda _: None})
        monkeypatch.setattr(module, "time", impatient)
    HfFileSystem.clear_instance_cache()
    _http.close_session()


@pytest.fixture
def hub_home(tmp_path: Path) -> Path:
    """Where the libraries keep what they download in this test."""
    return tmp_path / "huggingface"


@pytest.fixture
def local_hub(hub_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, to which everything leads in this test."""
    with serving() as hub:
        visit(hub, hub_home, monkeypatch)
        yield hub


@pytest.fixture
def go_offline(
    local_hub: Hub, hub_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Call it to be offline from then on, with what has been downloaded."""
    return lambda: visit(local_hub, hub_home, monkeypatch, offline=True)


def parquet(
    images: Sequence[np.ndarray],
    labels: Sequence[int],
    classes: Sequence[str],
    image: str = "image",
    label: str = "label",
    format: str = "PNG",
) -> bytes:
    """A file of a data set as the hub has them: pictures and a column of class labels."""
    import datasets

    features = {image: datasets.Image(), label: datasets.ClassLabel(names=list(classes))}
    columns = {image: [encoded(picture, format) for picture in images], label: list(labels)}
    buffer = io.BytesIO()
    datasets.Dataset.from_dict(columns, datasets.Features(features)).to_parquet(buffer)
    return buffer.getvalue()


def encoded(picture: np.ndarray, format: str) -> dict[str, bytes | None]:
    """``uint8 [H, W, 3]`` or ``[H, W]`` as :class:`datasets.Image` keeps it."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format)
    return {"bytes": buffer.getvalue(), "path": None}


def data_set(card: str = "", **splits: bytes) -> Files:
    """The files of a data set: its card, and one parquet file for each split."""
    files = {f"data/{name}-00000-of-00001.parquet": data for name, data in splits.items()}
    return {"README.md": card.encode(), **files} if card else files


if __name__ == "__main__":
    from bench.cli.app import main
    from tests.helpers import tiny_vision_suite

    with tiny_vision_suite.registered():
        sys.exit(main(sys.argv[1:]))
