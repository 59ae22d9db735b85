"""What is stored under the names of before is still found: ids of runs, keys of experts."""

import pytest

from bench.plan import resolve
from bench.sweeps import SWEEPS
from bench.zoo.encoders import ENCODERS
from tasks import TASKS

# Those of toy are as they were when there were pocket tasks alone; the pocket tasks are of version
# 2, which reserves a third of what could be tested on, and their encoder is the second. A change
# here loses every result and expert of a user; raise the version of what changed instead, and say
# so in the log.
RUNS = {
    "smoke": {
        "pretrained": "toy-pretrained-cec2498aec3d972b",
        "average": "toy-average-def4d857ba45036e",
        "ties": "toy-ties-8d2a5b8b8adb8685",
    },
    "main": {
        "pretrained": "pocket8-pretrained-ae3dad84820d7634",
        "individual": "pocket8-individual-6225c2cadbd9e0a8",
        "task_arithmetic": "pocket8-task_arithmetic-b151d11ab28ad5c5",
        "ties": "pocket8-ties-b4449cb279f6dbcb",
        "adamerging": "pocket8-adamerging-1c03f4b4b69c4f45",
        "twin_merging": "pocket8-twin_merging-d456b1d8bcf45cd3",
    },
}
EXPERTS = {
    ("toy-vit", "toy_two", 1): "c3b225cb076681ee",
    ("toy-vit", "toy_three", 1): "81d406e1dc63d27e",
    ("pocket-vit", "mnist", 0): "78dea441719dd3c7",
    ("pocket-vit", "mnist", 1): "9a403ef956c28e85",
    ("pocket-vit", "letters", 0): "27af9eb24b8b314d",
    ("pocket-vit", "brainplane", 0): "ab4ef01474787e5c",
    ("pocket-vit", "animals", 0): "c9fef8f4d9d28b32",
    ("pocket-vit", "clipart", 0): "2ba9bec6cc531e2d",
}


@pytest.mark.parametrize("name", list(RUNS))
def test_runs_are_found_under_their_ids(name):
    found = {run.method: run.id for run in resolve(SWEEPS[name]).runs}
    assert {method: found[method] for method in RUNS[name]} == RUNS[name]


@pytest.mark.parametrize(("encoder", "task", "seed"), list(EXPERTS))
def test_experts_are_found_under_their_keys(encoder, task, seed):
    key = ENCODERS[encoder].expert_key(TASKS[task], seed)
    assert key == EXPERTS[encoder, task, seed]
    assert ENCODERS[encoder].expert_stem(TASKS[task], seed) == f"{task}-{seed}-{key}"
