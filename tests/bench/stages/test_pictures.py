"""Pictures are looked at before anything long begins, once."""

import pytest
from rich.console import Console

from bench.config import Sweep
from bench.runtime.progress import Stages
from bench.stages.pictures import check_pictures
from bench.sweep import run_sweep
from mergeshift import DamagedFileError, home
from tasks import SUITES, TASKS
from tasks.sources.folder import SUITE
from tasks.sources.folder_scan import scan_folder
from tests.helpers.pictures import CLASSES, random, save, tree
from tests.helpers.toy_sweep import forget


def looked_at(train: bool = True) -> bool:
    """Whether pictures were looked at."""
    forget()
    scan_folder.cache_clear()
    stages = Stages(Console(quiet=True))
    check_pictures(SUITES[SUITE].tasks, stages, train)
    return "pictures" in stages.seconds


def test_a_broken_test_picture_costs_no_expert(data_folder, small_encoder, tmp_path):
    root = tree(data_folder / "pets", CLASSES, train=4, test=10)
    (root / "test" / "bee" / "004.png").write_bytes(b"")
    sweep = Sweep(suite=SUITE, encoder="small-224", methods=("average",), shifts=("clean",))
    with pytest.raises(DamagedFileError, match=r"bee/004\.png is no picture that can be decoded"):
        run_sweep(sweep, tmp_path / "out", jobs=1, force=False, dry_run=False,
                  console=Console(quiet=True))  # fmt: skip
    assert not list((home() / "experts").rglob("*.safetensors"))


def test_pictures_are_looked_at_once_and_again_where_one_changed(data_folder):
    root = tree(data_folder / "pets", CLASSES, train=2, test=10)
    assert looked_at()
    assert not looked_at()
    save(random(60, 60), root / "test" / "bee" / "004.png")
    assert looked_at()
    (root / "test" / "bee" / "004.png").write_bytes(b"")
    for _ in range(2):  # what is wrong is not remembered as right
        with pytest.raises(DamagedFileError, match=r"004\.png is no picture"):
            looked_at()


def test_train_is_looked_at_where_experts_are_made(data_folder):
    root = tree(data_folder / "pets", CLASSES, train=2, test=10)
    (root / "train" / "bee" / "000.png").write_bytes(b"no picture")
    assert looked_at(train=False)
    with pytest.raises(DamagedFileError, match=r"train/bee/000\.png is no picture"):
        looked_at(train=True)


def test_what_is_left_out_is_said(data_folder, small_encoder, tmp_path):
    root = tree(data_folder / "pets" / "archive", CLASSES, train=4, test=10)
    (root / "test" / "bee" / "a.heic").write_bytes(b"heic")
    sweep = Sweep(suite=SUITE, encoder="small-224", methods=("average",), shifts=("clean",))
    console = Console(record=True, quiet=False, width=300, file=(tmp_path / "said").open("w"))
    run_sweep(sweep, tmp_path / "out", jobs=1, force=False, dry_run=True, console=console)
    said = "local_pets: entered archive; left out, no pictures that can be read: 1 files (.heic 1)"
    assert said in console.export_text()
    assert TASKS["local_pets"].sizes == (12, 3, 3, 24)
