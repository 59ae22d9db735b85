"""A search for the constants of a method: an Optuna study that can be killed and repeated.

Trial number n is drawn by a sampler of its own, seeded from (seed, n), out of the trials before it.
A study that was killed therefore goes on exactly as if it had not been: trials that ended are read
from its journal, a file that a kill may tear and that two processes may want; the one that had not
is done again.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock

from mergeshift import UserError, seed_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.storages.journal import BaseJournalBackend


SAMPLERS = ("tpe", "gp", "random", "cmaes")

Space = Mapping[str, tuple[float, float, bool]]  # name -> lowest, highest, on a log scale?


class Trial(NamedTuple):
    """A point that was scored."""

    params: dict[str, float]
    value: float
    seconds: float  # of the score alone, when it was worked out


def search(
    space: Space,
    score: Callable[[dict[str, float]], float],
    *,
    starts: Sequence[dict[str, float]],
    trials: int,
    startup: int,
    sampler: str,
    seed: int,
    journal: Path | None,
    watch: Callable[[], None] = lambda: None,
    population: int | None = None,
) -> list[Trial]:
    """Look for the point of ``space`` with the highest ``score``.

    Args:
        space: the range of every parameter.
        score: what is maximised; asked once per trial, not at all for what the journal holds.
        starts: points that are tried first, whatever the sampler.
        trials: how many in all, ``starts`` and what the journal holds included.
        startup: the first so many (``starts`` included) are drawn at random, if not given.
        sampler: ``tpe`` (multivariate), ``gp``, ``random``, or ``cmaes``, which begins in the
            middle of the space.
        seed: of all that is drawn.
        journal: the file that trials are kept in as they end; ``None`` keeps none. Another process
            that searches with the same file waits, then finds all trials done.
        watch: called for every trial, also for those that the journal holds.
        population: of a generation of ``cmaes``; ``None``: 4 + 3 log(parameters).

    Returns:
        The trials, in order; :func:`best` picks one.

    Raises:
        ValueError: no such sampler; a start that is no point of the space; a score that is not
            finite.
        UserError: the journal cannot be written.
    """
    import optuna

    ranges = distributions(space)
    for start in starts:
        check_start(start, space)
    parts = (sorted(space.items()), list(starts), startup, sampler, seed)
    name = digest(*parts) if population is None else digest(*parts, population)
    with open_storage(journal) as storage, quiet():
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        for trial in study.get_trials(deepcopy=False):
            if not trial.state.is_finished():  # it was running when its process was killed
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        done = [Trial({name: t.params[name] for name in space}, *t[1:]) for t in finished(study)]
        del done[trials:]
        for _ in done:
            watch()
        for number in range(len(done), trials):
            study.sampler = sampler_of(sampler, startup, seed_of("trial", seed, number), population)
            point = dict(starts[number]) if number < len(starts) else None
            done.append(one(study, point, score, ranges))
            watch()
    return done


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest value; of equal ones the first."""
    return max(trials, key=lambda trial: trial.value)


def study_of(space: Space, trials: Sequence[Trial]) -> "Study":
    """A study in memory that holds ``trials``, for Optuna's own evaluations."""
    import optuna

    with quiet():
        study = optuna.create_study(direction="maximize")
        for trial in trials:
            add(study, trial, distributions(space))
    return study


# -- a trial -------------------------------------------------------------------------------------


def one(
    study: "Study",
    point: dict[str, float] | None,
    score: Callable[[dict[str, float]], float],
    ranges: dict[str, "BaseDistribution"],
) -> Trial:
    """Score ``point``, or a point that the study's sampler draws, and keep that."""
    asked = study.ask(ranges) if point is None else None
    params = {name: (asked.params if asked else point or {})[name] for name in ranges}
    start = perf_counter()
    value = float(score(dict(params)))
    trial = Trial(params, value, perf_counter() - start)
    if not abs(value) < float("inf"):
        raise ValueError(f"the score at {params} is {value}; it must be finite")
    if asked is None:
        add(study, trial, ranges)
    else:
        asked.set_user_attr("seconds", trial.seconds)
        study.tell(asked, value)
    return trial


def add(study: "Study", trial: Trial, ranges: dict[str, "BaseDistribution"]) -> None:
    """Put a trial that has ended into a study."""
    from optuna.trial import create_trial

    study.add_trial(
        create_trial(
            params=dict(trial.params),
            distributions=ranges,
            value=trial.value,
            user_attrs={"seconds": trial.seconds},
        )
    )


def finished(study: "Study") -> list[Trial]:
    """The trials of a study that have ended well, in order."""
    from optuna.trial import TrialState

    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [
        Trial(dict(trial.params), float(trial.value or 0), trial.user_attrs["seconds"])
        for trial in ended
    ]


def sampler_of(name: str, startup: int, seed: int, population: int | None = None) -> "BaseSampler":
    """A new sampler: it remembers nothing but what the study holds."""
    from optuna import samplers

    if name == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True)
    if name == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=startup, deterministic_objective=True)
    if name == "random":
        return samplers.RandomSampler(seed=seed)
    if name == "cmaes":
        return samplers.CmaEsSampler(seed=seed, n_startup_trials=startup, popsize=population)
    raise ValueError(f"no sampler {name!r}; there are: {', '.join(SAMPLERS)}")


def distributions(space: Space) -> dict[str, "BaseDistribution"]:
    """The space in Optuna's words."""
    from optuna.distributions import FloatDistribution

    return {name: FloatDistribution(low, high, log=log) for name, (low, high, log) in space.items()}


def check_start(start: Mapping[str, float], space: Space) -> None:
    """Refuse a start that is no point of ``space``."""
    inside = start.keys() == space.keys() and all(
        low <= start[name] <= high for name, (low, high, _) in space.items()
    )
    if not inside:
        raise ValueError(f"the start {dict(start)} is no point of {dict(space)}")


def digest(*parts: Any) -> str:
    """A name for a search: one with another space, start, sampler or seed has another."""
    return blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its messages, and without its warnings that something may still change."""
    from optuna import logging
    from optuna.exceptions import ExperimentalWarning

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        logging.set_verbosity(before)


# -- the journal ---------------------------------------------------------------------------------


@contextmanager
def open_storage(journal: Path | None) -> Iterator["BaseStorage | None"]:
    """The storage in a file, for this process alone; ``None`` stands for one in memory."""
    if journal is None:
        yield None
        return
    from optuna.storages import JournalStorage

    with writing(journal):
        journal.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{journal}.lock")  # the system lets go of it, whatever ends the process
        lock.acquire()
    try:
        with writing(journal):
            drop_torn_tail(journal)
        yield JournalStorage(backend_of(journal))
    finally:
        lock.release()


@contextmanager
def writing(journal: Path) -> Iterator[None]:
    """Say in one line that the journal cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {journal}: {error.strerror or error}") from error


def backend_of(journal: Path) -> "BaseJournalBackend":
    """Optuna's file of one JSON line an operation."""
    from optuna.storages.journal import JournalFileBackend

    class Backend(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            with writing(journal):
                super().append_logs(logs)

    return Backend(str(journal), lock_obj=_NoLock())  # type: ignore[arg-type]


def drop_torn_tail(journal: Path) -> None:
    """Cut off what a kill left half-written: from the first line that is not whole to the end."""
    if not journal.exists():
        return
    text = journal.read_bytes()
    whole = sum(map(len, whole_lines(text)))
    if whole < len(text):
        with journal.open("rb+") as file:
            file.truncate(whole)


def whole_lines(text: bytes) -> Iterator[bytes]:
    """The lines up to the first that a kill, or another process at this moment, left unfinished."""
    for line in text.splitlines(keepends=True):
        try:
            json.loads(line)
        except ValueError:
            return
        if not line.endswith(b"\n"):
            return
        yield line


def elapsed_seconds(journal: Path) -> float:
    """Seconds that the trials in a journal took; 0 if there is none."""
    if not journal.exists():
        return 0.0
    told = [json.loads(line) for line in whole_lines(journal.read_bytes())]  # it may be in use
    return sum(
        one.get(key, {}).get("seconds", 0.0) for one in told for key in ("user_attr", "user_attrs")
    )


class _NoLock:
    """In place of Optuna's lock, a file that a kill leaves behind: the search has its own."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing is held."""
