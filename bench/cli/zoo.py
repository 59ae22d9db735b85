"""``python -m bench zoo``: the pretrained encoder and its experts."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.cli.options import Jobs
from bench.config import digest
from bench.engines import default_jobs, engine
from bench.files import home
from bench.progress import Stages
from bench.zoo.encoders import ENCODERS, OF_WORLD
from bench.zoo.experts import build as build_experts
from bench.zoo.experts import experts_of
from tasks import suite, world_of

app = typer.Typer(help="The pretrained encoder and its experts.", no_args_is_help=True)

SuiteName = Annotated[str, typer.Option("--suite", help="see: list suites")]
Seed = Annotated[int, typer.Option("--expert-seed", help="which set of experts")]


@app.command("build")
def build(suite_name: SuiteName = "pocket8", expert_seed: Seed = 0, jobs: Jobs = 0) -> None:
    """Fine-tune the experts that are missing; a killed build goes on with the next task."""
    from bench.sweep import build_data

    console, tasks = Console(), suite(suite_name)
    encoder = ENCODERS[OF_WORLD[world_of(suite_name)]]
    experts = experts_of(encoder.name, tasks, expert_seed)
    missing = [expert for expert in experts if not expert.exists]
    stages = Stages(console)
    with engine(jobs or default_jobs()) as workers:
        build_data(tasks, workers, stages)
        encoder.heads(tasks)
        if missing:
            total = len(missing) * encoder.recipe.steps
            with stages.stage("experts", f"{len(missing)} to fine-tune", total) as advance:
                build_experts(encoder.name, tasks, expert_seed, workers, advance)
    show(suite_name, expert_seed)


@app.command("list")
def show(suite_name: SuiteName = "pocket8", expert_seed: Seed = 0) -> None:
    """Show the experts of a suite: accuracy on val before and after, seconds."""
    encoder = ENCODERS[OF_WORLD[world_of(suite_name)]]
    table = Table("task", "zero-shot (val)", "expert (val)", "seconds", "file", box=None)
    for expert in experts_of(encoder.name, suite(suite_name), expert_seed):
        if expert.exists:
            facts = expert.facts()
            before, after = facts["val_accuracy_zero_shot"], facts["val_accuracy"]
            cells = (f"{100 * before:.1f}", f"{100 * after:.1f}", f"{facts['seconds']:.0f}")
        else:
            cells = ("-", "-", "not made")
        table.add_row(expert.task, *cells, expert.path.name)
    Console().print(table)


@app.command("pretrain")
def pretrain(
    output: Annotated[Path, typer.Option("-o", help="a .safetensors file")],
    steps: Annotated[int, typer.Option(min=1)] = 3000,
    seed: int = 0,
) -> None:
    """Pretrain the pocket encoder anew (about half an hour on 2 cores; resumes)."""
    from bench.zoo.pretrain import Recipe, pretrain

    recipe = Recipe(steps=steps, seed=seed)
    folder = home() / "pretrain" / digest(asdict(recipe))
    Console().print(f"wrote {pretrain(recipe, folder, output)}", highlight=False)
