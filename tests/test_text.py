"""Paths and heads of tables: whole where they fit, else the end that tells them apart."""

from onnx_geed.text import head_lines, path_end


def test_a_path_that_fits_is_whole():
    assert path_end("/data/nets/model.onnx", 30) == "/data/nets/model.onnx"
    assert path_end("x" * 30, 30) == "x" * 30


def test_a_long_path_keeps_its_end_from_a_slash_on():
    long = "/home/someone/experiments/2026/nets/model.onnx"
    assert path_end(long, 30) == "…/2026/nets/model.onnx"
    for width in range(12, 60):
        short = path_end(long, width)
        assert len(short) <= width
        assert short.endswith("model.onnx")
        assert long.endswith(short.removeprefix("…"))
    assert path_end("y" * 40 + ".onnx", 20) == "…" + "y" * 14 + ".onnx"


def test_a_folder_keeps_its_name():
    assert path_end("/home/someone/" + "n" * 30 + "/", 20) == "…" + "n" * 18 + "/"


def test_names_share_a_line_where_all_fit():
    assert head_lines(("model", "m.onnx"), ("group", "C4")) == ["m.onnx   C4"]
    lines = head_lines(("model", "/a" * 45), ("group", "C4"), ("data", "x.npy"))
    assert lines == ["model  " + "/a" * 45, "group  C4", "data   x.npy"]
    (first, *_) = head_lines(("model", "/a" * 80), ("group", "C4"), ("data", "x.npy"))
    assert len(first) <= 100
    assert first.startswith("model  …/a/a")
