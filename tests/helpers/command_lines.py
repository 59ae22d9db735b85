"""Random command lines from the options' grammar, right ones and wrong ones.

``python -m tests.helpers.command_lines [COUNT] [SEED]`` runs a campaign, 1,000 by default: each in
this process, on a finished sweep of the toy suite, without a network. It prints what broke a rule.
"""

import contextlib
import io
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from bench.cli.app import COMMANDS, load, main

CHECKS = ("check", "sanity", "reproduce")  # may exit with 1: a check itself failed
# What would take minutes, a network or a service, or leaves something behind: with a mistake alone.
SLOW = {("profile",), ("reproduce",), ("zoo", "build"), ("zoo", "pretrain"), ("zoo", "diagnose"),
        ("zoo", "match-levels"),
        ("zoo", "import"), ("leaderboard",), ("check",), ("evaluate",)}  # fmt: skip
MISTAKES = (["--no-such"], ["--jobs", "0-2"], ["--limit=-5"], ["-x"])
WORDS = (
    "",
    " ",
    "0",
    "0-2",
    "-1",
    "1e3",
    "nan",
    "\u0416",
    "a,b",
    ",",
    "None",
    "../x",
    "x" * 300,
    "ties",
    "average",
    "clean",
    "L1",
    "contrast@5",
    "contrast@1-3",
    "toy",
    "smoke",
    "acc",
    "[bold]",
    "ties[keep=0.1]",
    "ties[keep",
    "--",
    "$HOME",
    "a\nb",
    "mine",
    "own",
    "cpu",
)
GOOD = {
    "--methods": ("average", "ties,average", "ties[keep=0.1]", "average[x=1]", "individual"),
    "--shifts": (
        "clean",
        "clean,contrast@5",
        "L1",
        "contrast@1-2",
        "fogg",
        "all19@1",
        "M1",
        "mixed@2",
    ),
    "--seeds": ("0", "0-2", "0,1", "2-0", "-1"),
    "--limit": ("24", "0", "1", "0-2"),
    "--suite": ("toy", "toyy"),
    "--sweep": ("smoke", "main", ""),
    "--metric": (
        "acc",
        "nll",
        "ece",
        "eval_s",
        "route_acc",
        "accuracy",
        "aurc",
        "ece_ts",
        "norm_chance",
        "robustness",
        "floor:ece",
    ),
    "--by": (
        "shift",
        "task",
        "severity",
        "corruption",
        "routing",
        "uncertainty",
        "tuning",
        "mce",
        "x",
    ),
    "--format": ("text", "md", "csv", "latex", "xml"),
    "--paired": ("ties,average", "ties", "a,b,c"),
    "--published": ("own", "fusionbench", "nobody"),
    "--preset": ("bd-table1", "per-task", "bmm-main", "x"),
    "--set": ("ties.keep=0.5", "ties.keep=2", "keep=1", "ties.keep=1_0"),
    "--wandb": ("off", "offline", "of"),
    "--device": ("cpu", "auto", "cuda:99", "tpu"),
    "--precision": ("32", "bf16", "8"),
    "--jobs": ("1", "0", "-1"),
    "--task": ("toy_two", "letterz"),
    "--encoder": ("toy-vit", "toy"),
    "--reference": ("pretrained", "individual", "ties", "nobody"),
    "--heads": ("text", "prototypes", "means"),
    "--experts": ("finetuned", "imported", "own"),
    "--method": ("average", "ties", "individual", "avrage"),
    "--shift": ("clean", "contrast@5", "L1"),
}
ARGUMENTS = {
    "sweep": ("smoke", "smoky", "absent.toml"),
    "plot": (
        "severity",
        "heatmap",
        "scale",
        "tuning",
        "routing",
        "coefficients",
        "pie",
        "effective-robustness",
    ),
    "list": ("methods", "tasks", "suites", "shifts", "published", "all"),
    "wandb-sweep": ("smoke", "absent.yaml"),
}


class Ran(NamedTuple):
    """What a command line did."""

    words: list[str]
    code: int
    out: str
    err: str

    @property
    def broken(self) -> str:
        """Which rule it broke; empty if none."""
        allowed = (0, 1, 2) if self.words[:1] and self.words[0] in CHECKS else (0, 2)
        if self.code not in allowed:
            return f"exit code {self.code}"
        if "Traceback" in self.out + self.err:
            return "a traceback"
        lines = self.err.splitlines()
        if self.code == 2 and not (lines and lines[-1].startswith("error: ")):
            return f"exit code 2 without an error as its last line: {self.err!r}"
        told = [line for line in lines if line.startswith("error: ")]
        return f"{len(told)} lines of error" if self.code == 2 and len(told) != 1 else ""


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    for name in COMMANDS:
        command: Any = load(name)
        if group := getattr(command, "commands", None):
            yield from (((name, sub), one) for sub, one in group.items())
        else:
            yield (name,), command


def lines(count: int, seed: int, out: Path, files: Path) -> Iterator[list[str]]:
    """Command lines, the same for the same seed.

    Args:
        count: of them.
        seed: of chance.
        out: a folder of results.
        files: a folder with files that options may name: right ones, empty ones, none.
    """
    chance, every = random.Random(seed), list(commands())
    paths = [str(path) for path in sorted(files.iterdir())] + [str(files), str(files / "no.such")]
    for number in range(count):
        name, command = chance.choice(every)
        words = list(name)
        for param in command.params:
            words += _written(chance, name, param, paths, str(files / f"new{number}"))
        if name in SLOW or chance.random() < 0.1:
            words += chance.choice(MISTAKES)
        if name in (("sweep",), ("wandb-sweep",)):
            words += ["--dry-run"]
        if any("--out" in param.opts for param in command.params):
            words += ["--out", str(out) if chance.random() < 0.9 else str(files / "empty")]
        yield words


def _written(
    chance: random.Random, name: tuple[str, ...], param: Any, paths: list[str], new: str
) -> list[str]:
    """One parameter of a command as somebody may write it, or not at all."""
    if param.param_type_name == "argument":
        pool = ARGUMENTS.get(name[0], (*paths, *WORDS))
        return [chance.choice(pool)] if chance.random() < 0.9 else []
    option = param.opts[-1]
    if option.endswith("-completion"):  # these ask for the user's shell, and write to its files
        return []
    if option in ("--out", "--dry-run", "--help", "--force", "--examples", "--data-dir"):
        return []
    if chance.random() > (0.8 if param.required else 0.15):
        return []
    if param.is_flag:
        return [chance.choice([*param.opts, *param.secondary_opts])]
    if option in ("--output", "-o", "--plot"):
        return [option, chance.choice((f"{new}.png", f"{new}.csv", f"{new}.tex", *paths))]
    if option in ("--base", "--expert", "--weights"):
        return [option, chance.choice(paths)]
    pool = GOOD.get(option, WORDS) if chance.random() < 0.8 else WORDS
    value = chance.choice(pool)
    return [f"{option}={value}"] if chance.random() < 0.3 else [option, value]


def ran(words: list[str]) -> Ran:
    """Run a line in this process; an exception that leaves it is a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            code = main(words)
        except Exception as error:
            code = -1
            err.write(f"Traceback: {type(error).__name__}: {error}")
    return Ran(words, code, out.getvalue(), err.getvalue())


def junk(folder: Path) -> Path:
    """Files that options may name: empty, text, a folder; and one that is right."""
    from safetensors.torch import save_file

    from bench.zoo.encoders import ENCODERS

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "empty.parquet").write_bytes(b"")
    (folder / "text.csv").write_text("a,b\n1,2\n")
    (folder / "text.toml").write_text("seeds = [0]\n")
    (folder / "bad.toml").write_text("seeds = [")
    (folder / "zero.safetensors").write_bytes(b"\0" * 64)
    save_file(dict(ENCODERS["toy-vit"].base()), folder / "toy.safetensors")
    return folder


def campaign(count: int, seed: int) -> int:
    """Run many lines and print those that break a rule; how many did."""
    from bench.sweeps import SWEEPS
    from tests.helpers.toy_sweep import sweep_into

    os.environ |= {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
    with tempfile.TemporaryDirectory(prefix="mergeshift-lines-") as folder:
        out, files = Path(folder) / "out", junk(Path(folder) / "files")
        sweep_into(out, SWEEPS["smoke"])
        broken, codes = [], dict.fromkeys((0, 1, 2), 0)
        os.chdir(folder)  # what is written without a name lands there
        for words in lines(count, seed, out, files):
            done = ran(words)
            codes[done.code] = codes.get(done.code, 0) + 1
            if done.broken:
                broken.append(done)
                typer.echo(f"{done.broken}: {done.words}\n  {done.err.strip()[-600:]}")
    typer.echo(f"{count} command lines, exit codes {codes}; {len(broken)} broke a rule")
    return len(broken)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(min(1, campaign(*(numbers + [1000, 0][len(numbers) :]))))
