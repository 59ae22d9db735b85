"""What decides a result decides the run's id, and nothing else does; sweeps from TOML files."""

import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest

from bench import plan
from bench.config import Run, Sweep
from bench.sweeps import SWEEPS, find_sweep, read_sweep, with_fields
from bench.zoo.encoders import ENCODERS
from mergeshift import UnknownNameError, UserError
from methods import METHODS
from tasks import SUITES, TASKS, Suite

RUN = Run(
    suite="toy", tasks=("a-1-00", "b-1-11"), encoder="toy-vit", base="beef", experts=("k0", "k1"),
    expert_seed=0, method="ties", version=1, config='{"keep": 0.2}', grid='{"keep": [0.2, 0.5]}',
    seed=0, limit=24, data_seed=0,
)  # fmt: skip

OTHER = {
    "suite": "toy2", "tasks": ("b-1-11", "a-1-00"), "encoder": "pocket-vit", "base": "feed",
    "experts": ("k1", "k0"), "expert_seed": 1, "method": "average", "version": 2,
    "config": '{"keep": 0.5}', "grid": "", "seed": 1, "limit": None, "data_seed": 1,
    "adapt_on": "test", "weights": "cafe", "unseen": ("a",),
    "precision": "bf16", "val_limit": 9,
    "extra_experts": ("c",), "protocol": "mixed-task",
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(Run)])
def test_every_field_of_a_run_changes_its_id(name):
    other = replace(RUN, **{name: OTHER[name]})
    assert other.id != RUN.id
    assert replace(other, **{name: getattr(RUN, name)}).id == RUN.id


def test_ids_of_values_that_read_alike_differ():
    alike = [("a", "b"), ("ab",), ("a, b",), ("a", "b", "")]
    assert len({replace(RUN, tasks=tasks).id for tasks in alike}) == len(alike)
    assert replace(RUN, limit=1, seed=0).id != replace(RUN, limit=0, seed=1).id


def test_an_id_is_a_readable_file_name():
    assert re.fullmatch(r"toy-ties-[0-9a-f]{16}", RUN.id)
    odd = replace(RUN, method="../my merge: v2/\u00e9").id
    assert re.fullmatch(r"[\w.-]+", odd)
    assert len({odd, replace(RUN, method="../my merge: v2_\u00e9").id}) == 2
    assert Path("cells", odd).parent == Path("cells")


def test_an_id_is_the_same_in_another_process():
    code = f"from bench.config import Run; print(({RUN!r}).id)"
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == RUN.id


# -- which field of a sweep makes other runs -----------------------------------------------------

TOY = Sweep(suite="toy", limit=24)
SAME = {  # a new value must not make another run: what was measured stays good
    "name": "another",
    "shifts": ("contrast@5", "clean", "L2"),
    "constants": "imagenet-c",
    "methods": ("ties", "average", "pretrained"),
    "seeds": (0, 0),
    "uncertainty": True,
    "temperature": True,
}
NEW = {"limit": 12, "expert_seeds": (1,), "data_seed": 1, "suite": "toy_again",
       "unseen": ("toy_two",), "precision": "bf16",
       "extra_experts": ("mnist",), "protocol": "mixed-task"}  # must make others  # fmt: skip


def ids(sweep: Sweep) -> dict[tuple[str, int], str]:
    return {(run.method, run.seed): run.id for run in plan.resolve(sweep).runs}


@pytest.mark.parametrize("name", SAME)
def test_what_a_sweep_shows_does_not_change_a_run(name):
    before, after = ids(TOY), ids(replace(TOY, **{name: SAME[name]}))
    assert {key: before[key] for key in after} == after


@pytest.mark.parametrize("name", NEW)
def test_what_a_sweep_measures_changes_every_run(name, monkeypatch):
    alike = Suite("toy_again", SUITES["toy"].names)
    monkeypatch.setitem(SUITES._items, "toy_again", alike)
    before, after = ids(TOY), ids(replace(TOY, **{name: NEW[name]}))
    assert not set(before.values()) & set(after.values())
    assert before.keys() == after.keys()


def test_the_encoder_changes_every_run(monkeypatch):
    before = ids(TOY)
    toy = ENCODERS["toy-vit"]
    slower = replace(toy, recipe=replace(toy.recipe, steps=31))
    monkeypatch.setattr(plan, "ENCODERS", {"toy-vit": slower})
    assert not set(before.values()) & set(ids(TOY).values())  # experts of another recipe


def test_images_to_tune_on_change_what_is_chosen_on_val_alone():
    sweep = replace(TOY, methods=("average", "ties", "anchor_scales", "twin_merging"))
    before, after = ids(sweep), ids(replace(sweep, val_limit=9))
    changed = {method for method, seed in before if before[method, seed] != after[method, seed]}
    assert changed == {"ties", "anchor_scales"}
    with pytest.raises(UserError, match="val_limit is a number of images, at least 1; got 0"):
        replace(TOY, val_limit=0)


def test_tuning_and_settings_change_the_runs_they_concern_and_no_other():
    tunable = {name for name in TOY.methods if METHODS[name].Config().grid}
    assert {"task_arithmetic", "ties"} <= tunable < set(TOY.methods)
    before = ids(TOY)
    for after, concerned in (
        (replace(TOY, tune=False), tunable),
        (replace(TOY, settings=("ties.keep=0.3",)), {"ties"}),
        (replace(TOY, settings=("ties.zero_sign=majority",)), {"ties"}),
        # 0.2 is the default, but it is no longer searched
        (replace(TOY, settings=("ties.keep=0.2",)), {"ties"}),
    ):
        changed = {method for (method, _), run in ids(after).items() if run not in before.values()}
        assert changed == concerned
    # with nothing searched, a setting that spells out the default is the same run
    plain = replace(TOY, tune=False)
    assert ids(replace(plain, settings=("ties.keep=0.20",))) == ids(plain)


def test_versions_of_method_and_task_change_the_run(monkeypatch):
    before = ids(TOY)
    with monkeypatch.context() as patch:
        patch.setattr(METHODS["ties"], "version", 2)
        changed = {method for (method, _), run in ids(TOY).items() if run not in before.values()}
        assert changed == {"ties"}
    first = SUITES["toy"].tasks[0]
    for task in (replace(first, pixels="0" * 16), replace(first, version=2)):
        monkeypatch.setitem(TASKS._items, first.name, task)
        assert not set(before.values()) & set(ids(TOY).values())


def test_every_field_of_a_sweep_is_covered_above():
    # (the placement is refused at 32 pixels, adapt_on concerns methods that learn, heads make
    # another encoder: zoo/test_heads.py)
    elsewhere = {"encoder", "tune", "settings", "placement", "adapt_on", "heads", "val_limit"}
    assert {field.name for field in fields(Sweep)} == {*SAME, *NEW} | elsewhere
    assert {field.name for field in fields(Run)} == set(OTHER)
    assert all(f.default is not MISSING for f in fields(Sweep))


# -- sweeps with a name, and from a file ---------------------------------------------------------


def test_the_main_sweep_is_the_one_of_the_protocol():
    main = SWEEPS["main"]
    assert (main.suite, main.seeds, main.limit, main.tune) == ("pocket8", (0,), 300, True)
    assert {"pretrained", "individual", "average", "task_arithmetic", "ties"} <= set(main.methods)
    assert main.shifts == ("clean", "L1", "L2", "L3")
    assert main.adapt_on == "adapt"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_a_file_has_the_fields_of_a_sweep(tmp_path):
    path = write(tmp_path, """
        suite = "toy"
        methods = ["average", "ties"]
        shifts = ["clean", "contrast@1,5"]
        seeds = [0, 1]
        expert_seed = 2
        limit = 9
        tune = false
        settings = ["ties.keep=0.1"]
        constants = "imagenet-c"
    """)  # fmt: skip
    expected = Sweep(
        name="mine", suite="toy", methods=("average", "ties"), shifts=("clean", "contrast@1,5"),
        seeds=(0, 1), expert_seeds=(2,), limit=9, tune=False, settings=("ties.keep=0.1",),
        constants="imagenet-c",
    )  # fmt: skip
    assert read_sweep(path) == find_sweep(str(path)) == expected
    several = read_sweep(write(tmp_path, "expert_seeds = [0, 2, 0]"))
    assert several == Sweep(name="mine", expert_seeds=(0, 2))
    assert read_sweep(write(tmp_path, "")) == Sweep(name="mine")
    assert read_sweep(write(tmp_path, 'name = "yours"')).name == "yours"


@pytest.mark.parametrize(("text", "said"), [
    ("x =", "is not TOML"),
    ("shift = ['clean']", "no field 'shift'; it has: name, suite,"),
    ("seeds = 0", "seeds of a sweep is a list; got 0"),
    ("seeds = [0.5]", "seeds of a sweep is a list of int"),
    ("seeds = [true]", "seeds of a sweep is a list of int"),
    ("methods = 'ties'", "methods of a sweep is a list; got 'ties'"),
    ("methods = [1]", "methods of a sweep is a list of str"),
    ("shifts = [['clean']]", "shifts of a sweep is a list of str"),
    ("methods = []", "at least one method"),
    ("limit = 'many'", "limit of a sweep is of type int; got 'many'"),
    ("limit = true", "limit of a sweep is of type int; got True"),
    ("limit = 0", "limit is a number of images, at least 1; got 0"),
    ("tune = 'no'", "tune of a sweep is of type bool; got 'no'"),
    ("suite = 8", "suite of a sweep is of type str; got 8"),
    ("expert_seed = '0'", "expert_seed of a sweep is of type int"),
    ("expert_seeds = ['0']", "expert_seeds of a sweep is a list of int"),
    ("expert_seeds = []", "at least one method, one shift, one seed and one set of experts"),
    ("expert_seeds = [0, 1]\nexpert_seed = 0", "a list, or expert_seed, a number; give one"),
    ("name = 'a/b'", "part of a file name; got 'a/b'"),
    ("adapt_on = 'train'", "adapt_on of a sweep is one of adapt, test, shifted; got 'train'"),
    ("adapt_on = true", "adapt_on of a sweep is of type str; got True"),
    ("[suite]", "suite of a sweep is of type str"),
])  # fmt: skip
def test_what_is_wrong_in_a_file_is_one_line(text, said, tmp_path):
    with pytest.raises(UserError) as caught:
        read_sweep(write(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"no sweep file .*/absent\.toml; named sweeps: main"):
        find_sweep(str(tmp_path / "absent.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*/folder\.toml: Is a directory"):
        find_sweep(str(tmp_path / "folder.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"binary\.toml is not TOML"):
        find_sweep(str(tmp_path / "binary.toml"))
    with pytest.raises(UnknownNameError, match="no sweep named 'mian'; did you mean 'main'"):
        find_sweep("mian")


def test_settings_by_method():
    sweep = with_fields(TOY, {"settings": ["ties.keep=0.1", "ties.merge=a=b", "average.x="]})
    assert sweep.settings_of("ties") == {"keep": "0.1", "merge": "a=b"}
    assert sweep.settings_of("average") == {"x": ""}
    assert sweep.settings_of("pretrained") == {}
    twice = with_fields(TOY, {"settings": ["ties.keep=0.1", "ties.keep=0.1", "ties.keep=0.3"]})
    with pytest.raises(UserError, match=r"--set ties.keep=0.3: ties.keep is 0.1 already; give it"):
        twice.settings_of("ties")


@pytest.mark.parametrize(("setting", "said"), [
    ("ties.keep", "METHOD.FIELD=VALUE; got 'ties.keep'"),
    ("keep=0.1", "METHOD.FIELD=VALUE; got 'keep=0.1'"),
    ("tie.keep=0.1", "'tie' is not in this sweep"),
    ("ties.kep=0.1", "no setting 'kep'; did you mean 'keep'"),
    ("ties.keep=20", r"ties.keep must be a number in (0, 1]; got 20"),
    ("ties.keep=nan", r"ties.keep must be a number in (0, 1]"),
    ("average.scale=1", "average has no setting 'scale'"),
])  # fmt: skip
def test_a_wrong_setting_is_one_line(setting, said):
    with pytest.raises(UserError) as caught:
        plan.resolve(replace(TOY, settings=(setting,)))
    assert said in str(caught.value)
