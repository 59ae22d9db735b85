"""Tasks whose experts are not merged: left out of everything but the test, and shown apart."""

import json
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F

from bench.config import Run, identity_fields
from bench.plan import inspect, resolve
from bench.stages import artifacts
from bench.stages.adapt import RunDataAccess
from bench.stages.build import bind
from bench.stages.evaluate import validate_run
from bench.stages.scoring import SharedEvaluation, routing
from bench.sweeps import SWEEPS
from bench.zoo.encoders import ENCODERS
from bench.zoo.experts import checkpoints
from mergeshift import UserError
from methods.common.vit import encode_plain
from results.schema import check, unpack
from results.store import Store
from tasks import load, suite
from tests.helpers.result_frames import make_rows
from tests.helpers.toy_sweep import measured, sweep_into

SMOKE = SWEEPS["smoke"]
SEEN, UNSEEN = ("toy_two", "toy_four"), ("toy_three",)
METHODS = ("pretrained", "average", "adamerging", "centroid_router", "oracle_router", "individual")
SWEEP = replace(
    SMOKE, name="unseen", methods=METHODS, unseen=UNSEEN, tune=False,
    settings=("adamerging.steps=2",),
)  # fmt: skip


@pytest.fixture(scope="module")
def out(smoke, tmp_path_factory):
    """A sweep that leaves out one of three experts."""
    folder = tmp_path_factory.mktemp("unseen")
    sweep_into(folder, SWEEP)
    return folder


def run_of(method: str, **changes):
    return next(r for r in resolve(replace(SWEEP, **changes)).runs if r.method == method)


# -- what is left out ----------------------------------------------------------------------------


def test_a_run_knows_what_it_leaves_out():
    run, whole = run_of("average"), run_of("average", unseen=())
    assert (run.unseen, len(run.experts), len(run.tasks)) == (UNSEEN, 2, 3)
    assert run.id != whole.id
    assert {run.id, whole.id} == {r.id for r in (run, replace(whole, unseen=()))}


def test_the_order_in_which_they_are_named_does_not_matter():
    one = run_of("average", unseen=("toy_four", "toy_two"))
    assert one == run_of("average", unseen=("toy_two", "toy_four", "toy_two"))
    assert one.unseen == ("toy_two", "toy_four")


def test_a_field_that_came_later_leaves_old_ids_alone():
    """The hash is that of the fields that there were when the first results were stored."""
    fields = {
        "suite": "toy", "tasks": ["a-1-00", "b-1-11"], "encoder": "toy-vit", "base": "beef",
        "experts": ["k0", "k1"], "expert_seed": 0, "method": "ties", "version": 1,
        "config": '{"keep": 0.2}', "grid": '{"keep": [0.2, 0.5]}', "seed": 0, "limit": 24,
        "data_seed": 0, "adapt_on": "", "weights": "",
    }  # fmt: skip
    run = Run(**fields | {"tasks": ("a-1-00", "b-1-11"), "experts": ("k0", "k1")})
    text = json.dumps(fields, sort_keys=True).encode()
    assert run.id == f"toy-ties-{blake2b(text, digest_size=8).hexdigest()}"
    assert identity_fields(run).keys() == fields.keys()
    assert set(identity_fields(replace(run, unseen=("a",)))) - set(fields) == {"unseen"}


@pytest.mark.parametrize(("unseen", "said"), [
    (("toy_tree",), "unseen tasks are tasks of the suite; toy has no 'toy_tree', it has: toy_two,"),
    (("toy_two", "toy_three", "toy_four"), "every task of toy is unseen: leave an expert to merge"),
])  # fmt: skip
def test_mistakes_are_one_line(unseen, said):
    with pytest.raises(UserError) as caught:
        resolve(replace(SWEEP, unseen=unseen))
    assert said in str(caught.value)


def test_experts_of_unseen_tasks_are_not_even_made(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGESHIFT_HOME", str(tmp_path / "home"))
    made = inspect(resolve(SWEEP), Store(tmp_path))
    assert [expert.task for expert in made.experts] == list(SEEN)


def test_nothing_of_them_is_given_to_a_method(out):
    """Neither experts nor heads, neither images to adapt on nor labels to tune on."""
    run = run_of("adamerging")
    ckpts = bind(run).checkpoints
    assert list(ckpts.experts) == list(ckpts.heads) == list(SEEN)
    data = bind(run).adaptation_data(None, None)
    assert [task.name for task in data.tasks] == list(SEEN)
    assert list(next(iter(data.train_dataloader()))) == list(SEEN)
    assert [
        len(batch)
        for batch in RunDataAccess(data, ENCODERS["toy-vit"].normalise, seed=0).unlabeled(SEEN[0])
    ] == [24]
    ties = run_of("ties", methods=("ties",), settings=())
    assert list(validate_run(ties, ties.config)) == list(SEEN)
    facts = artifacts.metadata(artifacts.path(Store(out), run.id))
    assert len(facts["experts"]) == 2
    assert {name for row in facts["coefficients"].values() for name in row} == set(SEEN)


# -- what is measured ----------------------------------------------------------------------------


def hits(out, method: str, metric: str = "acc") -> pd.Series:
    rows = measured(out)
    return rows["hits"].xs((method, metric), level=("method", "metric")).droplevel("seed")


def test_the_average_of_the_seen_experts_answers_with_every_head(out):
    whole = checkpoints("toy-vit", suite("toy"), 0)
    both = [whole.experts[task].materialise() for task in SEEN]
    weights = {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}
    for task in suite("toy"):
        test = load(task, "test").first(24)
        pixels = np.array(test.images).transpose(0, 3, 1, 2) / 255
        x = torch.from_numpy((pixels - 0.5) / 0.25).float()
        with torch.no_grad():
            features = F.normalize(encode_plain(x, weights, whole.vit), dim=-1)
        right = (features @ whole.heads[task.name].T).argmax(1).numpy() == test.labels
        found = unpack(hits(out, "average")[task.name, "clean", 0], 24)
        np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("method", ["individual", "oracle_router"])
def test_who_needs_the_true_tasks_expert_is_the_pretrained_model(method, out):
    mine, floor = hits(out, method), hits(out, "pretrained")
    assert mine.loc[list(UNSEEN)].equals(floor.loc[list(UNSEEN)])
    assert not mine.loc[list(SEEN)].equals(floor.loc[list(SEEN)])
    individual = replace(SWEEP, methods=("individual",), unseen=(), settings=())
    sweep_into(out.parent / "whole", individual)
    whole = hits(out.parent / "whole", "individual")
    assert mine.loc[list(SEEN)].equals(whole.loc[list(SEEN)])


def test_routes_lead_to_seen_tasks_alone(out):
    rows = measured(out).reset_index()
    about = rows[rows["metric"].str.startswith(("route", "oracle"))]
    of_unseen = about[about["task"].isin(UNSEEN)]
    assert set(about["metric"]) == {
        "oracle_acc", "route_acc", "route_entropy", "route_max", *(f"route:{t}" for t in SEEN),
    }  # fmt: skip
    assert set(of_unseen["metric"]) == set(about["metric"]) - {"oracle_acc", "route_acc"}
    nobody = of_unseen[of_unseen["method"] == "oracle_router"]
    assert (nobody["value"] == 0).all()
    weights = of_unseen[of_unseen["metric"].str.startswith("route:")]
    sums = weights[weights["method"] == "centroid_router"].groupby("corruption")["value"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)


def test_a_task_without_a_route_has_no_routing_accuracy():
    found = routing(torch.tensor([[0.25, 0.75]]), ["a", "b"], "c")
    assert "route_acc" not in found
    assert (found["route_max"], found["route:b"]) == (0.75, 0.75)


def test_a_panel_without_unseen_tasks_asks_every_member_itself(out):
    run = run_of("individual")
    method, _ = bind(run).build(run.config)
    panel, x = (
        SharedEvaluation({"m": method}, normalise=ENCODERS["toy-vit"].normalise),
        torch.zeros(1, 3, 32, 32),
    )
    assert torch.equal(panel.ask(method, x, SEEN[0]).logits, method.predict(x, SEEN[0]))
    assert list(method.heads()) == [task.name for task in suite("toy")]
    heads = ENCODERS["toy-vit"].heads(suite("toy"))
    assert all(torch.equal(method.heads()[name], head) for name, head in heads.items())


def test_rows_say_which_tasks_are_seen(out):
    rows = Store(out).read()
    assert set(rows.loc[rows["seen"], "task"]) == set(SEEN)
    assert set(rows.loc[~rows["seen"], "task"]) == set(UNSEEN)
    assert len(rows.loc[rows["metric"] == "acc"]) == len(METHODS) * 2 * 3


def test_cells_that_were_stored_before_had_every_expert(tmp_path):
    rows = make_rows(["ties"], shifts=[("clean", 0)])
    old = rows.drop(columns="seen")
    assert check(old)["seen"].all()
    path = Store(tmp_path).path("pocket8-ties-0", "clean")
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pandas(old, preserve_index=False), path)
    pd.testing.assert_frame_equal(Store(tmp_path).read(), rows)
    assert Store(tmp_path).damaged() == []
