"""What is stored under the names of before is still found: ids of runs, keys of experts."""

import pytest

from bench.plan import resolve
from bench.sweeps import SWEEPS
from bench.zoo.encoders import ENCODERS
from tasks import TASKS

# As they were when there were pocket tasks alone. A change here loses every result and expert of
# a user; raise the version of what changed instead, and say so in the log.
RUNS = {
    "smoke": {
        "pretrained": "toy-pretrained-cec2498aec3d972b",
        "average": "toy-average-def4d857ba45036e",
        "ties": "toy-ties-8d2a5b8b8adb8685",
    },
    "main": {
        "pretrained": "pocket8-pretrained-944bd618904bb47d",
        "individual": "pocket8-individual-a715000586e337bb",
        "task_arithmetic": "pocket8-task_arithmetic-26b7d5534a474f8e",
        "ties": "pocket8-ties-428b90050fe481e8",
        "adamerging": "pocket8-adamerging-3ef4518668e8811c",
        "twin_merging": "pocket8-twin_merging-a9235bdc2008cc3f",
    },
}
EXPERTS = {
    ("toy-vit", "toy_two", 1): "c3b225cb076681ee",
    ("toy-vit", "toy_three", 1): "81d406e1dc63d27e",
    ("pocket-vit", "mnist", 0): "11a74d32dc92e029",
    ("pocket-vit", "mnist", 1): "415a72e34ca63718",
    ("pocket-vit", "letters", 0): "d751155a7d5e042c",
    ("pocket-vit", "brainplane", 0): "992da60aad159337",
    ("pocket-vit", "animals", 0): "17052e5f6846afa4",
    ("pocket-vit", "solardefect", 0): "b7de338890c59fbd",
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
