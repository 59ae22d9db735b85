"""W&B Sweeps: what is made of a file, and a trial that an agent starts."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.cli.app import spread_lists
from bench.cli.wandb import configuration
from bench.sweeps import SWEEPS
from mergeshift import UserError
from results.store import Store
from results.tables.comparison import compare
from results.wandb.sweep import Trial, trial
from tests.helpers.wandb_file import log_out
from tests.helpers.wandb_server import ENTITY, Service, served

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    log_out(monkeypatch, tmp_path)
    yield from served(monkeypatch)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a file, and return its path."""

    def write(text: str, name: str = "try.yaml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


SEARCH = """
sweep: smoke
method: bayes
metric: {name: acc/ties/contrast@5, goal: maximize}
parameters:
  methods: {value: ties}
  ties.scale: {min: 0.1, max: 1.0}
"""


def test_a_file_in_the_words_of_wandb_gets_a_command(written) -> None:
    found = configuration(written(SEARCH), ("--limit=9",))
    given = yaml.safe_load(SEARCH)
    assert {key: found[key] for key in ("method", "metric", "parameters")} == {
        key: given[key] for key in ("method", "metric", "parameters")
    }
    assert (found["name"], "sweep" in found) == ("smoke", False)
    assert found["command"] == [
        "${env}", "${interpreter}", "-m", "bench", "sweep", "smoke", "--wandb=online", "--limit=9",
        "${args}"]  # fmt: skip
    toml = '[parameters]\nseeds.values = [0, 1]\n"ties.keep".values = [0.1]\n'
    found = configuration(written(toml, "try.toml"))
    assert found["parameters"] == {"seeds": {"values": [0, 1]}, "ties.keep": {"values": [0.1]}}
    assert (found["method"], found["name"]) == ("grid", "main")


def test_a_sweep_is_tried_in_parts(written) -> None:
    found = configuration("routed")
    methods, seeds = (found["parameters"][name]["values"] for name in ("methods", "seeds"))
    assert (tuple(methods), seeds) == (SWEEPS["routed"].methods, [0, 1, 2])
    assert found["command"][5] == "routed"
    path = written('suite = "toy"\nmethods = ["ties[keep=0.1]"]\nseeds = [3]\n', "own.toml")
    found = configuration(path)
    assert found["parameters"] == {
        "methods": {"values": ["ties[keep=0.1]"]}, "seeds": {"values": [3]}}  # fmt: skip
    assert (found["name"], found["command"][5]) == ("own", path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters: {seed: {value: 1}}", "seed.* did you mean 'seeds'"),
        ("parameters: {tie.keep: {value: 1}}", "no method named 'tie'; did you mean 'ties'"),
        ("parameters: {ties.kep: {value: 1}}", "ties has no field 'kep'; it has: "),
        ("parameters: {seeds: [1, 2]}", r"parameter seeds is a table such as \{values: "),
        ("parameters: []", "is a table of what to vary; got"),
        ("method: newton\nparameters: {seeds: {value: 1}}", "grid, random, bayes; got 'newton'"),
        ("method: bayes\nparameters: {seeds: {value: 1}}", "a bayes search needs a metric; write"),
        ("sweep: mian\nparameters: {seeds: {value: 1}}", "did you mean 'main'"),
        ("seeds: 1", "does not say what to vary"),
        ("{", "is not YAML"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(written, text: str, message: str) -> None:
    with pytest.raises((UserError, KeyError), match=message) as refused:
        configuration(written(text))
    assert isinstance(refused.value, UserError)
    assert "\n" not in str(refused.value)


def test_an_agents_words_are_options() -> None:
    words = ["sweep", "smoke", "--methods=ties", "--ties.keep=0.1", "--bd_merging.x=a=b"]
    assert spread_lists(words) == [
        *words[:3], "--set", "ties.keep=0.1", "--set", "bd_merging.x=a=b"]  # fmt: skip


def test_a_trial_is_told_by_the_environment(monkeypatch, tmp_path, written) -> None:
    assert trial() is None
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    assert trial() is None
    monkeypatch.setenv("WANDB_RUN_ID", "r")
    assert trial() == Trial("s", "r", {})
    path = written("wandb_version: 1\nties.keep: {value: 0.1}\nseeds: {value: 2}\n")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", path)
    assert trial() == Trial("s", "r", {"ties.keep": 0.1, "seeds": 2})
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "none"))
    assert trial() == Trial("s", "r", {})


def test_the_command_makes_a_sweep(command, written, tmp_path, service: Service) -> None:
    words = ("wandb-sweep", written(SEARCH), "--project", "P", "--out", tmp_path / "out")
    shown = command(*words, "--dry-run")
    assert not service.sweeps
    done = command(*words)
    assert done.code == 0, done
    (made,) = service.sweeps.values()
    assert made["projectName"] == "P"
    config, told = yaml.safe_load(made["config"]), yaml.safe_load(shown.out)
    assert config.pop("parameters").keys() == told.pop("parameters").keys()  # W&B adds to each
    assert config == told
    assert f"--out={tmp_path / 'out'}" in config["command"]
    assert f"made the W&B Sweep {service.url}/{ENTITY}/P/sweeps/sweep0\n" in done.out
    assert done.out.endswith(f"wandb agent {ENTITY}/P/sweep0\n")
    assert service.unknown == []
    assert "WANDB_PROJECT" not in os.environ


def test_without_a_login_no_sweep_is_made(command, tmp_path, monkeypatch) -> None:
    log_out(monkeypatch, tmp_path)
    told = command("wandb-sweep", "main").error
    assert told == "no W&B API key; run `wandb login` or set WANDB_API_KEY, or take --dry-run"


def test_an_agent_runs_trials(smoke: Path, tmp_path: Path, written, service: Service) -> None:
    """The real agent starts the real command; the comparison is the trial's run."""
    out = Path(shutil.copytree(smoke, tmp_path / "out"))
    config = configuration(written(SEARCH), (f"--out={out}", "--jobs=1"))
    service.sweeps["s"] = {"config": yaml.safe_dump(config), "projectName": "P"}
    chosen = {"methods": {"value": "average"}, "seeds": {"value": 0}, "limit": {"value": 24}}
    service.trials = [{"type": "run", "run_id": "trial7", "program": "bench", "args": chosen}]
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT),
                                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                                "MERGESHIFT_HOME": os.environ["MERGESHIFT_HOME"]}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "agent", f"{ENTITY}/P/s"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    mine = Store(out).read()
    mine = mine[mine["method"] == "average"]
    trials = service.run("trial7", "P")
    told: dict[str, Any] = {name: one["value"] for name, one in chosen.items()}
    assert {name: trials.config[name] for name in told} == told
    assert trials.about["sweep"] == "s"
    best = compare(mine).cells["average", "contrast@5"].value
    assert trials.summary["best/acc/contrast@5"] == pytest.approx(best)
    (other,) = [run for (_, name), run in service.runs.items() if name != "trial7"]
    assert other.config["method"] == "average"
    assert other.about.get("sweep") is None
    assert service.unknown == []
