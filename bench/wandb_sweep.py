"""A file that says what to try -> the configuration of a W&B Sweep that tries it."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.config import SWEEPS, Sweep, find_sweep
from bench.errors import UserError
from bench.registry import Registry
from methods import METHODS

OPTIONS: Registry[str] = Registry("option of `python -m bench sweep` that a W&B Sweep can vary")
for _name in ("suite", "encoder", "experts", "methods", "shifts", "seeds", "expert-seed", "limit",
              "constants", "placement", "adapt-on", "unseen", "val", "precision"):  # fmt: skip
    OPTIONS.add(_name, f"--{_name}")
SEARCHES = ("grid", "random", "bayes")
ADVICE = "metric: {name: best/acc/clean, goal: maximize}"


def configuration(file: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """The configuration of a W&B Sweep, in W&B's words.

    Args:
        file: a YAML or TOML file in W&B's words, of which ``parameters`` is needed: options of
            ``python -m bench sweep``, or METHOD.FIELD. ``sweep`` says which sweep they change.
            Or a sweep, by name or as TOML file: then each trial is one of its methods, one seed.
        options: of ``python -m bench sweep``, the same for every trial.

    Raises:
        UserError: the file cannot be read, or says something that cannot be tried.
    """
    values = _whole(file) if file in SWEEPS else _read(Path(file))
    if "parameters" not in values:
        values = _whole(file)
    base = str(values.pop("sweep", "main"))
    swept = find_sweep(base)
    search = values.setdefault("method", "grid")
    if search not in SEARCHES:
        raise UserError(f"method of a W&B Sweep is one of {', '.join(SEARCHES)}; got {search!r}")
    if search == "bayes" and not isinstance(values.get("metric"), Mapping):
        raise UserError(f"a bayes search needs a metric; write e.g. {ADVICE}")
    parameters = values["parameters"]
    if not isinstance(parameters, Mapping) or not parameters:
        raise UserError(f"parameters of {file} is a table of what to vary; got {parameters!r}")
    for name, choice in parameters.items():
        _check(str(name), choice)
    command = ["${env}", "${interpreter}", "-m", "bench", "sweep", base, "--wandb=online"]
    return {
        "name": swept.name,
        "program": "bench",
        **values,
        "command": [*command, *options, "${args}"],
    }


def _whole(file: str) -> dict[str, Any]:
    """A sweep in parts: one trial for each method and seed."""
    sweep: Sweep = find_sweep(file)
    parts = {"methods": sweep.methods, "seeds": sweep.seeds}
    return {"sweep": file, "parameters": {k: {"values": list(v)} for k, v in parts.items()}}


def _check(name: str, choice: Any) -> None:
    """Refuse a parameter that a trial could not take."""
    method, dot, field = name.partition(".")
    if not dot:
        OPTIONS[name]
    else:
        known = METHODS[method]().cfg.as_dict()
        if field not in known:
            raise UserError(f"{method} has no field {field!r}; it has: {', '.join(known)}")
    if not isinstance(choice, Mapping):
        raise UserError(
            f"parameter {name} is a table such as {{values: [1, 2]}} or {{min: 0, max: 1}}; "
            f"got {choice!r}"
        )


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"no file {path}; give one, or a sweep: {', '.join(SWEEPS)}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a file") from None
    except (ValueError, yaml.YAMLError) as error:
        kind = "TOML" if path.suffix == ".toml" else "YAML"
        told = " ".join(str(error).split())
        raise UserError(f"{path} is not {kind}: {told}") from None
    if not isinstance(found, dict) or (path.suffix != ".toml" and "parameters" not in found):
        raise UserError(f"{path} does not say what to vary; write parameters: {{seeds: {{...}}}}")
    return found
