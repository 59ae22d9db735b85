"""``python -m bench zoo``: the pretrained encoders and their experts."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.files import ModelFormat, Tower, merge_facts, notices, require_free
from bench.cli.options import (
    OUT,
    PROCESSES,
    DataDir,
    Device,
    EncoderName,
    Experts,
    Heads,
    Jobs,
    Methods,
    Out,
    numbers,
    whole,
    words,
)
from bench.cli.table import Format, FormatName, check_latex, format_of
from bench.cli.table import show as show_table
from bench.config import digest
from mergeshift import DamagedFileError, UserError, atomic, home

if TYPE_CHECKING:
    from bench.zoo.encoders import Encoder
    from bench.zoo.experts import Expert
    from tasks import Suite

app = typer.Typer(help="The pretrained encoders and their experts.", no_args_is_help=True)

SuiteName = Annotated[str, typer.Option("--suite", help="see: list suites")]
TaskName = Annotated[str, typer.Option("--task", help="what the expert is of; see: list tasks")]
Seed = Annotated[
    int,
    typer.Option(
        "--expert-seed",
        parser=whole("--expert-seed"),
        metavar="INTEGER",
        help="which set of experts",
    ),
]


def chosen(suite_name: str, encoder: str, experts: str, heads: str = "") -> tuple[Encoder, Suite]:
    """The encoder of a suite, or another, with the experts and heads that are asked for.

    And the suite, with pictures of the encoder's size.
    """
    from bench.plan import fitting
    from bench.zoo.encoders import ENCODERS, OF_WORLD
    from tasks import SUITES

    suite = SUITES[suite_name]
    found = ENCODERS[encoder or OF_WORLD[suite.world]]
    found = found.of(experts) if experts else found
    suite = suite.at(found.vit.image_size)
    fitting(found, suite.tasks)
    return found.with_heads(heads, suite.tasks), suite


@app.command("build")
def build(
    suite_name: SuiteName = "pocket8",
    encoder: EncoderName = "",
    experts: Experts = "",
    heads: Heads = "",
    data_dir: DataDir = None,
    expert_seed: Seed = 0,
    jobs: Jobs = 0,
    device: Device = "auto",
    num_devices: Annotated[
        int,
        typer.Option(
            "--devices",
            parser=whole("--devices", 1, PROCESSES),
            metavar="INTEGER",
            help="that share one fine-tuning; needs --jobs 1",
        ),
    ] = 1,
    strategy: Annotated[str, typer.Option(help="of Lightning, for several devices")] = "",
    workers: Annotated[
        int,
        typer.Option(
            parser=whole("--workers", 0, PROCESSES),
            metavar="INTEGER",
            help="that make batches, in a fine-tuning",
        ),
    ] = 0,
    keep_curvature: Annotated[
        bool,
        typer.Option(
            "--keep-curvature",
            help="keep Adam's second moments beside each expert, for ota_adam and ota_adam_ffg; "
            "one that lacks them is fine-tuned once more",
        ),
    ] = False,
) -> None:
    """Fine-tune or download the experts that are missing; a killed build goes on with the next."""
    from rich.console import Console

    from bench.runtime import devices
    from bench.runtime.progress import Stages
    from bench.runtime.workers import executor
    from bench.sweep import build_data, make_heads
    from bench.zoo.experts import build as build_experts
    from bench.zoo.experts import experts_of
    from bench.zoo.finetune import Spread
    from tasks.settings import using

    console, spread = Console(), Spread(num_devices, strategy, workers)
    with devices.using(device), using(data_dir):
        jobs = jobs or (1 if num_devices > 1 else devices.jobs())
        if num_devices > 1 and jobs > 1:
            raise UserError("several devices share one fine-tuning: give --jobs 1")
        found, suite = chosen(suite_name, encoder, experts, heads)
        tasks = suite.tasks
        missing = [
            e
            for e in experts_of(found.name, tasks, expert_seed)
            if not (e.has_curvature if keep_curvature else e.exists)
        ]
        stages = Stages(console)
        with executor(jobs) as workers_:
            build_data(tasks, workers_, stages)
            make_heads(found, tasks, stages)
            if missing:
                total, what = len(missing) * found.expert_steps, f"{len(missing)} {found.doing}"
                with stages.stage("experts", what, total) as advance:
                    build_experts(
                        found.name, tasks, expert_seed, workers_, advance, spread, keep_curvature
                    )
    show(suite_name, encoder, experts, heads, data_dir, expert_seed)


@app.command("list")
def show(
    suite_name: SuiteName = "pocket8",
    encoder: EncoderName = "",
    experts: Experts = "",
    heads: Heads = "",
    data_dir: DataDir = None,
    expert_seed: Seed = 0,
) -> None:
    """Show what is there of a suite: encoder and experts, accuracy on val, size, file."""
    from rich.console import Console
    from rich.table import Table

    from bench.zoo.experts import Expert
    from tasks.settings import using

    console = Console()
    with using(data_dir):
        found, suite = chosen(suite_name, encoder, experts, heads)
        here = found.base_hash if found.is_ready() else "not here yet: it is downloaded when needed"
        console.print(f"{found.name}: {found.title}, {here}; experts: {found.experts}",
                      highlight=False)  # fmt: skip
        if not found.is_ready():
            return
        table = Table("task", "zero-shot (val)", "expert (val)", "seconds", "MB", "file", box=None)
        for name in suite.names:
            table.add_row(name, *described(Expert(found.name, name, expert_seed)))
    console.print(table)


def described(expert: Expert) -> tuple[str, ...]:
    """What is known of an expert, for a line of a table."""
    from bench.zoo.encoders import ENCODERS

    try:
        path = expert.path
        missing = "not made" if ENCODERS[expert.encoder].experts == "finetuned" else "not here"
        if not expert.exists:
            return "-", "-", missing, "", path.name
    except UserError as error:  # nobody published or imported it
        return "-", "-", "none", "", str(error)
    facts, after = expert.facts(), expert.val_accuracy
    before = facts.get("val_accuracy_zero_shot")
    values = ("-" if value is None else f"{100 * value:.1f}" for value in (before, after))
    seconds = f"{facts['seconds']:.0f}" if "seconds" in facts else "-"
    return *values, seconds, f"{path.stat().st_size / 1e6:.1f}", path.name


@app.command("verify")
def verify() -> None:
    """Compare every encoder and expert on this machine with the hash in its manifest."""
    from rich.console import Console

    from bench.zoo.experts import damaged_files

    files, wrong = damaged_files(home())
    for path, size in files:
        Console().print(
            f"{'DAMAGED' if path in wrong else 'ok':<8}{size / 1e6:>9.1f} MB  {path}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    if wrong:
        raise DamagedFileError(
            f"{len(wrong)} of {len(files)} files are damaged, e.g. {wrong[0]}; delete them, they "
            "are made or downloaded again when needed"
        )
    Console().print(f"{len(files)} files, all as they were written")


@app.command("import")
def bring_in(
    file: Annotated[
        Path,
        typer.Argument(help="safetensors, or a torch file of tensors alone; or a folder with one"),
    ],
    task: TaskName,
    encoder: EncoderName = "ViT-B-32",
    expert_seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="replace one that is there")] = False,
    tower: Tower = "",
) -> None:
    """Take an expert of your own, of open_clip or transformers; use it with --experts imported."""
    from rich.console import Console

    from bench.zoo.encoders import ENCODERS
    from bench.zoo.import_export import bring_in as convert
    from tasks import TASKS

    with notices():
        expert = convert(
            file, ENCODERS[encoder], TASKS[task], expert_seed, again=force, wanted=tower
        )
    Console().print(f"imported {file} as {expert.path}", highlight=False, soft_wrap=True)


@app.command("export")
def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="a folder")],
    task: Annotated[str, typer.Option(help="whose expert; or give --weights")] = "",
    weights: Annotated[Path | None, typer.Option(help="e.g. what `merge` wrote")] = None,
    encoder: EncoderName = "ViT-B-32",
    experts: Experts = "",
    expert_seed: Seed = 0,
    tower: Tower = "",
    format: ModelFormat = "hf",
    force: Annotated[bool, typer.Option("--force", help="replace a model that is there")] = False,
    out: Out = OUT,
) -> None:
    """Write an image tower as transformers or open_clip reads it, with a model card.

    Weights that `evaluate` has measured into --out have their table on the card.
    """
    from rich.console import Console

    from bench.reporting.model_card import Origin, measured_table, model_card
    from bench.zoo.encoders import ENCODERS
    from bench.zoo.experts import Expert
    from bench.zoo.import_export import sha256_of_all, targets, write_out
    from bench.zoo.import_export import tower as read_tower
    from methods.common.weights import Weights
    from tasks import TASKS

    found = ENCODERS[encoder].of(experts) if experts else ENCODERS[encoder]
    if bool(task) == bool(weights):
        raise UserError("give either --task, for its expert, or --weights FILE")
    if weights:
        with notices():
            tensors, files = read_tower(weights, found, tower)
        merge = merge_facts(files[0])
        origin = Origin(
            encoder=found, method=merge.get("method", ""), settings=merge.get("config", {}),
            experts=merge.get("experts", ()),
            measured=measured_table(out, sha256_of_all(files)[:16]),
        )  # fmt: skip
    else:
        expert = Expert(found.name, TASKS[task].name, expert_seed)
        if not expert.exists:
            raise UserError(f"the expert of {task} is not here; python -m bench zoo build")
        tensors, files = dict(Weights.open(expert.path)), (expert.path,)
        origin = Origin(encoder=found, task=TASKS[task])
    for target in targets(output, format):
        require_free(target, files, force)
    path = write_out(tensors, found, output, format, model_card(origin, format))
    Console().print(f"wrote {path}", highlight=False, soft_wrap=True)


class DiagnosisTable(StrEnum):
    """Which table of a diagnosis."""

    both = "both"
    task = "task"
    published = "published"


@app.command("diagnose")
def diagnose(
    suite_name: SuiteName = "pocket8",
    encoder: EncoderName = "",
    experts: Experts = "",
    expert_seeds: Annotated[
        list[str], typer.Option(help="which sets of experts: 0, or 0-2, or 0,1,2")
    ] = ["0"],  # noqa: B006
    limit: Annotated[
        int,
        typer.Option(
            parser=whole("--limit"),
            metavar="INTEGER",
            help="at most so many val images a task; 0 takes all",
        ),
    ] = 400,
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out", help="also the methods that may not steer how a setting is made"
        ),
    ] = False,
    methods: Methods = [],  # noqa: B006
    label: Annotated[str, typer.Option(help="what tables call it; the encoder's name")] = "",
    table: Annotated[
        DiagnosisTable, typer.Option(help="both | task | published: which table")
    ] = DiagnosisTable.both,
    format: FormatName = None,
    output: Annotated[Path | None, typer.Option("-o", help="a file, of one table")] = None,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="LaTeX: a whole document")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="a .png, .pdf or .svg file")] = None,
    out: Out = OUT,
    jobs: Jobs = 0,
    device: Device = "auto",
    force: Annotated[bool, typer.Option("--force", help="measure again what is there")] = False,
) -> None:
    """Measure how like CLIP a setting is as a merging problem, on the val split.

    Zero-shot, linear probe, experts; length and angles of task vectors; what an expert wins along
    its own line, costs the other tasks, and keeps at low rank; what methods recover of the gap,
    beside what was published of the same methods. The result is kept in OUT/diagnoses.
    """
    from rich.console import Console

    from bench.diagnosis import Case, run_diagnosis
    from bench.runtime import devices
    from results.published.reference import reference
    from results.tables.diagnosis import beside, by_task

    format = format_of(format, output)
    check_latex(format, output, standalone, "")
    single = output is not None or format is not Format.text
    if single and table is DiagnosisTable.both:
        raise UserError(f"there are two tables; with {_told(output)} give --table task | published")
    seeds = numbers(expert_seeds, "sets of experts")
    with devices.using(device):
        found, suite = chosen(suite_name, encoder, experts)
        case = Case(
            suite=suite.name, encoder=found, expert_seeds=seeds,
            limit=limit or None, held_out=held_out, only=tuple(words(methods)),
        )  # fmt: skip
        console = Console(stderr=single and output is None)  # what is printed is the table alone
        diagnosis = run_diagnosis(
            case, out, jobs=jobs or devices.jobs(), label=label, force=force, console=console
        )
    published = reference(held_out=held_out)
    if table is not DiagnosisTable.published:
        show_table(by_task(diagnosis), format, output, standalone, "tab:diagnosis-task")
    if table is not DiagnosisTable.task:
        compared = beside(published, [diagnosis])
        show_table(compared, format, output, standalone, "tab:diagnosis-published")
    if plot is not None:
        from results.plots.diagnosis import lines_and_shares
        from results.plots.style import save

        console.print(
            f"wrote {save(lines_and_shares(diagnosis, published), plot)}", highlight=False
        )
    console.print(f"kept in {case.path(out)}", highlight=False, soft_wrap=True)


def _told(output: Path | None) -> str:
    return "-o" if output is not None else "--format"


@app.command("match-levels")
def match_levels(
    suite_name: SuiteName = "pocket8",
    encoder: EncoderName = "",
    experts: Experts = "",
    expert_seeds: Annotated[
        list[str], typer.Option(help="which sets of experts: 0, or 0-2, or 0,1,2")
    ] = ["0-2"],  # noqa: B006
    output: Annotated[
        Path | None, typer.Option("-o", help="a .toml file to add the entry to; else printed")
    ] = None,
    jobs: Jobs = 0,
    device: Device = "auto",
) -> None:
    """Search for the matched levels M1, M2, M3 of a suite: severities by their loss on val.

    Task Arithmetic's mean over the sets of experts; seven corruptions at five severities. The entry
    belongs into corruptions/matched.toml: stored results name severities, so it stays as it is.
    """
    from rich.console import Console

    from bench.profiling.matched import match
    from bench.runtime import devices

    seeds = numbers(expert_seeds, "sets of experts")
    with devices.using(device):
        found, suite = chosen(suite_name, encoder, experts)
        console = Console(stderr=output is None)
        entry = match(suite.name, found, seeds, jobs=jobs or devices.jobs(), console=console)
    if output is None:
        print(entry.text(), end="")
        return
    before = output.read_text(encoding="utf-8") if output.exists() else ""
    with atomic(output) as temporary:
        temporary.write_text("\n".join(filter(None, [before, entry.text()])), encoding="utf-8")
    console.print(f"added {entry.suite} with {entry.encoder} to {output}", highlight=False)


@app.command("pretrain")
def pretrain(
    output: Annotated[Path, typer.Option("-o", help="a .safetensors file")],
    steps: Annotated[int, typer.Option(parser=whole("--steps", 1), metavar="INTEGER")] = 2400,
    seed: Annotated[int, typer.Option(parser=whole("--seed"), metavar="INTEGER")] = 0,
) -> None:
    """Pretrain the pocket encoder anew (about half an hour on 2 cores; resumes)."""
    from rich.console import Console

    from bench.zoo.pretrain import Recipe, pretrain

    recipe = Recipe(steps=steps, seed=seed)
    folder = home() / "pretrain" / digest(asdict(recipe))
    Console().print(f"wrote {pretrain(recipe, folder, output)}", highlight=False)
