"""docs/quickstart.ipynb runs, and what it shows is what it computes."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

from bench.docs import ROOT
from mergeshift import home

PATH = ROOT / "docs" / "quickstart.ipynb"
LARGEST = 200_000  # bytes of an output that is stored


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> nbformat.NotebookNode:
    """The notebook, run in a folder of its own: one kernel for all tests."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(PATH, as_version=4)
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "MERGESHIFT_HOME": str(home())}
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}})
    return client.execute(env=environment)


def outputs(notebook: nbformat.NotebookNode) -> list[dict[str, str]]:
    """Of every output its kinds, each with its text."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [dict(one.get("data", {})) for cell in cells for one in cell.outputs]


def last_kinds(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each cell shows in the end; how many stages a sweep has before depends on the cache."""
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    return [sorted(found[-1].get("data", {"stream": ""})) for found in shown]


def test_every_cell_runs_and_shows_tables_and_a_figure(executed):
    shown = outputs(executed)
    pages = [one["text/html"] for one in shown if "text/html" in one]
    assert sum("Task Arithmetic" in page and 'class="mergeshift"' in page for page in pages) == 2
    assert any("Half step [scale=0.8]" in page for page in pages)
    assert sum("image/png" in one for one in shown) == 1
    (verdicts,) = [one for one in shown if one.get("text/plain") == "{}"]
    assert verdicts


def test_what_is_stored_is_small_and_of_these_cells(executed):
    stored = nbformat.read(PATH, as_version=4)
    nbformat.validate(stored)
    for one in outputs(stored):
        assert sum(len(text) for text in one.values()) < LARGEST
    assert last_kinds(stored) == last_kinds(executed)
