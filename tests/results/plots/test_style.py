"""How lines are drawn: no two of a figure alike, and each the same in every figure."""

import random
from itertools import combinations

from methods import METHODS
from results.plots.style import DASHES, LINE_STYLES, PALETTE, SHAPES, line_styles
from results.tables.entries import Entry


def line(method: str, variant: str = "") -> Entry:
    key = f"{method}[{variant}]" if variant else method
    return Entry(key=key, method=method, title=key, cite="", tuned=False, config="", data_access="")


OTHERS = [line(f"mine_{i}") for i in range(40)]
VARIANTS = [line("ties", f"scale={i / 10}") for i in range(20)]


def test_known_methods_keep_their_styles_whatever_else_is_drawn():
    assert len(set(LINE_STYLES.values())) == len(LINE_STYLES)
    known = [line(name) for name in LINE_STYLES]
    for entries in (known, known[3:5], [*OTHERS, *known, *VARIANTS]):
        styles = line_styles(entries)
        assert list(styles) == [entry.key for entry in entries]
        assert all(styles[e.key] == LINE_STYLES[e.key] for e in entries if e.key in LINE_STYLES)


def test_no_two_lines_of_a_figure_look_alike():
    entries = [line(name) for name in METHODS] + OTHERS + VARIANTS
    entries += [line("mine_3", f"keep={i}") for i in range(20)] + [line("absent", "x=1")]
    styles = line_styles(entries)
    assert len(set(styles.values())) == len(entries)
    for style in styles.values():
        assert style.marker in {*SHAPES, *(known.marker for known in LINE_STYLES.values())}
        assert style.dash in DASHES


def test_a_variant_has_the_colour_of_its_method():
    entries = [*VARIANTS, line("mine_3"), *(line("mine_3", f"keep={i}") for i in range(20))]
    styles = line_styles(entries)
    assert {styles[e.key].colour for e in VARIANTS} == {LINE_STYLES["ties"].colour}
    assert {styles[e.key].colour for e in entries[20:]} == {styles["mine_3"].colour}
    alone = line_styles([entries[-1]])  # also where the method itself is not drawn
    assert alone[entries[-1].key].colour == styles["mine_3"].colour


def test_a_new_method_looks_the_same_in_every_figure():
    """Beside any known methods, in any order; another new one changes it only if both had one."""
    alone = {entry.key: line_styles([entry])[entry.key] for entry in OTHERS}
    assert not set(alone.values()) & set(LINE_STYLES.values())
    every = [line(name) for name in LINE_STYLES]
    for one, other in combinations(OTHERS, 2):
        styles = line_styles([other, *every, one])
        if alone[one.key] != alone[other.key]:
            assert styles[one.key] == alone[one.key]
            assert styles[other.key] == alone[other.key]
        assert styles[one.key] != styles[other.key]
    mixed = random.Random(0).sample(OTHERS, len(OTHERS))
    assert line_styles(mixed) == line_styles(OTHERS)


def test_more_lines_than_styles_are_still_drawn():
    entries = [line(f"mine_{i}") for i in range(len(PALETTE) * len(SHAPES) * len(DASHES) + 5)]
    assert len(line_styles(entries)) == len(entries)
