"""Names with everything that LaTeX, HTML or W&B could take for their own, through all three."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from results.latex.document import write
from results.latex.paper_table import paper_float
from results.latex.presets import PRESETS, Given
from results.report import page
from results.report.panels import Example
from results.store import Store
from results.tables.comparison import compare
from results.tables.leaderboard import board
from results.wandb.runs import WandbUploader
from tests.helpers.result_frames import NASTY, make_rows
from tests.helpers.wandb_file import log_out
from tests.helpers.wandb_server import Service, served

EVIL = (
    NASTY
    + "_%&#$<>\"' </script><img id=in src=x onerror=console.log(1)> \u0416 \u4e2d\u6587 \u05d0"
)
METHOD = EVIL.replace(",", ";")  # which part the names in an option
TASKS = ("mnist", "letters")
SHIFTS = [("clean", 0), ("contrast", 1), ("contrast", 3)]
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="  # one pixel


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    log_out(monkeypatch, tmp_path)
    yield from served(monkeypatch)


@pytest.fixture
def out(smoke: Path, tmp_path: Path, command) -> Path:
    """The smoke sweep, and a method with such a name that always says class 0."""
    out = Path(shutil.copytree(smoke, tmp_path / "out"))
    path = tmp_path / "predictions.parquet"
    assert command("results", "template", "-o", path, "--out", out).code == 0
    frame = pd.read_parquet(path).assign(method=METHOD, prediction=0)
    frame.to_parquet(path)
    assert command("results", "add", path, "--out", out, "--needs", METHOD).code == 0
    return out


def pdflatex(path: Path) -> None:
    if shutil.which("pdflatex"):
        words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name]
        done = subprocess.run(words, cwd=path.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]


def test_a_method_in_latex(command, out, tmp_path):
    for words in (("--by", "task"), ("--preset", "per-task")):
        path = tmp_path / "table.tex"
        done = command("table", "--format", "latex", *words, "--out", out, "-o", path,
                       "--standalone")  # fmt: skip
        assert done.code == 0
        source = path.read_text()
        assert source.isascii()
        assert r"A\_b\%c\&d\#e\$f\textless{}g" in source
        assert "[U+0416]" in source
        pdflatex(path)


def test_a_method_in_html(command, out, tmp_path, reader):
    path = tmp_path / "report.html"
    assert command("report", "-o", path, "--out", out).code == 0
    for width in (1280, 390):
        reader.resize(width, 900)
        reader.open(path)
        reader.settle()
        assert reader.ask("document.getElementById('in')") is None
        names = reader.ask("[...document.querySelectorAll('.board tbody th')]"
                           ".map((one) => one.textContent)")  # fmt: skip
        assert any(METHOD in name for name in names)
        assert reader.ask("document.documentElement.scrollWidth") == width


def test_a_method_in_wandb(command, out, service):
    assert command("leaderboard", "--project", "P", "--out", out).code == 0
    shown = service.run("smoke-leaderboard", "P").table("leaderboard")
    title = f"{METHOD} (external)"
    assert title in shown["method"].tolist()
    stored = Store(out).read()
    right = stored[(stored["title"] == METHOD) & (stored["metric"] == "acc")]
    clean = right[right["severity"] == 0]["value"].mean()
    assert shown.set_index("method").loc[title, "clean"] == pytest.approx(100 * clean)
    assert any(run.config.get("line") == title for run in service.runs.values())
    (view,) = service.views.values()
    links = json.loads(view["spec"])["blocks"][-2]["children"]
    texts = [item["children"][0]["children"][0]["text"] for item in links]
    assert f"{title}: " in texts
    assert service.unknown == []


@pytest.fixture
def rows() -> pd.DataFrame:
    """Tasks, suite, encoder and sweep have such names, too."""
    rows = make_rows(["average", "ties", "individual"], TASKS, SHIFTS, n=40)
    rows["task"] = rows["task"].map({"mnist": f"{EVIL} 1", "letters": f"{EVIL} 2"})
    return rows.assign(suite=EVIL, encoder=EVIL, sweep=EVIL)


def test_tasks_in_latex(rows, tmp_path):
    sheet = PRESETS["per-task"].make(Given(rows=rows))
    write(paper_float(sheet), tmp_path / "table.tex", standalone=True)
    assert (tmp_path / "table.tex").read_text().isascii()
    pdflatex(tmp_path / "table.tex")


def test_tasks_and_classes_in_html(rows, tmp_path, reader):
    runs = rows["run_id"].unique()
    asked = Example(task=rows["task"].iloc[0], shift="clean", image=1, label=EVIL, picture=DOT,
                    answers=dict.fromkeys(runs, (f"{EVIL}!", 0.5)))  # fmt: skip
    path = page.write(tmp_path / "page.html", page.page(rows, examples=[asked]))
    reader.open(path)
    reader.settle()
    assert reader.ask("document.getElementById('in')") is None
    assert reader.ask("document.querySelector('h1').textContent") == f"{EVIL} with {EVIL}"
    assert reader.ask("document.querySelector('.card .truth').firstChild.data") == EVIL
    assert reader.ask("document.querySelector('.card .wrong + span + .wrong').textContent") == (
        f"{EVIL}!"
    )
    assert f"{EVIL} 1" in reader.ask(
        "[...document.querySelectorAll('#severity option')].map((one) => one.textContent)"
    )


def test_tasks_in_wandb(rows, tmp_path, service):
    table, mirror = compare(rows), WandbUploader(tmp_path, EVIL, "online")
    ties = rows[rows["method"] == "ties"]
    mirror.log_run({"method": "ties"}, ties)
    mirror.log_board(board(table, rows, {}), table)
    found = {run.about["jobType"]: run for run in service.runs.values()}
    cells = found["run"].table("cells")
    assert set(cells["task"]) == set(rows["task"])
    assert found["run"].about["tags"] == ["pocket", EVIL[:64], "ties"]  # W&B takes 64 letters
    assert len(found["leaderboard"].table("leaderboard")) == 3
    assert service.unknown == []
