"""BD-Merging with two to twenty tasks, all of them merged or half, asked about one image."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from bench.plan import resolve
from bench.sweeps import SWEEPS
from methods.bd_merging.method import BDMerging
from methods.common.vit import PlainOps, encode, group_of
from methods.common.weights import Weights
from methods.contract import VIT, images
from results.store import Store
from tasks import SUITES, TASKS, Suite
from tasks.sources import built as build
from tests.helpers.bd_merging_parts import BOTH, IGNORED, built, many_checkpoints
from tests.helpers.learning_methods import fit_on, random_images
from tests.helpers.toy_sweep import sweep_into

ABLATIONS = [line.fields for line in SWEEPS["bd-ablation"].lines if line.fields]

BETWEEN = [pytest.param(count, marks=pytest.mark.slow) for count in (8, 14)]  # of the same kind
SLOW = [pytest.param(count, marks=pytest.mark.slow) for count in (14, 20)]

pytestmark = pytest.mark.filterwarnings(IGNORED)


def trained(name: str, ckpts, **config) -> BDMerging:
    """Trained for two steps of two images of every task."""
    fit = None if config.get("router") == "false" else fit_on([random_images(2, ckpts.experts)] * 2)
    return built(name, ckpts, fit=fit, **config)


def asked_one_by_one(method: BDMerging, task: str) -> None:
    """Alone, an image gets the answer that it gets in a batch; it has no neighbours."""
    shown = images()[:3]
    logits, weights = method.predict_routed(shown, task)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    for i, x in enumerate(shown.split(1)):
        answer, given = method.predict_routed(x, task)
        torch.testing.assert_close(answer[0], logits[i], rtol=0, atol=1e-4)
        torch.testing.assert_close(given[0], weights[i if len(weights) > 1 else 0])
        torch.testing.assert_close(method.uncertainty(x), method.uncertainty(shown)[i : i + 1])
        assert method.discrepancy(x).tolist() == [0]


@pytest.mark.parametrize("count", [2, *BETWEEN, 20])
@pytest.mark.parametrize("name", BOTH)
def test_any_number_of_tasks_and_one_image_at_a_time(name, count):
    ckpts = many_checkpoints(count)
    method = trained(name, ckpts)
    assert method.routes == list(method.report["usage"]) == list(ckpts.experts)
    rows = sum(len(head) for head in ckpts.heads.values())
    ones = sum(len(head) == 1 for head in ckpts.heads.values())  # of one name: one class
    assert len(method.learned.head.rows) == rows - ones + 1
    assert all(tensor.isfinite().all() for tensor in method.learned.state_dict().values())
    for task in (method.routes[0], method.routes[-1]):
        asked_one_by_one(method, task)

    task, x = method.routes[-1], images()[:1]  # once more, mixed by hand
    answer, weights = method.predict_routed(x, task)
    given = weights[0] if name == "bd_merging" else weights.expand(4, -1)  # [G, K]

    def mixed(layer: str) -> torch.Tensor:
        shares = dict(zip(method.routes, given[group_of(layer, VIT)], strict=True))
        return ckpts.base[layer] + sum(
            shares[t] * (ckpts.experts[t][layer] - ckpts.base[layer]) for t in shares
        )

    theta = Weights({layer: mixed(layer) for layer in ckpts.base})
    want = F.normalize(encode(x, PlainOps(theta), VIT), dim=-1) @ ckpts.heads[task].T
    torch.testing.assert_close(answer, want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", [2, *BETWEEN[1:], 20])
@pytest.mark.parametrize("config", [*ABLATIONS, {"conf": "false"}, {"gate": "true"}], ids=str)
def test_every_ablation_with_any_number_of_tasks(config, count):
    method = trained("bd_merging", many_checkpoints(count), **config)
    asked_one_by_one(method, method.routes[0])
    assert method.routes[-1] == "null" if "gate" in config else len(method.routes) == count


@pytest.mark.parametrize("count", [2, *BETWEEN[1:], 20])
@pytest.mark.parametrize("name", BOTH)
def test_tasks_without_an_expert_are_asked_about_one_by_one(name, count):
    ckpts = many_checkpoints(count)
    seen = {task: ckpts.experts[task] for task in [*ckpts.experts][::2]}
    method = trained(name, replace(ckpts, experts=seen))
    assert method.routes == list(seen)
    asked_one_by_one(method, [*ckpts.heads][1])


@pytest.fixture
def toy_suite(monkeypatch):
    """Register a toy suite of so many tasks: the three there are, again and again."""

    monkeypatch.setattr(build, "check", lambda *_: None)  # their pixels are pinned nowhere

    def register(count: int) -> list[str]:
        kinds, names = SUITES["toy"].names, [f"toy_{number:02}" for number in range(count)]
        for number, name in enumerate(names):
            task = replace(TASKS[kinds[number % 3]], name=name, title=name)
            monkeypatch.setitem(TASKS._items, name, task)
        monkeypatch.setitem(SUITES._items, f"toy{count}", Suite(f"toy{count}", tuple(names)))
        return names

    return register


@pytest.mark.parametrize("count", [2, 8, *SLOW])  # each has an expert to make
def test_a_sweep_with_unseen_tasks_and_uncertainty(count, toy_suite, tmp_path, command):
    names, quick = toy_suite(count), ("steps=2", "head_steps=3", "batch=4")
    sweep = replace(
        SWEEPS["smoke"], name="sizes", suite=f"toy{count}", shifts=("clean",), limit=6, tune=False,
        methods=(*BOTH, "bd_merging[router=false]", "bd_merging[ads=false]", "individual"),
        settings=tuple(f"{name}.{setting}" for name in BOTH for setting in quick),
        unseen=tuple(names[1::2]), uncertainty=True,
    )  # fmt: skip
    sweep_into(tmp_path, sweep)
    store, runs = Store(tmp_path), resolve(sweep).runs
    kept = store.read_images([run.id for run in runs], ["clean"])
    assert len(kept) == len(runs) * count * 6
    own = kept["run_id"].isin([run.id for run in runs if run.method in BOTH])
    assert kept.loc[own, ["u", "ads"]].notna().all(axis=None)
    assert command("table", "--by", "seen", "--out", tmp_path).code == 0
    shown = command("table", "--by", "uncertainty", "--out", tmp_path)
    said = f"over {(count + 1) // 2} seen and over {count // 2} unseen tasks"
    assert said in " ".join(shown.out.split())
    assert "evidential uncertainty (u), unseen tasks" in " ".join(shown.out.split())
