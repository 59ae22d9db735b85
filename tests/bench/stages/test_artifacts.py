"""The file of what was learned: facts are read without tensors, what is damaged is named."""

import pytest
import torch
from safetensors.torch import save_file

from bench.reporting.tuning_history import choice_of
from bench.reporting.wandb import facts_by_run
from bench.stages import artifacts
from bench.zoo import experts
from mergeshift import DamagedFileError
from results.store import Store

FACTS = {"shift": "", "seconds": 2.0, "report": {"problems": ["it went wrong"], "budget": 3,
         "constants": {"scale.out": 1.5}}}  # fmt: skip
RUN = {"run": {"suite": "toy"}, "config": "{}", "cost": {"merge_s": 1.0, "adapt_s": 2.0}}


@pytest.fixture
def store(tmp_path):
    """One run that learned."""
    store = Store(tmp_path)
    store.write_run("a", RUN)
    artifacts.save(artifacts.path(store, "a"), {"w": torch.arange(1000.0)}, FACTS)
    return store


def test_facts_are_those_that_were_saved(store):
    file = artifacts.path(store, "a")
    tensors, facts = artifacts.load(file)
    assert torch.equal(tensors["w"], torch.arange(1000.0))
    assert artifacts.metadata(file) == facts
    assert facts.items() >= FACTS.items()


def test_who_wants_facts_reads_no_tensor(store, monkeypatch):
    def refuse(tensors):
        raise AssertionError("tensors were read")

    monkeypatch.setattr(experts, "hash_of", refuse)
    assert artifacts.diagnostics(store, ["a"]) == {"a": ["it went wrong"]}
    assert choice_of(store, "a").constants == {"scale.out": 1.5}
    assert facts_by_run(store, ["a"])["a"]["adapt_s"] == 2
    with pytest.raises(AssertionError):
        artifacts.damaged(store, ["a"])


def test_an_altered_tensor_is_noticed_where_it_is_used(store):
    file = artifacts.path(store, "a")
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedFileError, match=r"was altered; `--force` learns it again"):
        artifacts.load(file)
    assert artifacts.damaged(store, ["a"]) == [file]
    assert artifacts.metadata(file)["seconds"] == 2


@pytest.mark.parametrize("how", ["cut", "empty", "head", "bare", "text"])
def test_facts_that_cannot_be_read_are_refused(store, how):
    file = artifacts.path(store, "a")
    data = file.read_bytes()
    if how == "bare":  # a checkpoint, but not one of these
        save_file({"w": torch.ones(1)}, file)
    elif how == "text":
        save_file({"w": torch.ones(1)}, file, {"facts": "no JSON"})
    else:
        file.write_bytes({"cut": data[:-2], "empty": b"", "head": b"\xff" * 8 + data[8:]}[how])
    for read in (artifacts.metadata, artifacts.load):
        with pytest.raises(DamagedFileError, match=f"{file} is damaged; `--force` learns it"):
            read(file)
    assert artifacts.damaged(store, ["a"]) == [file]
