"""Shares of the gap by hand, harm by plain loops, and rank correlations by SciPy."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from mergeshift import DamagedFileError
from results.diagnosis import (
    HARM,
    OWN,
    WON,
    Diagnosis,
    MergedLine,
    agreement,
    harm,
    measures,
    read_all,
    recovered,
    shares,
)
from tests.helpers.diagnosed import invented


def means(setting: Diagnosis) -> dict[tuple[str, str], float]:
    return {(one.group, one.name): one.mean for one in measures(setting)}


def test_a_share_is_that_of_the_means_and_not_the_mean_of_shares():
    accuracy, floor, ceiling = np.array([0.5, 0.6]), np.array([0.4, 0.2]), np.array([0.6, 1.0])
    assert recovered(accuracy, floor, ceiling) == pytest.approx((0.55 - 0.3) / (0.8 - 0.3))
    assert shares(accuracy, floor, ceiling) == pytest.approx([0.5, 0.5])
    assert recovered(floor, floor, ceiling) == 0
    assert recovered(ceiling, floor, ceiling) == 1


def test_without_a_gap_there_is_no_share():
    assert math.isnan(recovered(np.array([0.5]), np.array([0.5]), np.array([0.5])))
    found = shares(np.array([0.5, 0.5]), np.array([0.6, 0.4]), np.array([0.5, 0.6]))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(0.5)


def test_harm_is_what_experts_cost_the_other_tasks():
    rng = np.random.default_rng(0)
    cross, floor = rng.random((4, 4)), rng.random(4)
    wanted = [np.mean([cross[a, b] - floor[b] for b in range(4) if b != a]) for a in range(4)]
    assert harm(cross, floor) == pytest.approx(wanted)
    assert np.isnan(harm(cross[:1, :1], floor[:1])).all()  # of one task alone


def test_every_quantity_of_a_setting():
    setting = invented(3)
    (one,) = setting.sets.values()
    found, floor = means(setting), np.mean(list(setting.zero_shot.values()))
    own = [one.cross[task][task] for task in setting.tasks]
    gap = np.mean(own) - floor
    line = np.mean(list(one.own_line["0.125"].values()))
    assert found[OWN, "s = 0.125"] == pytest.approx((line - floor) / gap)
    merged = np.mean(list(one.lines["tsv"].accuracy.values()))
    assert found[WON, "Tsv"] == pytest.approx((merged - floor) / gap)
    lost = np.mean([one.cross[a][b] - setting.zero_shot[b]
                    for a in setting.tasks for b in setting.tasks if a != b])  # fmt: skip
    assert found[HARM, "points"] == pytest.approx(lost)
    assert found[HARM, "share of the gap"] == pytest.approx(lost / gap)
    angles = [one.cosine[a][b] for a in setting.tasks for b in setting.tasks if a != b]
    assert found["Task vectors", "cosine with the others"] == pytest.approx(np.mean(angles))


def test_sets_of_experts_are_averaged_and_their_deviation_is_told():
    setting = invented(3, seeds=3)
    alone = [means(replace(setting, sets={seed: one})) for seed, one in setting.sets.items()]
    for one in measures(setting):
        parts = [part[one.group, one.name] for part in alone]
        assert one.mean == pytest.approx(np.mean(parts))
        assert one.sd == pytest.approx(np.std(parts, ddof=1), abs=1e-12)
    assert all(math.isnan(one.sd) for one in measures(invented(3)))


def test_agreement_is_scipys_on_the_same_numbers():
    ours, theirs = invented(5, spread=0.2, label="a"), invented(4, label="b")
    found = agreement(ours, theirs)
    x, y = ([means(one)[WON, title] for title in one.titles.values()] for one in (theirs, ours))
    assert found.spearman.value == pytest.approx(spearmanr(x, y).statistic)
    assert found.slope.value == pytest.approx(np.polyfit(x, y, 1)[0])
    for interval in (found.spearman, found.slope):
        assert interval.low <= interval.value <= interval.high
        assert interval.low < interval.high
    assert agreement(ours, theirs) == found  # chance is seeded


def test_a_setting_agrees_with_itself():
    setting = invented(4, spread=0.0)
    found = agreement(setting, setting, draws=50)
    assert found.spearman == pytest.approx((1, 1, 1))  # all tasks alike: no draw differs
    assert found.slope == pytest.approx((1, 1, 1))


def test_intervals_grow_with_the_differences_between_sets():
    one = invented(4, spread=0.0)
    lines = one.sets["0"].lines
    lower = {name: replace(line, accuracy=dict.fromkeys(one.tasks, 0.5))
             for name, line in lines.items()}  # fmt: skip
    two = replace(one, sets={"0": one.sets["0"], "1": replace(one.sets["0"], lines=lower)})
    found = agreement(two, one, draws=200)
    assert found.slope == pytest.approx((0.5, 0.0, 1.0))  # both sets the one, or the other


def test_methods_that_one_side_lacks_are_left_out():
    ours, theirs = invented(3), invented(3)
    less = {"tsv": ours.sets["0"].lines["tsv"]}
    found = agreement(replace(ours, sets={"0": replace(ours.sets["0"], lines=less)}), theirs)
    assert found.methods == ("tsv",)
    assert math.isnan(found.spearman.value)  # of one method there is no order


def test_a_stated_mean_is_enough():
    setting = invented(3)
    one = setting.sets["0"]
    lines = {"magmax": MergedLine(title="MagMax", accuracy={"mean": 0.7})}
    found = {m.name: m for m in measures(replace(setting, sets={"0": replace(one, lines=lines)}))}
    floor, ceiling = setting.floor.mean(), setting.ceiling(one).mean()
    assert found["MagMax"].mean == pytest.approx((0.7 - floor) / (ceiling - floor))
    assert np.isnan(found["MagMax"].tasks).all()


def test_a_diagnosis_is_read_as_it_was_written(tmp_path):
    first, second = invented(3, seeds=2, measured="2"), invented(2, measured="1", key="k")
    for name, setting in (("a", first), ("b", second)):
        setting.write(tmp_path / "diagnoses" / f"{name}.json")
    found = read_all(tmp_path)
    assert [one.measured for one in found] == ["1", "2"]
    assert found[1].tasks == first.tasks
    assert found[1].methods == first.methods
    assert means(found[1]) == means(first)
    (tmp_path / "diagnoses" / "c.json").write_text('{"tasks": []}')
    with pytest.raises(DamagedFileError, match="is not a diagnosis"):
        read_all(tmp_path)
