"""The hub of the tests is one to the libraries that we reach hubs with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.helpers.fake_hub import Hub
from tests.helpers.fake_hub_run import data_set, parquet

MODEL = "someone/some-model"
DATA = "someone/some-data"
WEIGHTS = bytes(range(256)) * 40
CARD = "---\nlicense: mit\n---\n# Some data\n"


@pytest.fixture
def hub(local_hub: Hub) -> Hub:
    """A hub with one model."""
    files = {"config.json": b'{"a": 1}', "model.safetensors": WEIGHTS, "more/notes.txt": b"notes"}
    local_hub.add("models", MODEL, files)
    return local_hub


def pictures(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 9, 3), np.uint8)


def share(hub: Hub, **names: str) -> str:
    """Add a data set of 4 pictures to learn from and 3 to test on."""
    files = [parquet(pictures(i, n), [0, 1, 0, 1][:n], ["cat", "dog"], **names)
             for i, n in enumerate((4, 3))]  # fmt: skip
    return hub.add("datasets", DATA, data_set(CARD, train=files[0], test=files[1]))


def downloads(hub: Hub) -> list[str]:
    """Contents that were sent: requests of the store but for their headers."""
    return [line for line in hub.asked if line.startswith("GET /store/")]


def test_a_file_is_downloaded_once(hub):
    path = Path(hf_hub_download(MODEL, "model.safetensors"))
    assert path.read_bytes() == WEIGHTS
    assert len(downloads(hub)) == 1
    assert Path(hf_hub_download(MODEL, "model.safetensors")) == path
    assert len(downloads(hub)) == 1
    assert json.loads(Path(hf_hub_download(MODEL, "config.json")).read_text()) == {"a": 1}


def test_a_snapshot_is_that_of_its_revision(hub):
    first = hub.heads["models", MODEL]
    second = hub.add("models", MODEL, {"config.json": b"{}"})
    assert first != second
    new, old = (Path(snapshot_download(MODEL, revision=r)) for r in ("main", first))
    assert [path.name for path in new.iterdir()] == ["config.json"]
    found = {str(path.relative_to(old)) for path in old.rglob("*") if path.is_file()}
    assert found == {"config.json", "model.safetensors", "more/notes.txt"}
    assert new.name == second
    assert old.name == first


@pytest.mark.parametrize(
    ("name", "revision", "path", "error"),
    [
        ("someone/nothing", "main", "config.json", RepositoryNotFoundError),
        (MODEL, "v9", "config.json", RevisionNotFoundError),
        (MODEL, 40 * "0", "config.json", RevisionNotFoundError),
        (MODEL, "main", "other.json", EntryNotFoundError),
    ],
)
def test_what_is_not_there_is_named(hub, name, revision, path, error):
    with pytest.raises(error):
        hf_hub_download(name, path, revision=revision)


def test_a_cut_download_goes_on_where_it_ended(hub):
    hub.interrupt("models", MODEL, "model.safetensors", 1000, 5000)
    assert Path(hf_hub_download(MODEL, "model.safetensors")).read_bytes() == WEIGHTS
    # whole chunks of 256 bytes are kept: 3 of 1000 bytes, 19 of the next 5000
    assert hub.starts("models", MODEL, "model.safetensors") == [0, 3 * 256, 22 * 256]


def test_a_download_that_gives_up_leaves_nothing_half_done(hub, hub_home):
    hub.interrupt("models", MODEL, "model.safetensors", *[0] * 6)
    with pytest.raises(Exception, match="peer closed connection"):
        hf_hub_download(MODEL, "model.safetensors")
    assert list(hub_home.rglob("*.incomplete")) == []
    assert Path(hf_hub_download(MODEL, "model.safetensors")).read_bytes() == WEIGHTS


def test_a_data_set_is_loaded_with_its_pictures_and_names(hub):
    from datasets import load_dataset

    commit = share(hub)
    for revision in (commit, "main"):
        found = load_dataset(DATA, revision=revision)
        assert {name: len(split) for name, split in found.items()} == {"train": 4, "test": 3}
        assert found["test"].features["label"].names == ["cat", "dog"]
        assert found["test"]["label"] == [0, 1, 0]
        np.testing.assert_array_equal(np.array(found["test"][2]["image"]), pictures(1, 3)[2])


def test_data_that_is_not_there_is_named(hub):
    from datasets import load_dataset

    share(hub)
    with pytest.raises(Exception, match="doesn't exist on the Hub"):
        load_dataset("someone/nothing")
    with pytest.raises(Exception, match="Revision 'v9' doesn't exist"):
        load_dataset(DATA, revision="v9")


PROGRAM = """
import sys
from datasets import load_dataset
from huggingface_hub import hf_hub_download
name, commit, model = sys.argv[1:]
print(len(load_dataset(name, split="test", revision=commit)))
print(open(hf_hub_download(model, "config.json")).read())
"""


def test_another_process_comes_here_and_then_needs_no_hub(hub, tmp_path):
    """By the environment alone: online, then offline with a full cache, then with an empty one."""
    commit = share(hub)
    command = [sys.executable, "-c", PROGRAM, DATA, commit, MODEL]

    def visitor(home: str, offline: bool) -> subprocess.CompletedProcess[str]:
        environment = hub.environment(tmp_path / home, offline=offline)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    online = visitor("full", offline=False)
    assert online.stdout.splitlines() == ["3", '{"a": 1}'], online.stderr
    assert any(DATA in line for line in hub.asked)
    hub.asked.clear()
    offline = visitor("full", offline=True)
    assert offline.stdout == online.stdout, offline.stderr
    assert visitor("empty", offline=True).returncode == 1
    assert hub.asked == []


def test_offline_here_needs_a_full_cache(hub, go_offline):
    hf_hub_download(MODEL, "config.json")
    go_offline()
    hub.asked.clear()
    assert Path(hf_hub_download(MODEL, "config.json")).exists()
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download(MODEL, "model.safetensors")
    assert hub.asked == []
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # for the processes that this one starts
