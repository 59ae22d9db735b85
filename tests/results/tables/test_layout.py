"""A new kind of table needs its :meth:`layout` alone: every format prints it."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from results.render.text import render, renderable, write_latex
from results.tables.entries import Entry
from results.tables.grid import SETTING
from results.tables.layout import GroupedTable, Layout

ENTRY = Entry(key="ties", method="ties", title="TIES", cite="yadav2023ties", tuned=False,
              config="", data_access="")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sizes(GroupedTable):
    """A kind of table that no format has heard of."""

    def layout(self) -> Layout:
        lines = {"ties": [("first_layer", ["1.5 +-0.2", "a_b +-c"]), ("last_layer", ["-", ""])]}
        return Layout(what="layer", headers=("size", "remark"), lines=lines, caption=("how",),
                      below=("why",), text_last=True)  # fmt: skip

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame([{"entry": "ties", "column": "first_layer", "value": 1.5}])


@pytest.fixture
def sizes() -> Sizes:
    setting = dict.fromkeys(SETTING, "x")
    notes = {"world": "Setting: x.", "how": "Counted.", "why": "For fun."}
    return Sizes(title="Sizes", entries=(ENTRY,), columns=("first_layer",), setting=setting,
                 notes=notes)  # fmt: skip


def test_text(sizes: Sizes) -> None:
    lines = [line.split() for line in render(sizes).splitlines()]
    assert ["first_layer", "1.5", "\u00b10.2", "a_b", "\u00b1c"] in lines
    assert ["last_layer", "-"] in lines
    assert renderable(sizes) is not None


def test_markdown(sizes: Sizes) -> None:
    assert "| TIES | first\\_layer | 1.5 \u00b10.2 | a\\_b \u00b1c |" in render(sizes, "md")


def test_csv(sizes: Sizes) -> None:
    assert "ties,first_layer,1.5" in render(sizes, "csv")


def test_latex(sizes: Sizes, tmp_path: Path) -> None:
    source = render(sizes, "latex", label="tab:sizes")
    assert r"TIES~\cite{yadav2023ties} & first\_layer & 1.5 $\pm$0.2 & a\_b $\pm$c \\" in source
    assert r"\textbf{Sizes.} Setting: x. Counted." in source
    assert r"\footnotesize For fun." in source
    assert r"\label{tab:sizes}" in source
    written = write_latex(sizes, tmp_path / "sizes.tex", label="tab:sizes")
    assert [path.name for path in written] == ["sizes.tex", "sizes.bib"]
    assert written[0].read_text() == source
