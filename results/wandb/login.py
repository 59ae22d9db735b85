"""How W&B is reached, if at all: mode, key, settings and folders. Nobody is ever asked."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from mergeshift import UserError

CHOICES = ("auto", "online", "offline", "off")
HOST = "api.wandb.ai"  # the name under which a key may stand in the netrc file
PATIENCE = 15  # seconds to wait for the service, once per sweep
UPLOAD = 60  # seconds to wait for the data of one run to be uploaded
AGENT = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")  # what an agent tells a trial
NO_KEY = "no W&B API key; run `wandb login` or set WANDB_API_KEY"


def mode(choice: str = "auto") -> str:
    """Decide between ``online``, ``offline`` and ``off``, without asking anybody.

    ``auto`` is off where the package is not installed, online when an API key stands in
    ``WANDB_API_KEY`` or the netrc file and ``WANDB_MODE`` does not say otherwise, else offline.

    Raises:
        UserError: no such choice, or what it needs is not there: the package, an API key.
    """
    if choice not in CHOICES:
        raise UserError(f"--wandb is one of {', '.join(CHOICES)}; got {choice!r}")
    if choice == "off" or (choice == "auto" and not is_installed()):
        return "off"
    require_installed()
    if choice == "offline":
        return choice
    wished = os.environ.get("WANDB_MODE", "online")
    if choice == "auto" and wished != "online":
        return "off" if wished == "disabled" else "offline"
    if api_key():
        return "online"
    if choice == "online":
        raise UserError(f"{NO_KEY}, or take offline")
    return "offline"


def is_installed() -> bool:
    """Whether there is a package wandb; all else runs without it."""
    return find_spec("wandb") is not None


def require_installed() -> None:
    """Refuse what needs the package, where there is none.

    Raises:
        UserError: there is none.
    """
    if not is_installed():
        raise UserError("W&B needs the package wandb: pip install wandb, or take --wandb off")


def broken() -> str:
    """Why the package cannot be imported although it is there; empty if it can."""
    try:
        import wandb  # noqa: F401
    except Exception as error:  # of whatever it imports
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def settings(mode: str, **more: Any) -> Any:
    """Quiet, quick and private: no console capture, no system metrics, no source code.

    Args:
        mode: ``online`` or ``offline``.
        more: further settings of wandb's.
    """
    import wandb

    wanted: dict[str, Any] = {
        "mode": mode,
        "api_key": api_key() if mode == "online" else None,
        "silent": True,
        "console": "off",
        "disable_git": True,
        "disable_job_creation": True,
        "save_code": False,
        "symlink": False,
        "init_timeout": PATIENCE,
        "finish_timeout": UPLOAD,
        "finish_timeout_raises": True,
        "x_disable_stats": True,
        "x_disable_meta": True,
        "x_save_requirements": False,
        **more,
    }
    known = wandb.Settings.model_fields  # some are younger than the oldest version we allow
    return wandb.Settings(**{name: value for name, value in wanted.items() if name in known})


def unreachable() -> str:
    """Why no answer comes from the service; empty if one does, whatever it says."""
    import wandb

    url = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    try:
        with urlopen(Request(url, method="HEAD"), timeout=PATIENCE):
            return ""
    except HTTPError:
        return ""  # an answer
    except URLError as error:
        return "" if isinstance(error.reason, SSLError) else f"{url}: {error.reason}"
    except OSError as error:
        return f"{url}: {error}"


def api_key() -> str | None:
    """From ``WANDB_API_KEY`` or the netrc file, where ``wandb login`` puts it; never by asking."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    if not path.is_file():
        return None
    import wandb

    service = os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    hosts = [urlparse(service).netloc, *([] if "WANDB_BASE_URL" in os.environ else [HOST])]
    try:
        found = [netrc(path).authenticators(host) for host in hosts]
    except (NetrcParseError, OSError):
        return None  # wandb cannot read it either: not logged in
    return next((entry[2] for entry in found if entry), None)


@contextmanager
def wandb_folder(folder: Path, mode: str) -> Iterator[None]:
    """Point every folder of wandb's to ``folder``, unless the user chose one; undone afterwards.

    Under an agent of a W&B Sweep, wandb would take every run for the agent's one trial, whatever
    its id: what the agent says is hidden meanwhile (see :mod:`results.wandb.sweep`).
    """
    names: dict[str, object] = {
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",  # sends nothing to anybody but the user's project
        "WANDB_DIR": folder,
        "WANDB_CACHE_DIR": folder / "wandb" / "cache",
        "WANDB_DATA_DIR": folder / "wandb" / "data",
        "WANDB_ARTIFACT_DIR": folder / "wandb" / "artifacts",
    }
    if mode != "online":  # online, the user's own settings (host, team) are read
        names["WANDB_CONFIG_DIR"] = folder / "wandb" / "config"
    set_here = {name: str(value) for name, value in names.items() if name not in os.environ}
    hidden = {name: os.environ.pop(name) for name in AGENT if name in os.environ}
    os.environ.update(set_here)
    try:
        if hidden:
            _forget_agent()
        yield
    finally:
        for name in set_here:
            os.environ.pop(name, None)
        os.environ.update(hidden)


def _forget_agent() -> None:
    """Let wandb read its environment again if it did so before the agent's words were hidden."""
    import wandb

    if wandb.setup().settings.sweep_id:
        wandb.teardown()


def stop_service() -> None:
    """End wandb's own process; the next run starts another."""
    import wandb

    with suppress(Exception):  # it may have died already, which is as good
        wandb.teardown()
