"""Command line: ``python -m bench COMMAND``. A user's mistake is one line and exit code 2."""

import errno
import sys
from collections.abc import Sequence

import typer

from bench.cli import listing, models, showing, sweeping, timing, zoo
from bench.errors import UserError

app = typer.Typer(
    name="python -m bench",
    help="MergeShift: model merging under distribution shift, measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("list")(listing.list_)
app.command("sweep")(sweeping.sweep)
app.command("speed")(sweeping.speed)
app.command("time")(timing.time)
app.command("table")(showing.table)
app.command("plot")(showing.plot)
app.command("sanity")(showing.sanity)
app.command("merge")(models.merge)
app.command("evaluate")(models.evaluate)
app.command("check")(models.check)
app.add_typer(zoo.app, name="zoo")

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
LISTS = ("--methods", "--shifts", "--seeds", "--set", "--expert", "--paired", "--unseen")


def spread(arguments: Sequence[str]) -> list[str]:
    """Let a list option take several words: ``--seeds 0 1`` means ``--seeds 0 --seeds 1``.

    >>> spread(["sweep", "--shifts", "clean", "L1", "--limit", "9"])
    ['sweep', '--shifts', 'clean', '--shifts', 'L1', '--limit', '9']
    """
    found: list[str] = []
    option = ""
    for word in arguments:
        if word.startswith("-"):
            option = word if word in LISTS else ""
            if not option:
                found.append(word)
        elif option:
            found += [option, word]
        else:
            found.append(word)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = spread(sys.argv[1:] if arguments is None else arguments)
    try:
        app(words, prog_name="python -m bench", standalone_mode=True)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        sys.stderr.write(
            f"error: {error.strerror}: {error.filename}; free some space, or give another folder\n"
        )
        return 2
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return 0
