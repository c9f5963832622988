"""Which files are mostly holes."""

import os

import pytest

from onnx_geed.model import is_hollow

MIB = 1 << 20

pytestmark = pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="the system tells of no holes")


@pytest.mark.parametrize(
    ("written", "size", "hollow"),
    [
        *[(0, 0, False), (1, 1, False), (MIB, MIB, False), (0, MIB, True), (MIB, 3 * MIB, True)],
        (40 * MIB, 42 * MIB, False),
    ],
)
def test_a_file_is_hollow_where_much_of_it_lies_on_no_disk(tmp_path, written, size, hollow):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(b"\1" * written)
        file.truncate(size)
    assert is_hollow(path) == hollow


def test_holes_between_pieces_count(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        for place in range(0, 10 * MIB, MIB):
            file.seek(place)
            file.write(b"\1" * 4096)
    assert is_hollow(path)


def test_what_is_not_there_is_not_hollow(tmp_path):
    assert not is_hollow(tmp_path / "nothing")
