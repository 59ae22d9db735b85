"""Ours beside published numbers: what is paired with what, and when it is judged."""

import io

import pandas as pd
import pytest

from mergeshift import UserError
from results.published.sources import read, sources
from results.published.table import PublishedComparison, beside
from results.render.text import render
from tests.helpers.published import line, publish
from tests.helpers.result_frames import NASTY, TASKS, make_rows

SHIFTS = (("clean", 0), ("contrast", 2))
TWIN = {"suite": "pocket8@published"}  # as if it were: the test images of the field
MEAN = {"mean": 0.6}


def ours(methods=("average", "task_arithmetic"), shifts=SHIFTS, **overrides) -> pd.DataFrame:
    return make_rows(methods, shifts=shifts, **{**TWIN, **overrides})


def accuracy(rows: pd.DataFrame, method: str, corruption: str = "clean", task: str = "") -> float:
    """Mean over tasks, or of one: from the stored values."""
    wanted = (rows["method"] == method) & (rows["metric"] == "acc")
    wanted &= (rows["corruption"] == corruption) & (rows["task"].isin([task] if task else TASKS))
    return float(rows[wanted]["value"].mean())


def told(rows: pd.DataFrame, folder, by="shift", **options) -> PublishedComparison:
    return beside(rows, read(folder=folder), sources(folder), by, **options)


def pairs(table: PublishedComparison) -> pd.DataFrame:
    return table.frame().set_index(["method", "column"])


def test_the_difference_and_whether_it_lies_in_our_interval(tmp_path):
    rows = ours()
    near, far = accuracy(rows, "average"), accuracy(rows, "task_arithmetic") + 0.2
    csv = f"{line('average', {'mean': near})}\n{line('task_arithmetic', {'mean': far})}"
    found = pairs(told(rows, publish(tmp_path, csv)))
    assert found["verdict"].tolist() == ["within", "outside"]
    assert found["value"].tolist() == pytest.approx([near, far - 0.2])
    assert found.loc[("average", "clean"), "difference"] == pytest.approx(0, abs=0.0005)
    assert found.loc[("task_arithmetic", "clean"), "difference"] == pytest.approx(-0.2, abs=0.0005)


def test_the_edge_of_the_interval_is_widened_by_rounding(tmp_path):
    rows = ours(("average",))
    low = float(pairs(told(rows, publish(tmp_path, line("average", MEAN)))).iloc[0]["low"])
    verdicts = []
    for below in (0.0004, 0.0006):  # half of the last digit is 0.0005
        value = f"average,,,clean,0,mean,{low - below:.6f}"
        verdicts += pairs(told(rows, publish(tmp_path, value)))["verdict"].tolist()
    assert verdicts == ["within", "outside"]


def test_a_mean_that_is_not_stated_is_that_of_all_tasks(tmp_path):
    values = dict(zip(TASKS, (0.5, 0.6, 0.7, 0.9), strict=True))  # mean 2.7 / 4 = 0.675
    rows = ours(("average",))
    found = pairs(told(rows, publish(tmp_path, line("average", values))))
    assert found["published"].tolist() == pytest.approx([0.675])
    both = line("average", values | {"mean": 0.68})
    assert pairs(told(rows, publish(tmp_path, both)))["published"].tolist() == pytest.approx([0.68])
    three = {task: values[task] for task in TASKS[:3]}
    with pytest.raises(
        UserError, match="nothing published fits this table by shift; there is some"
    ):
        told(rows, publish(tmp_path, line("average", three)))


def test_by_task(tmp_path):
    values = dict(zip(TASKS, (0.5, 0.6, 0.7, 0.9), strict=True))
    rows = ours(("average",))
    rows["task"] += "@published"
    found = told(rows, publish(tmp_path, line("average", values)), "task")
    frame = pairs(found)
    assert frame["published"].tolist() == pytest.approx([*values.values(), 0.675])
    assert [column for _, column in frame.index] == [*TASKS, "mean"]
    under = line("average", values, shift="contrast@2")
    folder = publish(tmp_path, under)
    shown = pairs(told(rows, folder, "task", shift="contrast"))
    assert shown["published"].tolist()[:2] == [0.5, 0.6]
    assert shown["verdict"].unique().tolist() == ["other noise"]
    with pytest.raises(UserError, match="by shift, task, seen; got --by severity"):
        told(rows, folder, "severity")


@pytest.mark.parametrize(("change", "csv", "verdict"), [
    ({"suite": "pocket8"}, line("average", MEAN), "other test images"),
    ({"limit": 100}, line("average", MEAN), "other test images"),
    ({"encoder": "pocket-vit-finetuned"}, line("average", MEAN), "other experts"),
    ({"method": "pretrained", "encoder": "pocket-vit-imported"}, line("pretrained", MEAN), ""),
    ({"config": '{"scale": 0.4}'}, line("average", MEAN, "scale=0.3"), "other constants"),
    ({"config": '{"scale": 0.3, "more": 1}'}, line("average", MEAN, "scale=0.3"), ""),
    ({"method": "adamerging", "adapt_on": "adapt"}, line("adamerging", MEAN), "other adaptation"),
    ({"method": "adamerging", "adapt_on": "test"}, line("adamerging", MEAN), ""),
    ({"precision": "bf16"}, line("average", MEAN), "other precision"),
])  # fmt: skip
def test_what_differs_is_named_instead_of_a_verdict(change, csv, verdict, tmp_path):
    rows = ours(("average",)).assign(**change)
    found = pairs(told(rows, publish(tmp_path, csv)))["verdict"].tolist()
    assert found == [verdict] if verdict else found[0] in ("within", "outside")


def test_experts_of_another_family(tmp_path):
    rows = ours(("average",))
    found = told(rows, publish(tmp_path, line("average", MEAN), checkpoints="task_vectors"))
    assert pairs(found)["verdict"].tolist() == ["other experts"]


def test_of_one_source_the_constants_that_are_ours_are_shown(tmp_path):
    rows = ours(("task_arithmetic",))  # scale 0.3
    lines = [line("task_arithmetic", MEAN, f"scale={scale}") for scale in (0.2, 0.3, 0.4)]
    found = pairs(told(rows, publish(tmp_path, "\n".join(lines))))
    assert found["constants"].tolist() == ['{"scale": 0.3}']
    plain = line("task_arithmetic", MEAN)  # states none; so it is less near than the second
    found = pairs(told(rows, publish(tmp_path, "\n".join((plain, *lines)))))
    assert found["constants"].tolist() == ['{"scale": 0.3}']
    found = pairs(told(rows, publish(tmp_path, f"{plain}\n{lines[0]}")))
    assert found["constants"].tolist() == ["{}"]
    other = pairs(told(rows, publish(tmp_path, "\n".join((lines[0], lines[2])))))
    assert other["constants"].tolist() == ['{"scale": 0.2}', '{"scale": 0.4}']
    assert set(other["verdict"]) == {"other constants"}


def test_a_corruption_stands_in_our_column_only_if_it_was_made_alike(tmp_path):
    rows = ours(("average",))
    csv = line("average", MEAN, shift="contrast@2")
    found = pairs(told(rows, publish(tmp_path, csv)))
    assert found.index.tolist() == [("average", "contrast@2")]
    assert found["verdict"].tolist() == ["other noise"]
    assert found["value"].tolist() == pytest.approx([accuracy(rows, "average", "contrast")])
    folder = publish(tmp_path, csv, placement="native")
    with pytest.raises(UserError, match="nothing published fits"):
        told(rows, folder)
    apart = pairs(told(rows, folder, everything=True))
    assert apart.index.tolist() == [("average", "contrast@2 (published)")]
    assert apart[["value", "difference"]].isna().all(axis=None)


def test_levels_are_never_in_a_column_with_those_of_a_paper(tmp_path):
    shifts = [("clean", 0), *((name, 1) for name in (
        "motion_blur", "impulse_noise", "gaussian_noise", "pixelate", "spatter", "contrast",
        "jpeg_compression"))]  # fmt: skip
    rows = ours(("average",), shifts)
    csv = f"{line('average', MEAN)}\n{line('average', {'mean': 0.55}, shift='paper_level@1')}"
    folder = publish(tmp_path, csv)
    assert told(rows, folder).columns == ("clean",)
    table = told(rows, folder, everything=True)
    assert table.columns == ("clean", "L1 (published)")
    found = pairs(table)
    assert pd.isna(found.loc[("average", "L1 (published)"), "value"])
    assert "not those of this benchmark" in table.notes["published levels"]
    assert "These levels are defined by this benchmark" in table.notes["levels"]


def test_a_corrupted_copy_is_that_corruption_and_not_clean(tmp_path):
    rows = ours(("average",), (("clean", 0),), suite="pocket8@pixelate")
    clean, copy = (line("average", {"mean": value}, shift=shift)
                   for value, shift in ((0.9, "clean"), (0.3, "pixelate_canvas@2")))  # fmt: skip
    found = pairs(told(rows, publish(tmp_path, f"{clean}\n{copy}")))
    assert found["published"].tolist() == [0.3]
    assert found.index.tolist() == [("average", "pixelate_canvas@2")]
    assert found["verdict"].tolist() == ["outside"]


def test_seen_and_unseen_tasks(tmp_path):
    unseen = ["animals", "landcover"]
    rows = ours(("average",), (("clean", 0),))
    rows = rows.assign(seen=~rows["task"].isin(unseen))
    stated = {"mean": 0.8, "mean unseen": 0.4}
    folder = publish(tmp_path, line("average", stated, unseen="landcover animals"))
    assert pairs(told(rows, folder, "seen"))["published"].tolist() == [0.8, 0.4]
    with pytest.raises(UserError, match="there is something of: nothing"):
        told(ours(("average",)), folder)  # all of ours are seen
    tasks = line("average", dict(zip(TASKS, (0.9, 0.7, 0.5, 0.1), strict=True)),
                 unseen="animals landcover")  # fmt: skip
    found = pairs(told(rows, publish(tmp_path, tasks), "seen"))["published"]
    assert found.tolist() == pytest.approx([0.8, 0.3])


def test_everything_adds_methods_that_we_lack(tmp_path):
    csv = f"{line('average', MEAN)}\n{line('fisher', {'mean': 0.65})}"
    folder = publish(tmp_path, csv)
    assert [entry.method for entry in told(ours(), folder).entries] == ["average"]
    table = told(ours(), folder, everything=True)
    assert [entry.title for entry in table.entries] == ["Weight Averaging", "Fisher Merging"]
    assert "No published numbers for: Task Arithmetic." in table.notes["lacking"]
    assert pairs(table).loc[("fisher", "clean"), "verdict"] == ""


@pytest.mark.parametrize("form", ["text", "md", "latex", "csv"])
def test_every_format(form, tmp_path):
    rows = ours(("average",)).assign(title=NASTY)
    csv = line("average", {"mean": 0.123}, "router_layers=2")
    text = render(told(rows, publish(tmp_path, csv)), form)
    assert "12.3" in text
    assert "other constants" in text
    if form == "latex":
        assert r"router\_layers=2" in text
        assert r"Fake \& Co" in text
        assert "\u00b1" not in text
    if form == "csv":
        frame = pd.read_csv(io.StringIO(text))
        assert frame["difference"].iloc[0] == pytest.approx(
            100 * (accuracy(rows, "average") - 0.123)
        )
