"""Work gives the same results here and in workers; what goes wrong there is known here."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bench.runtime.workers import (
    Executor,
    ProcessExecutor,
    SerialExecutor,
    default_jobs,
    executor,
    report_progress,
)
from mergeshift import Registry, UnknownNameError, UserError

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0  # seconds until a test gives up; nothing waits for it to pass


@pytest.fixture(scope="module")
def local() -> Iterator[ProcessExecutor]:
    with executor(2) as workers:
        assert isinstance(workers, ProcessExecutor)
        yield workers


@pytest.fixture(params=["here", "local"])
def either(request: pytest.FixtureRequest) -> Executor:
    return SerialExecutor() if request.param == "here" else request.getfixturevalue("local")


# -- units of work: workers import them by name --------------------------------------------------


def forward(seed: int, size: int) -> bytes:
    """Something that depends on the number of threads in its last bits, if on anything."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, size, generator=generator)
    return torch.softmax(x @ x.T / size, -1).sum(0).numpy().tobytes()


def threads() -> tuple[int, int]:
    return torch.get_num_threads(), os.getpid()


def steps(count: int, size: float) -> int:
    for _ in range(count):
        report_progress(size)
    return count


def fail(kind: str) -> None:
    if kind == "name":
        Registry[int]("fruit")["aple"]
    raise {"user": UserError("one line"), "value": ValueError("inner")}[kind]


def vanish() -> None:
    os._exit(1)


# -- results -------------------------------------------------------------------------------------


def test_both_engines_give_the_same_bytes(local):
    units = [(seed, size) for seed in range(4) for size in (3, 64)]
    here = dict(SerialExecutor().run(forward, units))
    assert list(here) == units  # one after the other
    assert dict(local.run(forward, units)) == here
    assert len(set(here.values())) == len(units)


def test_every_unit_has_one_thread_and_the_caller_keeps_its_own(either):
    torch.set_num_threads(2)
    ((_, (number, process)),) = either.run(threads, [()])
    assert number == 1
    assert (process == os.getpid()) == isinstance(either, SerialExecutor)
    assert torch.get_num_threads() == 2


def test_no_work_is_done_at_once(either):
    assert list(either.run(fail, [])) == []


def test_the_number_of_jobs_decides_the_engine(local):
    with executor(1) as alone:
        assert isinstance(alone, SerialExecutor)
        assert alone.jobs == 1
    assert local.jobs == 2
    assert 1 <= default_jobs() <= (os.cpu_count() or 1)


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "error", "said"), [
    ("user", UserError, "one line"),
    ("name", UnknownNameError, "no fruit named 'aple'; Known: "),
    ("value", ValueError, "inner"),
])  # fmt: skip
def test_an_exception_reaches_the_caller_as_it_was(either, kind, error, said):
    with pytest.raises(error) as caught:
        list(either.run(fail, [(kind,)]))
    assert type(caught.value) is error
    assert str(caught.value) == said
    assert [result for _, result in either.run(steps, [(1, 1.0)])] == [1]  # it goes on working


def test_after_an_exception_no_further_unit_begins(tmp_path):
    def touch(path: Path | None) -> None:
        if path is None:
            raise UserError("stop")
        path.touch()

    with pytest.raises(UserError, match="stop"):
        list(SerialExecutor().run(touch, [(tmp_path / "a",), (None,), (tmp_path / "b",)]))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_worker_that_is_killed_is_one_line():
    with executor(2) as workers, pytest.raises(UserError, match="a worker was killed") as caught:
        list(workers.run(vanish, [()]))
    assert "\n" not in str(caught.value)


# -- steps ---------------------------------------------------------------------------------------


def test_here_tells_of_every_step():
    told: list[float] = []
    list(SerialExecutor().run(steps, [(3, 1.0)], told.append))
    assert told == [1, 2, 3]


def test_the_watcher_hears_of_all_units_together(either):
    told: list[float] = []
    for _ in range(2):  # the count begins anew with every call
        told.clear()
        list(either.run(steps, [(3, 1.0), (2, 0.5), (4, 2.0)], told.append))
        assert told == sorted(told)
        assert told[-1] == 3 + 1 + 8


def test_steps_need_no_watcher(either):
    report_progress()
    assert [result for _, result in either.run(steps, [(2, 1.0)])] == [2]


# -- workers end with their parent ---------------------------------------------------------------

HOLD = """
import os, sys, threading
from pathlib import Path
import numpy as np
from corruptions.base import Shift, corruption

PIPE = Path(sys.argv[2])

def hold(pipe):  # says through a named pipe that a worker is at work, and works for ever
    os.write(os.open(pipe, os.O_WRONLY), b"x")
    threading.Event().wait()

@corruption(family="noise", source="a test")
def holding(image, severity, constants, rng):
    hold(PIPE)

if __name__ == "__main__":
    if sys.argv[1] == "engine":
        from bench.runtime.workers import ProcessExecutor
        list(ProcessExecutor(2).run(hold, [(PIPE,), (PIPE,)]))
    else:
        from corruptions.cache import precompute
        images = np.zeros((2, 600, 600, 3), np.uint8)
        precompute([(images, Shift("holding", 1), "a")], data_seed=0, folder=PIPE.parent, jobs=2)
"""


def read(handle: int) -> bytes:
    """What comes out of a pipe next; nothing once everybody at its other end is gone."""
    ready, _, _ = select.select([handle], [], [], PATIENCE)
    assert ready, "nothing was heard from the workers"
    return os.read(handle, 1)


@pytest.mark.parametrize("kind", ["engine", "corruptions"])
def test_workers_end_when_their_parent_is_killed(kind, tmp_path):
    pipe, script = tmp_path / "pipe", tmp_path / "script.py"
    os.mkfifo(pipe)
    script.write_text(HOLD)
    handle = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script), kind, str(pipe)], env=environment)
    try:
        assert read(handle) + read(handle) == b"xx"  # two workers are at work
        parent.send_signal(signal.SIGKILL)
        assert parent.wait(PATIENCE) == -signal.SIGKILL
        assert read(handle) == b""  # both are gone
    finally:
        parent.kill()
        os.close(handle)
