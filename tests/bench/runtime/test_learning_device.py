"""Methods learn on the device that the command was told, and come back to the CPU.

There is no GPU here: torch's fake tensors pretend to lie on one. They have shapes and devices but
no values, and whatever mixes two devices raises, as it would there.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from bench.runtime import devices
from bench.stages import adapt
from bench.stages.build import bind
from methods import METHODS, MergingMethod, Needs
from methods.bmm import outer
from methods.bmm.outer import Validation
from methods.common.checkpoints import Checkpoints
from methods.common.data_access import DataAccess
from methods.contract import Recorder, small_checkpoints
from tests.helpers.learning_methods import SWEEP, Learner, register, run_of

CUDA = torch.device("cuda:0")
SEARCH = {"trials": 3}
SETTINGS = {
    "anchor_scales": SEARCH, "bmm": SEARCH, "bmm_datafree": SEARCH, "bmm_hybrid": SEARCH,
    "bmm_sampled": {**SEARCH, "samples": 2},
}  # fmt: skip
WITH_VALUES = {  # what cannot be pretended, and why
    "adamerging_pp": "NumPy sorts the entries",
    "bd_merging": "a backward pass asks the driver for the device",
    "bd_merging_task": "the same",
    "fisher": "a backward pass asks the driver for the device",
    "fw_merging": "the same",
    "fw_merging_soft": "the same",
    "multitask": "the same",
    "ota": "the same",
    "ota_adam_ffg": "how large the entry is that is kept last is a value",
    "ota_ffg": "the same",
    "ce_router": "how many examples there are is a value",
    "twin_merging": "the same",
}
LEARNERS = sorted(n for n, cls in METHODS.items() if cls().needs and n not in WITH_VALUES)


class Pretence(FakeTensorMode):
    """Tensors that say they are on a GPU; a number that is read from one is a half."""

    def dispatch(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0.5 if args[0].is_floating_point() else int(args[0].dtype != torch.bool)
        return super().dispatch(func, types, args, kwargs)


class There(Recorder):
    """A support whose images are on the GPU."""

    def unlabeled(self, task: str) -> Iterator[Tensor]:
        for batch in super().unlabeled(task):
            yield batch.to(CUDA)

    def validation(self, task: str) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in super().validation(task):
            yield images.to(CUDA), labels.to(CUDA)


def move(method: MergingMethod, device: torch.device | str = "cpu") -> MergingMethod:
    """What ``to`` does, which cannot put one fake parameter in the place of another."""
    for module in method.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.detach().to(device))
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)
    method._device = torch.device(device)
    return method


@pytest.mark.parametrize("name", LEARNERS)
def test_nothing_mixes_devices_while_a_method_learns(name, monkeypatch):
    """From its images on the GPU to a merged model on the CPU."""
    settled: list[torch.device] = []
    monkeypatch.setattr(MergingMethod, "to", move)
    monkeypatch.setattr(MergingMethod, "cpu", move)
    monkeypatch.setattr(torch.cuda, "synchronize", settled.append)
    cls, fitted = METHODS[name], []
    method = cls(cls.Config.make({**cls.quick_config, **SETTINGS.get(name, {})}))
    with Pretence():
        method.build(
            small_checkpoints(), There(), lambda one: fitted.append(one.device), device=CUDA
        )
        assert {tensor.device.type for tensor in method.buffers()} == {"cpu"}
    assert fitted == [CUDA] * method.adapts
    assert set(settled) <= {CUDA}
    assert bool(settled) == (name in SETTINGS)  # those that tell what their parts took


def test_two_devices_are_told_apart():
    with Pretence(), pytest.raises(RuntimeError, match="two devices"):
        torch.ones(2).to(CUDA) + torch.ones(2)


def test_checkpoints_on_the_cpu_are_themselves():
    ckpts = small_checkpoints()
    assert ckpts.to(torch.device("cpu")) is ckpts
    moved = ckpts.to(torch.device("meta"))
    tensors = [
        moved.base["proj"],
        *moved.heads.values(),
        *(e["proj"] for e in moved.experts.values()),
    ]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert ckpts.base["proj"].device.type == "cpu"


class Spy(Learner):
    """Notes where it was, and where what it was given was."""

    needs = Needs.IMAGES | Needs.VAL_LABELS
    adaptation = None
    places: list[str]

    def learn(self, ckpts: Checkpoints, access: DataAccess) -> None:
        task = next(iter(ckpts.experts))
        images, labels = next(iter(access.validation(task)))
        shown = [next(iter(access.unlabeled(task))), images, labels]
        tensors = [*shown, ckpts.base["proj"], self.learned.coef]
        type(self).places = [tensor.device.type for tensor in tensors]

    def cpu(self) -> "Spy":
        self.learned.coef = nn.Parameter(torch.ones(()))  # nothing comes back from "meta"
        return self


@pytest.mark.parametrize(("device", "place"), [("meta", "meta"), ("cpu", "cpu"), ("mps", "cpu")])
def test_a_run_learns_where_the_command_was_told(device, place, monkeypatch, smoke):
    """Images, labels, weights and the method; but where there is no float64, on the CPU."""
    register(monkeypatch)
    monkeypatch.setitem(METHODS._items, "learner", Spy)
    monkeypatch.setattr(Spy, "name", "learner")
    monkeypatch.setattr(devices, "device", lambda: torch.device(device))
    monkeypatch.setattr(devices, "synchronize", lambda: None)
    adapt.learn(bind(run_of(SWEEP)), "{}", None)
    assert Spy.places == [place] * 5


def test_a_trainer_learns_there_too(monkeypatch, smoke):
    register(monkeypatch)
    told: list[dict] = []
    trainer = adapt.make_trainer
    monkeypatch.setattr(adapt, "make_trainer", lambda **kw: told.append(kw) or trainer(**kw))
    monkeypatch.setattr(devices, "device", lambda: torch.device("mps"))
    monkeypatch.setattr(devices, "synchronize", lambda: None)
    adapt.learn(bind(run_of(SWEEP)), "{}", None)
    assert [(one["accelerator"], one["devices"]) for one in told] == [("cpu", 1)]


def test_a_gpu_takes_images_in_batches(monkeypatch):
    """A whole val split at once would not fit; a CPU cuts it up by itself."""
    seen: list[int] = []

    def encode(images, model, vit):
        seen.append(len(images))
        return torch.empty(len(images), 4, device=images.device)

    monkeypatch.setattr(outer, "encode_plain", encode)
    for device, wanted in (("meta", [128, 128, 44]), ("cpu", [300])):
        validation = object.__new__(Validation)
        validation.vit, validation.heads = None, {"a": torch.ones(3, 4, device=device)}
        validation.data = {"a": (torch.empty(300, 3, 8, 8, device=device), None)}
        assert validation.logits({}, "a").shape == (300, 3)
        assert seen == wanted
        seen.clear()
