"""Command line: ``python -m bench COMMAND``. A user's mistake is one line and exit code 2."""

import errno
import re
import sys
from collections.abc import Sequence

import typer

from bench.cli import list as listing
from bench.cli import (
    merge,
    plot,
    profile,
    report,
    reproduce,
    results,
    sanity,
    sweep,
    table,
    wandb,
    zoo,
)
from bench.cli.table import OWN
from mergeshift import UserError

app = typer.Typer(
    name="python -m bench",
    help="MergeShift: model merging under distribution shift, measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("list")(listing.list_)
app.command("sweep")(sweep.sweep)
app.command("speed")(sweep.speed)
app.command("time")(profile.time)
app.command("table")(table.table)
app.command("plot")(plot.plot)
app.command("report")(report.report)
app.command("sanity")(sanity.sanity)
app.command("reproduce")(reproduce.reproduce)
app.command("leaderboard")(wandb.leaderboard)
app.command("wandb-sweep")(wandb.wandb_sweep)
app.command("merge")(merge.merge)
app.command("evaluate")(merge.evaluate)
app.command("check")(merge.check)
app.add_typer(results.app, name="results")
app.add_typer(zoo.app, name="zoo")

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
LISTS = ("--methods", "--shifts", "--seeds", "--set", "--expert", "--paired", "--unseen",
         "--published")  # fmt: skip
BARE = {"--published": OWN}  # what such an option means when no word follows


def spread_lists(arguments: Sequence[str]) -> list[str]:
    """Let a list option take several words: ``--seeds 0 1`` means ``--seeds 0 --seeds 1``.

    Those in ``BARE`` may also take none. What agents of W&B write, ``--ties.keep=0.1``, sets a
    field.

    >>> spread(["sweep", "--shifts", "clean", "L1", "--limit", "9", "--ties.keep=0.1"])
    ['sweep', '--shifts', 'clean', '--shifts', 'L1', '--limit', '9', '--set', 'ties.keep=0.1']
    """
    found: list[str] = []
    option = ""
    for word, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        if re.fullmatch(r"--\w+\.\w+=.*", word):
            found += ["--set", word.removeprefix("--")]
        elif word in BARE and following.startswith("-"):
            found += [word, BARE[word]]
        elif word.startswith("-"):
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
    words = spread_lists(sys.argv[1:] if arguments is None else arguments)
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
