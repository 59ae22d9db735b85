"""A folder of published numbers about a suite of the tests."""

from collections.abc import Mapping
from pathlib import Path

HEAD = "method,config,unseen,corruption,severity,task,value"
TITLES = {
    "average": "Average", "task_arithmetic": "Task Arithmetic", "ties": "TIES",
    "individual": "Individual", "pretrained": "Pretrained", "fisher": "Fisher Merging",
    "adamerging": "AdaMerging",
}  # fmt: skip


def publish(
    folder: Path, csv: str, suite: str = "pocket8", encoder: str = "pocket-vit", **facts: object
) -> Path:
    """Write the one source ``fake`` with these rows."""
    same = {
        "title": "Fake & Co", "where": "here", "decimals": 1, "suite": suite, "encoder": encoder,
        "checkpoints": "tanganke", "constants": "cifar10-c", "placement": "input",
        "adapt_on": "test", **facts,
    }  # fmt: skip
    lines = [f"{k} = {v}" if isinstance(v, int) else f'{k} = "{v}"' for k, v in same.items()]
    folder.mkdir(exist_ok=True)
    (folder / "sources.toml").write_text("\n".join(["[fake]", *lines, ""]))
    (folder / "fake.csv").write_text(f"{HEAD}\n{csv}\n")
    methods = [f"{k},{v},{'yes' if k == 'adamerging' else ''}" for k, v in TITLES.items()]
    (folder / "methods.csv").write_text("\n".join(["name,title,learns", *methods, ""]))
    return folder


def line(method: str, values: Mapping[str, float], config: str = "", shift: str = "clean",
         unseen: str = "") -> str:  # fmt: skip
    """Rows of one method: task -> share."""
    corruption, _, severity = shift.partition("@")
    return "\n".join(
        f'{method},"{config}",{unseen},{corruption},{severity or 0},{task},{value:.3f}'
        for task, value in values.items()
    )
