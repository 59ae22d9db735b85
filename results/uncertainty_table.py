"""What doubt is worth, as a table: a line per score under each method."""

from results.entries import Entry
from results.nested import Lines, Nested
from results.tables import as_percent
from results.uncertainty import Detection


def shown(table: Detection) -> Nested:
    """How it is printed; the spread over seeds stands in the CSV alone.

    Where tasks are unseen, a score has a line for each kind of tasks.
    """
    ends = [f" {kind}" for kind in table.kinds] or [""]
    said = {end: f",{end} tasks" if end else "" for end in ends}
    headers = [name.removesuffix(ends[0]) for name in table.columns if name.endswith(ends[0])]

    def lines(entry: Entry, plus_minus: str) -> Lines:
        areas = {(s, c): as_percent(a.value) for (key, s, c), a in table.areas.items()
                 if key == entry.key}  # fmt: skip
        return [
            (score + said[end], [areas[score, head + end] for head in headers])
            for score in table.scores_of(entry.key)
            for end in ends
        ]

    return Nested(
        table=table,
        what="score",
        headers=headers,
        lines=lines,
        caption=("areas", "images"),
        below=("scores", "unseen", "left out", "levels", "shifts"),
    )
