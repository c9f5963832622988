"""Paths with places and globs, against a regular expression and against names that mean harm."""

import fnmatch
import random
import re
import time

import pytest

from onnx_geed import GeedError
from onnx_geed.run.path_pattern import PathPattern


def naive(pattern):
    """The regular expression of a pattern; what it tries has no bound."""
    expression, seen = "", set()
    for token in re.split(r"(\{\w+\}|\*\*/|\*|\?|\[!?[^]{}/][^]{}/]*\])", pattern):
        place = re.fullmatch(r"\{(\w+)\}", token)
        if place and place[1] in seen:
            expression += f"(?P={place[1]})"
        elif place:
            seen.add(place[1])
            digits = place[1] in ("seed", "step")
            expression += f"(?P<{place[1]}>{'[0-9]+' if digits else '[^/]+'})"
        elif len(token) > 2 and token.startswith("["):
            inner = re.fullmatch(r"\(\?s:(.*)\)\\[zZ]", fnmatch.translate(token), re.DOTALL)
            expression += inner[1]
        else:
            globs = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
            expression += globs.get(token, re.escape(token))
    return re.compile(expression)


PARTS = ["{a}", "{b}", "{a}", "{seed}", "*", "**/", "?", "[ab]", "[!a-b]", "[", "a", "b", "/", "7"]


def test_a_pattern_matches_as_its_regular_expression_does():
    rng = random.Random(0)
    met = 0
    for _ in range(20_000):
        pattern = "".join(rng.choices(PARTS, k=rng.randint(1, 6)))
        path = "".join(rng.choices("ab/7[", k=rng.randint(0, 9)))
        match = naive(pattern).fullmatch(path)
        met += match is not None
        assert PathPattern(pattern).match(path) == (match and match.groupdict()), (pattern, path)
    assert met > 1000


@pytest.mark.parametrize("pattern", ["{a}{b}{c}{d}{e}{f}!", "*a" * 30 + "!", "**/" * 9 + "!"])
def test_what_was_tried_is_not_tried_again(pattern):
    for name in ("a" * 255, "a/" * 120):
        assert PathPattern(pattern).match(name) is None


def test_a_pattern_that_has_too_many_ways_is_refused():
    every = PathPattern("{a}{b}{c}{d}" * 2 + "!")
    start = time.monotonic()
    with pytest.raises(GeedError, match=r"too many ways: write text between") as refused:
        every.match("a" * 255)
    assert time.monotonic() - start < 30
    assert len(str(refused.value)) < 300
    with pytest.raises(GeedError, match=r"has 1,000 parts, more than 200"):
        PathPattern("*" * 1000)


def test_names_by_the_hundred_thousand_are_matched():
    form = PathPattern("runs/*/{net}-{width}/seed{seed}.onnx")
    for i in range(3_000):
        path = f"runs/of-a-long-name-{i}/resnet-18/seed{i}.onnx"
        assert form.match(path) == {"net": "resnet", "width": "18", "seed": str(i)}
    assert form._left > 1_000_000
