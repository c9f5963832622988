"""How far a run is, as a terminal shows it."""

import gc
import io
import re
import sys
import time

import pytest

from onnx_geed.cli.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal_of(monkeypatch, *, columns=100, **environment):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for name, value in {"COLUMNS": str(columns), "TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    return terminal


def shown(monkeypatch, *steps, **terminal):
    """What is on the screen after each step, and after all of them."""
    stream = terminal_of(monkeypatch, **terminal)
    screens = []
    with progress_bar("measuring") as progress:
        for step in steps:
            start = len(stream.getvalue())
            if isinstance(step, str):
                progress.begin(step)
            elif len(step) == 3:
                progress.run(*step)
            else:
                progress(*step)
            progress._bar.refresh()
            screens.append(plain(stream.getvalue()[start:]))
    return screens


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).strip()


def test_the_bar_names_its_stage_and_unit_and_how_much_there_is(monkeypatch):
    *_, last = shown(monkeypatch, "orbits", (3, 10))
    assert "measuring" in last
    assert "3/10 orbits" in last
    assert "inferences" not in last


def test_a_second_run_begins_at_nought(monkeypatch):
    *_, last = shown(monkeypatch, "inferences", (8, 8), "shards", (1, 4))
    assert "1/4 shards" in last


def test_no_bar_rests_at_its_end(monkeypatch):
    *_, last = shown(monkeypatch, "orbits", (9, 10), (10, 10))
    assert "measuring: summing up" in last
    assert "10/10" not in last
    assert not re.search(r"\d:\d\d:\d\d", last)


def test_several_runs_are_one_bar_with_the_time_that_all_take(monkeypatch):
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    steps = [(0, 4, "A"), (1, 4, "B"), "inferences", (50, 100), (100, 100), (2, 4, "C")]
    screens = shown(monkeypatch, *steps, "inferences", (100, 100), (3, 4, "D"), "orbits", (5, 5))
    assert screens[0].startswith("1/4 A")
    assert screens[3].startswith("2/4 B")
    assert "50/100 inferences" in screens[3]
    # The first was kept and took no time, so that half a run took what there is to go by.
    left = re.search(r"(\d+):(\d\d):(\d\d)", screens[3])
    assert left is not None
    assert int(left[2]) * 60 + int(left[3]) > 0
    assert "summing up" not in screens[4]
    assert screens[-1].startswith("4/4 D: summing up")


def test_the_time_left_is_of_all_runs(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("onnx_geed.cli.progress.time.monotonic", lambda: now[0])
    terminal_of(monkeypatch)
    with progress_bar("benchmark") as progress:
        progress.run(0, 5, "kept")
        progress.run(1, 5, "A")
        progress.begin("inferences")
        now[0] = 30.0
        progress(1, 2)
        assert progress.left() == 60 * 3.5
        now[0] = 60.0
        progress(2, 2)
        progress.run(2, 5, "B")
        progress.begin("inferences")
        assert progress.left() is None
        now[0] = 90.0
        progress(1, 2)
        assert progress.left() == pytest.approx(60 * 2.5)


def test_a_narrow_terminal_has_a_line_that_fits(monkeypatch):
    for screen in shown(monkeypatch, "inferences", (3000, 10000), (10000, 10000), columns=40):
        assert all(len(line) <= 40 for line in screen.splitlines())
    assert screen.startswith("summing up")


def test_no_colour_where_none_is_wanted(monkeypatch):
    stream = terminal_of(monkeypatch, NO_COLOR="1")
    with progress_bar("measuring") as progress:
        progress.begin("orbits")
        progress(3, 10)
        progress._bar.refresh()
    assert "3/10 orbits" in stream.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", stream.getvalue())


def test_a_terminal_that_draws_nothing_anew_has_a_line_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("onnx_geed.cli.progress.time.monotonic", lambda: now[0])
    stream = terminal_of(monkeypatch, TERM="dumb")
    with progress_bar("measuring") as progress:
        progress.begin("orbits")
        for done in range(1, 11):
            now[0] += 10
            progress(done, 10)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "measuring: 2/10 orbits, 0:01:20 left"
    assert lines[-1] == "measuring: summing up"
    assert len(lines) == 5
    assert "\x1b" not in stream.getvalue()


def test_nobody_who_looks_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar("measuring") as progress:
        progress.run(0, 2, "A")
        progress.begin("orbits")
        progress(1, 2)


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_shown_in_a_pipe_or_quietly(monkeypatch, quiet):
    stream = Terminal() if quiet else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar("measuring", quiet=quiet) as progress:
        progress.begin("orbits")
        progress(1, 2)
    assert stream.getvalue() == ""


def test_garbage_is_collected_again_once_a_run_begins(monkeypatch):
    terminal_of(monkeypatch)
    assert gc.isenabled()
    for quiet in (True, False):
        with progress_bar("measuring", quiet=quiet) as progress:
            assert not gc.isenabled()
            progress.begin("inferences")
            assert gc.isenabled()
        with (
            pytest.raises(ValueError, match="no model"),
            progress_bar("measuring", quiet=quiet),
        ):
            raise ValueError("no model")
        assert gc.isenabled()
    gc.unfreeze()


def test_a_collector_that_is_off_stays_off(monkeypatch):
    terminal_of(monkeypatch)
    gc.disable()
    try:
        with progress_bar("measuring") as progress:
            progress.begin("inferences")
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
