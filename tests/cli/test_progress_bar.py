"""How far a run is, as a terminal shows it."""

import io
import sys

from onnx_geed.cli.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, *steps):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar() as progress:
        for step in steps:
            if isinstance(step, str):
                progress.begin(step)
            else:
                progress(*step)
        progress._bar.refresh()
    return terminal.getvalue()


def test_the_bar_names_what_is_counted_and_how_much_there_is(monkeypatch):
    text = shown(monkeypatch, "orbits", (3, 10))
    assert "orbits" in text
    assert "3/10" in text
    assert "inferences" not in text


def test_a_second_run_begins_at_nought(monkeypatch):
    text = shown(monkeypatch, "inferences", (8, 8), "shards", (1, 4))
    assert "1/4" in text
    assert "shards" in text


def test_nobody_who_looks_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar() as progress:
        progress.begin("orbits")
        progress(1, 2)
