"""What else is done with a suite of the hub: show it, verify it, stream it, the other family."""

import io
from dataclasses import replace

import pytest
import torch

from bench.zoo.hub import TALL
from mergeshift import home
from methods.common.weights import Weights
from results.store import Store
from tasks.suites import SUITES, add_suite
from tasks.task import TASKS
from tests.helpers import tiny_vision_suite as tiny
from tests.helpers.toy_sweep import forget, measured

PETS = tiny.DATA[2]
OF_TINY = ("--suite", tiny.SUITE, "--encoder", tiny.NAME)


def test_the_zoo_lists_and_verifies_what_was_downloaded(tiny_sweep, command, tiny_hub):
    before = command("zoo", "list", *OF_TINY)
    assert before.code == 0
    assert "not here yet" in before.out
    assert tiny_hub.asked == []
    assert tiny_sweep(methods=("average",), shifts=("clean",)).code == 0
    listed = command("zoo", "list", *OF_TINY).out
    experts = sorted((home() / "experts" / tiny.NAME).glob("*.safetensors"))
    assert len(experts) == 3
    assert all(path.name[:20] in listed for path in experts)
    assert command("zoo", "verify").code == 0
    whole = experts[0].read_bytes()
    experts[0].write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert experts[0].name in command("zoo", "verify").err


def test_a_damaged_expert_is_downloaded_again(tiny_sweep, tmp_path):
    assert tiny_sweep(methods=("individual",), shifts=("clean",)).code == 0
    (path,) = (home() / "experts" / tiny.NAME).glob("tiny_pets-*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # of the last entry of the last tensor
    said = tiny_sweep(methods=("individual",), shifts=("clean",), out="again").error
    assert f"{path} is damaged" in said
    assert tiny_sweep("--force", methods=("individual",), shifts=("clean",), out="again").code == 0
    tower, wanted = Weights.open(path), tiny.tower("tiny_pets")
    assert all(torch.equal(tower[name], wanted[name]) for name in wanted)
    assert measured(tmp_path / "out").equals(measured(tmp_path / "again"))


def test_images_that_do_not_fit_the_budget_are_streamed_to_the_same_numbers(tiny_sweep, tmp_path):
    assert tiny_sweep(methods=("average",)).code == 0
    stored = list((home() / "images").glob("*.npy"))
    assert len(stored) == 3 * 2  # tasks and shifts, clean among them: nothing is decoded twice
    for path in stored:
        path.unlink()
    assert tiny_sweep("--image-budget", 0, methods=("average",), out="streamed").code == 0
    assert list((home() / "images").glob("*.npy")) == []
    assert measured(tmp_path / "out").equals(measured(tmp_path / "streamed"))


def test_corruptions_may_come_before_the_resizing(tiny_sweep, tmp_path):
    shifts = ("gaussian_noise@5",)
    for placement in ("input", "native"):
        words = ("--placement", placement)
        done = tiny_sweep(*words, methods=("average",), shifts=shifts, out=placement)
        assert done.code == 0, done.err
    found = [Store(tmp_path / placement).read() for placement in ("input", "native")]
    assert [set(rows["placement"]) for rows in found] == [{"input"}, {"native"}]
    nll = [rows[rows["metric"] == "nll"].set_index("task")["value"] for rows in found]
    assert (nll[0] != nll[1]).all()


@pytest.fixture
def tall(tiny_hub):
    """The other family: a state dict of open_clip in one repository for all, another order."""
    state = {f"model.visual.{name}": tensor for name, tensor in tiny.tower("tall").items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = "single_task/tiny/PetsVal/nonlinear_finetuned.pt"
    tiny_hub.add("models", TALL, {path: buffer.getvalue()})
    TASKS.add("tall_pets", replace(PETS.task(), name="tall_pets", checkpoint="Pets"))
    add_suite("vision1_tall", ("tall_pets",))
    yield "vision1_tall"
    for registry, name in ((TASKS, "tall_pets"), (SUITES, "vision1_tall")):
        del registry._items[name]
    forget()


def test_checkpoints_of_the_other_family_are_read(tall, command, tmp_path):
    done = command(
        "sweep", "smoke", "--suite", tall, "--encoder", tiny.NAME, "--methods", "individual",
        "--shifts", "clean", "--no-tune", "--jobs", 1, "--wandb", "off", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 0, done.err
    (path,) = (home() / "experts" / tiny.NAME).glob("tall_pets-*.safetensors")
    found, wanted = Weights.open(path), tiny.tower("tall")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_families_are_never_in_one_table(tall, tiny_sweep, command, tmp_path):
    """One folder, two sweeps: a table is of one of them, and a task's name tells its family."""
    out = tmp_path / "out"
    assert tiny_sweep(methods=("average",), shifts=("clean",)).code == 0
    done = command(
        "sweep", "smoke", "--suite", tall, "--encoder", tiny.NAME, "--methods", "average",
        "--shifts", "clean", "--no-tune", "--jobs", 1, "--wandb", "off", "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(set(Store(out).read()["suite"])) == 2
    shown = command("table", "--by", "task", "--format", "csv", "--out", out)
    assert shown.code == 0, shown.err
    assert "tall_pets" in shown.out
    assert "tiny_pets" not in shown.out
