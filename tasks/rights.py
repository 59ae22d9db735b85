"""The rights in what pictures are made of: the licence, where it was read, who may use it."""

from dataclasses import dataclass

USES = {  # how Rights.use is written -> in words
    "anyone": "anyone, for any purpose",
    "attribution": "anyone who names the authors",
    "share-alike": "anyone who names the authors and shares changes under the same licence",
    "non-commercial": "not for commerce",
    "unclear": "unclear",
    "terms": "as its page says",
    "own": "you",
}
CLEAN = ("anyone", "attribution", "share-alike")  # what a task of a pocket suite may ask for


@dataclass(frozen=True)
class Rights:
    """The rights in what is read out of one source."""

    licence: str  # SPDX identifiers where there are some
    read: str  # where the licence was read: a file of the package, or an address
    use: str  # who may use it: a key of USES

    def __post_init__(self) -> None:
        if self.use not in USES:
            raise ValueError(f"use is one of {', '.join(USES)}; got {self.use!r}")
