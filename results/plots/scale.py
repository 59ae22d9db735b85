"""How accuracy depends on a method's scale: on val while it was tuned, on test, under shift."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from corruptions.base import LEVELS
from mergeshift import UserError
from results.plots.style import LineStyle, empty, line_styles, plain, wrapped
from results.schema import METRICS
from results.statistics import Interval, mean_interval
from results.tables.comparison import Table, compare
from results.tables.entries import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIELD = "scale"
VAL = "validation, clean"
FAR = 20  # so many times the smallest scale: the axis is logarithmic


class Trials(NamedTuple):
    """What tuning found on val about the scale of one method, its other constants as chosen."""

    method: str
    rest: Mapping[str, Any]  # these other constants
    accuracies: Mapping[float, Mapping[str, float]]  # scale -> task -> accuracy
    counts: Mapping[str, int]  # task -> images
    chosen: float


@dataclass
class Curve:
    """One line of the figure: a method, its other constants fixed."""

    entry: Entry
    rest: Mapping[str, Any]  # these constants
    title: str = ""
    panels: dict[str, dict[float, Interval]] = field(default_factory=dict)  # name -> scale -> value
    chosen: float | None = None  # on val


def curves(
    rows: pd.DataFrame, trials: Sequence[Trials], metric: str = "acc", order: Sequence[str] = ()
) -> tuple[list[Curve], Table]:
    """A curve for every method that was measured at two scales or more, or tuned over them.

    Args:
        rows: a frame of the columns in ``results.schema``.
        trials: of the methods that were tuned; shown for accuracy alone.
        metric: what is drawn.
        order: methods to put first, in this order.

    Raises:
        UserError: there is none, or the methods were not measured on the same cells.
    """
    table = compare(rows, metric, order=order)
    panels = [name for name in table.columns if name in ("clean", *LEVELS)] or list(table.columns)
    found: dict[tuple[str, str], Curve] = {}
    for entry in table.entries:
        scale = scale_of(entry)
        if scale is None:
            continue
        rest = rest_of(entry)
        curve = found.setdefault((entry.method, _canonical(rest)), Curve(entry, rest))
        for name in panels:
            cell = table.cells[entry.key, name]
            value = Interval(cell.value, cell.low, cell.high)
            curve.panels.setdefault(name, {}).setdefault(scale, value)
    for one in trials if metric == "acc" else ():
        if (key := (one.method, _canonical(one.rest))) in found:
            curve = found[key]
            curve.panels[VAL] = {s: _mean(a, one.counts) for s, a in one.accuracies.items()}
            curve.chosen = one.chosen
    kept = [curve for curve in found.values() if any(len(p) > 1 for p in curve.panels.values())]
    for curve in kept:
        curve.title = title_of(
            curve, [one for one in kept if one.entry.method == curve.entry.method]
        )
    if not kept:
        raise UserError(
            "no method here was measured at two scales, or tuned over them; run a sweep with "
            "task_arithmetic, or variants: --methods 'ties[scale=0.5],ties[scale=1.0]'"
        )
    return kept, table


def scale_of(entry: Entry) -> float | None:
    """The scale of a line, if its method has one number for it."""
    value = json.loads(entry.config).get(FIELD) if entry.config else None
    if value is None and (found := re.search(rf"\b{FIELD}=([^,\]]+)", entry.key)):
        value = found[1]
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def rest_of(entry: Entry) -> dict[str, Any]:
    """The other constants of a line; where sets of experts have each their own, what is fixed."""
    if entry.config:
        return {name: v for name, v in json.loads(entry.config).items() if name != FIELD}
    inner = entry.key[entry.key.index("[") + 1 : -1] if "[" in entry.key else ""
    pairs = [part.partition("=") for part in inner.split(", ") if part]
    return {name: value for name, _, value in pairs if name != FIELD}


def title_of(curve: Curve, alike: Sequence[Curve]) -> str:
    """Its method, and the constants in which it differs from other curves of that method."""
    bare = curve.entry.title.partition(" [")[0]
    differ = [
        f"{name}={value}"
        for name, value in curve.rest.items()
        if any(one.rest.get(name) != value for one in alike)
    ]
    return f"{bare} [{', '.join(differ)}]" if differ else bare


def _canonical(rest: Mapping[str, Any]) -> str:
    return json.dumps(rest, sort_keys=True)


def _mean(accuracies: Mapping[str, float], counts: Mapping[str, int]) -> Interval:
    return mean_interval(list(accuracies.values()), [counts[task] for task in accuracies])


def scale(
    rows: pd.DataFrame, trials: Sequence[Trials], metric: str = "acc", order: Sequence[str] = ()
) -> "Figure":
    """Accuracy against the scale, a panel for val, clean and each level, a line per method.

    Raises:
        UserError: see :func:`curves`.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    found, table = curves(rows, trials, metric, order)
    names = [  # a single point is no curve: it stands in a panel only beside one
        name
        for name in (VAL, *table.columns)
        if any(len(curve.panels.get(name, ())) > 1 for curve in found)
    ]
    figure = empty(max(4.6, 0.6 + 2.7 * len(names)), 3.9)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    spec, every = table.spec, [s for c in found for points in c.panels.values() for s in points]
    styles = line_styles(replace(curve.entry, key=_key(curve)) for curve in found)
    for axes, name in zip(panels, names, strict=True):
        for curve in found:
            if len(curve.panels.get(name, ())) > 1:
                _line(axes, curve, curve.panels[name], spec.scale, styles[_key(curve)])
        if min(every) > 0 and max(every) / min(every) > FAR:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("scale")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    panels[0].set_ylabel(f"{spec.title.lower()} ({spec.unit})" if spec.unit else spec.title.lower())
    drawn = {line.get_label(): line for axes in panels for line in axes.get_lines()
             if not line.get_label().startswith("_")}  # fmt: skip
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=4, fontsize=8,
                  frameon=False)  # fmt: skip
    _suptitle(figure, table, any(curve.chosen is not None for curve in found))
    return figure


def _key(curve: Curve) -> str:
    """The line that it is: the same at any scale, and so it looks the same."""
    return curve.title if "[" in curve.title else curve.entry.method


def _line(
    axes: Any, curve: Curve, points: Mapping[float, Interval], unit: float, look: LineStyle
) -> None:
    x = sorted(points)
    y = [points[one].value * unit for one in x]
    band = [[getattr(points[one], side) * unit for one in x] for side in ("low", "high")]
    axes.fill_between(x, *band, color=look.colour, alpha=0.12, linewidth=0)
    axes.plot(x, y, look.dash, color=look.colour, marker=look.marker, markersize=4, linewidth=1.5,
              label=plain(curve.title))  # fmt: skip
    if curve.chosen is not None and curve.chosen in points:
        axes.plot([curve.chosen], [points[curve.chosen].value * unit], "*", color=look.colour,
                  markersize=13, markeredgecolor="black", markeredgewidth=0.7)  # fmt: skip


def _suptitle(figure: Any, table: Table, chosen: bool) -> None:
    setting = table.setting
    text = f"{METRICS[table.metric].title} by scale on {setting['suite']} with "
    text += f"{setting['encoder']}; setting: {table.world}; mean over tasks"
    text += "; bands: 95 % Wilson interval over images" * table.spec.counted
    text += "; star: chosen on validation data" * chosen
    figure.suptitle(wrapped(text, float(figure.get_figwidth())), fontsize=10, x=0.01, ha="left")
