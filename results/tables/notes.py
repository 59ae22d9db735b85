"""What every table says about itself, so that nobody has to guess."""

import math
from collections.abc import Sequence

import numpy as np

from corruptions.base import LEVELS, MATCHED, PRIOR, PROTOCOL
from results.schema import FLOOR, FLOOR_OF, FULL, METRICS, USUAL, pixels_of, splits_of, world_name
from results.statistics import LEVEL
from results.tables.columns import MEAN
from results.tables.grid import Grid

PLACEMENTS = {"input": "at the model's input size", "native": "at the size of the source"}
RECOVERED = (
    "Recovered: share of the gap between the pretrained model (0) and the individual experts "
    "(100) in mean accuracy on clean images, with its interval (delta method)"
)
MANY_DEGREES = 200  # Student's t is then normal to two digits
MANY = 8  # so many corruptions are named, more are not


def notes_of(
    grid: Grid, by: str, columns: Sequence[str], shift: str, freedom: Sequence[float] = ()
) -> dict[str, str]:
    """Sentences by what they are about; a format leaves out those it has no use for.

    Keys: world, metric, images, protocol, unseen, spread, interval, verdict, floor, unknown, drop,
    summary, levels, shifts, others, constants.

    Args:
        grid: what is printed.
        by: what a column is.
        columns: their names.
        shift: with by task, under which one.
        freedom: degrees of freedom of the intervals that are printed.
    """
    spec, setting = METRICS[grid.metric], grid.setting
    shifted = [one for one in grid.shifts if one.severity and (by != "task" or shift != "clean")]
    levels = [name for name in LEVELS if name in {column.split()[0] for column in columns}] or [
        shift
    ] * (shift in LEVELS)
    world = world_name(setting["world"], setting["protocol"])
    splits = splits_of(setting["suite"])  # of a suite whose splits are not ours
    notes = {"world": f"Setting: {world}{', published splits' * bool(splits)}."}
    arrow = {True: ", higher is better", False: ", lower is better", None: ""}
    unit = f" in {spec.unit}" if spec.unit else ""
    head = f"{spec.title}{unit}{arrow[spec.higher_is_better]}"
    notes["metric"] = f"{head}; {_averaged(grid, by, shift)}."
    notes |= _of_images(grid)
    if len(grid.seeds) > 1:
        notes["spread"] = _spread(grid)
    notes |= _of_values(grid, by, bool(shifted), freedom)
    if told := _levels(levels, [n for n in MATCHED if n in columns or n == shift]):
        notes["levels"] = told
    if shifted:
        names = list(dict.fromkeys(one.corruption for one in shifted))
        which = "" if levels or len(names) > MANY else f" ({', '.join(names)})"
        place = PLACEMENTS.get(setting["placement"], setting["placement"])
        notes["shifts"] = (
            f"Corruptions{which}: parameters of {setting['constants']}, applied {place}."
        )
    if told := _others(grid, [shift] if by == "task" else [s.corruption for s in grid.shifts]):
        notes["others"] = told
    notes["constants"] = _constants(grid)
    return notes


def _of_images(grid: Grid) -> dict[str, str]:
    """Which images, how they are shown, and whose experts are merged."""
    setting, splits = grid.setting, splits_of(grid.setting["suite"])
    notes = {"images": _images(grid) + (f" {as_published(splits)}" if splits else "")}
    if pixels := pixels_of(setting["suite"]):
        notes["images"] += f" Pictures are resized to {pixels} x {pixels} pixels."
    if setting["protocol"] != USUAL:
        notes["protocol"] = _protocol(grid)
    if said := [text for text in (unseen(grid), extra(grid)) if text]:
        notes["unseen"] = " ".join(said)
    return notes


def _of_values(grid: Grid, by: str, shifted: bool, freedom: Sequence[float]) -> dict[str, str]:
    """What is said of the numbers, by what the metric is."""
    spec = METRICS[grid.metric]
    if spec.of:
        return {"interval": _interval(grid, freedom, "delta method"), "verdict": _verdict(grid)}
    return _of_shares(grid, by, shifted, freedom) if spec.counted else _of_others(grid)


def _of_shares(grid: Grid, by: str, shifted: bool, freedom: Sequence[float]) -> dict[str, str]:
    """What is said of shares of images alone."""
    notes = {"interval": _interval(grid, freedom), "verdict": _verdict(grid)}
    if shifted and grid.clean is not None:
        notes["drop"] = "Numbers with a sign (Delta): relative change from clean, in %."
    higher = METRICS[grid.metric].higher_is_better
    if by == "shift" and grid.ceiling is not None and higher:
        share = "in % of the individual experts' accuracy on the same images"
        parts = [f"Norm. acc.: accuracy on clean images, {share}, averaged over tasks"] * (
            grid.clean is not None
        )
        parts += [
            f"Retention: accuracy on shifted images, {share}, averaged over tasks and shifts"
        ] * shifted
        if grid.clean is not None and any(entry.method == FLOOR for entry in grid.entries):
            parts.append(RECOVERED)
        notes["summary"] = ". ".join(parts) + "."
    return notes


def _of_others(grid: Grid) -> dict[str, str]:
    """What is said of metrics that do not count images."""
    spec, notes = METRICS[grid.metric], {}
    if spec.higher_is_better is not None:
        notes["verdict"] = "No verdict: this metric is not known image by image."
    if grid.floors:
        ends = (min(grid.floors), max(grid.floors))
        low, high = (f"{one * spec.scale:.{spec.decimals}f}" for one in ends)
        notes["floor"] = (
            f"By chance alone, {low if low == high else f'{low} to {high}'} {spec.unit} would be "
            "shown by perfectly calibrated methods of the same confidence on as many images "
            f"(--metric {FLOOR_OF}{grid.metric} has the floor of each)."
        )
    lines = zip(grid.entries, grid.unknown.tolist(), strict=True)
    if unknown := [entry.title for entry, lacks in lines if lacks]:
        notes["unknown"] = (
            f"-: not measured, or in results older than this metric ({', '.join(unknown)})."
        )
    return notes


def _interval(grid: Grid, freedom: Sequence[float], how: str = "Wilson") -> str:
    level = f"+-: {100 * LEVEL:.0f} %"
    if len(grid.sets) < 2:
        kind = "Wilson interval" if how == "Wilson" else f"interval ({how})"
        return f"{level} {kind} over images alone (stratified by task; the longer side)."
    text = f"{level} interval over images ({how}, stratified by task) and over {len(grid.sets)}"
    text += " sets of experts"
    if known := [df for df in freedom if not math.isnan(df)]:
        low, high = (f"{df:.0f}" if df < MANY_DEGREES else f"over {MANY_DEGREES}"
                     for df in (min(known), max(known)))  # fmt: skip
        text += f" (Student's t, {low if low == high else f'{low} to {high}'} degrees of freedom)"
    return f"{text}; the longer side."


def _verdict(grid: Grid) -> str:
    if len(grid.sets) < 2:
        return "No verdict: one set of experts, and another one would change these numbers, too."
    if sum(not entry.is_reference for entry in grid.entries) < 2:
        return "No verdict: fewer than two methods compete."
    if not all(grid.has_hits(e) for e in range(len(grid.entries))):
        return "No verdict: the answers to single images are not known of every method."
    return (
        "Bold: the best of a column and all that are not significantly below it (in pairs on the "
        f"same images and experts, {100 * (1 - LEVEL):.0f} %, Holm's correction over the methods); "
        "reference methods do not compete."
    )


def _levels(levels: Sequence[str], matched: Sequence[str]) -> str:
    """What the levels of a table are; nothing where it has none."""
    parts = []
    if levels:
        severities = ", ".join(str(LEVELS[name]) for name in levels)
        parts.append(
            f"{', '.join(levels)}: mean over {len(PROTOCOL)} corruptions ({', '.join(PROTOCOL)}) "
            f"at severity {severities}. These levels are defined by this benchmark."
        )
    if matched:
        losses = ", ".join(f"{100 * MATCHED[name]:.1f}" for name in matched)
        parts.append(
            f"{', '.join(matched)}: mean over {len(PROTOCOL)} corruptions, each at a severity that "
            f"was chosen on validation data so that Task Arithmetic loses {losses} % of its clean "
            "accuracy, as at the levels of the BD-Merging paper."
        )
    return " ".join(parts)


def as_published(splits: str) -> str:
    """What must be known of numbers on published splits.

    >>> as_published("contrast")
    "Published splits: methods adapt and report on FusionBench's contrast copy of the test split."
    """
    copy = "" if splits == "published" else f"FusionBench's {splits} copy of "
    return f"Published splits: methods adapt and report on {copy}the test split."


def _averaged(grid: Grid, by: str, shift: str) -> str:
    tasks = f"mean over {len(grid.tasks)} tasks" if len(grid.tasks) > 1 else grid.tasks[0]
    if by == "seen":
        seen = len(grid.tasks) - len(grid.unseen)
        return f"means over {seen} seen and over {len(grid.unseen)} unseen tasks"
    if by == "task":
        return (
            f"under {shift}, {MEAN} = {tasks}" if shift != "clean" else f"clean, {MEAN} = {tasks}"
        )
    severities = sorted({str(one.severity) for one in grid.shifts if one.severity})
    extra = {
        "severity": " and corruptions",
        "corruption": f" and severit{'y' if len(severities) == 1 else 'ies'} "
        f"{', '.join(severities)}",
    }
    return f"{tasks}{extra.get(by, '')}"


def _images(grid: Grid) -> str:
    same = [s for s, shift in enumerate(grid.shifts) if not shift.shows_others]
    text = f"{_range(grid.counts[:, same or slice(None)])} images per task and shift"
    seeds = sorted({seed for seed, _ in grid.seeds})
    experts = sorted({seed for _, seed in grid.seeds})
    text += f"; {_named('seed', seeds)}, {_named('expert seed', experts)}"
    text += "; results are averaged over seeds first" * (len(seeds) > 1)
    precision = grid.setting["precision"]
    return f"{text}." + f" Evaluated in {precision}, not {FULL}." * (precision != FULL)


PROTOCOLS = {
    "mixed-task": "Mixed-task: images of all tasks stand in one batch; each is classified under "
    "the head of its own task.",
    "hidden-task": "Hidden-task: images are classified under the heads of all tasks, without their "
    "task; classes of one name are one class.",
}


def _protocol(grid: Grid) -> str:
    """How test images are put before the models, where it is not task by task."""
    name = grid.setting["protocol"]
    text = PROTOCOLS.get(name, f"Protocol: {name}.")
    if name == "hidden-task" and any(entry.knows_task for entry in grid.entries):
        text += " Methods that need the task id are told it for their weights, not for the answer."
    return text


def unseen(grid: Grid) -> str:
    """Which tasks are unseen, and who answers for the experts that are missing; or nothing."""
    if not grid.unseen:
        return ""
    text = f"Unseen tasks (their experts were not merged): {', '.join(grid.unseen)}."
    if any(entry.knows_task for entry in grid.entries):
        text += " On these, the pretrained model stands in for methods that need the true task's"
        text += " expert."
    return text


def extra(grid: Grid) -> str:
    """Whose experts took part besides; or nothing."""
    names = grid.setting["extra_experts"].split()
    return f"Experts of tasks that are not measured were merged as well: {', '.join(names)}." * (
        len(names) > 0
    )


def _range(counts: np.ndarray) -> str:
    """Numbers of images, without the cells that there are not."""
    low, high = int(counts[counts > 0].min()), int(counts.max())
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"


def _others(grid: Grid, shifts: Sequence[str]) -> str:
    """What stands behind shifts that show other images than clean does."""
    parts = []
    for s, shift in enumerate(grid.shifts):
        if not shift.shows_others or shift.corruption not in shifts:
            continue
        images, tasks = _range(grid.counts[:, s]), grid.tasks_under([s])
        if shift.corruption == PRIOR:
            parts.append(
                f"{PRIOR}: a part of the test images, {images} of each task, with frequencies of "
                "the classes drawn from a Dirichlet distribution (0.1)."
            )
            continue
        which = f", {images} of each task"
        if len(tasks) < len(grid.tasks):
            names = ", ".join(grid.tasks[t] for t in tasks)
            which = f" of {len(tasks)} of {len(grid.tasks)} tasks ({names}), {images} each"
        parts.append(f"{shift}: images of the same classes from another source{which}.")
    return " ".join(parts)


def _spread(grid: Grid) -> str:
    if len(grid.sets) > 1:
        return f"sd: standard deviation of this mean between the {len(grid.sets)} sets of experts."
    text = "sd: standard deviation of this mean over seeds"
    if all(entry.seeded for entry in grid.entries):
        return f"{text}."
    return f"{text}; methods without it do not depend on the seed."


def _named(what: str, values: list[int]) -> str:
    return f"{what}{'s' if len(values) > 1 else ''} {', '.join(map(str, values))}"


def _constants(grid: Grid) -> str:
    tuned = [entry.title for entry in grid.entries if entry.tuned]
    own = [entry.title for entry in grid.entries if entry.searches and not entry.tuned]
    parts = [f"tuned on validation data: {', '.join(tuned)}"] * bool(tuned)
    parts += [f"searched on validation data by the method itself: {', '.join(own)}"] * bool(own)
    if not parts:
        return "Hyperparameters: declared defaults."
    return f"Hyperparameters {'; '.join(parts)}; declared defaults for all other methods."
