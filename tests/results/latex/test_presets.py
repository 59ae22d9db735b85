"""LaTeX as papers print it: what stands in each preset; pdflatex itself, where it is there."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from corruptions.base import PROTOCOL
from mergeshift import UserError
from results.latex import paper_table
from results.latex.document import emphasised, write
from results.latex.paper_table import PaperTable, paper_float
from results.latex.presets import CORRUPTIONS, PRESETS, Given
from results.tables.columns import MEAN
from results.tables.comparison import compare
from tests.helpers.result_frames import METHODS, NASTY, TASKS, make_rows

UNSEEN = ("animals", "landcover")
ORDER = tuple(METHODS)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows(n=60)


def variant(rows: pd.DataFrame, source: str, text: str) -> pd.DataFrame:
    """The rows of ``source`` as a variant of TIES."""
    ties = rows[rows["method"] == "ties"].iloc[0]
    same = {name: ties[name] for name in ("method", "title", "cite", "needs", "stores", "tuned")}
    return rows[rows["method"] == source].assign(
        **same, variant=text, run_id=text, config=json.dumps({"x": text}), adapt_on=""
    )


def given(rows: pd.DataFrame, name: str) -> Given:
    """What each preset needs."""
    if name == "bd-table2":
        rows = rows.assign(seen=~rows["task"].isin(UNSEEN))
    if name == "bd-ablation":
        parts = [variant(rows, "average", "router=false"), variant(rows, "adamerging", "spread=0")]
        rows = pd.concat([rows[rows["method"].isin(["average", "ties"])], *parts])
        rows = rows.assign(variant=rows["variant"].fillna(""))
    sweeps = [
        rows[rows["task"].isin(TASKS[:count])].assign(suite=f"pocket{count}", encoder=encoder)
        for encoder in ("ViT-B-32", "ViT-L-14") for count in (2, 4)
    ]  # fmt: skip
    sweeps[1] = sweeps[1][sweeps[1]["method"] != "ties"]
    return Given(rows=rows, order=ORDER, sweeps=sweeps if name == "bmm-main" else ())


def made(rows: pd.DataFrame, name: str, **changes: object) -> PaperTable:
    return PRESETS[name].make(replace(given(rows, name), **changes))


def lines(sheet: PaperTable) -> dict[str, list[str]]:
    """Title without mark and citation -> cells."""
    found = [line for block in sheet.blocks for line in block]
    return {re.split(r"\$|~|\\quad ", title)[0 if "quad" not in title else 1]: list(cells)
            for title, cells in found}  # fmt: skip


def numbers(text: str) -> list[float]:
    return [float(one) for one in re.findall(r"[+-]?\d+\.\d+", text)]


def test_table1_has_clean_levels_and_relative_drops(rows):
    """Drops against NumPy: mean over tasks and corruptions, each as far below clean."""
    sheet, acc = made(rows, "bd-table1"), rows[rows["metric"] == "acc"]
    assert [head.text for head in sheet.heads[0]] == ["Clean", "L1", "L2", "L3"]
    for method, (title, *_) in METHODS.items():
        mine, cells = acc[acc["method"] == method], lines(sheet)[title]
        means = [mine[mine["severity"] == level]["value"].mean() for level in range(4)]
        assert numbers(cells[0])[0] == pytest.approx(100 * means[0], abs=0.051)
        for level in (1, 2, 3):
            assert numbers(cells[2 * level - 1])[0] == pytest.approx(100 * means[level], abs=0.051)
            drop = 100 * (means[level] / means[0] - 1)
            assert numbers(cells[2 * level]) == pytest.approx([drop], abs=0.051)
    assert r"\textbf" in lines(sheet)["AdaMerging"][0]
    assert r"\textbf" not in lines(sheet)["Individual"][0]  # a reference
    assert r"$\pm$" in lines(sheet)["AdaMerging"][0]


def test_table2_never_averages_over_seen_and_unseen(rows):
    sheet, acc = made(rows, "bd-table2"), rows[rows["metric"] == "acc"]
    assert [(head.text, head.span) for head in sheet.heads[0]] == [
        ("Clean", 2), ("L1", 2), ("L2", 2), ("L3", 2),
    ]  # fmt: skip
    assert [head.text for head in sheet.heads[1]] == ["Seen", "Unseen"] * 4
    clean = acc[(acc["method"] == "ties") & (acc["severity"] == 0)]
    for number, tasks in enumerate((set(TASKS) - set(UNSEEN), UNSEEN)):
        mean = clean[clean["task"].isin(tasks)]["value"].mean()
        assert numbers(lines(sheet)["TIES-Merging"][number])[0] == pytest.approx(
            100 * mean, abs=0.051
        )
    assert "animals, landcover" in sheet.caption


def test_ablation_tells_what_each_part_is_worth(rows):
    """Differences are means of paired answers; the interval holds them."""
    sheet, acc = made(rows, "bd-ablation"), rows[rows["metric"] == "acc"]
    assert list(lines(sheet)) == ["Weight Averaging", "TIES-Merging", "w/o router", "spread = 0"]
    clean = acc[acc["severity"] == 0].groupby("method")["value"].mean()
    value, low, high = numbers(lines(sheet)["w/o router"][1])
    assert value == pytest.approx(100 * (clean["average"] - clean["ties"]), abs=0.051)
    assert low < value < high
    assert lines(sheet)["TIES-Merging"][1] == ""
    for few in (["ties"], ["average"]):
        with pytest.raises(UserError, match=r"one method beside its variants.*none has"):
            PRESETS["bd-ablation"].make(Given(rows=rows[rows["method"].isin(few)]))


def test_suites_by_number_of_tasks_and_encoder(rows):
    sheet, clean = made(rows, "bmm-main"), rows[(rows["metric"] == "acc") & (rows["severity"] == 0)]
    assert [(h.text, h.span) for h in sheet.heads[0]] == [("ViT-B/32", 2), ("ViT-L/14", 2)]
    assert [head.text for head in sheet.heads[1]] == ["2 tasks", "4 tasks"] * 2
    ties = lines(sheet)["TIES-Merging"]
    assert ties[1] == "--"  # not measured there
    by_task = clean.pivot_table(index="task", columns="method", values="value").loc[list(TASKS)]
    for cell, count in ((ties[0], 2), (ties[3], 4)):
        mine, best = by_task["ties"][:count], by_task["individual"][:count]
        assert numbers(cell) == pytest.approx(
            [100 * mine.mean(), 100 * (mine / best).mean()], abs=0.051
        )
    assert list(lines(sheet))[-1] == "Individual"
    with pytest.raises(UserError, match="stands there twice"):
        made(rows, "bmm-main", sweeps=[rows, rows])


def test_per_task_has_a_column_per_task_as_printed(rows):
    sheet = made(rows, "per-task", titles={"mnist": "MNIST & co"}, shift="L2")
    assert [h.text for h in sheet.heads[0]] == [r"MNIST \& co", *TASKS[1:], "Avg."]
    table = compare(rows, by="task", shift="L2")
    for column, cell in zip((*TASKS, MEAN), lines(sheet)["TIES-Merging"], strict=True):
        assert numbers(cell)[0] == round(100 * table.cells["ties", column].value, 1)
    assert sheet.label == "tab:per-task-L2"


@pytest.mark.parametrize("shift", ["clean", "L3"])
def test_robustness_has_a_column_per_corruption_and_their_mean(rows, shift):
    sheet, acc = made(rows, "robustness7", shift=shift), rows[rows["metric"] == "acc"]
    assert [h.text for h in sheet.heads[0]] == ["Clean", *CORRUPTIONS.values(), "Avg."]
    assert list(CORRUPTIONS) == list(PROTOCOL)
    mine = acc[(acc["method"] == "ties") & (acc["severity"] > 0)]
    mine = mine[mine["severity"] == 3] if shift == "L3" else mine
    cells = lines(sheet)["TIES-Merging"]
    by_name = mine.groupby("corruption")["value"].mean()
    for name, cell in zip(PROTOCOL, cells[1:-1], strict=True):
        assert numbers(cell) == pytest.approx([100 * by_name[name]], abs=0.051)
    assert numbers(cells[-1])[0] == pytest.approx(100 * mine["value"].mean(), abs=0.051)
    shown = rows if shift == "clean" else rows[rows["severity"].isin([0, 3])]
    table = compare(shown, by="corruption")
    widest = max(table.cells[key, name].margin for key in METHODS for name in ("clean", *PROTOCOL))
    assert rf"not printed: at most $\pm${100 * widest:.1f}" in sheet.caption
    few = rows[rows["corruption"] != "pixelate"]
    with pytest.raises(UserError, match=r"7 corruptions; 1 were not measured, e\.g\. pixelate"):
        made(few, "robustness7", shift=shift)


def test_what_a_preset_lacks_is_said(rows):
    with pytest.raises(UserError, match="bd-table1 needs clean and one of L1"):
        made(rows[rows["severity"] == 0], "bd-table1")
    with pytest.raises(UserError, match="every task is seen"):
        PRESETS["bd-table2"].make(Given(rows=rows))
    with pytest.raises(UserError, match="robustness7 is of one of L1"):
        made(rows, "robustness7", shift="contrast@3")


@pytest.mark.parametrize("kind", ["document", "input", "nasty"])
@pytest.mark.parametrize("name", PRESETS)
def test_presets_compile(tmp_path, rows, name, kind):
    """Balanced everywhere; compiled, without overfull lines, where pdflatex is installed."""
    found = given(rows, name)
    if kind == "nasty":

        def change(frame: pd.DataFrame) -> pd.DataFrame:
            return frame.assign(title=NASTY, stores=NASTY, suite=f"{NASTY}-{frame.suite.iloc[0]}")

        titles = dict.fromkeys(TASKS, NASTY)
        found = replace(found, rows=change(found.rows), titles=titles,
                        sweeps=[change(one) for one in found.sweeps])  # fmt: skip
    sheet, path = PRESETS[name].make(found), tmp_path / "table.tex"
    written = write(paper_float(sheet), path, standalone=kind != "input")
    source = path.read_text()
    assert source.isascii()
    assert rf"\label{{tab:{name}}}" in source
    assert set(re.findall(r"\\cite\{(\w+)\}", source)) == set(
        re.findall(r"@\w+\{(\w+),", written[1].read_text())
    )
    bare = re.sub(r"\\[{}]", "", source)
    assert bare.count("{") == bare.count("}")
    widths = {_width(line) for line in source.splitlines() if re.search(r"(?<!\\)&.*\\\\$", line)}
    assert len(widths) == 1  # every line has as many columns
    if kind == "input":
        path = tmp_path / "paper.tex"
        path.write_text("\\documentclass{article}\\usepackage{booktabs,graphicx}\n"
                        "\\begin{document}\\input{table}\n\\end{document}\n")  # fmt: skip
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        if kind != "nasty":  # such a name is longer than a line can be broken
            assert "Overfull" not in done.stdout
        assert path.with_suffix(".pdf").exists()


def _width(line: str) -> int:
    """Columns of one line: ``multicolumn`` counts as many as it spans."""
    cells = re.split(r"(?<!\\)&", line)
    spans = [re.search(r"\\multicolumn\{(\d+)\}", cell) for cell in cells]
    return sum(int(span[1]) if span else 1 for span in spans)


def test_ties_are_marked_as_printed(rows):
    """80.04 and 79.96 print alike: both are the best."""
    table = compare(rows)
    cells = dict(table.cells)
    for key, value in (("average", 0.9996), ("ties", 0.9997), ("adamerging", 0.5)):
        cells[key, "clean"] = cells[key, "clean"]._replace(value=value)
    table = replace(table, cells=cells)
    shown = [paper_table.value(table, entry, "clean", margin=False) for entry in table.entries]
    assert shown.count(r"\textbf{100.0}") == 2
    assert np.isnan(table.cells["ties", "clean"].spread)
    assert emphasised("1", 3) == "1"


def test_presets_by_command(command, smoke, tmp_path):
    words = ("table", "--format", "latex", "--out", smoke, "--preset")
    assert r"\label{tab:mine}" in command(*words, "per-task", "--label", "tab:mine").out
    path = tmp_path / "suites.tex"
    shown = command(*words, "bmm-main", "-o", path, "--standalone", "--methods", "ties,individual")
    assert shown.code == 0
    assert "TIES" in path.read_text()
    assert path.with_suffix(".bib").exists()
    assert (
        "no preset named 'bd-table3'; did you mean 'bd-table" in command(*words, "bd-table3").error
    )
    assert "columns of its own" in command(*words, "per-task", "--by", "task").error
    assert "leave out --metric ece" in command(*words, "per-task", "--metric", "ece").error
    assert "leave it out of bd-table1" in command(*words, "bd-table1", "--shift", "L1").error
    assert "columns of its own" in command("table", "--preset", "per-task", "--out", smoke).error
