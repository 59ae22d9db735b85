"""The embedded tasks: real pictures out of wheels. A file in this folder registers its tasks."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
