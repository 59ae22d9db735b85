"""W&B Sweeps: making one, and being a trial of one.

An agent of a W&B Sweep starts ``python -m bench sweep`` once for each choice of parameters. Such a
start is one trial, and the comparison that it ends in is the trial's run; the runs of its methods
are runs as ever.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from mergeshift import UserError
from results.wandb.login import AGENT, wandb_folder


class Trial(NamedTuple):
    """What an agent asks for."""

    sweep: str  # id of the W&B Sweep
    run: str  # id that the trial's run must have
    parameters: dict[str, Any]  # name -> the value that was chosen


def trial() -> Trial | None:
    """What the agent that started this process asks for; None if no agent did."""
    sweep, run, path = (os.environ.get(name, "") for name in AGENT)
    if not sweep or not run:
        return None
    return Trial(sweep, run, _parameters(Path(path)) if path else {})


def _parameters(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}  # the command line has them too
    return {name: one["value"] for name, one in found.items() if isinstance(one, Mapping)}


def make_sweep(
    config: Mapping[str, Any], project: str, entity: str | None, folder: Path
) -> tuple[str, str]:
    """Make a W&B Sweep.

    Args:
        config: in W&B's own words (method, parameters, command ...).
        project: W&B project.
        entity: W&B user or team; None = the default of the account.
        folder: for wandb's own files.

    Returns:
        ``entity/project/id``, which an agent is given, and the address of its page.

    Raises:
        UserError: the service refused it.
    """
    import wandb

    try:
        with wandb_folder(folder, "online"), _quiet():
            name = wandb.sweep(dict(config), entity=entity, project=project)
            api = wandb.Api()
            owner = entity or api.default_entity
    except Exception as error:
        raise UserError(f"W&B made no sweep: {' '.join(str(error).split())}") from error
    base = wandb.util.app_url(api.settings["base_url"])
    return f"{owner}/{project}/{name}", f"{base}/{owner}/{project}/sweeps/{name}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is printed; and wandb does not change the project for what comes after."""
    names = ("WANDB_PROJECT", "WANDB_ENTITY")
    before = {name: os.environ[name] for name in names if name in os.environ}
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
