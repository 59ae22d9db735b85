"""Merging methods. A file dropped into this folder registers itself; nothing else to edit."""

from importlib import import_module
from pkgutil import iter_modules

import mergeshift  # noqa: F401  (before Lightning: it spares it what it does not use)

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

from methods.api import merge  # noqa: E402
from methods.base import METHODS, MergingMethod, Paper  # noqa: E402
from methods.common.checkpoints import Checkpoints  # noqa: E402
from methods.common.data_access import Needs  # noqa: E402

__all__ = ["METHODS", "Checkpoints", "MergingMethod", "Needs", "Paper", "merge"]
