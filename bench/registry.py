"""One registry class; its instances hold methods, tasks, suites and corruptions."""

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import TypeVar

from bench.errors import UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """An ordered mapping from a name to a thing; names are added once and never replaced.

    >>> fruit: Registry[int] = Registry("fruit")
    >>> fruit.add("apple", 3)
    3
    >>> fruit["aple"]
    Traceback (most recent call last):
    bench.errors.UnknownNameError: no fruit named 'aple'; did you mean 'apple'? Known: apple
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Store ``item`` under ``name`` and return it."""
        if name in self._items:
            raise ValueError(f"{self.kind} {name!r} is already registered: {self._items[name]!r}")
        self._items[name] = item
        return item

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of :meth:`add`."""
        return lambda item: self.add(name, item)

    def __getitem__(self, name: str) -> T:
        if name in self._items:
            return self._items[name]
        close = get_close_matches(name, self._items, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownNameError(
            f"no {self.kind} named {name!r}; {hint}Known: {', '.join(self._items)}"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
