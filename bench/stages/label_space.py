"""The classes of all tasks as one space of labels: what an image is told apart from, hidden task.

Where nobody says of which task an image is, it is classified under all heads, one below the other.
Classes of the same name are one class, whichever task they are of: an image of a three is
classified right by any head's ``three``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks import Task


@dataclass(frozen=True)
class LabelSpace:
    """Classes by name, and where those of the tasks are among them."""

    names: tuple[str, ...]  # each once, in the order of the tasks
    labels: Mapping[str, Tensor]  # task -> which of ``names`` its classes are.  int64 [C_task]

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> "LabelSpace":
        """That of a suite.

        >>> from tasks import SUITES
        >>> len(LabelSpace.of(SUITES["pocket8"].tasks).names)  # of 91: two tasks are of digits
        81
        """
        numbers: dict[str, int] = {}
        labels = {
            task.name: torch.tensor(
                [numbers.setdefault(name.casefold(), len(numbers)) for name in task.classes]
            )
            for task in tasks
        }
        return cls(tuple(numbers), labels)

    def by_name(self, logits: Tensor) -> Tensor:
        """The largest logit of each name.  ``[B, rows of all heads] -> [B, N]``."""
        rows = torch.cat(list(self.labels.values())).to(logits.device).expand(len(logits), -1)
        lowest = logits.new_full((len(logits), len(self.names)), -torch.inf)
        return lowest.scatter_reduce(1, rows, logits, "amax")
