"""Files that mean harm end in a figure or in one line, in bounded time and memory."""

import sys
from pathlib import Path

import hostile_files
import pytest

sys.path.append(str(Path(__file__).parent / "fuzz"))

if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)

from bounded import GIB, Bounded

# Each costs little, and there are many; what they show of a kind, pipes and devices show too.
_ALIKE = ("_socket", "_loop", "_a_folder", "flac_of_silence", "npy_of_many_samples")


@pytest.fixture(scope="module")
def bounded():
    with Bounded(memory=64 * GIB, held=2 * GIB + GIB // 4) as server:
        yield server


def cases():
    for name in hostile_files.CASES:
        slow = [pytest.mark.slow] if name.endswith(_ALIKE) else []
        yield pytest.param(name, marks=slow)


@pytest.mark.parametrize("name", cases())
def test_a_hostile_file_is_measured_or_refused_in_one_line(bounded, tmp_path, name):
    words = hostile_files.made(name, tmp_path)
    ended = bounded.run(words, tmp_path)
    assert not ended.fault(), ended
    if name in hostile_files.GOOD:
        assert ended.status == 0, ended.err


def test_there_are_many():
    assert len(hostile_files.CASES) > 300
    assert hostile_files.CASES.keys() >= hostile_files.GOOD
