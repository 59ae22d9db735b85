"""Misclassification and shift detection: what tables average over, leave out, and print."""

import io
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mergeshift import UserError, rng_of
from results.render.text import render, write_latex
from results.tables.comparison import compare
from results.tables.uncertainty import SCORES, detection
from tests.helpers.result_frames import hits_of, make_rows

TASKS = ("mnist", "animals")
SHIFTS = (("clean", 0), ("contrast", 1), ("contrast", 3))
PLAIN, UNSURE = "ties", "adamerging"  # the second one has u and ads


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
    assert "Error detection leaves out 1 of 6 cells" in table.notes["areas"]
    for key in (PLAIN, UNSURE):
        left = area(images, key, "animals", 1, "entropy", 0)[0]
        assert table.areas[key, "entropy", "wrong contrast@1"].value == pytest.approx(left)
    images["right"] = True
    none = detection(rows, images)
    assert np.isnan(none.areas[PLAIN, "entropy", "wrong clean"].value)
    assert none.areas[PLAIN, "entropy", "shifted contrast@3"].value > 0.5
    assert " - " in render(none, "md")


def test_seen_and_unseen_tasks_are_never_averaged():
    rows, images = frames()
    table = detection(rows.assign(seen=rows["task"] != "animals"), images)
    names = [f"{name} {kind}" for name in ("clean", "contrast@1", "contrast@3")
             for kind in ("seen", "unseen")]  # fmt: skip
    assert table.columns == (*(f"wrong {n}" for n in names), *(f"shifted {n}" for n in names[2:]))
    for (key, score, column), found in table.areas.items():
        told, shift, kind = column.split()
        severity = 0 if shift == "clean" else int(shift[-1])
        task = "mnist" if kind == "seen" else "animals"
        means = [area(images, key, task, severity, score, s)[told == "shifted"] for s in (0, 1)]
        assert found.value == pytest.approx(np.mean(means))
    assert "averaged over 1 seen and over 1 unseen tasks" in table.notes["areas"]
    for form in ("text", "md", "latex"):
        written = render(table, form)
        assert "Unseen tasks (their experts were not merged): animals" in " ".join(written.split())
        for kind in ("seen", "unseen"):
            area_ = table.areas[UNSURE, "entropy", f"shifted contrast@3 {kind}"]
            line = next(
                line for line in written[written.index("AdaMerging") :].splitlines()
                if f"entropy, {kind} tasks" in line
            )  # fmt: skip
            assert f"{100 * area_.value:.1f}" in line.split()[-1] + line.split()[-2]
        if form == "text":
            assert max(map(len, written.splitlines())) <= 100


def test_methods_without_scores_are_left_out_by_name():
    rows, images = frames(seeds=(0,))
    some = images[images["run_id"] != "pocket8-ties-0"]
    table = detection(rows, some, left_out=["ties"])
    assert table.areas == detection(rows[rows["method"] != "ties"], some).areas
    said = "Not shown, because no per-image results are stored: ties; run"
    assert table.notes["left out"].startswith(f"{said} `python -m bench evaluate` again with")
    for form in ("text", "md", "latex"):
        assert said in " ".join(render(table, form).split())


def test_a_metric_that_not_every_cell_has_points_to_the_table():
    rows = make_rows([PLAIN, UNSURE], TASKS, SHIFTS)
    areas = rows[rows["metric"] == "nll"].assign(metric="auroc_wrong:entropy")
    compare(areas, "auroc_wrong:entropy")
    with pytest.raises(UserError) as caught:
        compare(areas.iloc[1:], "auroc_wrong:entropy")
    assert str(caught.value) == (
        "ties lacks 1 of 6 cells, e.g. task=mnist shift=clean; where all answers are right, or all "
        "wrong, there is none: see `table --by uncertainty`, which leaves such cells out for every "
        "method"
    )
    with pytest.raises(UserError, match="run `python -m bench sweep --uncertainty` first"):
        compare(rows, "auroc_wrong:entropy")
    with pytest.raises(UserError, match=r"lacks 1 of 6 cells, .*; finish the sweep or filter"):
        compare(rows.drop(rows.index[rows["metric"] == "acc"][0]))


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
    for word in ("AdaMerging", "pocket (small ViT, 32 px; not CLIP)", "50 = chance", "entropy"):
        assert word in written
    if form == "text":
        assert max(map(len, written.splitlines())) <= 100


def test_csv_holds_unrounded_areas_and_their_spread():
    table = detection(*frames())
    frame = pd.read_csv(io.StringIO(render(table, "csv"))).set_index(["entry", "score", "column"])
    assert len(frame) == len(table.areas)
    for key, found in table.areas.items():
        read = frame.loc[key, ["value", "spread"]].astype(float)
        assert read.tolist() == pytest.approx([100 * number for number in found])


def test_latex_compiles(tmp_path):
    written = write_latex(detection(*frames()), tmp_path / "table.tex", standalone=True)
    source = written[0].read_text()
    assert source.isascii()
    assert r"\label{tab:pocket8-by-score}" in source
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
