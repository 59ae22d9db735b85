"""Command line: ``python -m bench COMMAND``. A user's mistake is one line and exit code 2.

The module of a command is imported when the command is run, or its own help is asked for: the list
of commands, completion and a mistake in a word must not wait for torch.
"""

import errno
import os
import re
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from mergeshift import UserError, version


class Command(NamedTuple):
    """Where a command lives."""

    place: str  # MODULE:FUNCTION, or MODULE:app of a group of commands; modules of bench.cli
    help: str  # its first line, in the list of commands


COMMANDS = {
    "sweep": Command("sweep:sweep", "Run a comparison; what is finished is not run again."),
    "table": Command("table:table", "Print a comparison: text, Markdown, HTML, CSV or LaTeX."),
    "plot": Command("plot:plot", "Draw accuracy by severity, heatmaps, and what methods learned."),
    "report": Command("report:report", "Write one HTML page about a sweep; it needs no network."),
    "leaderboard": Command("wandb:leaderboard", "Upload a sweep's leaderboard and report to W&B."),
    "list": Command("list:list_", "Show methods, tasks, suites, shifts and published numbers."),
    "tasks": Command("tasks:app", "Show how images of your own are understood."),
    "merge": Command("merge:merge", "Merge checkpoints of your own into one."),
    "evaluate": Command(
        "evaluate:evaluate", "Put a merged model of your own into a sweep's tables."
    ),
    "results": Command("results:app", "Put external predictions into a sweep's tables."),
    "reproduce": Command("reproduce:reproduce", "Run a published result again and compare."),
    "sanity": Command("sanity:sanity", "Check a sweep against what must hold in any."),
    "check": Command("check:check", "Run the contract on a method, a corruption or a task."),
    "zoo": Command("zoo:app", "Make, import, export, list and verify encoders and experts."),
    "profile": Command("profile:profile", "Time a fast way against the plain ones, in one run."),
    "wandb-sweep": Command("wandb:wandb_sweep", "Make a W&B Sweep that agents on machines run."),
}
FORMER = {  # words of the version before -> those of now
    ("time",): ("profile",),
    ("speed",): ("profile", "sweep"),
    ("plot", "search"): ("plot", "tuning"),
}
FORMER_OPTIONS = {
    "--val": "--splits",
    "--constants": "--corruption-constants",
    "--placement": "--corrupt-at",
}
FORMER_VALUES = {("--splits", "as-published"): "published"}

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (*NO_SPACE, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR,
           errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)  # fmt: skip
# What typer raises for a mistake in words is a class of click, which may be typer's own copy of it.
WORDING: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
LISTS = ("--methods", "--shifts", "--seeds", "--set", "--expert", "--paired", "--unseen",
         "--published", "--expert-seeds", "--extra-experts", "--results", "--logger")  # fmt: skip
BARE = {"--published": "own"}  # what such an option means when no word follows
COMPLETING = "_TYPER_COMPLETE_ARGS"  # holds the line that a shell wants completed


class LazyGroup(TyperGroup):
    """The commands by name and first line; one is imported when it is resolved."""

    def __init__(self, **attrs: Any) -> None:
        """Stand-ins with the first line of the help: enough for a list, and for suggestions."""
        first_lines = {name: command.help for name, command in COMMANDS.items()}
        stand_ins = {
            name: TyperCommand(name, help=text, rich_markup_mode="rich")
            for name, text in first_lines.items()
        }
        super().__init__(**attrs | {"commands": stand_ins})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load(str(name)), rest


def load(name: str) -> Any:
    """The command itself: its module is imported."""
    module, _, attribute = COMMANDS[name].place.partition(":")
    found = getattr(import_module(f"bench.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        one = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)
        one.command(name)(found)
        found = one
    command = typer.main.get_command(found)
    command.name = name
    return command


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mergeshift {version()}")
        raise typer.Exit


def made(program: str) -> typer.Typer:
    """The whole command line.

    Args:
        program: ``mergeshift`` can be completed by a shell; ``python -m bench`` is no word of one.
    """
    app = typer.Typer(
        name=program,
        cls=LazyGroup,
        help="MergeShift: a benchmark for model merging under distribution shift.",
        no_args_is_help=True,
        add_completion=program == "mergeshift",
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )

    @app.callback()
    def options(
        version: Annotated[
            bool,
            typer.Option(
                "--version", callback=_show_version, is_eager=True, help="Print the version."
            ),
        ] = False,
    ) -> None:
        """MergeShift: a benchmark for model merging under distribution shift."""

    return app


def spread_lists(arguments: Sequence[str]) -> list[str]:
    """Let a list option take several words: ``--seeds 0 1`` means ``--seeds 0 --seeds 1``.

    Those in ``BARE`` may also take none. What agents of W&B write, ``--ties.keep=0.1``, sets a
    field.

    >>> spread_lists(["sweep", "--shifts", "clean", "L1", "--limit", "9", "--ties.keep=0.1"])
    ['sweep', '--shifts', 'clean', '--shifts', 'L1', '--limit', '9', '--set', 'ties.keep=0.1']
    """
    found: list[str] = []
    option = ""
    for word, following in zip(arguments, [*arguments[1:], "-"][: len(arguments)], strict=True):
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


def renamed(arguments: Sequence[str]) -> list[str]:
    """The words of now for those of the version before, which are still understood.

    >>> renamed(["sweep", "--val", "as-published", "--placement=native"])
    ['sweep', '--splits', 'published', '--corrupt-at=native']
    >>> renamed(["speed", "smoke"]), renamed(["plot", "search"])
    (['profile', 'sweep', 'smoke'], ['plot', 'tuning'])
    """
    words = list(arguments)
    for former, now in FORMER.items():
        if tuple(words[: len(former)]) == former:
            words[: len(former)] = now
    found: list[str] = []
    for word in words:
        option, equals, value = word.partition("=")
        option = FORMER_OPTIONS.get(option, option)
        if equals:
            found.append(f"{option}={FORMER_VALUES.get((option, value), value)}")
        else:
            found.append(FORMER_VALUES.get((found[-1] if found else "", word), option))
    return found


def completing(line: str) -> str:
    """A line that a shell wants completed, with its list options spread.

    >>> completing("mergeshift sweep --methods ties ave")
    'mergeshift sweep --methods ties --methods ave'
    >>> completing("mergeshift table --methods ties ")
    'mergeshift table --methods ties --methods '
    """
    open_word = "" if line.endswith(" ") else "x"
    words = shlex.split(line + ("" if open_word else "x"))
    last = words.pop()
    spread = spread_lists([*words[1:], last])
    text = shlex.join([words[0] if words else "", *spread]) if words else line
    return text if open_word else text.removesuffix("x")


def program() -> str:
    """How the program was called."""
    return "mergeshift" if Path(sys.argv[0]).stem == "mergeshift" else "python -m bench"


def explained(error: Exception, name: str) -> str:
    """What is wrong, in words; empty for an error that nobody made by a command.

    Args:
        error: a mistake of a user, in words that typer refuses, or of a system that is full.
        name: how the program was called.
    """
    if isinstance(error, OSError):
        if error.errno not in REFUSED:
            return ""
        todo = "free some space, or give another" if error.errno in NO_SPACE else "give another"
        return f"{error.strerror}: {error.filename}; {todo} path"
    if not isinstance(error, WORDING):
        return str(error) or "stopped"
    wording: Any = error
    text = wording.format_message().strip().rstrip(".")
    context = getattr(wording, "ctx", None)
    where = context.command_path if context else name
    return f"{text[:1].lower()}{text[1:]}; see `{where} --help`"


def options_of(words: Sequence[str]) -> set[str]:
    """The options of the command that some words begin with; none where they name no command."""
    if not words or words[0] not in COMMANDS:
        return set()
    command: Any = load(words[0])
    if group := getattr(command, "commands", None):
        command = group.get(words[1]) if len(words) > 1 else None
    params = command.params if command else ()
    return {option for param in params for option in (*param.opts, *param.secondary_opts)}


def advised(text: str, words: Sequence[str]) -> str:
    """A message that says of which command an option is that the present one does not have.

    >>> advised("x is damaged; --force measures it again", ["table"])
    'x is damaged; --force measures it again; --force is an option of `sweep`'
    >>> advised("run `python -m bench sweep --force`", ["table"])
    'run `python -m bench sweep --force`'
    """
    named = re.findall(r"(?<![\w=-])--[a-z][a-z-]*[a-z]", text)
    own = options_of(words)
    for option in dict.fromkeys(named) if own else ():
        if option in own:
            continue
        having = [name for name in COMMANDS if option in options_of([name])]
        told = [name for name in COMMANDS if re.search(rf"\b{name}\b.*{option}", text)]
        if having and not told:
            text += f"; {option} is an option of `{having[0]}`"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = spread_lists(renamed(sys.argv[1:] if arguments is None else arguments))
    if isinstance(sys.stdout, TextIOWrapper):  # what its encoding lacks, or a file is called by
        sys.stdout.reconfigure(errors="backslashreplace")  # bytes that are no text, ends nothing
    if line := os.environ.get(COMPLETING):
        os.environ[COMPLETING] = completing(line)
    name = program()
    try:
        code = made(name)(words, prog_name=name, standalone_mode=False)
    except (UserError, WORDING, typer.Abort, OSError) as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its help was printed
            return 0
        text = " ".join(explained(error, name).split())  # a name that it quotes may hold a line
        if not text:
            raise
        if isinstance(error, UserError):
            text = advised(text, words)
        sys.stderr.write(f"error: {text}\n")
        return 2
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return code if isinstance(code, int) else 0
