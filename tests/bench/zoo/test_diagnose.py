"""Diagnosing a setting: every measure against plain NumPy and scikit-learn, and the command."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge, RidgeClassifier

from bench import diagnosis
from bench.diagnosis import Case, candidates, validate
from bench.stages.evaluate import validate_run
from bench.zoo import diagnose
from bench.zoo.diagnose import along, cut, geometry, measure_base, measure_expert, probe, ridge
from bench.zoo.encoders import ENCODERS
from bench.zoo.experts import Expert, assess, checkpoints, make
from methods import METHODS
from methods.common.weights import Weights
from results.diagnosis import Diagnosis
from results.published.reference import reference
from tasks import SUITES, load

TOY = SUITES["toy"]
ENCODER = ENCODERS["toy-vit"]


@pytest.fixture
def experts() -> list[Expert]:
    found = [Expert("toy-vit", name, 0) for name in TOY.names]
    for expert in found:
        make(expert)
        assess(expert)
    return found


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few scales, and a short learning."""
    monkeypatch.setattr(
        diagnosis, "GRIDS", {"task_arithmetic": (0.2, 0.5), "ties": (1.0,), "tsv": (0.7, 1.4)}
    )
    monkeypatch.setattr(diagnosis, "FIXED", (*diagnosis.FIXED, "adamerging.steps=2"))


def random_weights(seed: int) -> Weights:
    rng = torch.Generator().manual_seed(seed)
    return Weights({"matrix": torch.randn(6, 10, generator=rng),
                    "bias": torch.randn(6, generator=rng)})  # fmt: skip


# -- weights


def test_an_expert_along_its_own_line():
    base, expert = random_weights(0), random_weights(1)
    for name in base:
        assert torch.equal(along(base, expert, 0.0)[name], base[name])
        assert torch.allclose(along(base, expert, 1.0)[name], expert[name], atol=1e-6)
        half = (base[name] + expert[name]) / 2
        assert torch.allclose(along(base, expert, 0.5)[name], half, atol=1e-6)


@pytest.mark.parametrize(("share", "rank"), [(0.01, 1), (0.3, 2), (0.5, 3), (0.99, 6)])
def test_the_largest_singular_values_are_kept(share, rank):
    base, expert = random_weights(0), random_weights(1)
    found = cut(base, expert, share)
    tau = (expert["matrix"] - base["matrix"]).double().numpy()
    left, sizes, right = np.linalg.svd(tau, full_matrices=False)
    wanted = base["matrix"].numpy() + sum(
        sizes[i] * np.outer(left[:, i], right[i]) for i in range(rank)
    )
    assert np.allclose(found["matrix"].numpy(), wanted, atol=1e-5)
    assert torch.equal(found["bias"], expert["bias"])


def test_at_full_rank_an_expert_is_itself():
    base, expert = random_weights(0), random_weights(1)
    assert all(torch.equal(cut(base, expert, 1.0)[name], expert[name]) for name in base)


def test_lengths_and_angles_of_task_vectors():
    base, experts = random_weights(0), [random_weights(seed) for seed in (1, 2, 3)]
    norms, cosines = geometry(base, experts)
    flat = [np.concatenate([(e[name] - base[name]).numpy().ravel() for name in base])
            for e in experts]  # fmt: skip
    start = np.concatenate([base[name].numpy().ravel() for name in base])
    wanted = [np.linalg.norm(tau) / np.linalg.norm(start) for tau in flat]
    assert np.allclose(norms, wanted, atol=1e-6)
    assert np.allclose(cosines, [
        [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in flat] for a in flat
    ], atol=1e-6)  # fmt: skip


# -- probes


def points(seed: int, count: int) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    x = rng.normal(size=(count, 8)) + 0.8 * np.eye(4, 8)[labels]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return torch.from_numpy(x).float(), labels


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_the_ridge_is_that_of_scikit_learn(penalty):
    x, labels = points(0, 200)
    weights, intercept = ridge(x, labels, 4, penalty)
    oracle = Ridge(alpha=penalty).fit(x.double().numpy(), 2 * np.eye(4)[labels] - 1)
    assert np.allclose(weights.numpy(), oracle.coef_)
    assert np.allclose(intercept.numpy(), oracle.intercept_)


def test_the_probe_is_the_best_ridge_classifier():
    (x, labels), (val, val_labels) = points(0, 120), points(1, 80)
    found = probe(x, labels, val, val_labels)
    scores = [
        RidgeClassifier(alpha=penalty)
        .fit(x.double().numpy(), labels)
        .score(val.double().numpy(), val_labels)
        for penalty in diagnose.PENALTIES
    ]
    assert found.accuracy == pytest.approx(max(scores))
    assert found.penalty == diagnose.PENALTIES[int(np.argmax(scores))]


# -- experts of the toy tasks


def test_an_expert_is_measured_as_the_zoo_measures_it(experts, monkeypatch):
    """At the ends of its line an expert is the base and itself; so it is at full rank."""
    monkeypatch.setattr(diagnose, "STEPS", (0.0, 1.0))
    monkeypatch.setattr(diagnose, "RANKS", (1.0,))
    for expert in experts:
        zero_shot, linear = measure_base("toy-vit", expert.task, None)
        found = measure_expert(expert, TOY.names, None)
        assert zero_shot == expert.facts()["val_accuracy_zero_shot"]
        assert found["cross"][expert.task] == expert.val_accuracy
        assert found["own_line"] == {"0": zero_shot, "1": expert.val_accuracy}
        assert found["kept"] == {"1": expert.val_accuracy}
        assert 0 <= linear.accuracy <= 1


def test_experts_are_asked_about_other_tasks_with_these_tasks_heads(experts):
    """Against logits that are computed with the methods' own class."""
    from methods.common.checkpoints import Checkpoints

    ckpts, other = checkpoints("toy-vit", TOY.tasks, 0), TOY.tasks[1]
    alone = Checkpoints(vit=ckpts.vit, base=ckpts.base, heads=ckpts.heads,
                        experts={"toy_two": ckpts.experts["toy_two"]})  # fmt: skip
    method = METHODS["average"]().build(alone)
    split = load(other, "val").first(10)
    with torch.inference_mode():
        logits = method.predict(ENCODER.normalise(torch.from_numpy(np.array(split.images))),
                                other.name)  # fmt: skip
    right = float((logits.argmax(1).numpy() == split.labels).mean())
    assert measure_expert(experts[0], TOY.names, 10)["cross"][other.name] == right


def test_methods_are_scored_as_tuning_scores_them(experts):
    runs = {run.method: run for run in Case(suite="toy", encoder=ENCODER).runs(0)}
    assert list(runs) == ["average", "task_arithmetic", "ties", "tsv", "regmean", "adamerging"]
    for name in ("average", "ties", "regmean", "adamerging"):
        (config,) = candidates(runs[name])
        assert validate(runs[name], config, None) == validate_run(runs[name], config), name
    assert [json.loads(c)["scale"] for c in candidates(runs["tsv"])] == [0.7, 1.4]
    constants = json.loads(candidates(runs["ties"])[0])
    assert (constants["keep"], constants["merge"]) == (0.2, "sum")


def test_held_out_methods_are_those_that_we_have():
    names = Case(suite="toy", encoder=ENCODER, held_out=True).methods
    assert {"adamerging_task", "wudi", "fisher", "iso_c"} <= set(names[6:]) <= set(METHODS)
    some = Case(suite="toy", encoder=ENCODER, held_out=True, only=("wudi", "tsv"))
    assert some.methods == ["tsv", "wudi"]


# -- the command


def run(command, out: Path, *words: object):
    return command("zoo", "diagnose", "--suite", "toy", "--jobs", 1, "--out", out, *words)


def test_the_command_measures_once_and_prints_both_tables(command, tmp_path):
    first = run(command, tmp_path, "--expert-seeds", "0-1")
    assert first.code == 0, first
    (path,) = (tmp_path / "diagnoses").glob("*.json")
    for text in ("zero-shot", "Task Arithmetic (scale ", "12.5 % of the rank", "CLIP", "kept in"):
        assert text in first.out
    found, before = Diagnosis.read(path), path.stat().st_mtime_ns
    assert found.tasks == list(TOY.names)
    assert list(found.sets) == ["0", "1"]
    assert found.images == dict.fromkeys(TOY.names, 24)
    for one in found.sets.values():
        line = one.lines["task_arithmetic"]
        means = {constants["scale"]: mean for constants, mean in line.trials}
        assert list(means) == [0.2, 0.5]
        assert means[line.config["scale"]] == max(means.values())
        assert np.mean(list(line.accuracy.values())) == pytest.approx(max(means.values()))
    again = run(command, tmp_path, "--expert-seeds", "0,1", "--table", "published",
                "--format", "csv")  # fmt: skip
    assert path.stat().st_mtime_ns == before  # not measured again
    rows = list(csv.DictReader(io.StringIO(again.out)))
    shares = {(row["quantity"], row["column"]): float(row["value"]) for row in rows if row["value"]
              and row["entry"] == "Merged: share of the gap"}  # fmt: skip
    names = [name for name, column in shares if column == "toy-vit"]
    ours = [shares[name, "toy-vit"] for name in names]
    theirs = [shares[name, "CLIP ViT-B/32, published"] for name in names]
    said = {row["quantity"]: row for row in rows if row["entry"].startswith("Against")}
    assert float(said["rank correlation (Spearman)"]["value"]) == pytest.approx(
        spearmanr(ours, theirs).statistic
    )
    slope = said["slope of shares on theirs"]
    assert float(slope["value"]) == pytest.approx(np.polyfit(theirs, ours, 1)[0])
    assert float(slope["low"]) <= float(slope["value"]) <= float(slope["high"])


def test_files_of_the_command(command, tmp_path):
    def diagnosed(*words):
        return run(command, tmp_path, "--limit", 10, "--methods", "average,tsv", *words)

    assert diagnosed("--table", "task", "-o", tmp_path / "t.csv", "--format", "csv").code == 0
    (path,) = (tmp_path / "diagnoses").glob("*.json")
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert {row["column"] for row in rows} == {*TOY.names, "mean"}
    done = diagnosed("--table", "task", "-o", tmp_path / "t.tex", "--format", "latex",
                     "--standalone", "--plot", tmp_path / "p.png", "--label", "ours")  # fmt: skip
    assert done.code == 0, done
    text = (tmp_path / "t.tex").read_text()
    assert r"\label{tab:diagnosis-task}" in text
    assert r"\end{document}" in text
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert Diagnosis.read(path).label == "ours"  # a name changes no number
    path.write_text("{}")
    assert f"{path} is not a diagnosis" in diagnosed().error
    assert diagnosed("--force").code == 0
    path.write_text("{")
    assert "is damaged" in diagnosed().error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--suite", "toys"), "no suite named 'toys'"),
        (("--encoder", "toy-vat"), "no encoder named 'toy-vat'"),
        (("--encoder", "ViT-B-32"), "are 32 pixels wide, ViT-B-32 takes 224"),
        (("--experts", "imported"), "no expert of toy_two was imported for toy-vit, set 0"),
        (("--expert-seeds", "2-1"), "sets of experts are whole numbers"),
        (("--expert-seeds", "a"), "got 'a'"),
        (("--methods", "wudi"), "no line 'wudi'; it has: average, task_arithmetic"),
        (("--format", "csv"), "there are two tables; with --format give --table"),
        (("-o", "t.txt"), "there are two tables; with -o give --table"),
        (("--standalone",), "--standalone and --label are for LaTeX"),
    ],
)
def test_mistakes_are_one_line(command, tmp_path, words, says):
    assert says in run(command, tmp_path, *words).error
    assert not (tmp_path / "diagnoses").exists()


def test_the_reference_is_of_one_family():
    assert reference().methods == Case(suite="toy", encoder=ENCODER).methods
