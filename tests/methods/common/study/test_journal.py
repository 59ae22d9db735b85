"""A search that is killed, torn, full or doubled goes on as if it had not been."""

import errno
import json
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest

from mergeshift import UserError
from tests.helpers.toy_study import STARTS, bowl, find, points


@pytest.mark.parametrize(
    ("sampler", "at"),
    [("tpe", 0), ("tpe", 1), ("tpe", 2), ("tpe", 6), ("tpe", 11), ("random", 6), ("gp", 6)],
)
def test_a_search_that_breaks_off_goes_on_as_if_it_had_not(tmp_path, sampler, at):
    trials = 8 if sampler == "gp" else 12  # it is the slow one
    whole = points(find(sampler=sampler, trials=trials))
    seen = []

    def breaks(params):
        if len(seen) == at:
            raise KeyboardInterrupt
        seen.append(params)
        return bowl(params)

    journal = tmp_path / "new" / "study.journal"
    with pytest.raises(KeyboardInterrupt):
        find(breaks, sampler=sampler, trials=trials, journal=journal)
    assert seen == [params for params, _ in whole[:at]]
    again = []
    resumed = find(
        lambda p: again.append(p) or bowl(p), sampler=sampler, trials=trials, journal=journal
    )
    assert points(resumed) == whole
    assert again == [params for params, _ in whole[at:]]


def killed(journal, at, moment):
    """A search whose process dies at trial number ``at``, in its score or just after it."""
    count = 0

    def score(params):
        nonlocal count
        if count == at and moment == "score":
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        if count == at + 1 and moment == "write":
            fsync, calls = os.fsync, []

            def die(handle):
                calls.append(handle)
                if len(calls) == 2:  # seconds are written, the value is not yet on the disk
                    os.truncate(journal, journal.stat().st_size - 5)
                    os.kill(os.getpid(), signal.SIGKILL)
                fsync(handle)

            os.fsync = die
        return bowl(params)

    find(score, journal=journal)


@pytest.mark.parametrize("moment", ["score", "write"])
def test_kill_minus_nine(tmp_path, moment):
    journal = tmp_path / "study.journal"
    whole = points(find())
    for at, before in ((4, 0), (3, 4)):  # twice: 4 trials done, then 3 more
        child = multiprocessing.get_context("fork").Process(
            target=killed, args=(journal, at, moment)
        )
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert before < len(journal.read_bytes().splitlines())
    again = []
    assert points(find(lambda p: again.append(p) or bowl(p), journal=journal)) == whole
    assert again == [params for params, _ in whole[7:]]
    states = [json.loads(line).get("state") for line in journal.read_text().splitlines()]
    failed = optuna.trial.TrialState.FAIL.value
    assert states.count(failed) == 2


def test_every_torn_last_line_resumes(tmp_path):
    whole = find()
    journal = tmp_path / "study.journal"
    find(journal=journal)
    text = journal.read_bytes()
    cut = len(text) - len(b"".join(text.splitlines(keepends=True)[-3:]))
    for size in [0, 1, *range(cut, len(text), 40)]:
        journal.write_bytes(text[:size])
        assert points(find(journal=journal)) == points(whole)
    journal.write_bytes(text[:cut] + b"\0" * 40)  # what a machine that lost power may leave
    assert points(find(journal=journal)) == points(whole)


def test_a_finished_search_is_read_and_a_longer_one_goes_on(tmp_path):
    journal = tmp_path / "study.journal"
    whole = find(journal=journal)
    asked = []
    assert find(asked.append, journal=journal) == whole  # seconds too
    assert find(asked.append, journal=journal, trials=5) == whole[:5]
    assert asked == []
    longer = find(lambda p: asked.append(p) or bowl(p), journal=journal, trials=14)
    assert longer[:12] == whole
    assert len(asked) == 2
    assert points(longer) == points(find(trials=14))


def test_another_search_in_the_same_journal_is_apart(tmp_path):
    journal = tmp_path / "study.journal"
    find(journal=journal)
    for other in ({"seed": 1}, {"sampler": "random"}, {"startup": 2}, {"starts": STARTS[:1]}):
        assert points(find(journal=journal, **other)) == points(find(**other))


def test_two_searches_at_once_do_each_trial_once(tmp_path):
    journal, asked = tmp_path / "study.journal", []

    def score(params):
        asked.append(params)
        return bowl(params)

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(find, score, journal=journal) for _ in range(2)]
        first, second = (one.result() for one in both)
    assert first == second
    assert points(first) == points(find())
    assert len(asked) == 12


def test_a_full_disk_is_said_in_one_line(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = tmp_path / "study.journal"
    find(journal=journal, trials=3)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*study\.journal: No space left on device"):
        find(journal=journal)
    monkeypatch.undo()
    assert points(find(journal=journal)) == points(find())
