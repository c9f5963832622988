"""Machine code on the disk gives what the compiler's own gives, and is only run where it fits."""

import functools
import json
import math
import os
import platform
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

from onnx_geed import kept_loops, object_code
from onnx_geed.jit import compiled
from onnx_geed.kept_loops import held_by, kinds_of, read_loop
from onnx_geed.object_code import Image, image_of, put_into_memory

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "onnx_geed" / "demo"
RNG = np.random.default_rng(0)

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="nothing is compiled"
    ),
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() != "x86_64", reason="loops are not kept"
    ),
]


def started(*arguments, check=True, **environment):
    settings = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    run = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**settings, **{k: str(v) for k, v in environment.items()}},
    )
    assert not check or run.returncode == 0, run.stderr
    return run


@pytest.fixture(autouse=True)
def _no_settings_of_numba(monkeypatch):
    for name in [n for n in os.environ if n.startswith("NUMBA_") and n != "NUMBA_CACHE_DIR"]:
        monkeypatch.delenv(name)
    here = kept_loops._here
    here.cache_clear()
    yield
    here.cache_clear()


MEASURE = """
import sys
from onnx_geed.__main__ import main

try:
    main()
finally:
    print("numba" in sys.modules, "llvmlite" in sys.modules, file=sys.stderr)
"""


def measured(folder, *more):
    """The measurements of a command, and whether it loaded numba and its compiler."""
    np.save(folder / "digits.npy", np.load(DEMO / "digits.npz")["images"][:5])
    line = f"measure {DEMO / 'digits_cnn.onnx'} --data {folder / 'digits.npy'} --group C8"
    out = folder / "result.json"
    run = started(
        *("-c", MEASURE, *line.split(), "--samples", 5, "--norm-samples", 5, "--out", out, *more),
        NUMBA_CACHE_DIR=folder / "kept",
        PYTHONPATH=ROOT,
    )
    loaded = run.stderr.splitlines()[-1]
    return json.loads(out.read_text())["measurements"], loaded


def test_a_second_command_needs_no_compiler_and_gives_the_same(tmp_path):
    first, loaded = measured(tmp_path)
    assert loaded == "True True"
    again, loaded = measured(tmp_path)
    assert loaded == "False False"
    assert again == first


@pytest.mark.parametrize("junk", [b"", b"junk", b"\0" * 500])
def test_a_damaged_file_is_passed_over_and_written_again(tmp_path, junk):
    first, _ = measured(tmp_path)
    files = list((tmp_path / "kept").rglob("*.loop"))
    assert len(files) > 5
    for file in files:
        file.write_bytes(junk)
    again, loaded = measured(tmp_path)
    assert loaded == "True True"
    assert again == first
    assert measured(tmp_path) == (first, "False False")


def test_one_changed_byte_of_code_is_found(tmp_path):
    first, _ = measured(tmp_path)
    for file in (tmp_path / "kept").rglob("*.loop"):
        content = bytearray(file.read_bytes())
        content[-100] ^= 1
        file.write_bytes(content)
    assert measured(tmp_path) == (first, "True True")


def test_a_setting_of_numbas_asks_numba(tmp_path):
    measured(tmp_path)
    code = "import sys, onnx_geed; onnx_geed.normaliser('latent-l2', [[0.0, 3.0], [4.0, 0.0]]); "
    code += "print('numba' in sys.modules)"
    place = {"NUMBA_CACHE_DIR": tmp_path / "kept", "PYTHONPATH": ROOT}
    assert started("-c", code, **place).stdout == "False\n"
    assert started("-c", code, NUMBA_OPT=1, **place).stdout == "True\n"


LOOP = """
from onnx_geed.jit import compiled
from {package}.amounts import AMOUNT


@compiled("contract")
def more(a):
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] + AMOUNT
    return total
"""


def test_a_changed_source_is_compiled_anew_and_its_former_code_goes(tmp_path):
    package = tmp_path / "parts_of_loops"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "loops.py").write_text(LOOP.format(package=package.name))
    code = (
        "import sys; import numpy as np; from parts_of_loops.loops import more; "
        "print(more(np.zeros(3)), 'numba' in sys.modules)"
    )

    def run(amount):
        (package / "amounts.py").write_text(f"AMOUNT = {amount}\n")
        path = os.pathsep.join([str(ROOT), str(tmp_path)])
        printed = started("-c", code, NUMBA_CACHE_DIR=tmp_path / "kept", PYTHONPATH=path).stdout
        (file,) = (tmp_path / "kept").rglob("*.loop")
        return printed.split(), file.name

    (first, name), (again, same) = run(2), run(2)
    assert (first, again, same) == (["6.0", "True"], ["6.0", "False"], name)
    (other, later), (last, _) = run(5.25), run(5.25)
    assert (other, last) == (["15.75", "True"], ["15.75", "False"])
    assert later != name


WARM = """
import os, subprocess, sys
import numpy as np
from parts_of_loops.loops import apart

a, b = np.array([3.0]), np.array([2.0])
if len(sys.argv) > 1:  # the package is updated while this process runs
    from pathlib import Path
    at = Path(sys.argv[1])
    at.write_text(at.read_text().replace("a, b", "b, a").replace("other", "an other"))
    subprocess.run([sys.executable, *sys.orig_argv[1:3]], check=True)
print(apart(a, b))
"""


@pytest.mark.parametrize("inner", [False, True])
def test_a_process_does_not_take_the_code_of_a_later_source(tmp_path, inner):
    package = tmp_path / "parts_of_loops"
    package.mkdir()
    (package / "__init__.py").touch()
    text = "from onnx_geed.jit import compiled\n\n\n"
    if inner:
        text += "@compiled()\ndef less(a, b):  # other\n    return a[0] - b[0]\n\n\n"
        text += "@compiled()\ndef apart(x, y):\n    return less(x, y)\n"
    else:
        text += "@compiled()\ndef apart(a, b):  # other\n    return a[0] - b[0]\n"
    (package / "loops.py").write_text(text)
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    place = {"NUMBA_CACHE_DIR": tmp_path / "kept", "PYTHONPATH": path}
    run = started("-c", WARM, package / "loops.py", **place)
    # The new source has its arguments the other way round.
    assert run.stdout.split() == ["-1.0", "1.0"]
    # Nor does it leave its own code for others.
    assert started("-c", WARM, **place).stdout == "-1.0\n"


INSTRUCTED = """
import os, subprocess, sys
from pathlib import Path
import numpy as np
from parts_of_loops.loops import early, late

early(np.zeros(1))  # all instructions are loaded with the first loop that is compiled
if len(sys.argv) > 1:
    at = Path(sys.argv[1])
    at.write_text(at.read_text().replace("+ 1.0", "+ 20.0"))
print(late(np.zeros(1)))
"""


def test_instructions_of_a_former_text_leave_no_code_behind(tmp_path):
    package = tmp_path / "parts_of_loops"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "plain.py").write_text(
        "from onnx_geed.jit import instructed_by\n\n\n"
        "def raised(x):\n    return None\n\n\n"
        'instructed_by("parts_of_loops.told")\n'
    )
    (package / "told.py").write_text(
        "from numba.extending import overload\nfrom parts_of_loops.plain import raised\n\n\n"
        "@overload(raised)\ndef _(x):\n    return lambda x: x + 1.0\n"
    )
    (package / "loops.py").write_text(
        "from onnx_geed.jit import compiled\nfrom parts_of_loops.plain import raised\n\n\n"
        "@compiled()\ndef early(a):\n    return a[0]\n\n\n"
        "@compiled()\ndef late(a):\n    return raised(a[0])\n"
    )
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    place = {"NUMBA_CACHE_DIR": tmp_path / "kept", "PYTHONPATH": path}
    old = started("-c", INSTRUCTED, package / "told.py", **place)
    assert old.stdout == "1.0\n"
    for _ in range(2):
        assert started("-c", INSTRUCTED, **place).stdout == "20.0\n"


def test_pythons_with_other_options_leave_each_other_their_code(tmp_path):
    # Without docstrings, which are among the constants of code.
    code = "import sys, onnx_geed; onnx_geed.normaliser('latent-cos', [[0.0, 3.0], [4.0, 0.0]]); "
    code += "print('numba' in sys.modules)"
    place = {"NUMBA_CACHE_DIR": tmp_path, "PYTHONPATH": ROOT}
    loaded = [started(*more, "-c", code, **place).stdout for more in ([], ["-OO"]) * 2]
    assert loaded == ["True\n", "True\n", "False\n", "False\n"]


def made(k):
    @compiled("contract")
    def raised(a):
        return a[0] + k

    return raised


NUMBER = 1.0


def nested(a):
    return sum(x + NUMBER for x in a)


def renumbered(value):
    """The same function, beside another global."""
    return FunctionType(nested.__code__, {**globals(), "NUMBER": value}, "nested")


def unfinished():
    def loop(a):
        return a + later

    if loop is None:
        later = 1
    return loop


def wrapped(f):
    @functools.wraps(f)
    def twice(a):
        return 2 * f(a)

    return twice


DIFFERENT = [
    renumbered(1.0),
    renumbered(np.float64(1.0)),
    renumbered(np.float32(1.0)),
    renumbered(1),
    renumbered(True),
    renumbered((1.0,)),
    renumbered(np.dtype("f4")),
    renumbered(nested),
    renumbered(wrapped(nested)),
    renumbered(math),
    lambda a, b: a,
    lambda a, *b: a,
    lambda a, b=1: a,
    lambda a, b=2: a,
    lambda a, *, b=1: a,
    lambda a, *, b=2: a,
]


def test_a_loop_is_told_by_all_that_it_holds():
    held = [held_by(made(k).__wrapped__) for k in (1, 1.0, 5.0, -0.0, 0.0)]
    assert len({*held}) == len(held)
    assert held_by(made(1).__wrapped__) == held[0]
    value, loop = from_disk(made(1.0), np.zeros(2))
    assert (value, loop(np.zeros(2))) == (1.0, 1.0)
    value, loop = from_disk(made(7.0), np.zeros(2))
    assert (value, loop(np.zeros(2))) == (7.0, 7.0)
    assert len({*map(held_by, DIFFERENT)}) == len(DIFFERENT)
    # What may change meanwhile, or is not there yet, is not told at all.
    assert held_by(unfinished()) is None
    assert held_by(made([object()]).__wrapped__) is None
    assert read_loop(made(np.arange(3.0)).__wrapped__, (np.zeros(2),)) is None


IN_CODE = """
import sys
import numba
numba.config.{setting}
import onnx_geed
print(onnx_geed.normaliser("latent-l2", [[0.0, 3.0], [4.0, 0.0]]))
"""


@pytest.mark.parametrize(
    "setting",
    [
        "OPT = numba.config._OptLevel(0)",
        "CPU_NAME, numba.config.CPU_FEATURES = 'x86-64', ''",
        "DISABLE_JIT = 1",
    ],
)
def test_settings_made_in_code_keep_nothing(tmp_path, setting):
    run = started(
        *("-c", IN_CODE.format(setting=setting)), NUMBA_CACHE_DIR=tmp_path, PYTHONPATH=ROOT
    )
    assert run.stdout == "5.0\n"
    assert not list(tmp_path.rglob("*.loop"))


@pytest.mark.parametrize("folder", ["kept", "./kept", "../{here}/kept", "{tmp}/kept/"])
def test_the_folder_may_be_written_in_any_way(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    place = {"NUMBA_CACHE_DIR": folder.format(here=tmp_path.name, tmp=tmp_path), "PYTHONPATH": ROOT}
    code = "import sys, onnx_geed; onnx_geed.normaliser('latent-l2', [[0.0, 3.0], [4.0, 0.0]]); "
    code += "print('numba' in sys.modules)"
    assert started("-c", code, **place).stdout == "True\n"
    assert started("-c", code, **place).stdout == "False\n"


def test_only_the_folder_that_was_asked_for_is_looked_into(tmp_path, monkeypatch):
    function = count.__wrapped__
    for asked in (tmp_path, tmp_path / "new"):
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(asked))
        (folder,) = kept_loops._folders(function)
        assert Path(folder).parent == asked
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert len(kept_loops._folders(function)) == 2  # that, and beside the source
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    (folder,) = kept_loops._folders(function)
    assert folder == str(Path(__file__).parent / "__pycache__")


@compiled("contract")
def dot(a, b, factor, turned):
    total = 0.0
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            j = a.shape[1] - 1 - k if turned else k
            total += factor * a[i, k] * b[i, j]
    return total


@compiled("contract")
def grow(out, by):
    for i in range(out.shape[0]):
        out[i] += by


@compiled("contract")
def count(a):
    found = 0
    for i in range(a.shape[0]):
        found += a[i] < 0
    return found


@compiled("contract")
def allocated(n):
    room = np.ones(n)
    return room[n // 2]


def from_disk(loop, *arguments):
    """A loop after it was compiled for arguments, as another process would get it."""
    return loop(*arguments), read_loop(loop.__wrapped__, arguments)


WHOLE = RNG.normal(size=(6, 10))


@pytest.mark.parametrize(
    "a",
    [
        WHOLE,
        np.asfortranarray(WHOLE),
        WHOLE[::2, ::-1],
        WHOLE[:, 1:4],
        WHOLE[:0],
        WHOLE[:1],
        np.broadcast_to(WHOLE[0], (6, 10)),
        WHOLE.astype(np.float32),
        (100 * WHOLE).astype(np.int16),
    ],
    ids=["C", "Fortran", "steps", "stretch", "empty", "row", "repeated", "single", "short"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_arrays_of_all_layouts_are_read_as_numba_reads_them(a, turned):
    b = RNG.normal(size=a.shape)
    value, loop = from_disk(dot, a, b, 0.3, turned)
    assert loop is not None
    assert loop(a, b, 0.3, turned) == value
    expected = 0.3 * (a.astype(float) * (b[:, ::-1] if turned else b)).sum()
    assert value == pytest.approx(expected)


def test_results_are_written_into_arrays_and_whole_numbers_returned():
    out, numbers = np.arange(7.0), np.array([-1, 3, -5, 0], dtype=np.int64)
    _, loop = from_disk(grow, out, 2)
    assert loop(out, 3) is None
    assert out.tolist() == [5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    value, loop = from_disk(count, numbers)
    assert value == loop(numbers) == 2


def test_kinds_tell_arguments_apart_that_need_other_code():
    frozen = WHOLE.copy()
    frozen.flags.writeable = False
    different = [
        (WHOLE,),
        (WHOLE.T,),
        (WHOLE[::2],),
        (WHOLE[0],),
        (frozen,),
        (WHOLE.astype(np.float32),),
        (WHOLE.astype(">f8"),),
        (1,),
        (1.0,),
        (True,),
        (np.zeros(2, {"names": ["a", "b"], "formats": ["i8", "i4"]}),),
        (np.zeros(2, {"names": ["a", "b"], "formats": ["i8", "i4"], "offsets": [0, 4]}),),
        (np.zeros(2, np.dtype([("a", "i8"), ("b", "i4")], align=True)),),
    ]
    assert len({kinds_of(arguments) for arguments in different}) == len(different)
    names = {kept_loops._name_of(count.__wrapped__, arguments) for arguments in different}
    assert len(names) == len(different)
    assert kinds_of((WHOLE[:1],)) == kinds_of(
        (WHOLE,)
    )  # contiguous in both orders, as numba has it


@pytest.mark.parametrize("argument", [1 << 63, np.int64(1), np.float32(1), None, "a", [1.0], 1j])
def test_other_arguments_are_left_to_numba(argument):
    assert kinds_of((argument,)) is None


def test_a_loop_that_needs_memory_of_its_own_is_left_to_numba():
    value, loop = from_disk(allocated, 5)
    assert (value, loop) == (1.0, None)


def test_code_for_another_processor_or_compiler_is_not_run(monkeypatch):
    _, loop = from_disk(count, np.arange(3))
    assert loop is not None
    here = kept_loops._here()
    assert any(line.startswith("flags") for line in here)
    for other in (None, (*here[:-1], "flags\t\t: fpu"), ("4.0", *here[1:])):
        monkeypatch.setattr(kept_loops, "_here", lambda other=other: other)
        assert read_loop(count.__wrapped__, (np.arange(3),)) is None


def may_be(address):
    """What may be done with memory at an address: read, written, run."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        ends, allowed, *_ = line.split()
        start, stop = (int(end, 16) for end in ends.split("-"))
        if start <= address < stop:
            return allowed
    return None


def test_nobody_can_write_to_code_that_is_run():
    assert may_be(put_into_memory(image_of(written(), "loop", (), ()))) == "r-xp"


@pytest.mark.parametrize("refused", ["mmap", "mprotect"])
def test_where_the_system_runs_no_code_of_ours_numba_is_asked(monkeypatch, refused):
    real = object_code._libraries()

    class Libraries:
        def __getattr__(self, name):
            if name == refused:
                return lambda *_: object_code._FAILED if refused == "mmap" else -1
            return getattr(real, name)

    monkeypatch.setattr(object_code, "_libraries", Libraries)
    value, loop = from_disk(count, np.arange(-2, 3))
    assert (value, loop) == (2, None)


OLD_SYSTEM = """
import mmap
for name in ("PROT_READ", "PROT_WRITE", "PROT_EXEC", "MAP_PRIVATE", "MAP_ANONYMOUS"):
    delattr(mmap, name)
import onnx_geed.kept_loops
onnx_geed.kept_loops.sys.platform = "win32"
print(onnx_geed.normaliser("latent-l2", [[0.0, 3.0], [4.0, 0.0]]))
"""


def test_another_system_loads_without_names_that_it_has_not(tmp_path):
    run = started("-c", OLD_SYSTEM, NUMBA_CACHE_DIR=tmp_path, PYTHONPATH=ROOT)
    assert run.stdout == "5.0\n"
    assert not list(tmp_path.rglob("*.loop"))


def test_threads_run_a_loop_side_by_side():
    arrays = [RNG.normal(size=(40, 50)) for _ in range(16)]
    _, loop = from_disk(dot, arrays[0], arrays[1], 1.5, False)
    assert loop is not None

    def run(a):
        return [loop(a, arrays[0], 1.5, False) for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        for a, values in zip(arrays, pool.map(run, arrays), strict=True):
            assert set(values) == {dot(a, arrays[0], 1.5, False)}


# --- what object files are refused


def written(loop=b"\xc3" + bytes(15), *, machine=62, kind=1, name=b"memset", flags=6):
    """An object file of a loop that names a function: headers, text, symbols, names, places."""
    strings = b"\0loop\0" + name + b"\0.text\0"
    at = {"loop": 1, "name": 6, ".text": 7 + len(name)}
    symbols = struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)
    symbols += struct.pack("<IBBHQQ", at["loop"], 0x12, 0, 1, 0, len(loop))
    symbols += struct.pack("<IBBHQQ", at["name"], 0x10, 0, 0, 0, 0)
    places = struct.pack("<QQq", 8, (2 << 32) | kind, 3)
    parts, start, header = [loop, symbols, strings, places], 64, b""
    rows = [(0,) * 10]
    told = [
        (at[".text"], 1, flags, 0, 0, 16, 0),
        (0, 2, 0, 3, 0, 8, 24),
        (0, 3, 0, 0, 0, 1, 0),
        (0, 4, 0, 2, 1, 8, 24),
    ]
    for part, (label, what, flag, link, info, align, size) in zip(parts, told, strict=True):
        rows.append((label, what, flag, 0, start, len(part), link, info, align, size))
        start += len(part)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 1, machine, 1)
    header += struct.pack("<QQQIHHHHHH", 0, 0, start, 0, 64, 0, 0, 64, len(rows), 3)
    return header + b"".join(parts) + b"".join(struct.pack("<IIQQQQIIQQ", *row) for row in rows)


def test_an_object_file_becomes_an_image():
    image = image_of(written(), "loop", (), ())
    assert image.code[:1] == b"\xc3"
    assert (image.begin, image.own, image.foreign) == (0, [], [(8, "memset", 3)])
    assert put_into_memory(image) is not None
    # A function that is only there for Python's calls goes, with the places in it.
    assert image_of(written(), "loop", ("loop",), ()).code[:16] == bytes(16)
    assert image_of(written(), "loop", (), ("memset",)).foreign == []


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\x7fELF",
        b"junk" * 100,
        written(machine=183),
        written(kind=2),
        written(name=b"no_such_function_anywhere"),
        written(name=b"NRT_MemInfo_alloc_aligned"),
        written(name=b"PyErr_Occurred"),
        written(flags=7),
    ],
    ids=["empty", "cut", "junk", "machine", "place", "unknown", "numba", "python", "writable"],
)
def test_an_object_file_that_needs_anything_else_is_refused(file):
    assert image_of(file, "loop", (), ()) is None


def test_an_object_file_without_the_loop_is_refused():
    assert image_of(written(), "another", (), ()) is None


def test_an_image_that_calls_what_is_not_here_is_not_loaded():
    assert put_into_memory(Image(bytes(64), 0, [], [(8, "no_such_function_anywhere", 0)])) is None
