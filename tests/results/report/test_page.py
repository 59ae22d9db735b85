"""The HTML page: its numbers are those of the rows; nothing that it is given is read as HTML."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from bench.reporting import html
from bench.reporting.html import shifts_shown
from results.metrics import CALIBRATION_BINS
from results.report import page as report
from results.report.panels import Example, binned
from results.schema import unpack
from results.store import Store
from results.tables.ranking import ranking
from tests.helpers.report_frames import images_for
from tests.helpers.result_frames import NASTY, TASKS, make_rows
from tests.helpers.routed_frames import routed_rows

SMALL = (("clean", 0), ("contrast", 1), ("contrast", 3), ("fog", 1), ("fog", 3))
CELL = ["method", "task", "corruption", "severity"]


def data_of(page: str) -> dict:
    """What is embedded, read back."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def build(rows: pd.DataFrame, **more: object) -> dict:
    return data_of(report.page(rows, **more))


def view_of(data: dict, by: str, metric: str = "acc", group: str = "") -> dict:
    return next(v for v in data["views"]
                if (v["by"], v["metric"], v["group"]) == (by, metric, group))  # fmt: skip


def test_single_cells_are_those_of_the_rows():
    rows = make_rows(shifts=SMALL, seeds=(0, 1))
    data = build(rows)
    cube, keys = data["cubes"][""], [entry["key"] for entry in data["entries"]]
    wanted = rows[rows["metric"] == "acc"].groupby(CELL)["value"].mean()
    for i, line in enumerate(cube["lines"]):
        for t, task in enumerate(cube["tasks"]):
            for s, shift in enumerate(cube["shifts"]):
                assert cube["means"][i][t][s] == pytest.approx(wanted[keys[line], task, *shift])
    assert len(wanted) == np.size(cube["means"])


def test_ranks_over_tasks_are_a_view():
    rows = make_rows(shifts=SMALL)
    data, expected = build(rows), ranking(rows)
    view = view_of(data, "ranks")
    keys = [data["entries"][line]["key"] for line in view["lines"]]
    assert keys == [entry.key for entry in expected.entries]
    means = {key: cells[0][0] for key, cells in zip(keys, view["cells"], strict=True)}
    assert means == pytest.approx(expected.mean_ranks)
    assert any("Friedman" in note for note in view["notes"])
    few = build(rows[rows["method"].isin(["average", "ties", "individual"])])
    assert "ranks" not in {one["by"] for one in few["views"]}


def test_tables_print_means_over_tasks_and_their_drop():
    rows = make_rows(shifts=SMALL)
    data = build(rows)
    view = view_of(data, "shift")
    at = [data["entries"][line]["key"] for line in view["lines"]].index("ties")
    names = [column["name"] for column in view["columns"]]
    mine = rows[(rows["method"] == "ties") & (rows["metric"] == "acc")]
    means = mine.groupby(["corruption", "severity"])["value"].mean()
    cell = view["cells"][at][names.index("fog@3")]
    assert cell[0] == pytest.approx(means["fog", 3])
    assert cell[3] == f"{100 * means['fog', 3]:.1f}"
    drop = 100 * (means["fog", 3] / means["clean", 0] - 1)
    assert cell[6] == f"{drop:+.1f}%"
    low, high = cell[1:3]
    assert low < cell[0] < high
    severity = view_of(data, "severity")
    third = severity["cells"][at][[c["name"] for c in severity["columns"]].index("3")]
    assert third[0] == pytest.approx(mine[mine["severity"] == 3]["value"].mean())


def test_metrics_keep_their_own_direction_and_digits():
    data = build(make_rows(shifts=SMALL))
    assert data["metrics"]["ece"] == {"title": "Expected calibration error", "unit": "%",
                                      "scale": 100, "decimals": 1, "higher": False}  # fmt: skip
    view = view_of(data, "shift", "nll")
    assert re.fullmatch(r"\d\.\d{3}", view["cells"][0][0][3])
    assert data["views"][0]["metric"] == "acc"


def test_seen_and_unseen_tasks_are_never_averaged():
    rows = make_rows(shifts=SMALL)
    rows["seen"] = ~rows["task"].isin(TASKS[2:])
    data = build(rows)
    assert data["groups"] == ["seen", "unseen"]
    assert data["cubes"]["unseen"]["tasks"] == list(TASKS[2:])
    assert {view["group"] for view in data["views"]} == {"seen", "unseen"}
    value = view_of(data, "shift", group="unseen")["cells"][0][0][0]
    mine = rows[(rows["method"] == "pretrained") & (rows["metric"] == "acc") & ~rows["seen"]]
    assert value == pytest.approx(mine[mine["severity"] == 0]["value"].mean())


def test_unequal_severities_have_no_table_by_severity():
    data = build(make_rows(shifts=(*SMALL, ("snow", 2))))
    assert "severity" not in {view["by"] for view in data["views"]}
    assert {"shift", "task"} <= {view["by"] for view in data["views"]}


def test_bins_of_confidence_by_hand():
    """15 bins: 0.05 lies in the first, 0.5 in number 7, 1.0 in the last."""
    images = pd.DataFrame({"max_prob": [0.05, 0.5, 0.52, 1.0], "right": [False, True, False, True]})
    count, sure, right = binned(images)
    assert len(count) == CALIBRATION_BINS == 15
    assert count.nonzero()[0].tolist() == [0, 7, 14]
    assert count[[0, 7, 14]].tolist() == [1, 2, 1]
    assert sure[7] == pytest.approx(1.02)
    assert right.tolist() == [0] * 7 + [1] + [0] * 6 + [1]


def test_reliability_counts_every_image_of_a_column():
    rows = make_rows(["average", "ties"], shifts=SMALL, seeds=(0, 1), n=30)
    images = images_for(rows)
    found = build(rows, images=images)["reliability"][""]
    keys = [entry["key"] for entry in build(rows)["entries"]]
    mine = images[(images["run_id"].str.contains("ties")) & (images["corruption"] == "fog")
                  & (images["severity"] == 3)]  # fmt: skip
    place = found["lines"].index(keys.index("ties"))
    count, sure, right = found["bins"]["fog@3"][place]
    edges = np.linspace(0, 1, 16)
    assert count == np.histogram(mine["max_prob"].astype(float), edges)[0].tolist()
    assert sum(count) == 30 * len(TASKS) * 2
    hits = np.dot(count, right)
    assert hits == pytest.approx(mine["right"].sum())
    assert np.dot(count, sure) == pytest.approx(mine["max_prob"].astype(float).sum())


def test_costs_are_means_over_the_runs_of_a_line():
    rows = make_rows(["average", "ties"], shifts=SMALL, seeds=(0, 1), n=30)
    timed = rows[rows["metric"] == "acc"].assign(metric="eval_s", value=0.3, hits=b"")
    facts = {"pocket8-ties-0": {"merge_s": 1.0, "adapt_s": 2.0, "parameters": 3e6},
             "pocket8-ties-1": {"merge_s": 2.0, "adapt_s": 2.0, "parameters": 3e6},
             "pocket8-average-0": {"merge_s": 0.5}}  # fmt: skip
    costs = {one["name"]: one["values"] for one in
             build(pd.concat([rows, timed]), costs=facts)["costs"]}  # fmt: skip
    assert costs["Parameters kept to predict"] == [None, 3.0]
    assert costs["Time to build (merge and learn)"] == [0.5, 3.5]
    assert costs["Time to predict"] == pytest.approx([10.0, 10.0])  # 0.3 s for 30 images
    assert "Peak memory while built" not in costs


def test_routing_shows_weights_and_losses():
    plain = make_rows(["average", "individual"])
    data = build(pd.concat([plain, routed_rows()], ignore_index=True))
    keys = [entry["key"] for entry in data["entries"]]
    found = data["routing"]
    methods = {keys[one["line"]]: one for one in found["methods"]}
    assert set(methods) == {"twin_merging", "centroid_router"}
    rows = routed_rows(["twin_merging"])
    panel = methods["twin_merging"]["panels"][0]
    cell = rows[(rows["metric"] == "route:animals") & (rows["task"] == "mnist")
                & (rows["severity"] == 0)]  # fmt: skip
    where = panel["weights"][panel["tasks"].index("mnist")][panel["routes"].index("animals")]
    assert where == pytest.approx(cell["value"].item())
    first = found["losses"][0]
    total = float(first["texts"][0][1])  # the printed error
    assert sum(first["values"][0]) * 100 == pytest.approx(total, abs=0.051)


def test_sections_without_data_say_why():
    data = build(make_rows(["average"], shifts=SMALL[:1]))
    assert "--uncertainty" in data["reliability"]["why"]
    assert "--examples" in data["examples"]["why"]
    assert "routes image by image" in data["routing"]["why"]
    assert data["costs"] == []


def test_what_is_given_cannot_end_the_script_or_become_html():
    nasty = NASTY + "</script><img src=x onerror=alert(1)>&amp;"
    rows = make_rows(shifts=SMALL, title=nasty, sweep=nasty, suite=nasty)
    one = Example(task=nasty, shift="clean", image=1, label=nasty, picture="data:,",
                  answers={"pocket8-ties-0": (nasty, 0.5)})  # fmt: skip
    page = report.page(rows, examples=[one])
    assert "<img" not in page
    assert page.count("</script>") == 2
    data = data_of(page)
    assert data["entries"][0]["title"].startswith(nasty)
    assert data["examples"][0]["label"] == nasty
    assert page == report.page(rows, examples=[one])


def test_the_page_names_no_other_place():
    page = report.page(make_rows(shifts=SMALL))
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


def test_command_writes_the_page_with_examples_that_agree_with_the_results(
    command, smoke, tmp_path
):
    path = tmp_path / "deep" / "report.html"
    done = command("report", "-o", path, "--out", smoke, "--examples", 3, "--methods", "ties",
                   "individual")  # fmt: skip
    assert done.code == 0, done.err
    assert "wrote" in done.out
    data = data_of(path.read_text(encoding="utf-8"))
    keys = [entry["key"] for entry in data["entries"]]
    assert keys == ["ties", "individual"]
    assert {one["name"] for one in data["costs"]} >= {"Time to predict"}
    shown = data["examples"]
    assert {one["shift"] for one in shown} == {"clean", "contrast@5"}
    assert len(shown) == 2 * 3 * 3
    rows = Store(smoke).read()
    rows = rows[rows["metric"] == "acc"].set_index(["method", "task", "corruption"])
    for one in shown:
        corruption = one["shift"].split("@")[0]
        for line, name, share in one["answers"]:
            cell = rows.loc[(keys[line], one["task"], corruption)]
            assert unpack(cell["hits"], cell["n"])[one["image"]] == (name == one["label"])
            assert 0 < share <= 1


def test_command_refuses_what_is_no_page(command, smoke, tmp_path):
    assert "report.pdf" in command("report", "-o", tmp_path / "report.pdf", "--out", smoke).error
    assert "no results" in command("report", "--methods", "none", "--out", smoke).error
    many = command("report", "--examples", 99, "--out", smoke, "-o", tmp_path / "a.html")
    assert "1 to 32" in many.error
    assert not list(tmp_path.iterdir())


def test_shifts_of_examples_are_the_severest_of_the_protocol():
    rows = make_rows(["average"], shifts=(*SMALL, ("pixelate", 2)))
    assert list(map(str, shifts_shown(rows))) == ["clean", "pixelate@2", "contrast@3"]
    assert list(map(str, shifts_shown(rows, ["contrast@1"]))) == ["contrast@1"]
    assert list(map(str, shifts_shown(rows[rows["severity"] == 0]))) == ["clean"]
    assert shifts_shown(rows.assign(constants="imagenet-c"))[1].constants == "imagenet-c"


def test_pictures_are_small():
    small = html.picture(np.zeros((32, 32, 3), np.uint8))
    assert small.startswith("data:image/png;base64,")
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    large = html.picture(noise)
    assert large.startswith("data:image/webp;base64,")
    assert len(large) < 30_000
