"""Leave-k-out: a sweep for each choice of k tasks whose experts are not merged.

Every choice is a sweep of its own, with these tasks unseen: it is found, resumed and shown as any
other, and shares experts and images with them. The table over all of them is
:mod:`results.tables.leave_out`.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from math import comb, gcd
from pathlib import Path

import pandas as pd

from bench.config import Sweep, digest
from bench.reporting.sweep_index import load_sweep, rows_of
from mergeshift import UserError, read_json, rng_of
from tasks import SUITES

MOST = 200  # choices that are run without being told how many rounds


def choices(names: Sequence[str], k: int, rounds: int = 0, seed: int = 0) -> list[tuple[str, ...]]:
    """Which tasks are left out together, each choice in the order of the suite.

    Args:
        names: of all tasks.
        k: how many are left out.
        rounds: 0 takes all choices. Else each round draws a circular order of the tasks and takes
            the windows of k tasks that start k apart, until one comes again: these leave every
            task out equally often.
        seed: draws the orders.

    Raises:
        UserError: k tasks cannot be left out, or all choices are very many.

    >>> choices("abc", 2)
    [('a', 'b'), ('a', 'c'), ('b', 'c')]
    >>> len(choices("abcdefgh", 2, rounds=1)), len(choices("abcdefgh", 3, rounds=1))
    (4, 8)
    """
    count = len(names)
    if not 1 <= k < count:
        raise UserError(f"--leave-out is 1 to {count - 1} of {count} tasks; got {k}")
    if rounds < 0:
        raise UserError(f"--leave-out-rounds is a number from 0; got {rounds}")
    if not rounds:
        if comb(count, k) > MOST:
            raise UserError(
                f"{count} tasks without {k} are {comb(count, k):,} choices; give "
                "--leave-out-rounds 1 or more for a sample"
            )
        return list(combinations(names, k))
    found: dict[tuple[str, ...], None] = {}
    for number in range(rounds):
        order = rng_of("leave-out", seed, k, number).permutation(count)
        for start in range(0, count * k // gcd(count, k), k):
            window = sorted(order[(start + i) % count] for i in range(k))
            found[tuple(names[i] for i in window)] = None
    return list(found)


def sweeps_of(sweep: Sweep, k: int, rounds: int = 0) -> list[Sweep]:
    """The sweeps that leave k tasks out.

    Raises:
        UserError: see :func:`choices`; or the sweep names unseen tasks itself.
    """
    if sweep.unseen:
        raise UserError("--leave-out chooses the unseen tasks; leave out --unseen")
    names = SUITES[sweep.suite].names
    return [
        replace(sweep, unseen=unseen, name=f"{family_of(sweep.name, k)}{digest(unseen)[:6]}")
        for unseen in choices(names, k, rounds, sweep.data_seed)
    ]


def family_of(name: str, k: int) -> str:
    """What the names of the sweeps begin with that leave k tasks out."""
    return f"{name}-leave-{k}-out-"


def rows_by_choice(
    out: Path, name: str, k: int, methods: Sequence[str] = (), protocol: str = ""
) -> list[pd.DataFrame]:
    """The rows of every finished choice, the latest sweep of each.

    Args:
        out: the results folder.
        name: of the sweep that was run with ``--leave-out``.
        k: how many tasks were left out.
        methods: some of them; none for all.
        protocol: see :func:`bench.reporting.sweep_index.load_sweep`.

    Raises:
        UserError: there is none, or one is not finished.
    """
    family = family_of(name, k)
    names = {read_json(path)["name"] for path in sorted((out / "sweeps").glob("[!.]*.json"))}
    mine = sorted(one for one in names if one.startswith(family))
    if not mine:
        raise UserError(
            f"no sweep {name!r} in {out} that left out {k}; run "
            f"`python -m bench sweep {name} --leave-out {k}` first, or give --sweep"
        )
    return [rows_of(out, load_sweep(out, one, protocol=protocol), methods) for one in mine]
