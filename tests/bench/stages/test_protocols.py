"""Test images task by task, mixed, and without their task: what changes, and what must not."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from bench.config import Sweep
from bench.plan import resolve
from bench.reporting.submissions import plan_of
from bench.stages import artifacts
from bench.stages.build import bind
from bench.stages.label_space import LabelSpace
from bench.stages.scoring import MetricsCallback, Prediction
from bench.sweeps import SWEEPS
from corruptions.base import CLEAN, Shift
from mergeshift import UserError
from results.schema import COLUMNS, unpack, with_later
from results.store import Store
from results.tables.comparison import compare
from tasks import SUITES, load
from tests.helpers.toy_sweep import measured, sweep_into

METHODS = ("pretrained", "individual", "logit_ensemble", "centroid_router", "oracle_router")
SWEEP = replace(
    SWEEPS["smoke"], methods=METHODS, tune=False, unseen=("toy_three",), name="protocols"
)  # fmt: skip
TOY = SUITES["toy"].tasks


@pytest.fixture(scope="module")
def out(smoke, tmp_path_factory):
    """The same sweep under every protocol, in one folder."""
    folder = tmp_path_factory.mktemp("protocols")
    for protocol in ("task", "mixed-task", "hidden-task"):
        sweep_into(folder, sweep_of(protocol))
    return folder


def sweep_of(protocol: str) -> Sweep:
    return replace(SWEEP, protocol=protocol, name=f"protocols-{protocol}")


def rows_of(out, protocol: str) -> pd.DataFrame:
    rows = Store(out).read([run.id for run in resolve(sweep_of(protocol)).runs])
    return rows.set_index(["method", "task", "corruption", "metric"]).sort_index()


# -- what a run is -------------------------------------------------------------------------------


def test_the_usual_protocol_is_no_part_of_an_id():
    plain, task, mixed = (
        resolve(replace(SWEEP, protocol=p)).runs for p in ("", "task", "mixed-task")
    )
    assert plain == task
    assert not {run.id for run in plain} & {run.id for run in mixed}
    with pytest.raises(
        UserError, match="protocol of a sweep is one of task, mixed-task, hidden-task"
    ):
        replace(SWEEP, protocol="mixed")


def test_what_was_learned_is_learned_once(out):
    runs = [r for p in ("task", "mixed-task", "hidden-task") for r in resolve(sweep_of(p)).runs]
    files = [artifacts.path(Store(out), r.id) for r in runs if r.method == "centroid_router"]
    assert len(set(files)) == 3
    assert len({file.read_bytes() for file in files}) == 1
    seconds = {artifacts.metadata(file)["seconds"] for file in files}
    assert len(seconds) == 1  # copied, not learned anew in the same time


def test_rows_carry_it_and_those_of_before_had_the_usual(out):
    for protocol in ("task", "mixed-task", "hidden-task"):
        assert set(rows_of(out, protocol)["protocol"]) == {protocol}
    old = Store(out).read().drop(columns="protocol")
    assert set(with_later(old)["protocol"]) == {"task"}
    assert list(COLUMNS).index("protocol") < list(COLUMNS).index("task")


# -- mixed-task ----------------------------------------------------------------------------------


def test_mixed_batches_hold_every_image_once_in_an_order_of_the_data_seed():
    shifts = [CLEAN, Shift("contrast", 5)]
    data = SUITES["toy"].datamodule(shifts, limit=24, mixed=True, batch=10)
    batches = list(data.test_dataloader())
    assert [len(batch["images"]) for batch in batches] == [10] * 7 + [2] + [10] * 7 + [2]
    assert len(batches[0]["parts"]) > 1
    seen = {task.name: [] for task in TOY}
    for batch in batches[:8]:
        assert batch["shift"] == "clean"
        for task in TOY:
            if task.name in batch["rows"]:
                part, rows = load(task, "test"), batch["rows"][task.name].numpy()
                shown = batch["images"][batch["parts"][task.name]]
                np.testing.assert_array_equal(shown, part.images[rows])
                np.testing.assert_array_equal(batch["labels"][task.name], part.labels[rows])
                seen[task.name] += rows.tolist()
    assert {task: sorted(rows) for task, rows in seen.items()} == {
        task: list(range(24)) for task in seen
    }
    again = SUITES["toy"].datamodule(shifts, limit=24, mixed=True, batch=10)
    other = SUITES["toy"].datamodule(shifts, limit=24, mixed=True, batch=10, data_seed=1)
    first, same, another = (next(iter(one.test_dataloader())) for one in (data, again, other))
    assert torch.equal(first["images"], same["images"])
    assert not torch.equal(first["images"], another["images"])


def test_accuracy_nll_and_ece_are_those_of_batches_of_one_task(out):
    one, mixed = rows_of(out, "task"), rows_of(out, "mixed-task")
    metrics = one.index.get_level_values("metric")
    kept = metrics != "eval_s"
    np.testing.assert_allclose(mixed["value"][kept], one["value"][kept], atol=1e-6)
    assert mixed["hits"].equals(one["hits"])
    assert (mixed["value"][~kept] > 0).all()


# -- hidden-task ---------------------------------------------------------------------------------


def test_classes_of_one_name_are_one_class():
    digits = LabelSpace.of([task for task in SUITES["pocket8"].tasks if "digits" in task.name or
                            task.name in ("mnist", "texture")])  # fmt: skip
    assert torch.equal(digits.labels["mnist"], digits.labels["optdigits"])
    assert len(digits.names) == 10 + len(digits.labels["texture"])


def test_hidden_task_against_numpy():
    """Two tasks share a class, spelled in two ways; logits by hand, argmax over all rows."""
    a, b = TOY[0], replace(TOY[1], classes=("North", "east", TOY[0].classes[1].upper()))
    space, rng = LabelSpace.of([a, b]), np.random.default_rng(0)
    names = [name.casefold() for task in (a, b) for name in task.classes]
    logits, labels = rng.normal(size=(50, 5)), rng.integers(0, 3, 50)
    scorer = MetricsCallback(space)
    batch = {"task": b.name, "shift": "clean", "labels": torch.from_numpy(labels)}
    said = Prediction(space.by_name(torch.from_numpy(logits)))
    scorer.on_test_batch_end(None, None, {"m": said}, batch, 0)
    found = scorer.measure(("m", b.name, "clean"))
    true = np.array(b.classes)[labels]
    right = [
        names[row] == name.casefold() for row, name in zip(logits.argmax(1), true, strict=True)
    ]
    assert found["acc"] == np.mean(right)
    unique = list(dict.fromkeys(names))
    best = np.stack([logits[:, [n == name for n in names]].max(1) for name in unique], axis=1)
    shares = np.exp(best) / np.exp(best).sum(1, keepdims=True)
    at = shares[np.arange(50), [unique.index(name.casefold()) for name in true]]
    assert found["nll"] == pytest.approx(-np.log(at).mean(), abs=1e-6)
    confidence, places = shares.max(1), np.minimum((shares.max(1) * 15).astype(int), 14)
    gaps = [abs(np.mean(np.array(right)[places == k]) - confidence[places == k].mean())
            * (places == k).mean() for k in set(places)]  # fmt: skip
    assert found["ece"] == pytest.approx(sum(gaps), abs=1e-6)


@pytest.mark.parametrize("method", ["pretrained", "individual", "centroid_router"])
def test_hidden_task_is_the_argmax_over_all_heads(out, method):
    run = next(r for r in resolve(sweep_of("hidden-task")).runs if r.method == method)
    bound = bind(run)
    model, _ = bound.method(run.config, CLEAN, Store(out))
    head = np.concatenate([bound.encoder.heads(TOY)[task.name].numpy() for task in TOY])
    names = [name for task in TOY for name in task.classes]
    for task in TOY if method != "individual" else [TOY[0], TOY[2]]:
        test = load(task, "test").first(24)
        x = bound.encoder.normalise(torch.from_numpy(np.array(test.images)))
        with torch.no_grad():
            features = model.features(x, task.name).numpy()
        said = (features @ head.T.astype(np.float32)).argmax(1)
        right = [names[k] == task.classes[y] for k, y in zip(said, test.labels, strict=True)]
        row = rows_of(out, "hidden-task").loc[(method, task.name, "clean", "acc")]
        np.testing.assert_array_equal(unpack(row["hits"], 24), right)


# -- tables --------------------------------------------------------------------------------------


def test_a_table_is_of_one_protocol_and_says_of_which(out, command):
    every = Store(out).read()
    with pytest.raises(UserError, match="one protocol; got 3"):
        compare(every[every["method"] == "pretrained"])
    for form in ("text", "md", "csv", "latex"):
        words = ("table", "--out", out, "--format", form, "--protocol")
        assert "mixed-task" in command(*words, "mixed-task").out
        plain = command(*words, "task").out
        assert ("mixed-task" in plain, "hidden-task" in plain) == (False, False)
    assert "told it for their weights" in " ".join(
        command("table", "--out", out, "--protocol", "hidden-task").out.split()
    )
    error = command("table", "--out", out, "--protocol", "hidden").error
    assert "--protocol is one of task, mixed-task, hidden-task" in error


def test_the_command_line_names_the_sweep_after_it(out, command):
    said = command("sweep", "smoke", "--dry-run", "--protocol", "hidden-task", "--out", out).out
    assert "sweep smoke-hidden-task" in said
    assert "images under the heads of all tasks" in said


def test_predictions_from_elsewhere_know_the_task(out):
    with pytest.raises(UserError, match="hides the task"):
        plan_of(out, "protocols-hidden-task")
    assert plan_of(out, "protocols-mixed-task").sweep.protocol == "mixed-task"


def test_a_report_shows_examples_by_their_names_among_all(out, command, tmp_path):
    page = tmp_path / "page.html"
    words = ("report", "--out", out, "--examples", 1, "--protocol", "hidden-task", "-o", page)
    assert command(*words, "--methods", "pretrained,individual", "--shifts", "clean").code == 0
    assert "protocol hidden-task" in page.read_text()
    record = json.loads(next((out / "sweeps").glob("protocols-hidden*.json")).read_text())
    assert record["sweep"]["protocol"] == "hidden-task"
    assert len(measured(out)) > 0
