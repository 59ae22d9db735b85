"""Published numbers: the files keep their rules, and say what the publications say."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from bench.zoo.encoders import ENCODERS
from mergeshift import UnknownNameError, UserError
from methods import METHODS
from results.published import sources as published
from results.published.sources import FOLDER, read, sources, within
from results.schema import COLUMNS
from tasks import SUITES

EXACT = {  # FusionBench's reports in full precision, ViT-B/32, percent, in the order of vision8
    "average": (65.436, 62.567, 70.794, 76.852, 64.517, 54.941, 86.260, 50.904),
    "task_arithmetic": (57.108, 55.652, 64.873, 76.741, 77.927, 68.504, 96.070, 47.181),
}
CONTRADICTED = {  # stated means that the tasks beside them do not have
    ("wudi", "individual"), ("wudi", "multitask"), ("fusionbench", "pretrained"),
    ("fusionbench_wemoe", "adamerging"), ("fusionbench_wemoe", "wemoe"),
}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return read()


def chosen(rows: pd.DataFrame, **wanted: object) -> pd.Series:
    """Task -> percent, of the clean rows of one line."""
    for column, value in {"corruption": "clean", "unseen": "", **wanted}.items():
        rows = rows[rows[column] == value]
    assert not rows["task"].duplicated().any()
    return 100 * rows.set_index("task")["value"]


def test_columns_are_those_of_our_tables_and_what_a_publication_adds(rows):
    own = set(published.COLUMNS) - set(COLUMNS)
    assert own == {"source", "checkpoints", "unseen", "decimals", "note"}
    assert rows.columns.tolist() == list(published.COLUMNS)
    assert len(rows) > 5000


@pytest.mark.parametrize("method", EXACT)
def test_the_anchors(method, rows):
    found = chosen(rows, source="fusionbench_exact", method=method)
    for task, percent in zip(SUITES["vision8"].names, EXACT[method], strict=True):
        assert found[task] == pytest.approx(percent, abs=6e-4)
    mean = {"average": 66.53, "task_arithmetic": 68.01}[method]
    assert found.mean() == pytest.approx(mean, abs=0.005)


def test_some_numbers_of_every_kind(rows):
    one = chosen(rows, source="fusionbench", method="pretrained", encoder="ViT-B-32",
                 suite="vision8", checkpoints="tanganke")  # fmt: skip
    assert (one["mean"], one["mnist-full"], one["dtd"]) == pytest.approx((48.2, 48.3, 43.9))
    robust = rows[(rows["source"] == "fusionbench") & (rows["suite"] == "vision4_robustness")]
    ties = chosen(robust, corruption="contrast", method="ties")
    assert ties["mean"] == pytest.approx(63.7)
    assert set(robust["corruption"]) >= {"clean", "pixelate_canvas"}
    assert set(robust[robust["corruption"] != "clean"]["severity"]) == {2}
    tsv = rows[(rows["source"] == "tsv") & (rows["encoder"] == "ViT-L-14")]
    assert chosen(tsv, suite="vision20_tall", method="tsv").mean() == pytest.approx(87.7, abs=0.05)
    bmm = chosen(rows, source="bmm", method="bmm", suite="vision8_tall")
    assert bmm.to_dict() == pytest.approx({"mean": 95.1})


@pytest.mark.parametrize(("method", "config", "percents"), [
    ("task_arithmetic", {}, (69.09, 64.07, 60.30, 57.50)),
    ("adamerging", {}, (74.33, 69.00, 64.46, 61.22)),
    ("surgery", {"on": "adamerging"}, (84.40, 79.02, 74.33, 70.97)),
    ("bd_merging", {}, (87.15, 83.31, 78.78, 75.36)),
    ("bd_merging", {"router": False}, (78.31, None, 67.25, None)),
    ("bd_merging", {"contrast": False}, (83.34, None, 74.26, None)),
])  # fmt: skip
def test_the_tables_of_bd_merging(method, config, percents, rows):
    line = rows[(rows["source"] == "bd_merging") & (rows["unseen"] == "")]
    line = line[(line["method"] == method) & (line["config"] == json.dumps(config))]
    found = line.set_index("severity")["value"] * 100
    stated = {k: p for k, p in enumerate(percents) if p is not None}
    assert found.to_dict() == pytest.approx(stated)
    assert set(line[line["severity"] > 0]["corruption"]) == {"paper_level"}


def test_seen_and_unseen(rows):
    found = rows[(rows["source"] == "bd_merging") & (rows["unseen"] != "")]
    found = found.set_index(["method", "seen"])["value"] * 100
    assert found["bd_merging"].to_dict() == pytest.approx({True: 94.53, False: 55.01})
    assert found["pretrained"].to_dict() == pytest.approx({False: 56.99})
    fusion = rows[(rows["source"] == "fusionbench") & (rows["unseen"] == "mnist-full eurosat")]
    tasks = fusion[fusion["task"] != "mean"]
    assert set(tasks[~tasks["seen"]]["task"]) == {"mnist-full", "eurosat"}


def test_names_are_those_of_our_registries(rows):
    ours = {"pretrained", "individual", "average", "task_arithmetic", "ties", "adamerging_task",
            "adamerging", "adamerging_pp", "twin_merging", "bd_merging", "bmm", "regmean", "tsv",
            "wudi"}  # fmt: skip
    assert ours <= set(METHODS) & set(rows["method"])
    assert set(rows["encoder"]) <= set(ENCODERS)
    for suite, part in rows.groupby("suite"):
        tasks = set(part["task"]) - {"mean"}
        assert suite == "dc16" or tasks <= set(SUITES[suite].names), suite
    vision20 = rows[(rows["suite"] == "vision20") & (rows["task"] != "mean")]
    assert set(vision20["task"]) == set(SUITES["vision20"].names)


def test_constants_are_fields_of_our_methods(rows):
    own = rows[rows["method"].isin(set(METHODS))][["method", "config"]].drop_duplicates()
    assert len(own) > 30
    for method, config in own.itertuples(index=False):
        METHODS[method].Config.make(json.loads(config))


def test_stated_means_are_those_of_the_tasks(rows):
    """A mean is rounded, and so is each task: they may differ by one unit of the last digit."""
    keys = ["source", "suite", "encoder", "checkpoints", "unseen", "method", "config",
            "corruption", "severity", "seen"]  # fmt: skip
    stated = rows[rows["task"] == "mean"].set_index(keys)
    tasks = rows[rows["task"] != "mean"].groupby(keys)["value"].mean()
    both = stated.join(tasks.rename("tasks"), how="inner").reset_index()
    assert len(both) > 200
    wrong = both[(both["value"] - both["tasks"]).abs() > 1.01 * 10.0 ** -(both["decimals"] + 2)]
    assert set(zip(wrong["source"], wrong["method"], strict=True)) == CONTRADICTED


def test_files_are_small_and_all_of_them_are_told_of():
    files = list(FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) < 600_000
    names = {file.stem for file in files if file.suffix == ".csv"} - {"methods"}
    assert names == set(sources())
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(\w+)`", text.split("## Where each file")[1]))
    told |= {f"fusionbench{name}" for name in told if name.startswith("_")}
    assert names <= told
    known = pd.read_csv(FOLDER / "methods.csv")["name"]
    assert sorted(known) == sorted(set(read()["method"]))


def test_the_rounding_of_a_source():
    assert sources()["fusionbench"].rounding == pytest.approx(
        0.0005
    )  # half of a tenth of a percent


# -- whom a number is of


def test_a_larger_suite_tells_of_what_does_not_depend_on_the_others(rows):
    tasks = SUITES["vision8"].names
    found = within(rows, "vision8@published", "ViT-B-32", [f"{task}@published" for task in tasks])
    larger = found[found["suite"] == "vision20"]
    assert set(larger["method"]) == {"pretrained", "individual"}
    assert sorted(set(larger["task"])) == sorted(tasks)  # and no mean over other tasks
    assert not found["suite"].str.endswith("_tall").any()
    assert set(within(rows, "vision20", "ViT-B-16", SUITES["vision20"].names)["suite"]) == {
        "vision20"
    }
    own = within(rows, "vision8", "ViT-B-32-finetuned", tasks)
    assert own.equals(within(rows, "vision8", "ViT-B-32", tasks))
    with pytest.raises(UserError, match=r"no published numbers of pocket8 with pocket-vit; there"):
        within(rows, "pocket8", "pocket-vit", ["mnist"])


def test_whose_experts():
    assert published.experts_of("vision8@published", "ViT-B-32") == "tanganke"
    assert published.experts_of("vision14_tall", "ViT-L-14") == "tall_masks"
    assert published.experts_of("vision8", "ViT-B-32-finetuned") == ""


# -- what is refused

INDEX = '[fake]\ntitle = "Fake"\nwhere = "here"\ndecimals = 1\nsuite = "toy"\nencoder = "toy-vit"\n'
GOOD = "method,config,task,value\naverage,,toy_two,0.500\nties,scale=0.3,mean,0.600\n"


def write(folder: Path, csv: str = GOOD, index: str = INDEX) -> Path:
    (folder / "sources.toml").write_text(index)
    (folder / "fake.csv").write_text(csv)
    (folder / "methods.csv").write_text("name,title,learns\naverage,Average,\nties,TIES,yes\n")
    return folder


def test_what_an_entry_says_holds_for_every_row(tmp_path):
    found = read(folder=write(tmp_path, index=f'{INDEX}adapt_on = "test"\nnote = "mind"\n'))
    assert found["suite"].tolist() == ["toy", "toy"]
    assert found["world"].tolist() == ["toy", "toy"]
    assert found["adapt_on"].tolist() == ["", "test"]
    assert found["config"].tolist() == ["{}", '{"scale": 0.3}']
    assert found["title"].tolist() == ["Average", "TIES"]
    assert found["note"].tolist() == ["mind", "mind"]
    (tmp_path / "fake.csv").write_text(GOOD.replace("0.600", "0.700"))
    assert read(["fake"], tmp_path)["value"].tolist() == [0.5, 0.7]  # a changed file is read again


@pytest.mark.parametrize(("csv", "message"), [
    ("method,task,value\nmine,toy_two,0.5\n", "fake.csv, line 2: its method is in methods.csv"),
    ("method,task,value\nties,toy_two,50.1\n", "value is a share in [0, 1]"),
    ("method,task,value\nties,toy_two,half\n", "value is a share in [0, 1]"),
    ("method,task,value\nties,a,0.1\nties,a,0.2\n", "line 3: no number is given twice"),
    ("method,task,corruption,value\nties,a,contrast,0.1\n", "clean has severity 0 and nothing"),
    ("method,task,corruption,severity,value\nties,a,fog,7,0.1\n", "severity is 0..5"),
    ("method,task,corruption,severity,value\nties,a,L1,1,0.1\n", "levels are ours"),
    ("method,task,config,value\nties,a,fast,0.1\n", "constants are written NAME=VALUE"),
    ("method,task,value\nties,,0.1\n", "every row has a task"),
    ("method,value\nties,0.1\n", "fake.csv lacks the column 'task'"),
    ("method,task,value,sd\nties,a,0.1,2\n", "may not have a column 'sd'"),
    ("", "cannot read"),
])  # fmt: skip
def test_files_that_break_a_rule_are_refused(csv, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read(folder=write(tmp_path, csv))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("index", "message"), [
    ("[fake\n", "cannot read"),
    ('[fake]\ntitle = "x"\nwhere = "y"\n', "[fake] of sources.toml lacks decimals"),
    (INDEX + "colour = 3\n", "[fake] of sources.toml has no field 'colour'"),
    (INDEX + INDEX.replace("fake", "other"), "has no file other.csv"),
])  # fmt: skip
def test_an_index_that_breaks_a_rule_is_refused(index, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        read(folder=write(tmp_path, index=index))


def test_a_source_that_is_not_there():
    with pytest.raises(UnknownNameError, match="no published source named 'fusionbenc'; did you"):
        read(["fusionbenc"])


# Methods that others measured and that are not among ours.
ONLY_PUBLISHED = {
    "consensus", "expert", "e_wemoe", "emr", "pcb", "simple_ensemble", "surgery", "tsv_c", "wemoe",
}  # fmt: skip


def test_a_method_of_ours_is_published_under_our_name(rows):
    """Another name would not be found, and would not stand beside ours."""
    assert set(rows["method"]) - set(METHODS) <= ONLY_PUBLISHED
    assert not ONLY_PUBLISHED & set(METHODS)
    assert {"concrete_ta", "consensus_ta"} <= set(rows["method"])
