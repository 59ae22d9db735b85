"""What ``import mergeshift`` hands on: sweeps, merges and results for notebooks and scripts.

>>> import mergeshift
>>> rows = mergeshift.sweep("smoke", out="results/runs")  # doctest: +SKIP
>>> rows = mergeshift.load("results/runs")  # doctest: +SKIP
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from torch import Tensor

from bench.config import Sweep
from bench.reporting.sweep_index import load_sweep, rows_of
from bench.runtime import devices
from bench.sweep import run_sweep
from bench.sweeps import find_sweep, with_fields
from methods import METHODS
from methods import merge as merge_states
from methods.contract import all_checks, small_checkpoints

State = Mapping[str, Tensor]


def sweep(
    name: str | Sweep = "main",
    *,
    out: str | Path = "results/runs",
    device: str = "auto",
    jobs: int = 0,
    force: bool = False,
    quiet: bool = False,
    **fields: Any,
) -> pd.DataFrame:
    """Run a comparison, as ``python -m bench sweep`` does; what is finished is not run again.

    Args:
        name: a named sweep, a TOML file, or a :class:`bench.config.Sweep`.
        out: the folder of the results.
        device: auto, cpu, cuda, cuda:NUMBER or mps.
        jobs: worker processes; 0 takes one for each core.
        force: measure again what is there.
        quiet: print nothing.
        fields: fields of the sweep that are changed, ``methods=["ties", "average"], limit=100``.

    Returns:
        The rows of the sweep, one for each measurement; see :mod:`results.schema`.

    Raises:
        UserError: a name or a value is not known; one line says what to do.
    """
    wanted = name if isinstance(name, Sweep) else find_sweep(name)
    lists = {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}
    wanted = with_fields(wanted, lists)
    with devices.using(device):
        plan, _ = run_sweep(
            wanted,
            Path(out),
            jobs=jobs or devices.jobs(),
            force=force,
            dry_run=False,
            console=Console(quiet=quiet),
        )
    return load(out, plan.sweep.name)


def load(out: str | Path = "results/runs", sweep: str = "") -> pd.DataFrame:
    """The rows of a finished sweep, by default the latest in the folder.

    Raises:
        UserError: there is none, or it is not finished.
    """
    return rows_of(Path(out), load_sweep(Path(out), sweep))


def merge(
    method: str, base: State, experts: Mapping[str, State] | Sequence[State], **config: Any
) -> dict[str, Tensor]:
    """Merge state dicts that were fine-tuned from ``base``; see :func:`methods.api.merge`.

    Raises:
        UserError: an unknown method or setting, or models that do not fit.
    """
    return merge_states(method, base, experts, **config)


def check(method: str) -> dict[str, str]:
    """Run the contract on one method.

    Returns:
        Check -> what it found wrong; empty for one that holds.
    """
    cls, verdicts = METHODS[method], {}
    for one in all_checks():
        try:
            one(cls, small_checkpoints())
            reason = ""
        except (AssertionError, PermissionError) as error:
            reason = str(error) or "it does not hold"
        verdicts[one.__name__.removeprefix("check_")] = reason
    return verdicts
