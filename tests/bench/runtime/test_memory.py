"""The peak of a block: what it held at most, above what was held before."""

import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.runtime import memory
from bench.runtime.memory import peak_memory


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def fill(megabytes: int) -> np.ndarray:
    """Memory that is really there: every page is written."""
    return np.ones(megabytes * 1_000_000, np.uint8)


def test_the_peak_counts_what_was_given_back_before_the_end():
    with peak_memory() as peak:
        block = fill(120)
        del block
        fill(10)
    assert 110 < peak.megabytes < 180


def test_what_was_held_or_given_back_before_does_not_count():
    held = fill(80)
    fill(160)
    with peak_memory() as peak:
        inside = fill(40)
    assert 30 < peak.megabytes < 75
    assert held.sum() + inside.sum() == 120_000_000


def test_a_block_that_holds_nothing_has_no_peak_and_its_error_passes():
    with pytest.raises(ValueError, match="the work failed"), peak_memory() as peak:
        raise ValueError("the work failed")
    with peak_memory() as peak:
        pass
    assert 0 <= peak.megabytes < 20


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("linux", 1000)])
def test_without_proc_the_growth_of_the_peak_is_given(monkeypatch, platform, unit):
    """macOS gives bytes, Linux kilobytes."""
    monkeypatch.setattr(memory, "_RESET", Path("/nowhere/clear_refs"))
    monkeypatch.setattr(sys, "platform", platform)
    grown = iter([300_000_000 // unit, 425_000_000 // unit])
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=next(grown)))
    with peak_memory() as peak:
        pass
    assert peak.megabytes == 125
