"""The examples of CONTRIBUTING.md work as they stand there: each in its file, all in one sweep.

And a method is one file: put into a copy of the product, it stands in all that a sweep puts out.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from bench.config import Sweep
from bench.docs import ROOT
from corruptions.base import CORRUPTIONS, SEVERITIES
from corruptions.contract import CHECKS
from mergeshift import DamagedFileError
from methods import METHODS
from methods.contract import all_checks, small_checkpoints
from results.store import Store
from tasks import SUITES, TASKS, load
from tasks.sources import built
from tasks.suites import add_suite
from tests.helpers.toy_sweep import forget, sweep_into
from tests.methods import test_golden as by_hand

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = dict(
    re.findall(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
)
EXAMPLES = ("median", "corner", "darkness")
(CASE,) = re.findall(r"```python\n(# task vectors.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def modules(tmp_path, monkeypatch) -> Iterator[dict[str, ModuleType]]:
    """Every example, in a file and imported; forgotten afterwards.

    Whoever followed the page has them already: these stand aside.
    """
    for registry in (METHODS, TASKS, SUITES, CORRUPTIONS):
        others = {name: item for name, item in registry._items.items() if name not in EXAMPLES}
        monkeypatch.setattr(registry, "_items", others)
    found = {}
    for name, source in BLOCKS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        module = name.removesuffix(".py").replace("/", ".")
        spec = importlib.util.spec_from_file_location(module, path)
        found[name] = importlib.util.module_from_spec(spec)
        if module not in sys.modules:
            monkeypatch.setitem(sys.modules, module, found[name])
        spec.loader.exec_module(found[name])
    yield found
    forget()


def test_the_readme_shows_the_same_method():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"# methods/median.py\n{BLOCKS['methods/median.py']}```" in readme


def test_the_page_has_the_three_examples():
    assert list(BLOCKS) == ["methods/median.py", "tasks/pocket/corner.py", "corruptions/digital.py"]


def test_the_method_keeps_the_contract_and_its_golden_numbers(modules):
    for check in all_checks():
        check(METHODS["median"], small_checkpoints())
    case = eval(CASE, {"golden": by_hand.golden})
    by_hand.test_golden(*case.values)


def test_the_task_is_what_its_entry_says(modules):
    task = TASKS["corner"]
    images, labels, sizes = built.assemble(task)
    assert sizes == task.sizes
    assert built.pixel_hash(images, labels) == task.pixels
    assert len(load(task, "test").labels) == task.sizes[3]
    with pytest.raises(DamagedFileError, match="its entry says"):
        built.check(task, 255 - images, labels, sizes)


def test_the_corruption_keeps_the_contract(modules):
    for check in CHECKS:
        for constants in ("cifar10-c", "imagenet-c"):
            check(CORRUPTIONS["darkness"], constants)
    assert len(SEVERITIES) == 5


def test_all_three_in_one_sweep(modules, tmp_path):
    add_suite("toy_and_mine", ("toy_two", "corner"))
    sweep = Sweep(suite="toy_and_mine", methods=("pretrained", "median", "individual"),
                  shifts=("clean", "darkness@5"), limit=24)  # fmt: skip
    sweep_into(tmp_path / "out", sweep)
    rows = Store(tmp_path / "out").read()
    rows = rows[rows["metric"] == "acc"].set_index(["method", "task", "corruption"])["value"]
    assert len(rows) == 3 * 2 * 2
    assert rows.index.get_level_values("corruption").unique().tolist() == ["clean", "darkness"]


COMMANDS = """
check median
sweep --suite toy --methods average median --limit 8 --shifts clean contrast \
    --jobs 1 --out out --no-tune
table --out out
table --out out --format latex -o table.tex
plot severity --out out -o severity.svg
report --out out -o report.html
"""
RUN = """
import sys
from matplotlib import rcParams
from bench.cli.app import main
if __name__ == "__main__":
    rcParams["svg.fonttype"] = "none"
    for line in sys.stdin.read().strip().splitlines():
        print(">", line, flush=True)
        if code := main(line.split()):
            sys.exit(f"{line}: {code}")
"""


def contents(folder: Path) -> dict[str, bytes]:
    files = (
        path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in str(path)
    )
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_one_file_adds_a_method_everywhere(tmp_path):
    """Contract, table, LaTeX, figure and page, in a copy of the product with that file alone."""
    product = tmp_path / "product"
    for part in ("bench", "tasks", "methods", "corruptions", "results"):
        shutil.copytree(ROOT / part, product / part)
    shutil.copy(ROOT / "mergeshift.py", product)
    (product / "methods" / "median.py").write_text(BLOCKS["methods/median.py"])
    (product / "run.py").write_text(RUN)
    before = contents(product)
    done = subprocess.run(
        [sys.executable, "run.py"], cwd=product, input=COMMANDS, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    _, check, _, table, *_ = re.split(r"^> ", done.stdout, flags=re.MULTILINE)
    assert check.count(" ok") == len(all_checks())
    assert re.search(r"Median\b.*\d\d\.\d", table), table
    after = contents(product)
    assert {name: after[name] for name in before} == before
    for name in ("table.tex", "severity.svg", "report.html"):
        assert "Median" in after[name].decode(), name
