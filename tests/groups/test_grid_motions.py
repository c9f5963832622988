"""Which axes named groups turn and shift, and their elements in words."""

import pytest

from onnx_geed.groups import angle, moved_axes, parse_group


@pytest.mark.parametrize(
    ("group", "letters", "turned", "shifted"),
    [
        ("C4", "HWX", "HW", ""),
        ("D3", "HWX", "HW", ""),
        ("flip-h", "HWX", "W", ""),
        ("flip-v", "HWX", "H", ""),
        ("shift2x2", "HW", "", "HW"),
        ("shift1x4", "HW", "", "W"),
        ("C4-x", "DHX", "DH", ""),
        ("C6-y", "DWX", "DW", ""),
        ("O", "DHWX", "DHW", ""),
        ("SO3~24", "DHWX", "DHW", ""),
        ("SO2~8", "HWX", "HW", ""),
        ("reverse", "T", "T", ""),
        ("shift8", "T", "", "T"),
        ("revcomp", "TB", "T", ""),
        ("S4", "P", "", ""),
        ("hue3", "C", "", ""),
        ("C4*shift8", "HWXT", "HW", "T"),
        ("no group", "", "", ""),
    ],
)
def test_axes_of_named_groups(group, letters, turned, shifted):
    moved = moved_axes(group)
    assert sorted(moved.letters) == sorted(letters)
    assert sorted(moved.turned) == sorted(turned)
    assert sorted(moved.shifted) == sorted(shifted)


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("C4", ["e", "r1 (90°)", "r2 (180°)", "r3 (270°)"]),
        ("D1", ["e", "s (mirror)"]),
        ("flip-h", ["e", "flip"]),
        ("C3-y", ["e", "r1 (120°)", "r2 (240°)"]),
        ("hue3", ["e", "r1 (hue 120°)", "r2 (hue 240°)"]),
        ("hue4", ["e", "r1 (hue 90°)", "r2 (hue 180°)", "r3 (hue 270°)"]),
        ("C2*hue2", ["e", "e*r1 (hue 180°)", "r1*e (180°)", "r1*r1 (180°, hue 180°)"]),
        ("O2~4", ["e", "r1 (180°)", "s (mirror)", "sr1 (180°, then mirror)"]),
        ("reverse", ["e", "reverse"]),
        ("S3", ["e", "132", "213", "231", "312", "321"]),
    ],
)
def test_elements_in_words(group, words):
    assert [angle(group, element) for element in parse_group(group).elements] == words


def test_short_words_tell_elements_apart():
    assert [angle("D2", e, short=True) for e in parse_group("D2").elements] == [
        "e",
        "180°",
        "mirror",
        "180° + mirror",
    ]
    assert angle("C4*hue3", "r1*r2", short=True) == "90°, hue 240°"
    assert angle("my group", "a") == "a"
