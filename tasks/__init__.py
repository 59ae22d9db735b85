"""Classification tasks and the suites they form."""

from tasks import backdoor, former, pocket, toy, vision  # noqa: F401  (each fills TASKS or SUITES)
from tasks.suites import SUITES, Suite, suite, world_of
from tasks.task import RESERVED, SPLITS, TASKS, Images, Task, load

__all__ = [
    "RESERVED",
    "SPLITS",
    "SUITES",
    "TASKS",
    "Images",
    "Suite",
    "Task",
    "load",
    "suite",
    "world_of",
]
