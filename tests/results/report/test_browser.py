"""The HTML page as a reader has it, in headless Chromium: mouse, keyboard, colours, a phone."""

from pathlib import Path

import pandas as pd
import pytest

from results.report import page as report
from tests.helpers.chromium import Browser
from tests.helpers.report_frames import images_for, wide_rows
from tests.helpers.result_frames import METHODS, NASTY, make_rows
from tests.helpers.routed_frames import routed_rows

COSTS = {"merge_s": 0.5, "adapt_s": 0.0, "peak_mb": 90.0, "parameters": 1.2e6}
BOARD = "#leaderboard table.board"
ROWS = f"[...document.querySelectorAll('{BOARD} tbody tr')]"


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.concat([make_rows(seeds=(0, 1)), routed_rows(seeds=(0, 1))], ignore_index=True)


@pytest.fixture(scope="module")
def page(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything but examples."""
    costs = dict.fromkeys(rows["run_id"].unique(), COSTS)
    images = images_for(rows[rows["severity"].isin((0, 1))])
    few = rows[rows["severity"].isin((0, 1))]
    folder = tmp_path_factory.mktemp("page")
    report.write(folder / "doubt.html", report.page(few, costs=costs, images=images))
    return report.write(folder / "page.html", report.page(rows, costs=costs))


@pytest.fixture
def browser(reader: Browser, page: Path) -> Browser:
    """The page, freshly opened."""
    reader.open(page)
    return reader


def titles(browser: Browser) -> list[str]:
    """Names of the lines of the leaderboard, without marks."""
    found = browser.ask(f"{ROWS}.map((row) => row.firstChild.textContent)")
    return [text.rstrip("\u2020\u2021\u00a7\u00b6\u2016") for text in found]


def column(browser: Browser, number: int) -> list[float]:
    """What stands in a column of the leaderboard, unrounded."""
    return browser.ask(f"{ROWS}.map((row) => Number(row.children[{number}].dataset.value))")


def means(rows: pd.DataFrame, **where: object) -> pd.Series:
    """Title -> mean accuracy over tasks, shifts and seeds."""
    rows = rows[rows["metric"] == "acc"]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return rows.groupby("title")["value"].mean()


def choose(browser: Browser, section: str, label: str, value: str) -> None:
    """Choose in the select with this label, as a reader does."""
    box = (
        f"[...document.querySelectorAll('#{section} label')]"
        f".find((one) => one.firstChild.data === '{label}').querySelector('select')"
    )
    assert browser.ask(f"{box}.value = '{value}', {box}.value") == value
    browser.ask(f"{box}.dispatchEvent(new Event('change'))")
    browser.settle()


def test_leaderboard_is_that_of_the_rows(browser, rows):
    for number, severity in enumerate((0, 1, 2, 3), 1):
        wanted = means(rows, severity=severity)
        found = dict(zip(titles(browser), column(browser, number), strict=True))
        assert found == pytest.approx(wanted.to_dict())
    text = browser.ask(f"{ROWS}.map((row) => row.children[1].firstChild.textContent)")
    assert text == [f"{100 * v:.1f}" for v in column(browser, 1)]


def test_sorting_by_mouse(browser):
    head = f"{BOARD} thead th:nth-child(5)"
    before = titles(browser)
    state = f"document.querySelector('{head}').ariaSort"
    assert browser.ask(state) == "none"
    browser.click(f"{head} button")
    assert browser.ask(state) == "descending"
    assert column(browser, 4) == sorted(column(browser, 4), reverse=True)
    browser.click(f"{head} button")
    assert browser.ask(state) == "ascending"
    assert column(browser, 4) == sorted(column(browser, 4))
    browser.click(f"{head} button")
    assert (browser.ask(state), titles(browser)) == ("none", before)
    browser.click(f"{BOARD} thead th:first-child button")
    assert titles(browser) == sorted(titles(browser), key=str.lower)


def test_sorting_by_keyboard(browser):
    browser.ask(f"document.querySelector('{BOARD} thead button').focus()")
    browser.press("Tab")
    browser.press("Enter")
    focused = "document.activeElement.closest('th')"
    assert browser.ask(f"{focused}.textContent") == "clean"
    assert browser.ask(f"{focused}.ariaSort") == "descending"
    assert column(browser, 1) == sorted(column(browser, 1), reverse=True)
    browser.press(" ")
    assert column(browser, 1) == sorted(column(browser, 1))
    style = "getComputedStyle(document.activeElement)"
    assert browser.ask(f"{style}.outlineStyle + {style}.outlineWidth") == "solid2px"


def test_metric_that_is_better_when_less_is_sorted_upwards(browser):
    choose(browser, "leaderboard", "Metric", "ece")
    browser.click(f"{BOARD} thead th:nth-child(2) button")
    assert column(browser, 1) == sorted(column(browser, 1))
    assert "Twin-Merging" not in titles(browser)  # has none


def test_filter_by_keyboard_and_chips_by_mouse(browser):
    browser.ask("document.querySelector('input[type=search]').focus()")
    browser.type("merging")
    browser.settle()
    assert sorted(titles(browser)) == ["AdaMerging", "TIES-Merging", "Twin-Merging"]
    points = "[...document.querySelectorAll('#severity path.mark[data-value]')].length"
    assert browser.ask(points) == 3 * 4
    browser.ask("document.querySelector('input[type=search]').select()")
    browser.type(" ")
    browser.settle()
    assert len(titles(browser)) == len(METHODS) + 2
    browser.click("#chips button:nth-child(2)")
    assert "Weight Averaging" not in titles(browser)
    assert browser.ask("document.querySelector('#chips button:nth-child(2)').ariaPressed") == (
        "false"
    )
    browser.press(" ")  # where the focus is
    assert "Weight Averaging" in titles(browser)


def test_no_method_at_all(browser):
    browser.click("#filter button:last-child")
    browser.settle()
    assert titles(browser) == []
    assert browser.ask("document.getElementById('count').textContent").startswith("0 of 8")


def test_curves_and_fields_are_those_of_the_rows(browser, rows):
    wanted = sorted(100 * v for k in range(4) for v in means(rows, severity=k))
    found = browser.ask("[...document.querySelectorAll('#severity path.mark[data-value]')]"
                        ".map((one) => Number(one.dataset.value))")  # fmt: skip
    assert sorted(found) == pytest.approx(wanted)
    choose(browser, "shifts", "Task", "mnist")
    choose(browser, "shifts", "Severity", "2")
    cells = browser.ask("[...document.querySelectorAll('#shifts tbody tr')].map((row) =>"
                        " [row.firstChild.textContent, row.lastChild.dataset.value,"
                        " row.lastChild.textContent])")  # fmt: skip
    wanted = means(rows, task="mnist", corruption="jpeg_compression", severity=2).to_dict()
    assert {name: float(value) for name, value, _ in cells} == pytest.approx(wanted)
    assert [text for *_, text in cells] == [f"{100 * float(value):.1f}" for _, value, _ in cells]


def test_half_is_rounded_as_python_rounds(browser):
    halves = [0.25, 0.75, 0.05, 81.25, 81.75, 99.75, -0.25, -0.01, 2.5, 61.15, 0.35]
    assert browser.ask(f"{halves}.map((x) => fixed(x, 1))") == [
        f"{x:.1f}" if round(x, 1) else "0.0" for x in halves
    ]


def test_light_dark_and_the_switch(browser):
    paper = "getComputedStyle(document.body).backgroundColor"
    light = browser.ask(paper)
    browser.prefer("dark")
    dark = browser.ask(paper)
    assert light != dark
    browser.ask("$('theme').value = 'light', $('theme').dispatchEvent(new Event('change'))")
    assert browser.ask(paper) == light
    browser.prefer("light")
    browser.ask("$('theme').value = 'dark', $('theme').dispatchEvent(new Event('change'))")
    assert browser.ask(paper) == dark
    browser.ask("$('theme').value = 'auto', $('theme').dispatchEvent(new Event('change'))")
    assert browser.ask(paper) == light


def test_on_a_phone_only_tables_scroll_sideways(browser):
    browser.resize(390, 800)
    browser.settle()
    assert browser.ask("document.documentElement.scrollWidth") == 390
    wide = ("[...document.querySelectorAll('main *')].filter((one) => !one.closest('.scroll, "
            ".chips, svg') && one.getBoundingClientRect().right > 391).length")  # fmt: skip
    assert browser.ask(wide) == 0


def test_reliability_counts_the_images(browser, page, rows):
    browser.open(page.with_name("doubt.html"))
    bars = browser.ask(
        "[...document.querySelector('#reliability .multiples > div').querySelectorAll('.bar')]"
        ".map((one) => Number(one.dataset.count))"
    )
    assert sum(bars) == 4 * 2 * 120  # clean: tasks, seeds, images
    assert "pretrained" in browser.ask(
        "document.querySelector('#reliability h3').textContent.toLowerCase()"
    )


def test_nothing_given_becomes_an_element(browser, tmp_path):
    name = NASTY + "<b id=in>x</b></script><script>console.log('in')</script>"
    rows = make_rows(["average", "ties"], title=name, sweep=name)
    browser.open(report.write(tmp_path / "nasty.html", report.page(rows)))
    assert browser.ask("document.getElementById('in')") is None
    assert browser.ask("document.querySelector('.sub').firstChild.data.trim()") == f"sweep {name}"
    assert titles(browser) == [name, name]


def test_a_large_page_is_small_and_quick(browser, tmp_path):
    """20 tasks, 15 methods, 96 shifts. Processor time, so that no other process counts."""
    path = report.write(tmp_path / "wide.html", report.page(wide_rows()))
    assert path.stat().st_size < 10e6
    browser.call("Performance.enable", timeDomain="threadTicks")
    browser.open(path)
    browser.settle()
    measured = browser.call("Performance.getMetrics")["metrics"]
    spent = {one["name"]: one["value"] for one in measured}
    assert 0 < spent["TaskDuration"] < 2
    assert len(titles(browser)) == 15
    assert browser.ask("document.querySelectorAll('#shifts tbody td').length") == 15 * 20
    choose(browser, "leaderboard", "Columns", "Tasks, L3")
    assert browser.ask(f"document.querySelectorAll('{BOARD} thead th').length") == 1 + 20 + 1
