"""How long a command takes to start: CPU seconds, user and system, of whole processes.

Wall time depends on what else the machine does; CPU seconds hardly do. Each command is run several
times, the least is printed with the range: the first run reads the files into memory.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

LIMITS = {"help": 0.5, "table": 2.0, "list": 3.0}  # seconds on two idle cores
COMPLETE = "import sys; sys.argv[0] = 'mergeshift'; from bench.cli.app import main; main([])"


def commands(out: Path, figure: Path) -> dict[str, tuple[list[str], dict[str, str], float]]:
    """Name -> command line of Python, environment, and the seconds it may take.

    Args:
        out: results that ``table`` and ``plot`` show; without any, these two are left out.
        figure: where the plot goes.
    """
    bench, results = ["-m", "bench"], ["--out", str(out)]
    completing = {"_MERGESHIFT_COMPLETE": "complete_bash", "COMP_CWORD": "3",
                  "COMP_WORDS": "mergeshift sweep --methods t",
                  "_TYPER_COMPLETE_ARGS": "mergeshift sweep --methods t"}  # fmt: skip
    found = {
        "--help": ([*bench, "--help"], {}, LIMITS["help"]),
        "--version": ([*bench, "--version"], {}, LIMITS["help"]),
        "an unknown command": ([*bench, "swep"], {}, LIMITS["help"]),
        "a wrong option": ([*bench, "sweep", "--no-such"], {}, LIMITS["help"]),
        "completion": (["-c", COMPLETE], completing, LIMITS["help"]),
        "list methods": ([*bench, "list", "methods"], {}, LIMITS["list"]),
    }
    if (out / "sweeps").is_dir():
        found |= {
            "table": ([*bench, "table", *results], {}, LIMITS["table"]),
            "plot": ([*bench, "plot", "severity", "-o", str(figure), *results], {},
                     LIMITS["table"]),
        }  # fmt: skip
    return found


def cpu_seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """User and system time of one process of this Python, whatever it answers."""
    before = os.times()
    subprocess.run(
        [sys.executable, *arguments], capture_output=True, env={**os.environ, **environment}
    )
    after = os.times()
    return (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )


def profile_startup(console: Console, out: Path, runs: int = 3) -> None:
    """Print what each command takes, and what it may take on two idle cores."""
    shown = Table("command", box=None)
    for head in ("CPU seconds", "range", "at most"):
        shown.add_column(head, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for name, (arguments, environment, limit) in commands(
            out, Path(folder) / "figure.png"
        ).items():
            seconds = [cpu_seconds(arguments, environment) for _ in range(runs)]
            spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
            shown.add_row(name, f"{min(seconds):.2f}", spread, f"{limit:.1f}")
    console.print(shown)
    if not (out / "sweeps").is_dir():
        console.print(f"no results in {out}: table and plot were left out; give --out")
