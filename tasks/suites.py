"""The suites: ordered tuples of task names. The order is that of every table."""

from tasks.task import SUITES

POCKET8 = SUITES.add(
    "pocket8",
    ("mnist", "optdigits", "animals", "landcover", "texture", "brainplane", "scripts", "letters"),
)
POCKET14 = SUITES.add(
    "pocket14", (*POCKET8, "climate", "leaf", "speaker", "emoji", "kanji", "language")
)
POCKET20 = SUITES.add(
    "pocket20",
    (*POCKET14, "microstructure", "ising", "arrowhead", "face", "games", "solardefect"),
)
TOY = SUITES.add("toy", ("toy_two", "toy_three", "toy_four"))
