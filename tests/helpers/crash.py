"""Toy sweeps that are killed, for tests; the program that does it is ``crash_program.py``."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.config import Sweep

ROOT = Path(__file__).resolve().parents[2]


def killed(folder: Path, sweep: Sweep, moments: Sequence[str]) -> list[dict[str, Any]]:
    """What a sweep left behind: of each that was killed, of one that ended, of two at once.

    Args:
        folder: where all of it happens.
        sweep: its methods and settings; everything else is the smoke sweep's.
        moments: ``PATTERN,COUNT`` of each kill.
    """
    words = ["--methods", *sweep.methods]
    words += [word for setting in sweep.settings for word in ("--set", setting)]
    command = [
        sys.executable,
        str(ROOT / "tests" / "helpers" / "crash_program.py"),
        str(folder),
        " ".join(words),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *moments], env=environment, cwd=folder, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
