"""``import mergeshift``: the door for a notebook."""

import json
import linecache
import subprocess
import sys
from dataclasses import replace

import open_clip
import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console

import mergeshift
from bench.config import Sweep
from bench.runtime import progress
from bench.runtime.progress import shows_bars
from bench.sweeps import SWEEPS
from bench.zoo.conversion import config_of, to_transformers
from bench.zoo.encoders import ENCODERS
from mergeshift import UserError
from methods import METHODS
from results.store import Store
from tests.helpers.toy_sweep import stamps, sweep_into

CELL = '''
@register("cell_method")
class CellMethod(MergingMethod):
    """theta = theta_0 + scale * mean(tau)"""

    title, paper = "Cell", NO_PAPER

    def merge(self, ckpts):
        return ckpts.base + {scale} * mean(ckpts.task_vectors)
'''


@pytest.fixture
def run_cell():
    """Run a cell as a notebook does: a module that no other process has, and its text is kept."""
    before = set(METHODS)

    def run(text: str, number: int = 0) -> type:
        name = f"<cell {number} of {id(before)}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        scope = {"__name__": "__main__"}
        exec("from methods.base import NO_PAPER, MergingMethod, mean", scope)
        exec("from mergeshift import register", scope)
        exec(compile(text, name, "exec"), scope)
        return scope["CellMethod"]

    yield run
    for name in set(METHODS) - before:
        METHODS.discard(name)


def test_a_sweep_gives_results_that_are_read_again_and_not_run_again(tmp_path):
    wanted = {"methods": ("average", "ties", "individual"), "tune": False}
    results = mergeshift.sweep("smoke", out=tmp_path, jobs=1, quiet=True, **wanted)
    assert results.name.startswith("smoke-no-tune-")  # as the command line calls it
    frame = results.frame()
    assert set(frame["method"]) == {"average", "ties", "individual"}
    assert set(results.frame("acc")["metric"]) == {"acc"}
    before = stamps(tmp_path)
    again = mergeshift.sweep("smoke", out=tmp_path, jobs=1, quiet=True, **wanted)
    assert stamps(tmp_path) == before
    loaded = mergeshift.load(tmp_path, results.name)
    for other in (again, loaded):
        assert other.frame()["value"].tolist() == frame["value"].tolist()


def test_a_sweep_may_be_a_value(tmp_path):
    sweep = replace(SWEEPS["smoke"], methods=("average",), shifts=("clean",))
    results = mergeshift.sweep(sweep, out=tmp_path, jobs=1, quiet=True, limit=6)
    assert results.name == "smoke"
    assert set(results.frame()["n"]) == {6}


def test_results_show_what_the_command_line_prints(smoke, command, tmp_path):
    results = mergeshift.load(smoke)
    table = results.table(by="task", shift="contrast@5")
    words = ("table", "--by", "task", "--shift", "contrast@5", "--out", smoke, "--format")
    for form in ("md", "html", "csv", "json", "latex"):
        label = ("--label", "tab:x") if form == "latex" else ()
        shown = command(*words, form, *label).out
        assert (table.latex("tab:x") if form == "latex" else table.to(form)) == shown
    assert str(table) == repr(table) == table.to("text")
    assert table._repr_html_() == table.to("html")
    assert results._repr_html_() == results.table()._repr_html_()
    assert str(results) == str(results.table("shift", "acc"))
    assert results.latex(label="tab:x") == results.table().latex("tab:x")
    frame = table.frame().set_index(["entry", "column"])
    rows = results.frame("acc").query("corruption == 'contrast' and method == 'average'")
    for task, value in zip(rows["task"], rows["value"], strict=True):
        assert frame.loc[("average", task), "value"] == pytest.approx(value)
    some = results.table(methods=["ties", "average"])
    assert list(some.frame()["method"].unique()) == ["average", "ties"]
    table.save_latex(tmp_path / "table.tex", standalone=True)
    assert "documentclass" in (tmp_path / "table.tex").read_text()
    assert "<!doctype html>" in results.report(tmp_path / "page.html").read_text()[:20].lower()


def test_figures_belong_to_no_window(smoke):
    results = mergeshift.load(smoke)
    for kind in ("severity", "heatmap"):
        assert isinstance(results.plot(kind, methods=["ties", "average"]), Figure)


def test_mistakes_are_one_line(smoke, tmp_path):
    results = mergeshift.load(smoke)
    for call, said in (
        (lambda: results.table(by="colour"), "by is one of shift, seen, .*; got 'colour'"),
        (lambda: results.plot("pie"), "kind is one of severity, .*; got 'pie'"),
        (lambda: results.frame("accuracy"), "no rows of metric 'accuracy'; there are: acc"),
        (lambda: results.table().to("xml"), "a table is written as text, .*; got 'xml'"),
        (lambda: results.table(methods=["tis"]), "no results of tis; there are: "),
        (lambda: mergeshift.load(tmp_path), "no sweep in .*"),
        (lambda: mergeshift.sweep("swep"), "no sweep named 'swep'"),
        (lambda: mergeshift.sweep("smoke", colour=1), "a sweep has no field 'colour'"),
        (lambda: mergeshift.register("ties"), "there is a method 'ties' in the package"),
        (lambda: mergeshift.register("my method"), "the name of a method is a word"),
        (lambda: mergeshift.check(str), "str is not registered: put @mergeshift.register"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_folders_stand_in_one_table_if_they_are_of_the_same_images(smoke, tmp_path, command):
    one = replace(SWEEPS["smoke"], name="other", methods=("pretrained", "tsv"), tune=False)
    sweep_into(tmp_path / "more", one)
    results = mergeshift.load([smoke, tmp_path / "more"])
    methods = set(results.frame()["method"])
    assert methods == {*SWEEPS["smoke"].methods, "tsv"}
    assert not results.frame("acc").duplicated(["method", "task", "corruption"]).any()
    both = ("table", "--results", smoke, tmp_path / "more")
    shown = command(*both, "--format", "csv")
    assert shown.code == 0, shown.err
    assert shown.out == results.table().to("csv")
    some = json.loads(command(*both, "--methods", "ties", "tsv", "--format", "json").out)
    assert {record["method"] for record in some["records"]} == {"ties", "tsv"}
    for word in ("tuning", "uncertainty"):
        error = command(*both, "--by", word).error
        assert f"--by {word} is made of one folder of results; got 2" in error
    error = command(*both, "--methods", "tis").error
    assert error.startswith("no results of tis; there are: ")
    for number, change in enumerate(({"limit": 12}, {"data_seed": 1})):
        sweep_into(tmp_path / str(number), replace(one, methods=("average",), **change))
        error = command("table", "--results", smoke, tmp_path / str(number)).error
        field, value = next(iter(change.items()))
        assert f"; {field} is " in error
        assert f"{value} in {tmp_path / str(number)}" in error
    fewer = replace(one, methods=("tsv",), shifts=("clean",))
    sweep_into(tmp_path / "fewer", fewer)
    error = command("table", "--results", smoke, tmp_path / "fewer").error
    assert "tsv lacks 3 of 6 cells, e.g. task=toy_two shift=contrast@5" in error


def test_a_method_of_a_cell_is_measured_and_anew_when_it_changes(tmp_path, capsys, run_cell):
    """Its code decides the version; one process runs it, which is said in a line."""
    sweep = Sweep(name="cells", suite="toy", shifts=("clean",), limit=12,
                  methods=("pretrained", "cell_method"))  # fmt: skip
    first = run_cell(CELL.replace("{scale}", "0.5"))
    assert METHODS["cell_method"] is first
    assert not any(mergeshift.check("cell_method").values())
    assert mergeshift.check(first) == mergeshift.check("cell_method")
    results = mergeshift.sweep(sweep, out=tmp_path, jobs=2)
    assert "cell_method: defined in this session, so this process alone" in capsys.readouterr().out
    before = stamps(tmp_path)
    again = run_cell("# a comment\n" + CELL.replace("{scale}", "0.5"), 1)
    assert again is not first
    assert again.version == first.version
    mergeshift.sweep(sweep, out=tmp_path, quiet=True)
    assert stamps(tmp_path) == before
    assert run_cell(CELL.replace("{scale}", "0.0"), 2).version != first.version
    other = mergeshift.sweep(sweep, out=tmp_path, quiet=True)
    losses = [one.frame("nll").pivot(index="task", columns="method", values="value")
              for one in (results, other)]  # fmt: skip
    assert (losses[0]["cell_method"] != losses[0]["pretrained"]).all()
    assert losses[1]["cell_method"].tolist() == pytest.approx(losses[1]["pretrained"].tolist())


def test_bars_move_in_a_terminal_and_where_a_notebook_has_widgets(monkeypatch):
    monkeypatch.setattr(progress, "find_spec", lambda name: name == "ipywidgets" or None)
    assert shows_bars(Console(force_terminal=True))
    assert shows_bars(Console(force_jupyter=True))
    assert not shows_bars(Console(force_terminal=False))
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    assert not shows_bars(Console(force_jupyter=True))


def test_a_model_is_evaluated_whatever_holds_it(smoke, tmp_path):
    """A file, a state dict, a module of transformers or open_clip: the same weights, the same."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    encoder = ENCODERS["toy-vit"]
    weights = {name: 0.9 * tensor for name, tensor in encoder.base().items()}
    config = CLIPVisionConfig(**config_of(encoder.vit))
    theirs = CLIPVisionModelWithProjection(config)
    theirs.load_state_dict(to_transformers(weights), strict=False)
    vit = encoder.vit
    visual = open_clip.model.CLIPVisionCfg(
        layers=vit.layers, width=vit.width, head_width=vit.width // vit.heads,
        patch_size=vit.patch_size, image_size=vit.image_size,
    )  # fmt: skip
    text = open_clip.model.CLIPTextCfg(context_length=4, vocab_size=8, width=8, heads=1, layers=1)
    ours = open_clip.model.CLIP(vit.output_dim, visual, text)
    ours.visual.load_state_dict(weights)
    torch.save(weights, tmp_path / "mine.pt")
    cells = {"suite": "toy", "sweep": "smoke", "shifts": ["clean"], "out": tmp_path / "out"}
    given = {"file": tmp_path / "mine.pt", "state": weights, "theirs": theirs, "ours": ours}
    for name, one in given.items():
        results = mergeshift.evaluate(one, name=name, quiet=True, **cells)
    frame = results.frame("nll").pivot(index="task", columns="method", values="value")
    assert set(frame.columns) == {"ours"}  # no sweep has these cells, so it stands alone
    rows = Store(tmp_path / "out").read()
    rows = rows[rows["metric"] == "nll"].pivot(index="task", columns="method", values="value")
    for name in given:
        assert rows[name].tolist() == rows["file"].tolist()
    quick = open_clip.model.CLIP(vit.output_dim, visual, text, quick_gelu=True)
    with pytest.raises(UserError, match="computes with quick_gelu, this encoder with gelu"):
        mergeshift.evaluate(quick, name="quick", quiet=True, **cells)


def test_merging_is_that_of_the_methods():
    base, expert = {"w": torch.zeros(2)}, {"w": torch.tensor([2.0, 4.0])}
    merged = mergeshift.merge("task_arithmetic", base, [expert], scale=0.5)
    assert merged["w"].tolist() == [1.0, 2.0]


def test_the_contract_of_a_method():
    verdicts = mergeshift.check("average")
    assert len(verdicts) > 10
    assert not any(verdicts.values())


def test_what_is_offered_is_listed_and_else_refused():
    assert set(mergeshift.API) <= set(dir(mergeshift))
    assert all(callable(getattr(mergeshift, name)) for name in mergeshift.API)
    with pytest.raises(AttributeError, match="no attribute 'swep'"):
        mergeshift.swep  # noqa: B018


def test_the_door_is_light():
    code = "import sys, mergeshift; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
