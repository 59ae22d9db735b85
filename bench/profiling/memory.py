"""What merging large checkpoints takes: seconds and anonymous memory, each in a process of its own.

Anonymous memory is what a process holds for itself; pages of files that it reads are not counted,
as the system may take them back at any time.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from time import sleep

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.variants import parse
from bench.zoo.encoders import ENCODERS
from mergeshift import UserError
from methods import METHODS
from methods.common.vit import ViT
from methods.common.weights import save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
METHODS_TIMED = ("average", "task_arithmetic", "ties", "tsv", "bmm_datafree[trials=0]")
LIMIT = 8.0  # GiB
LOOK = 0.02  # seconds between two looks at a process
COPIES = 2  # of the result while it is written: the tensors, and their bytes
GIB = 2.0**30


@dataclass(frozen=True)
class Cost:
    """What one merge took."""

    seconds: float  # without the start of Python
    peak: float  # GiB, anonymous


def profile_memory(
    console: Console,
    encoder: str = "ViT-L-14",
    experts: int = 20,
    methods: Sequence[str] = METHODS_TIMED,
    layers: int = 0,
) -> None:
    """Merge random experts from disk, and print what each method took.

    Args:
        console: where to.
        encoder: whose shapes.
        experts: how many.
        methods: names, or variants, ``NAME[FIELD=VALUE,...]``.
        layers: residual blocks, the rest is extrapolated; 0: all.

    Raises:
        UserError: no such encoder or method, more layers than there are, too small a disk, a
            system without /proc, or a merge that failed.
    """
    whole = ENCODERS[encoder].vit
    if not 0 <= layers <= whole.layers:
        raise UserError(f"{encoder} has {whole.layers} layers; got --layers {layers}")
    for line in map(parse, methods):
        cls = METHODS[line.method]
        if needs := cls(cls.Config.make(line.fields)).needs:
            raise UserError(
                f"{line.method} needs {needs}; memory is measured of methods that need weights only"
            )
    if not Path("/proc/self/status").exists():
        raise UserError("memory is read from /proc, which this system does not have")
    vit = replace(whole, layers=layers) if layers else whole
    with tempfile.TemporaryDirectory(prefix="mergeshift-memory-") as name:
        folder = Path(name)
        require_space(folder, vit, experts)
        console.print(
            f"{experts} random experts of {encoder} shapes, {vit.layers} of {whole.layers} layers: "
            f"{size_of(vit) / 1e6:.0f} M parameters each, bfloat16 on disk; {threads()} threads",
            highlight=False,
        )
        paths = write_experts(folder, vit, experts)
        found = {}
        for method in methods:
            found[method] = merged(method, paths, folder / "merged.safetensors")
            console.print(f"  {escape(method)}: {found[method].seconds:.1f} s", highlight=False)
    console.print(table(found, vit, whole), highlight=False)


def size_of(vit: ViT) -> int:
    """Parameters of the image tower."""
    return sum(map(prod, vit.shapes().values()))


def threads() -> str:
    """How many threads a merge has."""
    return os.environ.get("OMP_NUM_THREADS", str(torch.get_num_threads()))


def require_space(folder: Path, vit: ViT, experts: int) -> None:
    """Refuse a disk that lacks the space for base and experts in 16 bits, the result in 32.

    Raises:
        UserError: it does.
    """
    needed = size_of(vit) * (2 * (experts + 1) + 4) * 1.05
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed; set "
            "TMPDIR to another folder, or take fewer --experts or --layers"
        )


def write_experts(
    folder: Path, vit: ViT, experts: int, dtype: torch.dtype = torch.bfloat16
) -> list[Path]:
    """A base, and experts at random small distances from it; the base comes first."""
    paths = []
    for number in range(experts + 1):
        first, own = (torch.Generator().manual_seed(seed) for seed in (0, number))
        tensors = {}
        for name, shape in vit.shapes().items():
            tensor = 0.02 * torch.randn(shape, generator=first)
            if number:
                tensor += 0.001 * torch.randn(shape, generator=own)
            tensors[name] = tensor.to(dtype)
        paths.append(folder / f"{number or 'base'}.safetensors")
        save_checkpoint(paths[-1], tensors)
    return paths


def merged(method: str, paths: Sequence[Path], output: Path) -> Cost:
    """One ``python -m bench merge``, watched until it ends; it tells itself how long it took.

    Raises:
        UserError: it failed.
    """
    line, (base, *experts) = parse(method), paths
    words = ["--method", line.method, "--base", str(base), "-o", str(output)]
    words += [word for path in experts for word in ("--expert", str(path))]
    words += [w for field, value in line.fields.items() for w in ("--set", f"{field}={value}")]
    peak, log = 0.0, output.with_suffix(".txt")
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench", "merge", *words],
            cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            sleep(LOOK)
    said = log.read_text().strip().splitlines() or [f"exit code {process.returncode}"]
    if process.returncode:
        raise UserError(f"merging with {method} failed: {said[-1].removeprefix('error: ')}")
    output.unlink()
    told = re.search(r"([\d.]+)\s+s\)", " ".join(said))
    assert told, said
    return Cost(float(told[1]), peak)


def anonymous(pid: int) -> float:
    """GiB that a process holds for itself; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    kilobytes = (line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))
    return int(next(kilobytes, "0")) * 1024 / GIB


def table(found: dict[str, Cost], vit: ViT, whole: ViT) -> Table:
    """A line per method; what all layers would take, where some were left out."""
    shown = Table("method", "seconds", "peak GiB", box=None)
    part = vit.layers < whole.layers
    if part:
        shown.add_column(f"seconds, {whole.layers} layers")
        shown.add_column(f"GiB, {whole.layers} layers")
    shown.add_column(f"of {LIMIT:.0f} GiB")
    more = COPIES * 4 * (size_of(whole) - size_of(vit)) / GIB
    for method, cost in found.items():
        cells = [escape(method), f"{cost.seconds:.1f}", f"{cost.peak:.2f}"]
        if part:
            cells += [f"about {cost.seconds * whole.layers / vit.layers:.0f}"]
            cells += [f"about {cost.peak + more:.2f}"]
        verdict = "fits" if cost.peak + more <= LIMIT else "TOO MUCH"
        shown.add_row(*cells, verdict)
    return shown
