"""``python -m bench sanity``: what must hold in any sweep."""

import typer

from bench.cli.options import OUT, Out, SweepName, selected
from mergeshift import UserError


def sanity(sweep: SweepName = "", out: Out = OUT) -> None:
    """Check a sweep against what must hold: the order of the references, and severities that bite.

    The order on clean images is pretrained < average < the best of the other merges < individual,
    each step with a paired 95 % interval. Exit code 1 if a step does not hold.
    """
    from rich.console import Console

    from results.tables.paired import monotone, null_cells, paired

    rows, console = selected([out], sweep, []), Console()
    rows = rows[rows["variant"] == ""]  # of methods as they are
    clean = rows[(rows["corruption"] == "clean") & (rows["metric"] == "acc")]
    means = clean.groupby("method")["value"].mean()
    plain = clean[(clean["stores"] == "one model") & ~clean["knows_task"]]
    merges = sorted(set(plain["method"]) - {"pretrained", "average"})
    if not merges:
        raise UserError("no merge was measured on clean images; see `python -m bench table`")
    best = max(merges, key=means.__getitem__)
    holds = True
    console.print("[bold]order on clean images[/] (paired, 95 %)")
    for low, high in (("pretrained", "average"), ("average", best), (best, "individual")):
        line = paired(clean, high, low).iloc[0]
        holds &= bool(line["low"] > 0)
        console.print(
            f"  {low} {100 * means[low]:.1f} < {high} {100 * means[high]:.1f}: "
            f"{100 * line['difference']:+.1f} [{100 * line['low']:+.1f}, {100 * line['high']:+.1f}]"
            f"  {'holds' if line['low'] > 0 else 'DOES NOT HOLD'}",
            highlight=False,
        )
    curves = monotone(rows, "individual")
    console.print("[bold]individual, accuracy by severity[/] (0 = clean)")
    for name, curve in curves.iterrows():
        severities = [c for c in curves.columns if isinstance(c, int)]
        line = " ".join(f"{100 * curve[s]:5.1f}" for s in severities)
        rise = 100 * curve["largest_rise"]
        remark = "" if curve["falls"] or len(severities) < 3 else "  DOES NOT FALL"
        remark += f"  rises by {rise:.1f}" if rise > 1 else ""
        holds &= not remark
        console.print(f"  {name:<18} {line}{remark}", highlight=False)
    console.print("[bold]null cells[/]: the fall of individual from clean is within its interval")
    for _, cell in null_cells(rows, "individual").iterrows():
        console.print(
            f"  {cell['corruption']}@{cell['severity']}: {100 * cell['fall']:+.2f} "
            f"[{100 * cell['low']:+.2f}, {100 * cell['high']:+.2f}]",
            highlight=False,
        )
    if not holds:
        raise typer.Exit(1)
