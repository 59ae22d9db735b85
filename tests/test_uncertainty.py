"""How sure methods are: areas under the curve, and what a table of them averages over."""

import io
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_auroc

from bench.doubts import detects, images_of
from bench.errors import UserError
from bench.panel import Answer, Scorer
from bench.seeds import rng_of
from corruptions.base import Shift
from results.render import render, write_latex
from results.schema import METRICS
from results.statistics import auroc
from results.uncertainty import SCORES, detection
from tests.frames import hits_of, make_rows

TASKS = ("mnist", "animals")
SHIFTS = (("clean", 0), ("contrast", 1), ("contrast", 3))
PLAIN, UNSURE = "ties", "adamerging"  # the second one has u and ads


# -- one area ------------------------------------------------------------------------------------


def test_five_images_by_hand():
    """Positives 3, 1; negatives 2, 1, 0. Pairs won: 3 beats 3; 1 beats 0 and ties 1: 4.5 of 6."""
    scores, positive = np.array([3.0, 1, 2, 1, 0]), np.array([True, True, False, False, False])
    assert auroc(scores, positive) == 4.5 / 6
    assert auroc(-scores, positive) == 1 - 4.5 / 6
    assert auroc(scores, ~positive) == 1 - 4.5 / 6


@pytest.mark.parametrize("digits", [0, 1, 6])  # many ties, some, none
def test_areas_are_those_of_other_people(digits):
    random = np.random.default_rng(digits)
    positive = random.random(300) < 0.2
    scores = (random.normal(size=300) + positive).round(digits)
    found = auroc(scores, positive)
    assert found == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    share = (scores - scores.min()) / (scores.max() - scores.min())
    told = binary_auroc(torch.tensor(share), torch.tensor(positive).long())
    assert found == pytest.approx(float(told), abs=1e-6)


@pytest.mark.parametrize("positive", [[True, True], [False, False], []])
def test_nothing_is_told_apart_where_there_is_one_kind(positive):
    assert np.isnan(auroc(np.arange(len(positive)), np.array(positive, bool)))


def test_a_score_that_is_missing_tells_nothing():
    assert np.isnan(auroc(np.array([0.0, np.nan]), np.array([False, True])))


# -- one cell ------------------------------------------------------------------------------------


def answers(labels: list[int], **doubts: torch.Tensor) -> pd.DataFrame:
    """The lines of three images, in two batches."""
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    scorer, cell = Scorer(), ("m", "a", "contrast@1")
    for rows in (slice(0, 1), slice(1, 3)):
        answer = Answer(logits[rows], **{name: t[rows] for name, t in doubts.items()})
        batch = {"task": "a", "shift": "contrast@1", "labels": torch.tensor(labels)[rows]}
        scorer.on_test_batch_end(None, None, {"m": answer}, batch, 0)
    return images_of(scorer, cell, Shift("contrast", 1))


def test_three_images_by_hand():
    """Odds 1, e^2, e: p = 1/2, 0.8808, 0.7311; H(1/2) = ln 2."""
    found = answers([1, 0, 1], u=torch.tensor([0.5, 0.1, 0.2]), ads=torch.tensor([3.0, 1, 2]))
    assert found["right"].tolist() == [False, True, True]
    np.testing.assert_allclose(found["max_prob"], [0.5, 0.880797, 0.731059], atol=1e-6)
    np.testing.assert_allclose(found["entropy"], [np.log(2), 0.365334, 0.582203], atol=1e-6)
    np.testing.assert_allclose(found["u"], [0.5, 0.1, 0.2])
    assert found["image"].tolist() == [0, 1, 2]
    assert set(found["severity"]) == {1}
    assert detects(found) == {f"auroc_wrong:{name}": 1.0 for name in SCORES}  # the first is wrong


def test_a_method_without_doubts_of_its_own_has_two_scores():
    found = answers([0, 1, 1])
    assert found[["u", "ads"]].isna().all(axis=None)
    assert detects(found) == {"auroc_wrong:max_prob": 0.0, "auroc_wrong:entropy": 0.0}


def test_a_cell_without_a_wrong_answer_tells_nothing():
    assert detects(answers([0, 0, 1])) == {}


def test_impossible_classes_have_no_entropy():
    logits = torch.tensor([[0.0, -torch.inf], [0.0, 0.0]])
    scorer = Scorer()
    batch = {"task": "a", "shift": "clean", "labels": torch.tensor([0, 0])}
    scorer.on_test_batch_end(None, None, {"m": Answer(logits)}, batch, 0)
    found = images_of(scorer, ("m", "a", "clean"), Shift("clean", 0))
    np.testing.assert_allclose(found["entropy"], [0, np.log(2)], atol=1e-6)


def test_every_score_has_a_metric():
    assert METRICS["auroc_wrong:entropy"].title == "AUROC of entropy for wrong answers"
    assert METRICS["auroc_wrong:u"].higher_is_better
    with pytest.raises(UserError, match="no metric named 'auroc_wrong:'"):
        METRICS["auroc_wrong:"]


# -- a table -------------------------------------------------------------------------------------


def scored(method: str, task: str, shift: tuple[str, int], seed: int, n: int) -> pd.DataFrame:
    """Doubt that grows with severity, and is larger where the answer is wrong."""
    right = hits_of(method, task, shift, seed, n)
    random = rng_of("doubt", method, task, *shift, seed)
    doubt = random.random(n) + 0.5 * ~right + 0.2 * shift[1]
    own = doubt + 0.1 * random.random(n) if method == UNSURE else np.full(n, np.nan)
    return pd.DataFrame(
        {"run_id": f"pocket8-{method}-{seed}", "task": task, "corruption": shift[0],
         "severity": shift[1], "image": np.arange(n), "right": right, "max_prob": 1 - doubt / 4,
         "entropy": doubt.round(1), "u": own, "ads": -own}
    )  # fmt: skip


def frames(seeds=(0, 1), n: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    methods = (PLAIN, UNSURE)
    rows = make_rows(methods, TASKS, SHIFTS, seeds, n)
    images = [scored(m, t, s, seed, n) for m in methods for seed in seeds for t in TASKS
              for s in SHIFTS]  # fmt: skip
    return rows, pd.concat(images, ignore_index=True)


def area(images: pd.DataFrame, method: str, task: str, severity: int, score: str, seed: int):
    """By scikit-learn: of wrong answers, and of shifted against clean."""
    mine = images[(images["run_id"] == f"pocket8-{method}-{seed}") & (images["task"] == task)]
    sign = -1 if score == "max_prob" else 1
    here, clean = (mine[mine["severity"] == s] for s in (severity, 0))
    wrong = roc_auc_score(~here["right"], sign * here[score])
    both = np.concatenate([clean[score], here[score]])
    shifted = severity and roc_auc_score([0] * len(clean) + [1] * len(here), sign * both)
    return wrong, shifted


def test_areas_are_means_over_tasks_and_seeds():
    rows, images = frames()
    table = detection(rows, images)
    names = ("clean", "contrast@1", "contrast@3")
    assert table.columns == (*(f"wrong {n}" for n in names), *(f"shifted {n}" for n in names[1:]))
    assert table.scores_of(PLAIN) == ["max_prob", "entropy"]
    assert table.scores_of(UNSURE) == list(SCORES)
    for (key, score, column), found in table.areas.items():
        kind, shift = column.split()
        severity = 0 if shift == "clean" else int(shift[-1])
        means = [
            np.mean([area(images, key, t, severity, score, seed)[kind == "shifted"] for t in TASKS])
            for seed in (0, 1)
        ]
        assert found.value == pytest.approx(np.mean(means))
        assert found.spread == pytest.approx(np.std(means, ddof=1))
    assert "leaves out" not in table.notes["areas"]
    assert "adjacency discrepancy" in table.notes["scores"]


def test_cells_where_a_method_is_never_wrong_are_left_out_for_all():
    rows, images = frames(seeds=(0,))
    gone = (images["task"] == "mnist") & (images["severity"] == 1)
    images.loc[gone & images["run_id"].str.contains(PLAIN), "right"] = True
    table = detection(rows, images)
    assert "wrong leaves out 1 of 6 cells" in table.notes["areas"]
    for key in (PLAIN, UNSURE):
        left = area(images, key, "animals", 1, "entropy", 0)[0]
        assert table.areas[key, "entropy", "wrong contrast@1"].value == pytest.approx(left)
    images["right"] = True
    none = detection(rows, images)
    assert np.isnan(none.areas[PLAIN, "entropy", "wrong clean"].value)
    assert none.areas[PLAIN, "entropy", "shifted contrast@3"].value > 0.5
    assert " - " in render(none, "md")


def test_a_run_without_scores_is_named():
    rows, images = frames(seeds=(0,))
    with pytest.raises(UserError, match="no scores of single images of pocket8-ties-0"):
        detection(rows, images[images["run_id"] != "pocket8-ties-0"])


def test_without_clean_images_no_shift_is_told():
    rows, images = frames(seeds=(0,))
    table = detection(rows[rows["severity"] > 0], images)
    assert table.columns == ("wrong contrast@1", "wrong contrast@3")


@pytest.mark.parametrize("form", ["text", "md", "latex"])
def test_every_format_prints_every_number(form):
    table = detection(*frames())
    written = render(table, form)
    for found in table.areas.values():
        assert f"{100 * found.value:.1f}" in written
    for word in ("AdaMerging", "pocket, not CLIP", "50 = chance", "entropy"):
        assert word in written
    if form == "text":
        assert max(map(len, written.splitlines())) <= 100


def test_csv_holds_unrounded_areas_and_their_spread():
    table = detection(*frames())
    frame = pd.read_csv(io.StringIO(render(table, "csv"))).set_index(["entry", "score", "column"])
    assert len(frame) == len(table.areas)
    for key, found in table.areas.items():
        assert frame.loc[key, ["value", "spread"]].astype(float).tolist() == pytest.approx(found)


def test_latex_compiles(tmp_path):
    written = write_latex(detection(*frames()), tmp_path / "table.tex", standalone=True)
    source = written[0].read_text()
    assert source.isascii()
    assert r"\label{tab:pocket8-by-score}" in source
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
