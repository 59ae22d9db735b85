"""The HTML page of a sweep: what it needs beyond the rows, from the folder of results.

Among it are examples, if they are asked for: test images under a few shifts, and what the methods
of the sweep, built again, say they are.
"""

import base64
from collections.abc import Sequence
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from bench.config import Run
from bench.index import method_order
from bench.reporting.sweep_index import images_of, load_sweep, rows_of, with_chance
from bench.reporting.wandb import facts_by_run
from bench.runtime.devices import device
from bench.stages.build import bind
from bench.stages.scoring import SharedEvaluation
from corruptions.base import PROTOCOL, Shift, parse_shifts
from mergeshift import DamagedFileError, UserError, rng_of
from methods import MergingMethod
from results.report import page
from results.report.panels import Example
from results.store import Store
from tasks import Task

SMALL = 64  # pixels: so small a picture is kept as it is
SHOWN = 112  # pixels that a larger one keeps
MOST = 32  # images of a task under one shift


def page_of(
    out: Path,
    sweep: str = "",
    methods: Sequence[str] = (),
    shown: int = 0,
    shifts: Sequence[str] = (),
    protocol: str = "",
) -> str:
    """The page of a recorded sweep.

    Args:
        out: the results folder.
        sweep: its name; the latest if empty.
        protocol: of the sweep; any if empty.
        methods: some of them; all if empty.
        shown: test images of each task that are shown; then methods are built again.
        shifts: that these are shown under; see :func:`shifts_shown`.

    Raises:
        UserError: the sweep is not there or not finished, or a method cannot be built again.
    """
    record = load_sweep(out, sweep, protocol=protocol)
    rows, store = with_chance(rows_of(out, record, methods)), Store(out)
    rows = rows.assign(sweep=record["name"])  # another may have measured its cells before
    return page.page(
        rows,
        costs=facts_by_run(store, rows["run_id"].unique()),
        images=images_or_why(out, record, rows),
        examples=examples_for(store, rows, shown, shifts) if shown else (),
        order=method_order(),
    )


def images_or_why(out: Path, record: dict[str, Any], rows: pd.DataFrame) -> pd.DataFrame | str:
    """What is kept of single images, or what the page says where that is not so."""
    try:
        return images_of(out, record, rows)[0]
    except DamagedFileError:  # nobody forgot anything: it is to be measured again
        raise
    except UserError as error:
        return str(error)


def examples_for(
    store: Store, rows: pd.DataFrame, count: int, shifts: Sequence[str]
) -> list[Example]:
    """Examples with the answers of every method of the sweep, of its first experts and seed."""
    first = rows.sort_values(["expert_seed", "seed"], kind="stable").drop_duplicates(
        ["method", "variant"]
    )
    wanted = set(first["run_id"])
    facts = [store.run(run) for run in dict.fromkeys(rows["run_id"]) if run in wanted]
    built = [one for one in facts if "elsewhere" not in one]
    if not built:
        raise UserError(
            "examples are asked of methods, and here are external predictions alone; leave "
            "out --examples, or name a method in --methods"
        )
    runs = [(run_of(one), one["config"]) for one in built]
    return examples(runs, shifts_shown(rows, shifts), count, store)


def run_of(facts: dict[str, Any]) -> Run:
    """The run whose facts these are (see :func:`bench.stages.records.write_run_facts`).

    Raises:
        UserError: the method is no more, or is not as it was: it would say something else now.
    """
    known = {field.name for field in fields(Run)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in facts["run"].items()
        if name in known
    }
    run = Run(**values)
    if (now := bind(run).declared.measured_version) != run.version:
        raise UserError(
            f"{run.id} was measured with version {run.version} of {run.method}, this is version "
            f"{now}: run the sweep again, or leave it out (--methods)"
        )
    return run


def shifts_shown(rows: pd.DataFrame, texts: Sequence[str] = ()) -> list[Shift]:
    """Under which shifts examples are shown.

    Args:
        rows: of the sweep, whose constants and placement are taken.
        texts: as a user writes them; else clean, and the corruptions of the protocol (the first
            few, where none of these was measured) at the largest severity that was measured.
    """
    shifted = rows[rows["severity"] > 0]
    if shifted.empty:
        return parse_shifts(texts or ["clean"])
    setting = shifted[["constants", "placement"]].iloc[0].tolist()
    if texts:
        return parse_shifts(texts, *setting)
    most = shifted.groupby("corruption", sort=False)["severity"].max()
    names = [name for name in PROTOCOL if name in most] or list(most.index[: len(PROTOCOL)])
    return parse_shifts(["clean", *(f"{name}@{most[name]}" for name in names)], *setting)


def examples(
    runs: Sequence[tuple[Run, str]], shifts: Sequence[Shift], count: int, store: Store
) -> list[Example]:
    """Ask every method about ``count`` test images of each task, the same under every shift.

    Args:
        runs: of one sweep, each with its chosen config, canonical JSON.
        shifts: under which images are shown.
        count: images of each task; drawn by chance, always the same.
        store: where that lies which methods learned.

    Raises:
        UserError: so many images are not for a page, or experts or what was learned is missing.
    """
    if not 0 < count <= MOST:
        raise UserError(f"a page shows 1 to {MOST} examples of a task; got {count}")
    found = []
    for shift in shifts:
        models = {run.id: bind(run).method(config, shift, store)[0] for run, config in runs}
        first = bind(runs[0][0])  # all see the same tasks
        panel = SharedEvaluation(
            models,
            first.run.unseen,
            first.floor,
            normalise=first.encoder.normalise,
            space=first.space,
        ).to(device())
        data = first.data([shift])
        for task in data.shown(shift):
            rows = drawn(task, data.count(task, "test", shift), count)
            pixels = np.array(data.pixels(task, "test", shift)[rows])
            labels = data.labels(task, "test", shift)[rows]
            found += answers_of(panel, task, shift, rows, pixels, labels)
    return found


def drawn(task: Task, there: int, count: int) -> np.ndarray:
    """Numbers of the images that are shown, sorted: they depend on the task alone."""
    chosen = rng_of("examples", task.name).permutation(there)[:count]
    return np.sort(chosen)


def answers_of(
    panel: SharedEvaluation,
    task: Task,
    shift: Shift,
    rows: np.ndarray,
    pixels: np.ndarray,
    labels: np.ndarray,
) -> list[Example]:
    """What every member says of some images, uint8 ``[N, H, W, 3]``."""
    names = task.classes if panel.space is None else panel.space.names
    with torch.inference_mode():
        images = panel.normalise(torch.from_numpy(pixels).to(device()))
        said = {
            key: panel.ask(method, images, task.name).logits.double().softmax(-1).cpu()
            for key, method in zip(panel.keys, panel.models, strict=True)
            if isinstance(method, MergingMethod)
        }
    return [
        Example(
            task=task.name,
            shift=str(shift),
            image=int(row),
            label=task.classes[int(labels[i])],
            picture=picture(pixels[i]),
            answers={
                key: (names[int(shares[i].argmax())], float(shares[i].max()))
                for key, shares in said.items()
            },
        )
        for i, row in enumerate(rows)
    ]


def picture(pixels: np.ndarray) -> str:
    """A picture as a data URI: a small one exactly, a large one smaller and compressed."""
    image, file = Image.fromarray(pixels), BytesIO()
    if max(image.size) <= SMALL:
        image.save(file, "PNG", optimize=True)
        kind = "png"
    else:
        image.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
        image.save(file, "WEBP", quality=85)
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
