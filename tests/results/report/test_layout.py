"""How the HTML page is laid out, in headless Chromium: names in full, headers in sight, colours."""

from pathlib import Path

import pandas as pd
import pytest

from results.report import page as report
from results.report.panels import Example
from tests.helpers.chromium import Browser
from tests.helpers.report_frames import images_for, wide_rows
from tests.helpers.result_frames import make_rows
from tests.helpers.routed_frames import routed_rows

LONG = "Task-Wise Merging of Everything, with a router and without a head (reimpl.)"
SOLID = "\u9577" * 40  # no space at which it could be broken, and every letter is wide
AREAS = """[...document.querySelectorAll('#%s svg text.label')].map((one) => {
  const {left, top, right, bottom} = one.getBoundingClientRect();
  return [left, top, right, bottom];
})"""
CUT = """[...document.querySelectorAll('main *')].filter((one) =>
  one.scrollWidth > one.clientWidth + 1 && one.clientWidth &&
  getComputedStyle(one).textOverflow === 'ellipsis').length"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every section, with names that are much too long."""
    rows = pd.concat([make_rows(), routed_rows()], ignore_index=True)
    rows = rows[rows["severity"].isin((0, 1))].reset_index(drop=True)
    for method, name in (("ties", LONG), ("average", SOLID)):
        rows.loc[rows["method"] == method, "title"] = name
    runs = list(rows["run_id"].unique())
    costs = {run: {"merge_s": 1.0, "parameters": 1e6 * i} for i, run in enumerate(runs, 1)}
    asked = Example(
        task="mnist", shift="clean", image=3, label=LONG, picture="data:image/png;base64,",
        answers=dict.fromkeys(runs, (LONG, 0.5)),
    )  # fmt: skip
    text = report.page(rows, costs=costs, images=images_for(rows), examples=[asked])
    return report.write(tmp_path_factory.mktemp("long") / "page.html", text)


def text_of(browser: Browser, selector: str) -> list[str]:
    """Texts of elements, without the places at which lines are broken."""
    found = browser.ask(
        f"[...document.querySelectorAll('{selector}')].map((one) => one.textContent)"
    )
    return [text.replace(" ", "") for text in found]


@pytest.mark.parametrize("width", [1280, 700, 390])
def test_names_are_never_cut(reader, page, width):
    reader.resize(width, 900)
    reader.open(page)
    reader.settle()
    assert "\u2026" not in reader.ask("document.querySelector('main').textContent")
    assert reader.ask(CUT) == 0
    for section in ("severity", "robustness", "cost"):
        shown = text_of(reader, f"#{section} svg text.label, #{section} .legend span")
        for name in (LONG, SOLID):
            assert name.replace(" ", "") in shown
    assert LONG.replace(" ", "") in text_of(reader, "#examples li span")


def test_names_lie_inside_a_chart_and_apart(reader, page):
    reader.resize(1280, 900)
    reader.open(page)
    reader.settle()
    for section in ("severity", "robustness", "cost"):
        box = reader.ask(
            "(({left, top, right, bottom}) => [left, top, right, bottom])"
            f"(document.querySelector('#{section} .chart').getBoundingClientRect())"
        )
        areas = reader.ask(AREAS % section)
        assert areas
        for left, top, right, bottom in areas:
            assert box[0] <= left < right <= box[2] + 1
            assert box[1] - 1 <= top < bottom <= box[3] + 1
        for i, one in enumerate(areas):
            for other in areas[:i]:
                across = min(one[2], other[2]) - max(one[0], other[0])
                along = min(one[3], other[3]) - max(one[1], other[1])
                assert min(across, along) < 3  # of the line's height, letters fill 11 of 14


@pytest.mark.parametrize(
    ("places", "tall", "wanted"),
    [
        ([50, 20], [10, 10], [50, 20]),  # far apart: left where they are
        ([50, 50], [10, 10], [45, 55]),  # the middle of 50, 60 and 40, 50
        ([50, 50], [10, 30], [40, 60]),  # a gap of (10 + 30) / 2
        ([0, 0], [10, 10], [5, 15]),  # the first begins at 0
        ([100, 100, 95], [10, 10, 10], [85, 95, 75]),  # the last ends at 100
    ],
)
def test_names_are_moved_apart_but_not_out_of_the_chart(reader, page, places, tall, wanted):
    reader.open(page)
    assert reader.ask(f"apart({places}, {tall}, 0, 100)") == wanted


def test_reliability_fits_a_phone_and_stands_in_line(reader, page):
    for width in (390, 1280):
        reader.resize(width, 900)
        reader.open(page)
        reader.settle()
        edges = reader.ask(
            "[...document.querySelectorAll('.multiples svg')].map((one) => one"
            ".getBoundingClientRect()).map(({right, bottom}) => [right, bottom])"
        )
        inside = reader.ask("document.querySelector('.multiples').getBoundingClientRect().right")
        assert all(right <= inside + 0.5 for right, _ in edges)
        columns = len({right for right, _ in edges})
        bottoms = [round(bottom) for _, bottom in edges]
        rows = [bottoms[i : i + columns] for i in range(0, len(bottoms), columns)]
        assert all(len(set(row)) == 1 for row in rows)


def test_headers_stay_in_sight(reader, tmp_path):
    """Of a long leaderboard, that scrolls in itself: what the columns are, and whose line it is."""
    reader.resize(390, 600)
    reader.open(report.write(tmp_path / "wide.html", report.page(wide_rows())))
    reader.settle()
    tops = (
        "['thead th', 'tbody tr:nth-child(9) th'].map((one) => document.querySelector("
        "'.board ' + one).getBoundingClientRect()).map(({left, top}) => [left, top])"
    )
    box = "document.querySelector('.scroll:has(> .board)')"
    before = reader.ask(tops)
    reader.ask(f"{box}.scrollTo(60, 200)")
    reader.settle()
    assert reader.ask(f"[{box}.scrollLeft, {box}.scrollTop]") == [60, 200]
    head, line = reader.ask(tops)
    assert head == pytest.approx(before[0], abs=1)
    assert line == pytest.approx([before[1][0], before[1][1] - 200], abs=1)
    assert reader.ask("getComputedStyle(document.querySelector('.board thead th'))"
                      ".backgroundColor") != "rgba(0, 0, 0, 0)"  # fmt: skip


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 has it, of ``rgb(...)`` or ``color(srgb ...)``."""
    numbers = colour[colour.index("(") + 1 : -1].replace("srgb", "").replace(",", " ").split()
    unit = 255 if colour.startswith("rgb") else 1
    lights = []
    for one in numbers[:3]:
        share = float(one) / unit
        lights.append(share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4)
    return 0.2126 * lights[0] + 0.7152 * lights[1] + 0.0722 * lights[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(reader, page, scheme):
    """WCAG 2: text 4.5 to 1, edges of what can be used 3 to 1, on paper."""
    reader.prefer(scheme)
    reader.open(page)

    def contrast(selector: str, name: str) -> float:
        asked = f"getComputedStyle(document.querySelector('{selector}'))['{name}']"
        paper = luminance(reader.ask("getComputedStyle(document.body).backgroundColor"))
        low, high = sorted((luminance(reader.ask(asked)), paper))
        return (high + 0.05) / (low + 0.05)

    for text in ("body", ".note", "nav a", ".board small", ".board tr.reference th", "svg text"):
        name = "fill" if text.startswith("svg") else "color"
        assert contrast(text, name) >= 4.5, text
    for edge in ("select", "input[type=search]", "button.plain"):
        assert contrast(edge, "borderTopColor") >= 3, edge
    for colour in (".right", ".wrong"):
        if reader.ask(f"document.querySelector('{colour}') !== null"):
            assert contrast(colour, "color") >= 4.5, colour
