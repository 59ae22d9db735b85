"""What is stored under the names of before is still found: ids of runs, keys of experts."""

import pytest

from bench.plan import resolve
from bench.sweeps import SWEEPS
from bench.zoo.encoders import ENCODERS
from tasks import TASKS

# Those of toy are as they were when there were pocket tasks alone; the pocket tasks are of version
# 2, which reserves a third of what could be tested on. A change here loses every result and expert
# of a user; raise the version of what changed instead, and say so in the log.
RUNS = {
    "smoke": {
        "pretrained": "toy-pretrained-cec2498aec3d972b",
        "average": "toy-average-def4d857ba45036e",
        "ties": "toy-ties-8d2a5b8b8adb8685",
    },
    "main": {
        "pretrained": "pocket8-pretrained-275ccaf53d9dd22a",
        "individual": "pocket8-individual-c43d180c458bee54",
        "task_arithmetic": "pocket8-task_arithmetic-783838c212ec6dec",
        "ties": "pocket8-ties-1a58072509312788",
        "adamerging": "pocket8-adamerging-1919dfa77a6e629d",
        "twin_merging": "pocket8-twin_merging-7ef182920621f463",
    },
}
EXPERTS = {
    ("toy-vit", "toy_two", 1): "c3b225cb076681ee",
    ("toy-vit", "toy_three", 1): "81d406e1dc63d27e",
    ("pocket-vit", "mnist", 0): "d99c9e1b31d5b5c6",
    ("pocket-vit", "mnist", 1): "0f44ab9b5abf6809",
    ("pocket-vit", "letters", 0): "af4221fbd2497361",
    ("pocket-vit", "brainplane", 0): "287ec8764d7d143c",
    ("pocket-vit", "animals", 0): "cfe714a28b085135",
    ("pocket-vit", "clipart", 0): "f47c352cf9495292",
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
