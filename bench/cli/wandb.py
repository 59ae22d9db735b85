"""``python -m bench leaderboard`` and ``wandb-sweep``: what W&B is asked to show, and to search."""

import os
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import OUT, Methods, Out, words
from bench.config import Sweep
from bench.index import method_order
from bench.sweeps import SWEEPS, find_sweep
from mergeshift import Registry, UserError

PROJECT = "mergeshift"
OPTIONS: Registry[str] = Registry("option of `python -m bench sweep` that a W&B Sweep can vary")

for _name in ("suite", "encoder", "experts", "heads", "methods", "shifts", "seeds", "expert-seeds",
              "expert-seed", "limit", "corruption-constants", "corrupt-at", "adapt-on", "unseen",
              "extra-experts", "splits", "precision", "protocol", "constants", "placement",
              "val"):  # fmt: skip
    OPTIONS.add(_name, f"--{_name}")

SEARCHES = ("grid", "random", "bayes")

ADVICE = "metric: {name: best/acc/clean, goal: maximize}"


def configuration(file: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """The configuration of a W&B Sweep, in W&B's words.

    Args:
        file: a YAML or TOML file in W&B's words, of which ``parameters`` is needed: options of
            ``python -m bench sweep``, or METHOD.FIELD. ``sweep`` says which sweep they change.
            Or a sweep, by name or as TOML file: then each trial is one of its methods, one seed.
        options: of ``python -m bench sweep``, the same for every trial.

    Raises:
        UserError: the file cannot be read, or says something that cannot be tried.
    """
    values = _whole(file) if file in SWEEPS else _read(Path(file))
    if "parameters" not in values:
        values = _whole(file)
    base = str(values.pop("sweep", "main"))
    swept = find_sweep(base)
    search = values.setdefault("method", "grid")
    if search not in SEARCHES:
        raise UserError(f"method of a W&B Sweep is one of {', '.join(SEARCHES)}; got {search!r}")
    if search == "bayes" and not isinstance(values.get("metric"), Mapping):
        raise UserError(f"a bayes search needs a metric; write e.g. {ADVICE}")
    parameters = values["parameters"]
    if not isinstance(parameters, Mapping) or not parameters:
        raise UserError(f"parameters of {file} is a table of what to vary; got {parameters!r}")
    for name, choice in parameters.items():
        _check(str(name), choice)
    command = ["${env}", "${interpreter}", "-m", "bench", "sweep", base, "--wandb=online"]
    return {
        "name": swept.name,
        "program": "bench",
        **values,
        "command": [*command, *options, "${args}"],
    }


def _whole(file: str) -> dict[str, Any]:
    """A sweep in parts: one trial for each method and seed."""
    sweep: Sweep = find_sweep(file)
    parts = {"methods": sweep.methods, "seeds": sweep.seeds}
    return {"sweep": file, "parameters": {k: {"values": list(v)} for k, v in parts.items()}}


def _check(name: str, choice: Any) -> None:
    """Refuse a parameter that a trial could not take."""
    from methods import METHODS

    method, dot, field = name.partition(".")
    if not dot:
        OPTIONS[name]
    else:
        known = METHODS[method]().cfg.as_dict()
        if field not in known:
            raise UserError(f"{method} has no field {field!r}; it has: {', '.join(known)}")
    if not isinstance(choice, Mapping):
        raise UserError(
            f"parameter {name} is a table such as {{values: [1, 2]}} or {{min: 0, max: 1}}; "
            f"got {choice!r}"
        )


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"no file {path}; give one, or a sweep: {', '.join(SWEEPS)}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a file") from None
    except (ValueError, yaml.YAMLError) as error:
        kind = "TOML" if path.suffix == ".toml" else "YAML"
        told = " ".join(str(error).split())
        raise UserError(f"{path} is not {kind}: {told}") from None
    if not isinstance(found, dict) or (path.suffix != ".toml" and "parameters" not in found):
        raise UserError(f"{path} does not say what to vary; write parameters: {{seeds: {{...}}}}")
    return found


class Upload(StrEnum):
    """Whether the leaderboard is uploaded."""

    online = "online"
    offline = "offline"


Project = Annotated[str, typer.Option(envvar="WANDB_PROJECT", help="W&B project")]

Entity = Annotated[
    str, typer.Option(envvar="WANDB_ENTITY", help="W&B user or team; default: the account's own")
]


def leaderboard(
    project: Project = PROJECT,
    entity: Entity = "",
    sweep: Annotated[str, typer.Option(help="which sweep; default: the latest")] = "",
    methods: Methods = [],  # noqa: B006
    out: Out = OUT,
    wandb: Annotated[
        Upload, typer.Option(help="offline: kept for `wandb sync`; without the report")
    ] = Upload.online,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be uploaded, and stop.")
    ] = False,
) -> None:
    """Upload a sweep's leaderboard to W&B, with a report; both are replaced by the next call."""
    from rich.console import Console

    from bench.reporting.sweep_index import load_sweep, rows_of
    from bench.reporting.wandb import upload_leaderboard
    from bench.runtime.progress import Stages
    from results.render.text import renderable
    from results.tables.comparison import compare
    from results.wandb.login import mode
    from results.wandb.report import require_workspaces
    from results.wandb.runs import WandbUploader

    record = load_sweep(out, sweep)
    rows = rows_of(out, record, words(methods))
    by = "seen" if (~rows["seen"]).any() else "shift"
    table, console = compare(rows, by=by, order=method_order()), Console()
    if dry_run:
        console.print(renderable(table, min(console.width, 120)))
        console.print(
            f"nothing was uploaded: project {project} would get sweep {record['name']}, "
            f"{rows['run_id'].nunique()} runs and {len(table.entries)} lines of a leaderboard",
            highlight=False,
        )
        return
    if wandb is Upload.online:
        require_workspaces()
        _require_service(out, "or take --wandb offline, which writes no report")
    target = WandbUploader(
        out, record["name"], mode(wandb.value), project, entity or None, say=console.print
    )
    report = upload_leaderboard(target, rows, table, Stages(console))
    console.print(f"  {target.advice()}", style="dim", highlight=False)
    if report:
        console.print(f"report: {report}", soft_wrap=True, highlight=False)
    else:
        console.print("no report: it needs a login (`wandb login`)", highlight=False)


def wandb_sweep(
    file: Annotated[
        str,
        typer.Argument(help="what to vary: YAML or TOML; or a sweep, in parts. See docs/cli.md"),
    ],
    project: Project = PROJECT,
    entity: Entity = "",
    out: Out = OUT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print what W&B would be given, and stop")
    ] = False,
) -> None:
    """Make a W&B Sweep whose agents run `python -m bench sweep`, on as many machines as you like.

    The trial's run is the comparison of its sweep: rank by e.g. best/acc/L2 or acc/ties/clean.
    """
    import yaml
    from rich.console import Console

    from results.wandb.sweep import make_sweep

    config = configuration(file, () if out == OUT else (f"--out={out}",))
    if dry_run:
        print(yaml.safe_dump(config, sort_keys=False), end="")
        return
    _require_service(out, "or take --dry-run")
    path, address = make_sweep(config, project, entity or None, out)
    console = Console()
    console.print(f"made the W&B Sweep {address}", soft_wrap=True, highlight=False)
    console.print(
        f"on each machine, in this folder: wandb agent {path}", soft_wrap=True, highlight=False
    )


def _require_service(out: Path, advice: str) -> None:
    """Find out before the work what is missing: a key, or the service.

    Raises:
        UserError: either is; one line.
    """
    from results.wandb.login import (
        NO_KEY,
        api_key,
        require_installed,
        unreachable,
        wandb_folder,
    )

    require_installed()
    if os.environ.get("WANDB_MODE", "online") not in ("online", "run", "shared"):
        said = os.environ["WANDB_MODE"]
        raise UserError(f"WANDB_MODE is {said}; unset it, {advice}")
    if not api_key():
        raise UserError(f"{NO_KEY}, {advice}")
    with wandb_folder(out, "online"):
        if why := unreachable():
            raise UserError(f"W&B cannot be reached ({why}); try later, {advice}")
