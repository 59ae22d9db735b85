"""Classification tasks and the suites they form."""

from tasks import pocket, suites, toy, vision  # noqa: F401  (each fills TASKS or SUITES)
from tasks.task import SPLITS, SUITES, TASKS, Images, Task, load, suite, world_of

__all__ = ["SPLITS", "SUITES", "TASKS", "Images", "Task", "load", "suite", "world_of"]
