"""``python -m bench list``: what is there."""

from __future__ import annotations

import json
from enum import StrEnum
from math import fsum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from bench.index import method_order, remembered

if TYPE_CHECKING:
    from rich.table import Table


OTHERS = "other images"  # the family of shifts that change no pixel


class What(StrEnum):
    """What can be listed."""

    methods = "methods"
    tasks = "tasks"
    suites = "suites"
    shifts = "shifts"
    published = "published"


def methods() -> list[dict[str, Any]]:
    """Every method with its paper and what it may see."""
    from methods import METHODS

    found = []
    for name in method_order():
        cls, method = METHODS[name], METHODS[name]()
        found.append(
            {
                "name": name,
                "title": cls.title,
                "paper": f"arXiv {cls.paper.arxiv}, {cls.paper.where}" if cls.paper.arxiv else "",
                "needs": str(method.needs),
                "stores": method.stores,
                "knows task": method.knows_task,
                "settings": ", ".join(f"{k}={v}" for k, v in method.cfg.as_dict().items()),
                "presets": ", ".join(method.cfg.presets),
                "tuned on val": ", ".join(method.cfg.grid),
            }
        )
    return found


def tasks() -> list[dict[str, Any]]:
    """Every task with its sizes and the rights in its pictures."""
    from tasks import SUITES, TASKS
    from tasks.rights import USES

    return [
        {
            "name": task.name,
            "kind": task.kind,
            "classes": task.num_classes,
            "train/adapt/val/test": "/".join(map(str, task.sizes)),
            "reserved": task.reserved or "",
            "licence": task.licence,
            "may be used by": USES[task.use],
            "read in": "; ".join(dict.fromkeys(rights.read for rights in task.rights)),
            "note": task.note,
        }
        for task in map(TASKS.__getitem__, dict.fromkeys([*SUITES["pocket20"].names, *TASKS]))
    ]


def suites() -> list[dict[str, Any]]:
    """Every suite with its tasks and the size of its downloads."""
    from tasks import SUITES
    from tasks.sources.built import Built

    found = []
    for name, suite in SUITES.items():
        sources = [getattr(task.source, "source", task.source) for task in suite.tasks]  # poisoned
        built = [source for source in sources if isinstance(source, Built)]
        archives = {archive for source in built for archive in source.archives}
        megabytes = fsum(archive.megabytes for archive in archives)  # in any order the same
        size = "" if any(task.source.native for task in suite.tasks) else round(megabytes)
        found.append({"name": name, "tasks": ", ".join(suite.names), "download MB": size})
    return found


def shifts() -> list[dict[str, Any]]:
    """Every corruption with what it costs (see corruptions.base.MEASURED); what else is a shift."""
    from corruptions.base import CORRUPTIONS, DOMAIN, LEVELS, PRIOR, PROTOCOL, SHIFT_SETS
    from tasks.domains import DOMAINS
    from tasks.prior import CONCENTRATION

    found = [
        {
            "name": name,
            "family": corruption.family,
            "write": f"{name}@1,3,5",
            "ms 32": corruption.ms[0],
            "ms 224": corruption.ms[1],
            "source": corruption.source,
        }
        for name, corruption in CORRUPTIONS.items()
    ]
    unmeasured = {"ms 32": "", "ms 224": ""}
    for level, severity in LEVELS.items():
        source = f"{', '.join(PROTOCOL)} at severity {severity}"
        found.append({"name": level, "family": "level (ours)", "write": level, **unmeasured,
                      "source": source})  # fmt: skip
    for name, members in SHIFT_SETS.items():
        source = ", ".join(members)
        found.append({"name": name, "family": "set", "write": f"{name}@1-3", **unmeasured,
                      "source": source})  # fmt: skip
    source = f"test images with class frequencies drawn from Dirichlet({CONCENTRATION})"
    found.append({"name": PRIOR, "family": OTHERS, "write": PRIOR, **unmeasured, "source": source})
    for name, domain in DOMAINS.items():
        source = f"{domain.says}; for {', '.join(domain.tasks)}"
        found.append({"name": f"{DOMAIN}{name}", "family": OTHERS, "write": f"{DOMAIN}{name}",
                      **unmeasured, "source": source})  # fmt: skip
    return found


def published() -> list[dict[str, Any]]:
    """Every source of published numbers with what it tells."""
    from bench.reproduce import REPRODUCTIONS
    from results.published import sources

    rows, found = sources.read(), []
    for name, source in sources.sources().items():
        own = rows[rows["source"] == name]
        facts = {k: ", ".join(dict.fromkeys(own[k])) for k in ("suite", "encoder", "checkpoints")}
        again = [one.name for one in REPRODUCTIONS.values() if one.source == name]
        found.append(
            {
                "name": name,
                "title": source.title,
                "where": source.where,
                "suites": facts["suite"],
                "encoders": facts["encoder"],
                "experts": facts["checkpoints"],
                "methods": ", ".join(dict.fromkeys(own["method"])),
                "numbers": len(own),
                "note": source.note,
                "reproduce": ", ".join(again),
            }
        )
    return found


LISTED = {
    What.methods: methods,
    What.tasks: tasks,
    What.suites: suites,
    What.shifts: shifts,
    What.published: published,
}


def list_(
    what: Annotated[What, typer.Argument(help=" | ".join(What))],
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="for documents")] = False,
) -> None:
    """Show what is there: methods, tasks, suites, shifts, published numbers, and what they need."""
    from rich.console import Console

    rows = remembered("methods", methods) if what is What.methods else LISTED[what]()
    if as_json:
        print(json.dumps(rows, indent=1))
    elif as_markdown:
        print(markdown(rows))
    else:
        console = Console()
        console.print(grid(rows), width=min(console.width, 110))


def grid(rows: list[dict[str, Any]]) -> Table:
    """Names on the left, what is known of each on the right."""
    from rich.table import Table

    shown = Table.grid(padding=(0, 2, 1, 0))
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for row in rows:
        lines = [f"[dim]{key}[/] {escape(text)}" for key, text in texts(row).items() if text]
        shown.add_row(row["name"], "\n".join(lines))
    return shown


def texts(row: dict[str, Any]) -> dict[str, str]:
    """Everything but the name, as a person reads it."""
    words = {True: "yes", False: ""}
    return {k: words.get(v, str(v)) if isinstance(v, bool) else str(v) for k, v in row.items()
            if k != "name"}  # fmt: skip


def markdown(rows: list[dict[str, Any]]) -> str:
    """A GitHub table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    for row in rows:
        lines.append("| " + " | ".join([row["name"], *texts(row).values()]) + " |")
    return "\n".join(lines)
