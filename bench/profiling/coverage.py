"""What intervals of tables are worth: simulated sweeps whose truth is known."""

import math

from rich.console import Console
from rich.table import Table

from results.coverage import DESIGNS, Design, Truth, simulate

DEVIATIONS = (0.0025, 0.005, 0.01)  # between sets, of the difference of two methods


def profile_coverage(console: Console, draws: int = 1000) -> None:
    """Print how often intervals hold the truth, and which differences they detect.

    Args:
        console: where.
        draws: simulated sweeps for each line.
    """
    truth = Truth()
    console.print(
        f"{draws} simulated sweeps a line: two methods on {truth.tasks} tasks of {truth.images} "
        f"images, both right on {100 * truth.accuracy:.0f} %; 95 % intervals",
        highlight=False,
    )
    shown = Table(box=None)
    for head in ("sets", "merges", "sd between sets", "images alone", "difference", "accuracy",
                 "degrees of freedom", "detected"):  # fmt: skip
        shown.add_column(head, justify="right")
    for deviation in DEVIATIONS:
        for design in DESIGNS:
            shown.add_row(*cells(design, deviation, draws))
    console.print(shown)
    console.print(
        "sd between sets: of the difference, in points. images alone, difference: % of the "
        "intervals of the difference, over images or over both, that hold the truth; accuracy: of "
        "one method's. detected: points of which 80 % of the sweeps say that they are not 0. "
        "More merges than sets: experts of the same sets put together in other ways.",
        style="dim",
        highlight=False,
    )


def cells(design: Design, deviation: float, draws: int) -> list[str]:
    """One line, as printed."""
    found = simulate(design, Truth(experts=deviation), draws)
    shares = (found.images, found.paired, found.line)
    several = design.sets > 1
    return [
        str(design.sets),
        str(design.merges),
        f"{100 * deviation:.2f}",
        *(f"{100 * share:.1f}" for share in shares[:1]),
        *(f"{100 * share:.1f}" if several else "-" for share in shares[1:]),
        f"{found.freedom:.0f}" if several else "-",
        "-" if math.isnan(found.detected) else f"{100 * found.detected:.1f}",
    ]
