"""What is said of a group before anything is run."""

import pytest

from onnx_geed.groups import parse_group
from onnx_geed.run.on_group import group_notes
from onnx_geed.run.options import make_options


def notes(name, **options):
    return group_notes(parse_group(name), make_options(options))


@pytest.mark.parametrize("name", ["brightness:0.5..1.5/9", "brightness:-1..1/3", "noise:0.1..1/4"])
def test_255ths_that_nobody_sees_are_taken_for_a_mistake(name):
    (note,) = notes(name)
    assert note.startswith(f"{name}: the numbers are 255ths")
    assert "\n" not in note


def test_the_note_says_how_a_factor_and_a_share_are_written():
    (note,) = notes("brightness:0.5..1.5/9")
    assert "at most 1.5/255 is added" in note
    assert "for shares of 1 write brightness:128..382, for a factor contrast:0.5..1.5/9" in note
    assert "for a factor" not in notes("noise:0.1..1/4")[0]


@pytest.mark.parametrize(
    "name", ["brightness:-60..60/9", "contrast:0.5..1.5/9", "noise:4..32/6", "blur:0.5..2/4", "C8"]
)
def test_nothing_is_said_of_others(name):
    assert notes(name) == []


def test_what_has_no_effect_is_said():
    assert "resamples nothing" in notes("brightness:60", interpolation="nearest")[0]
