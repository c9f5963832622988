"""Compiling in a process of its own: what is said, where machine code is kept."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "onnx_geed" / "demo"
PYTHON = "import onnx_geed; print(onnx_geed.normaliser('latent-l2', [[0.0, 3.0], [4.0, 0.0]]))"

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="nothing is compiled"
)


def start(*arguments, **environment):
    run = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **{k: str(v) for k, v in environment.items()}},
    )
    assert run.returncode == 0, run.stderr
    return run


def command(tmp_path):
    np.save(tmp_path / "digits.npy", np.load(DEMO / "digits.npz")["images"][:2])
    line = f"-m onnx_geed measure {DEMO / 'digits_cnn.onnx'} --data {tmp_path / 'digits.npy'}"
    more = "--group flip-h --measure latent-l2 --provider cpu --samples 2"
    return f"{line} {more}".split()


def notes(run):
    return [line for line in run.stderr.splitlines() if "kernels" in line]


def test_the_first_run_says_once_that_it_compiles_and_the_second_does_not(tmp_path):
    where = tmp_path / "numba"
    first = start(*command(tmp_path), NUMBA_CACHE_DIR=where)
    (line,) = notes(first)
    assert line.startswith("onnx-geed: compiling kernels, once")
    assert str(where) in line
    assert list(where.rglob("kernels._fill_orbits*.nbc"))
    second = start(*command(tmp_path), NUMBA_CACHE_DIR=where)
    assert notes(second) == []
    assert second.stdout == first.stdout


@pytest.mark.parametrize("junk", [b"junk\n", b"", b"\x80\x05cno.such\nthing\n."])
def test_junk_in_the_cache_is_compiled_anew(tmp_path, junk):
    where = tmp_path / "numba"
    first = start(*command(tmp_path), NUMBA_CACHE_DIR=where)
    for file in where.rglob("*.[nl]*"):
        file.write_bytes(junk)
    again = start(*command(tmp_path), NUMBA_CACHE_DIR=where)
    assert again.stdout == first.stdout
    assert len(notes(again)) == 1
    assert notes(start(*command(tmp_path), NUMBA_CACHE_DIR=where)) == []


def test_a_setting_that_numba_does_not_take_is_told_in_one_line(tmp_path):
    run = subprocess.run(
        [sys.executable, *map(str, command(tmp_path))],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "0"},
    )
    assert run.returncode == 2
    (line,) = [line for line in run.stderr.splitlines() if not line.startswith("note: ")]
    assert line.startswith("onnx-geed: numba cannot be loaded (")
    assert "NUMBA_NUM_THREADS=0" in line


def test_a_library_use_is_quiet_about_compiling(tmp_path):
    run = start("-c", PYTHON, NUMBA_CACHE_DIR=tmp_path)
    assert run.stdout == "5.0\n"
    assert run.stderr == ""


def test_without_a_writable_folder_it_compiles_every_time_and_warns(tmp_path):
    (tmp_path / "file").touch()
    place = {
        "NUMBA_CACHE_DIR": tmp_path / "file" / "below",
        # As where neither the package nor the home folder can be written to.
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
    }
    for _ in range(2):
        run = start("-c", PYTHON, **place)
        assert run.stdout == "5.0\n"
        (line,) = notes(run)
        assert "compiled again in every run" in line
        assert "set NUMBA_CACHE_DIR" in line


def test_an_unwritable_folder_that_was_asked_for_is_named(tmp_path):
    (tmp_path / "file").touch()
    home = tmp_path / "home"
    run = start(
        "-c",
        PYTHON,
        NUMBA_CACHE_DIR=tmp_path / "file",
        NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator,UserWideCacheLocator",
        XDG_CACHE_HOME=home,
        HOME=home,
    )
    (line,) = notes(run)
    assert f"NUMBA_CACHE_DIR={tmp_path / 'file'} cannot be written" in line
    assert str(home) in line
    assert list(home.rglob("*.nbc"))


LINEAR_ALGEBRA = """
import sys
import numba
import numpy as np
import onnx_geed

assert onnx_geed.normaliser("latent-l2", [[0.0, 3.0], [4.0, 0.0]]) == 5.0
assert "scipy.linalg" not in sys.modules
assert not [f for f in sys.meta_path if type(f).__module__.startswith("onnx_geed")]
product = numba.njit(lambda a, b: a @ b)
print(product(np.eye(2), np.full((2, 2), 3.0)).sum(), "scipy.linalg" in sys.modules)
"""


def test_loops_need_no_linear_algebra_and_those_of_others_still_have_it(tmp_path):
    assert start("-c", LINEAR_ALGEBRA, NUMBA_CACHE_DIR=tmp_path).stdout == "12.0 True\n"


FROM_DISK = """
import sys
import numpy as np
import onnx_geed

action = onnx_geed.grid_action(onnx_geed.parse_group("C8"), 9, 9)
moved = onnx_geed.orbit(action, np.arange(81, dtype=np.float32).reshape(1, 9, 9))
far = onnx_geed.normaliser("latent-l2", [[0.0, 3.0], [4.0, 0.0]])
print(moved.sum(), far, "numba" in sys.modules)
"""


def test_loops_on_the_disk_are_run_without_what_compiles_them(tmp_path):
    first = start("-c", FROM_DISK, NUMBA_CACHE_DIR=tmp_path)
    again = start("-c", FROM_DISK, NUMBA_CACHE_DIR=tmp_path)
    values, loaded = first.stdout.rsplit(maxsplit=1)
    assert loaded == "True"
    assert again.stdout.rsplit(maxsplit=1) == [values, "False"]


def asking_numba(folder, code, *more):
    """Lines of a program whose loops are compiled, and which numba reads from the disk."""
    kept = folder / "kept"
    start("-c", code, PYTHONPATH=ROOT, NUMBA_CACHE_DIR=kept)
    # Any setting of its own: machine code alone may be another then.
    run = start(*more, "-c", code, PYTHONPATH=ROOT, NUMBA_CACHE_DIR=kept, NUMBA_WARNINGS=0)
    return run.stdout.splitlines()


LOADED = """
import sys
import onnx_geed

onnx_geed.normaliser("latent-l2", [[0.0, 3.0], [4.0, 0.0]])
import numba

print(*(name in sys.modules for name in ("scipy", "yaml")), numba.config.DEBUG_CACHE)
"""


def test_numba_is_loaded_without_what_it_can_do_without(tmp_path):
    assert asking_numba(tmp_path, LOADED) == ["False False 0"]


def test_a_file_of_settings_for_numba_is_still_read(tmp_path, monkeypatch):
    pytest.importorskip("yaml")
    monkeypatch.chdir(tmp_path)
    Path(".numba_config.yaml").write_text("debug_cache: 1\n")
    assert asking_numba(tmp_path, LOADED)[-1] == "False True 1"


def test_settings_for_numba_are_read_in_another_folder_too(tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / ".numba_config.yaml").write_text("debug_cache: 1\n")
    code = (
        f"{LOADED}\nimport os\nos.chdir({str(tmp_path)!r})\n"
        "numba.njit(lambda x: x + 1)(1)\n"
        "print('yaml' in sys.modules, numba.config.DEBUG_CACHE)\n"
    )
    lines = asking_numba(tmp_path, code, "-W", "error")
    assert lines[0] == "False False 0"
    assert lines[-1] == "True 1"


def test_numpy_loads_no_masked_arrays_for_us(tmp_path):
    code = "import sys, numpy\nbefore = 'numpy.ma' in sys.modules\nimport onnx_geed\n"
    code += "onnx_geed.parse_group('C8')\nprint(before == ('numpy.ma' in sys.modules))"
    assert start("-c", code).stdout == "True\n"


SOURCES = {
    "loops.py": "from tools.parts import add\nfrom elsewhere import no\n",
    "parts.py": 'def f():\n    from tools.sizes import SIZE\n\n\ninstructed_by("tools.told")\n',
    "told.py": "from tools.parts import add\n",
    "sizes.py": "SIZE = 8\n",
    "others.py": "from tools.loops import all\n",
}


@pytest.mark.parametrize("changed", SOURCES)
def test_machine_code_is_of_all_texts_that_went_into_it(tmp_path, changed):
    from onnx_geed.kept_loops import digest_of

    for folder in ("before", "after", "same"):
        (tmp_path / folder).mkdir()
        for name, text in SOURCES.items():
            more = "#" if (folder, name) == ("after", changed) else ""
            (tmp_path / folder / name).write_text(text + more)
    before, after, same = (
        digest_of(str(tmp_path / folder / "loops.py"), "tools.loops")
        for folder in ("before", "after", "same")
    )
    assert before == same
    assert (before == after) == (changed == "others.py")


def test_a_text_that_cannot_be_read_has_no_digest(tmp_path):
    from onnx_geed.kept_loops import digest_of

    assert digest_of(str(tmp_path / "none.zip" / "loops.py"), "tools.loops") is None
