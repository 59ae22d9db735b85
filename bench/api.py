"""What ``import mergeshift`` hands on: sweeps, merges and results for notebooks and scripts.

>>> import mergeshift
>>> results = mergeshift.sweep("smoke", out="results/runs")  # doctest: +SKIP
>>> results.table(by="task")  # doctest: +SKIP
>>> results.plot("severity")  # doctest: +SKIP

See docs/python.md, and docs/quickstart.ipynb, which is executed.
"""

import json
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
from rich.console import Console
from torch import Tensor, nn

from bench.cli.check import of_method
from bench.cli.options import OUT
from bench.cli.plot import DRAWN, Kind
from bench.cli.sweep import name_of
from bench.cli.table import By, compared, one_folder, put_beside, sheet
from bench.config import Sweep
from bench.reporting.sweep_index import load_sweep, rows_of_all
from bench.runtime import devices
from bench.stages.source import version_of
from bench.sweep import run_sweep, run_weights
from bench.sweeps import find_sweep, with_fields
from bench.zoo.conversion import config_of
from mergeshift import UserError
from methods import METHODS, MergingMethod
from methods import merge as merge_states
from methods.common.vit import ViT
from methods.common.weights import save_checkpoint
from results.latex.paper_table import paper_float
from results.render.text import AnyTable, render, write_latex
from results.report.page import write as write_page
from results.schema import CEILING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

State = Mapping[str, Tensor]
Method = TypeVar("Method", bound=type[MergingMethod])
Choice = TypeVar("Choice", bound=StrEnum)
OWN_MODULES = ("methods", "bench")  # methods of any other place are of this session alone


class ShownTable:
    """A table of results: HTML in a notebook, text where it is printed.

    ``str(table)`` is what ``python -m bench table --notes`` prints on 100 columns.
    """

    def __init__(self, table: AnyTable):
        self.table = table

    def frame(self) -> pd.DataFrame:
        """Every number, unrounded and in natural units: ``entry``, ``column``, ``value`` ...

        Shares are in [0, 1], and a drop is above 0 for a fall.
        """
        return self.table.frame()

    def to(self, form: str) -> str:
        """The table as ``text``, ``md``, ``html``, ``csv``, ``json`` or ``latex``.

        CSV and JSON have the units and signs that the table prints.

        Raises:
            UserError: no such form.
        """
        forms = ("text", "md", "html", "csv", "json", "latex")
        if form not in forms:
            raise UserError(f"a table is written as {', '.join(forms)}; got {form!r}")
        return render(self.table, form)

    def latex(self, label: str = "") -> str:
        """A LaTeX float; references call it ``label``."""
        return render(self.table, "latex", label=label)

    def save_latex(self, path: str | Path, *, standalone: bool = False, label: str = "") -> None:
        """Write LaTeX to ``path`` and the papers that it cites to a ``.bib`` beside it.

        Args:
            path: a .tex file.
            standalone: a whole document.
            label: see :meth:`latex`.

        Raises:
            UserError: it cannot be written.
        """
        write_latex(self.table, Path(path), standalone, label)

    def _repr_html_(self) -> str:
        return render(self.table, "html")

    def __str__(self) -> str:
        return render(self.table, "text")

    __repr__ = __str__


@dataclass(frozen=True)
class Results:
    """The finished measurements of a sweep; of several folders, where :func:`load` was given them.

    In a notebook it shows as its table.
    """

    folders: tuple[Path, ...]
    records: tuple[dict[str, Any], ...]  # of each folder, which runs and shifts the sweep has

    @classmethod
    def read(cls, folders: Sequence[str | Path], sweep: str = "", run: str = "") -> "Results":
        """See :func:`load`; ``run``: the sweep that has this run."""
        paths = tuple(map(Path, folders))
        return cls(paths, tuple(load_sweep(path, sweep, run) for path in paths))

    @property
    def name(self) -> str:
        """What the sweep is called; the first, where there are several."""
        return str(self.records[0]["name"])

    @cached_property
    def _rows(self) -> pd.DataFrame:
        return self._rows_of(())

    def _rows_of(self, methods: Collection[str]) -> pd.DataFrame:
        return rows_of_all(list(zip(self.folders, self.records, strict=True)), methods)

    def frame(self, metric: str = "") -> pd.DataFrame:
        """Tidy rows, one for each measurement: run, task, shift, seed, metric, value, count.

        Columns are those of :mod:`results.schema`, with ``variant`` (the fields that were fixed for
        a line) and ``changed`` (files of a method that are others now). Values are in natural
        units: shares in [0, 1], nats, seconds.

        Args:
            metric: of which metric; empty for all.

        Raises:
            UserError: nothing is measured by that name.
        """
        if not metric:
            return self._rows.copy()
        known = list(self._rows["metric"].unique())
        if metric not in known:
            raise UserError(f"no rows of metric {metric!r}; there are: {', '.join(known)}")
        return self._rows[self._rows["metric"] == metric].reset_index(drop=True)

    def table(
        self,
        by: str = "",
        metric: str = "acc",
        *,
        methods: Sequence[str] = (),
        shift: str = "clean",
        reference: str = "",
        published: Sequence[str] | None = None,
    ) -> ShownTable:
        """The comparison that ``python -m bench table`` prints.

        Args:
            by: what a column is: shift, seen, task, severity, corruption, routing, uncertainty,
                tuning, ranks or mce. If empty shift; seen where experts were left out.
            metric: acc, nll, ece, eval_s ...
            methods: some of them, or variants (``"ties[keep=0.1]"``); none for all.
            shift: with ``by="task"``, under which shift.
            reference: with ``by="mce"``, the line whose errors are 100 %; pretrained if empty.
            published: sources whose numbers stand beside ours; ``["own"]`` those with our experts.

        Raises:
            UserError: the methods were not measured on the same cells, or a name is not known.
        """
        usual = By.shift if self._rows["seen"].all() else By.seen
        column = _one_of(By, by or usual.value, "by")
        wanted = [*methods, CEILING] if methods and column is By.routing else methods
        rows = self._rows_of(wanted) if wanted else self._rows
        if published is not None:
            return ShownTable(put_beside(rows, list(published), metric, column.value, shift))
        name = self.name
        return ShownTable(compared(rows, metric, column, shift, self.folders, name, reference))

    def plot(
        self, kind: str = "severity", metric: str = "acc", *, methods: Sequence[str] = ()
    ) -> "Figure":
        """A figure of matplotlib, not bound to a window: ``.savefig(path)`` writes it.

        Args:
            kind: severity, heatmap, routing, coefficients, tuning, scale or critical-difference.
            metric: that is drawn.
            methods: some of them; none for all.

        Raises:
            UserError: the results do not hold what the figure shows.
        """
        wanted = _one_of(Kind, kind, "kind")
        rows = self._rows_of(methods) if methods else self._rows
        of_stores = wanted in (Kind.coefficients, Kind.tuning, Kind.scale)
        folder = one_folder(self.folders, kind) if of_stores else self.folders[0]
        figure, _ = DRAWN[wanted](rows, folder, metric)
        _show_figures_in_a_notebook()
        return figure

    def latex(self, preset: str = "", *, label: str = "", **choices: Any) -> str:
        """A LaTeX float.

        Args:
            preset: laid out as a paper's, e.g. ``"bd-table1"``; empty for the table of
                :meth:`table`, to which ``choices`` go.
            label: what references call it.
            choices: by, metric, methods, shift ... of :meth:`table`; of a preset methods and shift.

        Raises:
            UserError: no such preset, or the results are not what it prints.
        """
        if not preset:
            return self.table(**choices).latex(label)
        methods, shift = choices.get("methods", ()), choices.get("shift", "clean")
        metric = choices.get("metric", "acc")
        folder = one_folder(self.folders, "a preset")
        source = sheet(preset, folder, self.name, methods, metric, shift)
        return paper_float(source, label).source

    def report(
        self, path: str | Path = "report.html", *, methods: Sequence[str] = (), examples: int = 0
    ) -> Path:
        """Write one HTML page about the sweep; it needs no network.

        Args:
            path: an .html file.
            methods: some of them; none for all.
            examples: test images of each task to show; then methods are built again.

        Returns:
            The path.

        Raises:
            UserError: it cannot be written, or a method cannot be built again.
        """
        from bench.reporting.html import page_of

        folder = one_folder(self.folders, "a report")
        text = page_of(folder, self.name, methods, examples)
        return write_page(Path(path), text)

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__


def sweep(
    name: str | Sweep = "main",
    *,
    out: str | Path = OUT,
    device: str = "auto",
    jobs: int = 0,
    force: bool = False,
    quiet: bool = False,
    **fields: Any,
) -> Results:
    """Run a comparison, as ``python -m bench sweep`` does; what is finished is not run again.

    Methods that were registered in this session are run by one worker, which is this process.

    Args:
        name: a named sweep, a TOML file, or a :class:`bench.config.Sweep`.
        out: the folder of the results.
        device: auto, cpu, cuda, cuda:NUMBER or mps.
        jobs: worker processes; 0 takes one for each core.
        force: measure again what is there.
        quiet: print nothing.
        fields: fields of the sweep that are changed, ``methods=["ties", "average"], limit=100``.

    Returns:
        Its results.

    Raises:
        UserError: a name or a value is not known; one line says what to do.
    """
    wanted, console = _sweep_with(name, fields), Console(quiet=quiet)
    with devices.using(device):
        jobs = _jobs_for(wanted, jobs or devices.jobs(), console)
        plan, _ = run_sweep(
            wanted, Path(out), jobs=jobs, force=force, dry_run=False, console=console
        )
    return Results.read([out], plan.sweep.name, plan.runs[0].id)


def load(out: str | Path | Sequence[str | Path] = OUT, sweep: str = "") -> Results:
    """The results of a finished sweep, by default the latest in the folder.

    Args:
        out: a folder of results; of several, the sweeps are put together into one table, if they
            are of the same images and encoder.
        sweep: its name.

    Raises:
        UserError: there is none, it is not finished, or the folders do not fit.
    """
    results = Results.read([out] if isinstance(out, (str, Path)) else out, sweep)
    results.frame()  # what is missing is said here, and not when a table is asked for
    return results


def merge(
    method: str, base: State, experts: Mapping[str, State] | Sequence[State], **settings: Any
) -> dict[str, Tensor]:
    """Merge state dicts that were fine-tuned from ``base``; see :func:`methods.api.merge`.

    Args:
        method: its name, see ``python -m bench list methods``.
        base: name -> tensor, of any model.
        experts: of the same names and shapes.
        settings: of the method, ``scale=0.3``; others are as declared.

    Returns:
        Name -> tensor, float32 (float64 where given); integers are the base's.

    Raises:
        UserError: an unknown method or setting, or models that do not fit.
    """
    return merge_states(method, base, experts, **settings)


def evaluate(
    weights: str | Path | State | nn.Module,
    suite: str = "",
    *,
    name: str = "",
    sweep: str | Sweep = "main",
    out: str | Path = OUT,
    device: str = "auto",
    jobs: int = 1,
    force: bool = False,
    quiet: bool = False,
    tower: str = "",
    **fields: Any,
) -> Results:
    """Measure an image tower on a suite, as ``python -m bench evaluate`` does.

    It is the CLIP tower of the suite's encoder (or of ``encoder=``), in the names of open_clip or
    transformers, alone or in a whole model. A module's activation and heads are compared with the
    encoder's; of a state dict they are not known.

    Args:
        weights: a file, a folder with one, a state dict, or a module of open_clip or transformers.
        suite: whose tasks; that of ``sweep`` if empty.
        name: as tables print it; the file's, or ``model``.
        sweep: whose cells are measured: shifts, limit, encoder ...
        out: the folder of the results; a sweep of the same cells there stands in the same table.
        device: auto, cpu, cuda, cuda:NUMBER or mps.
        jobs: worker processes; 0 takes one for each core.
        force: measure again what is there; take the place of another of the same name.
        quiet: print nothing.
        tower: of several towers in one file that whose names begin so.
        fields: fields of the sweep that are changed, ``shifts=["clean"], limit=100``.

    Returns:
        The results of the sweep with these cells, or of the model alone where none was run.

    Warns:
        Notice: it is as small as a task vector.

    Raises:
        UserError: it is no such tower, holds NaN, or the name is that of a method.
    """
    wanted = _sweep_with(sweep, fields | ({"suite": suite} if suite else {}))
    alone = replace(wanted, methods=("pretrained",), seeds=(0,), settings=(), tune=False)
    with devices.using(device), TemporaryDirectory() as folder:
        path = Path(weights) if isinstance(weights, (str, Path)) else _written(weights, folder)
        plan, _ = run_weights(
            alone, path, name or path.stem, Path(out),
            jobs=jobs or devices.jobs(), force=force, console=Console(quiet=quiet), wanted=tower,
        )  # fmt: skip
    return Results.read([out], run=plan.runs[0].id)


def register(name: str) -> Callable[[Method], Method]:
    """Add a method of one's own to sweeps, tables and figures of this session; a decorator.

    A cell that is run again takes the place of what it defined before. Unless the class has a
    ``version``, its code decides it: what is changed is measured anew, and what is not is kept.

    >>> from methods.base import NO_PAPER, MergingMethod, mean
    >>> @register("halfway")
    ... class Halfway(MergingMethod):
    ...     "theta = theta_0 + 0.5 * mean(tau)"
    ...     title, paper = "Halfway", NO_PAPER
    ...     def merge(self, ckpts):
    ...         return ckpts.base + 0.5 * mean(ckpts.task_vectors)

    Raises:
        UserError: a method of the package has this name, or it is no name.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise UserError(f"the name of a method is a word of letters, digits and _; got {name!r}")
    if name in METHODS and not _of_session(name):
        raise UserError(f"there is a method {name!r} in the package; give another name")

    def add(cls: Method) -> Method:
        METHODS.discard(name)
        if "version" not in vars(cls):
            cls.version = version_of(cls)
        METHODS.add(name, cls)
        return cls

    return add


def check(method: str | type[MergingMethod]) -> dict[str, str]:
    """Run the contract on one method, see ``python -m bench check``.

    Args:
        method: its name, or a class that is registered.

    Returns:
        Check -> what it found wrong; empty for one that holds.

    Raises:
        UserError: the class is not registered.
    """
    cls = METHODS[method] if isinstance(method, str) else method
    if METHODS.get(getattr(cls, "name", "")) is not cls:
        raise UserError(f"{cls.__name__} is not registered: put @mergeshift.register above it")
    verdicts = {}
    for name, says, run in of_method(cls):
        try:
            run()
            verdicts[name] = ""
        except (AssertionError, PermissionError, UserError) as error:
            verdicts[name] = str(error) or f"does not hold: {says}"
    return verdicts


def _sweep_with(name: str | Sweep, fields: Mapping[str, Any]) -> Sweep:
    """A sweep with some fields changed; one of the named ones is then called otherwise."""
    lists = {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}
    found = name if isinstance(name, Sweep) else find_sweep(name)
    changed = with_fields(found, lists)
    if changed == found or isinstance(name, Sweep):
        return changed
    return replace(changed, name=name_of(found, changed))


def _of_session(name: str) -> bool:
    """Whether a method was defined where no other process finds it."""
    return METHODS[name].__module__.partition(".")[0] not in OWN_MODULES


def _jobs_for(sweep: Sweep, jobs: int, console: Console) -> int:
    """So many jobs; one where a method is of this session."""
    words = set(re.findall(r"\w+", " ".join([*sweep.methods, *sweep.settings])))
    own = [name for name in METHODS if name in words and _of_session(name)]
    if own and jobs > 1:
        console.print(
            f"{', '.join(own)}: defined in this session, so this process alone runs the sweep",
            highlight=False,
            soft_wrap=True,
        )
        return 1
    return jobs


def _written(model: State | nn.Module, folder: str) -> Path:
    """A model as a file of tensors; beside it what a module says of its architecture."""
    path = Path(folder, "model.safetensors")
    state = model.state_dict() if isinstance(model, nn.Module) else model
    save_checkpoint(path, {name: t for name, t in state.items() if isinstance(t, Tensor)})
    visual: Any = getattr(model, "visual", model)
    config: Any = getattr(model, "config", None)
    if hasattr(config, "to_dict"):  # transformers
        path.with_name("config.json").write_text(json.dumps(config.to_dict(), default=str))
    elif type(visual).__module__.startswith("open_clip."):
        path.with_name("config.json").write_text(json.dumps(config_of(ViT.of(visual))))
    return path


def _one_of(kind: type[Choice], value: str, what: str) -> Choice:
    """A word that one of a few may be.

    Raises:
        UserError: it is none of them.
    """
    try:
        return kind(value)
    except ValueError:
        raise UserError(f"{what} is one of {', '.join(kind)}; got {value!r}") from None


def _show_figures_in_a_notebook() -> None:
    """A figure that is the last value of a cell is shown there; elsewhere nothing happens.

    Jupyter learns how to show them from its own backend of matplotlib, which pyplot would load;
    these figures are made without pyplot.
    """
    if "ipykernel" in sys.modules:
        import_module("matplotlib_inline.backend_inline")
