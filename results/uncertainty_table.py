"""What doubt is worth, as a table: a line per score under each method."""

from results.entries import Entry
from results.nested import Lines, Nested
from results.tables import as_percent
from results.uncertainty import Detection


def shown(table: Detection) -> Nested:
    """How it is printed; the spread over seeds stands in the CSV alone."""

    def lines(entry: Entry, plus_minus: str) -> Lines:
        return [
            (score, [as_percent(table.areas[entry.key, score, c].value) for c in table.columns])
            for score in table.scores_of(entry.key)
        ]

    return Nested(
        table=table,
        what="score",
        headers=table.columns,
        lines=lines,
        caption=("areas", "images"),
        below=("scores", "unseen", "levels", "shifts"),
    )
