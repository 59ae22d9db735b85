"""Matched levels M1 M2 M3: severities that cost a suite what the levels of a paper cost theirs.

BD-Merging reports Task Arithmetic with a relative loss of 7.3, 12.7 and 16.8 % at its three levels.
A matched level gives each of AdaMerging's seven corruptions one whole severity, which may differ
between corruptions, so that the mean relative loss comes nearest to these. What is nearest depends
on the suite and its encoder: the severities were searched for on val once (``python -m bench zoo
match-levels``) and are frozen in ``matched.toml``; a suite without an entry has no such levels.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np

from corruptions.base import MATCHED, PROTOCOL, SEVERITIES
from mergeshift import UserError, read_text

FILE = Path(__file__).with_suffix(".toml")
FIRST = 2000  # nearest choices of a level that are tried with those of the others, at the start

Level = dict[str, int]  # corruption -> severity


@dataclass(frozen=True)
class Entry:
    """The frozen levels of one suite and encoder."""

    suite: str
    encoder: str
    base: str  # the hash of the pretrained encoder
    constants: str
    placement: str
    levels: Mapping[str, Level]
    loss: Mapping[str, float]  # mean relative loss on val, a share, by level

    def text(self) -> str:
        """As a table of ``matched.toml``."""
        lines = [f'{name} = "{getattr(self, name)}"'
                 for name in ("suite", "encoder", "base", "constants", "placement")]  # fmt: skip
        for name, level in self.levels.items():
            lines.append(f"# {name}: {100 * self.loss[name]:.2f} % on val, "
                         f"{100 * MATCHED[name]:.1f} wanted")  # fmt: skip
            inner = ", ".join(f"{key} = {value}" for key, value in level.items())
            lines.append(f"{name} = {{ {inner} }}")
        losses = ", ".join(f"{name} = {value:.6f}" for name, value in self.loss.items())
        return "\n".join(["[[suite]]", *lines, f"loss = {{ {losses} }}", ""])


@lru_cache(maxsize=4)
def entries(path: Path = FILE) -> tuple[Entry, ...]:
    """All that is frozen.

    Raises:
        UserError: the file says a level otherwise than it has to be.
    """
    found = []
    for table in tomllib.loads(read_text(path)).get("suite", []):
        levels = {name: dict(table[name]) for name in MATCHED}
        for name, level in levels.items():
            if tuple(level) != PROTOCOL or not set(level.values()) <= set(SEVERITIES):
                raise UserError(
                    f"{name} of {table['suite']} in {path} gives each of {', '.join(PROTOCOL)}, "
                    f"in this order, a severity of 1 to 5; got {level}"
                )
        facts = {k: table[k] for k in ("suite", "encoder", "base", "constants", "placement")}
        found.append(Entry(**facts, levels=levels, loss=dict(table["loss"])))
    return tuple(found)


def frozen(
    name: str, *, suite: str, encoder: str, base: str, constants: str, placement: str
) -> Level:
    """The severities of a level.

    Args:
        name: M1, M2 or M3.
        suite: whose.
        encoder: its name.
        base: the hash of the encoder.
        constants: of the corruptions.
        placement: of the corruptions.

    Raises:
        UserError: they were not searched for this suite, encoder and kind of corruptions.
    """
    for entry in entries():
        key = entry.suite, entry.base, entry.constants, entry.placement
        if key == (suite, base, constants, placement):
            return dict(entry.levels[name])
    raise UserError(
        f"{name} is not frozen for {suite} with {encoder} ({base}), {constants} at {placement}: "
        f"python -m bench zoo match-levels --suite {suite} --encoder {encoder} searches for it"
    )


def search(loss: Mapping[str, Mapping[int, float]]) -> dict[str, Level]:
    """The levels whose mean losses lie nearest to those wanted, in sum over levels.

    A corruption's severity never falls from a level to the next. All choices of severities are
    looked at; of equals, the first by severities in the order of the corruptions.

    Args:
        loss: corruption -> severity -> relative loss, a share.

    Returns:
        level -> corruption -> severity
    """
    names, count = list(loss), FIRST
    options = np.array(list(product(*(sorted(loss[name]) for name in names))))  # [O, C]
    values = [
        [loss[name][severity] for severity in options[:, column].tolist()]
        for column, name in enumerate(names)
    ]
    means = np.mean(values, axis=0)  # [O]
    while True:
        nearest, reach = {}, np.inf
        for name, wanted in MATCHED.items():
            away = np.abs(means - wanted)
            order = np.argsort(away, kind="stable")
            nearest[name] = order[:count]
            if count < len(order):
                reach = min(reach, float(away[order[count]]))
        chosen, total = _chain(options, means, nearest)
        if total <= reach or count >= len(options):  # no choice beyond those tried does better
            return {name: dict(zip(names, options[row].tolist(), strict=True))
                    for name, row in zip(MATCHED, chosen, strict=True)}  # fmt: skip
        count *= 4


def _chain(
    options: np.ndarray, means: np.ndarray, nearest: Mapping[str, np.ndarray]
) -> tuple[list[int], float]:
    """The best choice for each level in which no severity falls; and its distance in all."""
    rows = [np.sort(of) for of in nearest.values()]  # so that of equals the first is found first
    costs = [np.abs(means[of] - wanted) for of, wanted in zip(rows, MATCHED.values(), strict=True)]
    best, back = costs[0], []
    for before, here, cost in zip(rows, rows[1:], costs[1:], strict=False):
        totals, from_ = np.empty(len(here)), np.empty(len(here), int)
        for k, row in enumerate(here.tolist()):
            allowed = (options[before] <= options[row]).all(axis=1)
            reached = np.where(allowed, best, np.inf)
            from_[k] = int(reached.argmin())
            totals[k] = reached[from_[k]] + cost[k]
        best = totals
        back.append(from_)
    place, total = int(best.argmin()), float(best.min())
    chosen = [int(rows[-1][place])]
    for of, from_ in zip(rows[-2::-1], back[::-1], strict=True):
        place = int(from_[place])
        chosen.insert(0, int(of[place]))
    return chosen, total
