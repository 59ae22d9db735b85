"""Experts of one's own: imported, used, exported; what is there is listed and verified."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.plan import resolve
from bench.runtime.workers import SerialExecutor
from bench.sweeps import SWEEPS
from bench.zoo import experts
from bench.zoo.conversion import to_transformers
from bench.zoo.encoders import ENCODERS
from bench.zoo.experts import Expert, assess, build, damaged, experts_of, make
from mergeshift import home
from methods.common.weights import Weights
from results.store import Store
from tasks import SUITES, suite
from tests.helpers.toy_sweep import forget

TOY = ENCODERS["toy-vit"]
OWN = "toy-vit-imported"
NAMES = SUITES["toy"].names


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    """A data folder for each test."""
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    forget()
    return tmp_path


def tower(seed: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {name: tensor + 0.02 * torch.randn(tensor.shape, generator=random)
            for name, tensor in TOY.base().items()}  # fmt: skip


@pytest.fixture
def theirs(tmp_path, command) -> dict[str, dict[str, torch.Tensor]]:
    """An imported expert of each task, each of another form."""
    towers = {name: tower(seed) for seed, name in enumerate(NAMES)}
    two, three, four = (towers[name] for name in NAMES)
    save_file(to_transformers(two), tmp_path / "two.safetensors")
    save_file({f"visual.{k}": t for k, t in three.items()}, tmp_path / "three.safetensors")
    torch.save({"state_dict": {f"model.visual.{k}": t for k, t in four.items()}},
               tmp_path / "four.pt")  # fmt: skip
    for given, name in zip(("two.safetensors", "three.safetensors", "four.pt"), NAMES, strict=True):
        done = command("zoo", "import", tmp_path / given, "--task", name, "--encoder", "toy-vit")
        assert done.code == 0, done.err
        assert f"{name}-0.safetensors" in done.out
    return towers


# -- import --------------------------------------------------------------------------------------


def test_what_is_imported_is_what_was_given(theirs, tmp_path):
    for name, given in theirs.items():
        expert = Expert(OWN, name, 0)
        found = load_file(expert.path)
        assert found.keys() == given.keys()
        assert all(torch.equal(found[key], given[key]) for key in given)
        facts = expert.facts()
        assert (facts["task"], facts["encoder"], facts["base"]) == (name, OWN, TOY.base_hash)
        source = Path(facts["source"])
        assert source.parent == tmp_path
        assert facts["source_sha256"] == sha256(source.read_bytes()).hexdigest()
        assert expert.val_accuracy is None  # nobody measured it yet


def test_a_sweep_uses_what_was_imported(theirs, command, tmp_path):
    chosen = ("--experts", "imported", "--methods", "individual", "ties", "--shifts", "clean")
    done = command("sweep", "smoke", *chosen, "--jobs", 1, "--wandb", "off", "--out",
                   tmp_path / "out")  # fmt: skip
    assert done.code == 0, done.err
    assert f"smoke-{OWN}" in done.out
    rows = Store(tmp_path / "out").read()
    assert set(rows["encoder"]) == {OWN}
    # ties was tuned: for that the experts were measured on val, once
    assert all(0 < Expert(OWN, name, 0).val_accuracy < 1 for name in NAMES)
    manifests = {p: p.stat().st_mtime_ns for p in (home() / "experts").rglob("*.json")}
    for name in NAMES:
        assess(Expert(OWN, name, 0))
    assert manifests == {p: p.stat().st_mtime_ns for p in (home() / "experts").rglob("*.json")}


def test_other_tensors_are_another_run(theirs, command, tmp_path):
    sweep = replace(SWEEPS["smoke"], encoder=OWN, methods=("average",))
    (before,) = resolve(sweep).runs
    save_file(tower(9), tmp_path / "new.safetensors")
    again = ("zoo", "import", tmp_path / "new.safetensors", "--task", NAMES[0], "--encoder",
             "toy-vit")  # fmt: skip
    assert command(*again).error == (
        "an expert of toy_two was imported for toy-vit, set 0; replace it with --force, or give "
        "another --expert-seed"
    )
    assert resolve(sweep).runs == [before]
    assert command(*again, "--force").code == 0
    (after,) = resolve(sweep).runs
    assert after.id != before.id
    assert after.experts[1:] == before.experts[1:]
    assert command(*again, "--expert-seed", 1).code == 0
    assert (
        Expert(OWN, NAMES[0], 1).facts()["tensors"] == Expert(OWN, NAMES[0], 0).facts()["tensors"]
    )


def test_what_was_not_imported_is_said_before_the_work(command, tmp_path):
    said = command("sweep", "smoke", "--experts", "imported", "--out", tmp_path / "out").error
    assert said == (
        "no expert of toy_two was imported for toy-vit, set 0; "
        "python -m bench zoo import FILE --task toy_two --encoder toy-vit"
    )
    assert not (tmp_path / "out").exists()
    assert "has experts that are finetuned, imported; got 'hub'" in command(
        "sweep", "smoke", "--experts", "hub"
    ).error  # fmt: skip
    with pytest.raises(Exception, match="no expert of toy_two was imported"):
        make(Expert(OWN, "toy_two", 0))


@pytest.mark.parametrize(("wrong", "said"), [
    ({"w": torch.zeros(3)}, "holds no image tower of CLIP"),
    ({**tower(0), "proj": torch.zeros(32, 17)}, "does not fit"),
    ({**tower(0), "ln_post.bias": torch.full((32,), torch.inf)}, "holds Inf in ln_post.bias"),
])  # fmt: skip
def test_a_wrong_file_is_one_line_and_nothing_is_kept(wrong, said, command, tmp_path):
    save_file(wrong, tmp_path / "wrong.safetensors")
    words = ("zoo", "import", tmp_path / "wrong.safetensors", "--task", "toy_two", "--encoder")
    error = command(*words, "toy-vit").error
    assert said in error
    assert "wrong.safetensors" in error
    assert not list((tmp_path / "home").rglob("*.safetensors"))
    assert "no encoder named 'toy'" in command(*words, "toy").error


# -- export --------------------------------------------------------------------------------------


def test_what_is_exported_comes_back(theirs, command, tmp_path):
    folder = tmp_path / "exported"
    words = ("--encoder", "toy-vit", "-o", folder)
    done = command("zoo", "export", "--task", NAMES[1], "--experts", "imported", *words)
    assert done.code == 0, done.err
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["patch_size"], config["hidden_act"]) == (32, 16, "gelu")
    back = command("zoo", "import", folder / "model.safetensors", "--task", NAMES[0],
                   "--encoder", "toy-vit", "--expert-seed", 5)  # fmt: skip
    assert back.code == 0, back.err
    found, given = load_file(Expert(OWN, NAMES[0], 5).path), theirs[NAMES[1]]
    assert found.keys() == given.keys()
    assert all(torch.equal(found[key], given[key]) for key in given)


def test_merged_weights_are_exported(command, tmp_path):
    save_file(tower(3), tmp_path / "merged.safetensors")
    words = ("zoo", "export", "--encoder", "toy-vit", "-o", tmp_path / "out")
    assert command(*words, "--weights", tmp_path / "merged.safetensors").code == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(found["visual_projection.weight"], tower(3)["proj"].T)
    assert "give either --task" in command(*words).error
    assert "the expert of toy_two is not here" in command(*words, "--task", "toy_two").error


def test_weights_of_transformers_are_evaluated_as_ours_are(command, tmp_path):
    """With their projection, and without: then it is the base's, as nobody trains it there."""
    ours = {**tower(3), "proj": TOY.base()["proj"]}
    theirs = to_transformers(ours)
    save_file(ours, tmp_path / "ours.safetensors")
    save_file(theirs, tmp_path / "theirs.safetensors")
    del theirs["visual_projection.weight"]
    save_file(theirs, tmp_path / "bare.safetensors")
    measure = ("--sweep", "smoke", "--shifts", "clean", "--jobs", 1, "--out", tmp_path / "out")
    for name in ("ours", "theirs", "bare"):
        done = command("evaluate", "--weights", tmp_path / f"{name}.safetensors", *measure)
        assert done.code == 0, done.err
    rows = Store(tmp_path / "out").read()
    values = rows[rows["metric"] == "nll"].pivot(index="task", columns="method", values="value")
    assert (values["theirs"] == values["ours"]).all()
    assert (values["bare"] == values["ours"]).all()


# -- list and verify -----------------------------------------------------------------------------


def test_what_is_there_is_listed_with_its_size(theirs, command):
    shown = command("zoo", "list", "--suite", "toy", "--experts", "imported")
    size = Expert(OWN, "toy_two", 0).path.stat().st_size / 1e6
    lines = {line.split()[0]: line for line in shown.out.splitlines()}
    assert f"{size:.1f}" in lines["toy_two"]
    assert TOY.base_hash in lines[f"{OWN}:"]
    mine = command("zoo", "list", "--suite", "toy").out
    assert mine.count("not made") == 3
    other = command("zoo", "list", "--suite", "toy", "--experts", "imported", "--expert-seed", 1)
    assert other.out.count("not here") == 3


def test_nothing_is_downloaded_to_list(command, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("asked"))
    shown = command("zoo", "list", "--suite", "vision8")
    assert shown.code == 0, shown.err
    assert "ViT-B-32: CLIP ViT-B/32, not here yet" in shown.out


def test_every_file_is_verified(theirs, command):
    build("toy-vit", suite("toy")[:1], 0, SerialExecutor())
    shown = command("zoo", "verify")
    assert shown.code == 0, shown.err
    assert shown.out.count("ok ") == 4
    assert "4 files, all as they were written" in shown.out
    path = Expert(OWN, NAMES[1], 0).path
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    assert command("zoo", "verify").code == 2
    shown = command("zoo", "verify")
    assert shown.error.startswith(f"1 of 4 files are damaged, e.g. {path}; delete them")
    assert damaged(experts_of(OWN, suite("toy"), 0)) == [path]


def test_a_large_file_is_read_again_only_after_a_change(theirs, monkeypatch):
    monkeypatch.setattr(experts, "LARGE", 1000)
    expert = Expert(OWN, NAMES[0], 0)
    experts.keep(expert, dict(Weights.open(expert.path)), {})
    read: list[Path] = []
    whole = experts.sha256_of
    monkeypatch.setattr(experts, "sha256_of", lambda path: read.append(path) or whole(path))
    assert experts.intact(expert.path)
    assert read == []
    assert experts.intact(expert.path, thoroughly=True)
    assert read == [expert.path]
    expert.path.touch()
    assert experts.intact(expert.path)
    expert.path.write_bytes(expert.path.read_bytes()[:-1])
    assert not experts.intact(expert.path)
    assert len(read) == 3
