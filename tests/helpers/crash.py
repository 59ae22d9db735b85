"""Toy sweeps that are killed, for tests; the process that does it is in ``crash_program.py``."""

import json
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.config import Sweep
from tests.helpers import crash_program


def killed(folder: Path, sweep: Sweep, moments: Sequence[str]) -> list[dict[str, Any]]:
    """What a sweep left behind: of each that was killed, of one that ended, of two at once.

    Args:
        folder: where all of it happens.
        sweep: its methods and settings; everything else is the smoke sweep's.
        moments: ``PATTERN,COUNT`` of each kill.
    """
    words = ["--methods", *sweep.methods]
    words += [word for setting in sweep.settings for word in ("--set", setting)]
    # Forked from the server that forks the workers of sweeps: it has imported torch and Lightning.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([crash_program.__name__])  # without effect once it runs
    process = context.Process(
        target=crash_program.run, args=(folder, words, moments, dict(os.environ))
    )
    process.start()
    process.join(600)
    errors = folder / crash_program.ERRORS
    assert process.exitcode == 0, errors.read_text() if errors.exists() else process
    return [json.loads(line) for line in (folder / crash_program.REPORTS).open()]
