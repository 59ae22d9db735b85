"""Shifts: how they are written, read, refused and told apart."""

import pickle

import pytest

from corruptions.base import (
    CLEAN,
    CONSTANTS,
    PROTOCOL,
    SEVERITIES,
    SHIFT_SETS,
    Shift,
    ShiftName,
    parse_shifts,
)
from mergeshift import UnknownNameError, UserError

IMAGENET = CONSTANTS[1]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["clean"], ["clean"]),
        (["gaussian_noise@1,3,5"], [f"gaussian_noise@{s}" for s in (1, 3, 5)]),
        (["contrast"], [f"contrast@{s}" for s in SEVERITIES]),
        (["L2"], [f"{name}@2" for name in PROTOCOL]),
        (["adamerging7@2"], [f"{name}@2" for name in PROTOCOL]),
        (["adamerging7@1", "L1"], [f"{name}@1" for name in PROTOCOL]),
        (["all19@5"], [f"{name}@5" for name in SHIFT_SETS["all19"]]),
        (["imagenet-c15"], [f"{n}@{s}" for s in SEVERITIES for n in SHIFT_SETS["imagenet-c15"]]),
        (["mixed@2"], ["mixed@2"]),
        (["prior", "domain:usps", "prior"], ["prior", "domain:usps"]),
        (["pixelate@2", "clean", "pixelate@2,1", "clean"], ["pixelate@2", "clean", "pixelate@1"]),
        ([], []),
    ],
)
def test_parse_shifts(texts, expected):
    shifts = parse_shifts(texts, IMAGENET, "native")
    assert [str(shift) for shift in shifts] == expected
    for shift in shifts:
        assert Shift.parse(str(shift), constants=IMAGENET, placement="native") == shift


def test_the_main_sweep_has_22_shifts():
    shifts = parse_shifts(["clean", "L1", "L2", "L3"])
    levels = [(name, severity) for severity in (1, 2, 3) for name in PROTOCOL]
    assert len(shifts) == 22
    assert [(s.corruption, s.severity) for s in shifts] == [("clean", 0), *levels]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gausian_noise@3", "did you mean 'gaussian_noise'"),
        ("L4", "no shift named 'L4'; Known: clean, L1, L2, L3"),
        ("", "no shift named ''"),
        ("contrast@6", "one of 1 2 3 4 5; got '6'"),
        ("contrast@0", "got '0'"),
        ("contrast@", "got ''"),
        ("contrast@1,,2", "got ''"),
        ("contrast@1.5", "got '1.5'"),
        ("contrast@1@2", "got '1@2'"),
        ("contrast@-1", "got '-1'"),
        ("clean@1", "clean has no severity"),
        ("clean@0", "clean has no severity"),
        ("L1@2", "L1 has no severity"),
        ("prior@2", "prior has no severity"),
        ("domain:", "a domain is written domain:NAME; got 'domain:'"),
        ("all19@6", "severity of all19 is one of 1 2 3 4 5; got '6'"),
        ("all20", "did you mean 'all19'"),
    ],
)
def test_junk_shifts_are_refused_in_one_line(text, message):
    with pytest.raises(UserError, match=message) as error:
        parse_shifts(["clean", text])
    assert "\n" not in str(error.value)


def test_wrong_parts_of_a_shift_are_refused():
    with pytest.raises(UserError, match="write one, such as contrast@1"):
        Shift.parse("contrast")
    with pytest.raises(UnknownNameError):
        Shift("fog of war", 3)
    with pytest.raises(UserError, match="all19 stands for several shifts; name one of them"):
        Shift("all19", 3)
    for bad in ({"severity": 0}, {"severity": 3, "constants": "x"}):
        with pytest.raises(UserError, match="one of"):
            Shift("contrast", **bad)
    with pytest.raises(UserError, match="placement of a shift is one of input, native; got 'out'"):
        Shift.parse("clean", placement="out")


def test_keys_tell_every_part_apart():
    shifts = [
        Shift(name, severity, constants, placement)
        for name in PROTOCOL
        for severity in SEVERITIES
        for constants in CONSTANTS
        for placement in ("input", "native")
    ]
    assert len({shift.key for shift in (*shifts, CLEAN)}) == len(set(shifts)) + 1 == 141
    assert Shift("contrast", 1).key == "contrast@1-cifar10-c-input-v1"
    assert CLEAN.key == "clean"
    assert [Shift(name).key for name in ("prior", "domain:usps")] == ["prior", "domain:usps"]
    assert ShiftName.of_key("domain:usps") == ("domain:usps", 0)
    assert Shift("clean", 0, IMAGENET, "native") == CLEAN
    assert sorted(shifts)[0].corruption == "contrast"
    assert pickle.loads(pickle.dumps(shifts[0])) == shifts[0]
