"""What is stored under the names of before is still found: ids of runs, keys of experts."""

from dataclasses import replace

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
        "pretrained": "pocket8-pretrained-da1f7f905d235c1b",
        "individual": "pocket8-individual-0afbfe0cca297c6a",
        "task_arithmetic": "pocket8-task_arithmetic-9c963ad08086fbcd",
        "ties": "pocket8-ties-bc98040190153bba",
        "adamerging": "pocket8-adamerging-096290a2de8cfd93",
        "twin_merging": "pocket8-twin_merging-71954fca49c03224",
    },
}
EXPERTS = {
    ("toy-vit", "toy_two", 1): "c3b225cb076681ee",
    ("toy-vit", "toy_three", 1): "81d406e1dc63d27e",
    ("pocket-vit", "mnist", 0): "419daeba67da56dc",
    ("pocket-vit", "mnist", 1): "75e83d853679a373",
    ("pocket-vit", "letters", 0): "b4109ca554921864",
    ("pocket-vit", "brainplane", 0): "c421babb2a6ef4c1",
    ("pocket-vit", "animals", 0): "81bc4fb4c52bc179",
    ("pocket-vit", "clipart", 0): "e03dad439f88d00a",
}


@pytest.mark.parametrize("name", list(RUNS))
def test_runs_are_found_under_their_ids(name):
    sweep = SWEEPS[name] if name == "smoke" else replace(SWEEPS[name], limit=500, val_limit=None)
    found = {run.method: run.id for run in resolve(sweep).runs}
    assert {method: found[method] for method in RUNS[name]} == RUNS[name]


@pytest.mark.parametrize(("encoder", "task", "seed"), list(EXPERTS))
def test_experts_are_found_under_their_keys(encoder, task, seed):
    key = ENCODERS[encoder].expert_key(TASKS[task], seed)
    assert key == EXPERTS[encoder, task, seed]
    assert ENCODERS[encoder].expert_stem(TASKS[task], seed) == f"{task}-{seed}-{key}"
