"""How the process ends: signals, closed and full streams, limits. Each a real process."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import pytest

from onnx_geed import GeedError

ROOT = Path(__file__).parents[2]
DEMO = Path(str(files("onnx_geed.demo")))
RUN = (sys.executable, "-m", "onnx_geed")
FEW = ("--samples=3", "--norm-samples=4", "--measure=latent-l2")
MEASURE = (
    *("measure", str(DEMO / "digits_cnn.onnx"), "--data", str(DEMO / "digits.npz")),
    *("--group=C4", *FEW),
)
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and descriptors are POSIX's")


def shell(line, folder, **more):
    """Run the command line in a shell; ``geed`` stands for it."""
    command = "geed() { " + " ".join(map(repr, RUN)) + ' "$@"; }; ' + line
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=ENV, capture_output=True, text=True, **more
    )


def quoted(*words):
    return " ".join(repr(w) for w in words)


@pytest.mark.parametrize("stdout", ["", ">&-", "> /dev/full", "| head -c 1"])
@pytest.mark.parametrize("stderr", ["", "2>&-", "2> /dev/full"])
def test_a_result_is_written_whatever_becomes_of_the_streams(tmp_path, stdout, stderr):
    got = shell(
        f"set -o pipefail; geed {quoted(*MEASURE)} --out r.json {stderr} {stdout}", tmp_path
    )
    assert json.loads((tmp_path / "r.json").read_text())["measurements"]
    assert got.returncode == (2 if "full" in stdout else 0), got.stderr
    assert "Traceback" not in got.stderr
    assert "Exception" not in got.stderr
    if stderr == "" and "full" in stdout:
        assert got.stderr.splitlines()[-1] == (
            "onnx-geed: stdout: cannot be written (No space left on device)"
        )


@pytest.mark.parametrize("stdout", [">&-", "> /dev/full", "| head -c 1"])
@pytest.mark.parametrize(("limit", "status"), [("0.0001", 1), ("1000", 0)])
def test_a_limit_is_judged_whatever_becomes_of_stdout(tmp_path, stdout, limit, status):
    gate = f"--fail-above latent-l2={limit}"
    got = shell(f"set -o pipefail; geed {quoted(*MEASURE)} {gate} {stdout}", tmp_path)
    assert got.returncode == (2 if "full" in stdout and not status else status)


def test_what_is_printed_nowhere_is_an_error(tmp_path):
    got = shell(f"geed {quoted(*MEASURE)} >&-", tmp_path)
    assert got.returncode == 2
    assert "stdout is closed" in got.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", ["--help", "measure --help", "--version", "converters"])
def test_help_into_a_full_or_closed_stdout_has_no_traceback(tmp_path, command):
    full = shell(f"geed {command} > /dev/full", tmp_path)
    assert (full.returncode, full.stderr) == (
        2,
        "onnx-geed: "
        + ("stdout: cannot be written (" if command == "converters" else "")
        + "No space left on device"
        + (")" if command == "converters" else "")
        + "\n",
    )
    piped = shell(f"set -o pipefail; geed {command} | true", tmp_path)
    told = [line for line in piped.stderr.splitlines() if not line.startswith("next: ")]
    assert (piped.returncode, told) == (0, [])


def test_an_error_nobody_hears_is_still_status_two(tmp_path):
    for streams in ("2>&-", "2> /dev/full", ">&- 2>&-"):
        assert (
            shell(f"geed measure none.onnx --data x --group C4 {streams}", tmp_path).returncode == 2
        )


def test_a_closed_stream_is_not_taken_by_a_file(tmp_path):
    code = (
        "import os, runpy, sys\n"
        "os.close(1); os.close(2); sys.stdout = sys.stderr = None\n"
        "from onnx_geed.cli import open_streams\n"
        "open_streams()\n"
        "sys.exit(0 if os.open(os.devnull, os.O_RDONLY) > 2 else 5)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], env=ENV).returncode == 0


SLOW = """
import os, sys, time
sys.argv[0] = "onnx-geed"
from onnx_geed.cli import install
install()
import importlib
module = importlib.import_module("onnx_geed.{module}")
plain = module.{name}
def slow(*a, **k):
    sys.stderr.write("now\\n"); sys.stderr.flush()
    time.sleep({seconds})
    return plain(*a, **k)
module.{name} = slow
from onnx_geed.cli import cli
cli(prog_name="onnx-geed")
"""


def slowed(module, name, arguments, folder, seconds=0.3, **more):
    """Start a run in which a function takes its time, and wait until it is in it."""
    code = SLOW.format(module=module, name=name, seconds=seconds)
    run = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )
    while (line := run.stderr.readline()) and line != "now\n":
        pass
    return run


WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


@pytest.mark.parametrize("number", WORDS)
def test_a_signal_ends_a_cache_in_one_line_and_leaves_nothing_unfinished(tmp_path, number):
    some = ("--samples=60", "--norm-samples=60", "--batch-size=8", "-o", "a.geed")
    arguments = ("cache", *MEASURE[1:4], "--group=C8", *some)
    run = slowed("run.kernel_engine", "activations", arguments, tmp_path, 0.05)
    time.sleep(0.3)
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 128 + number
    assert [x for x in err.splitlines() if x != "now"][-1] == f"onnx-geed: {WORDS[number]}"
    assert "Traceback" not in err
    assert not list((tmp_path / "a.geed").glob(".unfinished-*"))


def test_a_second_signal_does_not_wait(tmp_path):
    run = slowed("run.orbit_pieces", "reduce_orbits", (*MEASURE, "--out", "r.json"), tmp_path, 90)
    start = time.monotonic()
    run.send_signal(signal.SIGINT)
    time.sleep(1)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 130
    assert time.monotonic() - start < 60
    assert os.listdir(tmp_path) == []


def test_a_second_signal_leaves_nothing_unfinished_either(tmp_path):
    code = (
        "import contextlib, os, signal\n"
        "from pathlib import Path\n"
        "from onnx_geed.cli import install\n"
        "install()\n"
        "from onnx_geed.files import replacing\n"
        "with replacing(Path('a'), Path('.unfinished-a')):\n"
        "    assert os.listdir() == ['.unfinished-a']\n"
        "    with contextlib.suppress(BaseException):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], env=ENV, cwd=tmp_path, timeout=60)
    assert run.returncode == 130
    assert os.listdir(tmp_path) == []


def test_what_is_ignored_from_the_start_stays_ignored(tmp_path):
    run = slowed(
        *("run.orbit_pieces", "reduce_orbits", (*MEASURE, "--out", "r.json"), tmp_path, 1),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    run.send_signal(signal.SIGHUP)
    run.communicate(timeout=60)
    assert run.returncode == 0
    assert (tmp_path / "r.json").is_file()


@pytest.mark.parametrize("number", WORDS)
def test_a_signal_while_libraries_are_loaded_is_one_line(tmp_path, number):
    # Each import of ours and of others may be the one that is met: a module that sleeps when it is
    # loaded stands for click, which comes first, and for onnxruntime, which comes late.
    for name in ("click", "onnxruntime"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(
            "import sys, time\nsys.stderr.write('now\\n'); sys.stderr.flush()\n"
            "try:\n    time.sleep(4)\n"
            "except BaseException as e:\n    raise ImportError('half') from e\n"
        )
        run = subprocess.Popen(
            [*RUN, *MEASURE],
            env={**ENV, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert run.stderr.readline() == "now\n"
        time.sleep(0.1)
        run.send_signal(number)
        _, err = run.communicate(timeout=60)
        assert (run.returncode, err) == (128 + number, f"onnx-geed: {WORDS[number]}\n")


def test_ctrl_c_at_any_moment_of_the_start_is_one_line(tmp_path):
    for k in range(12):
        run = subprocess.Popen(
            [*RUN, *MEASURE],
            env=ENV,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        time.sleep(0.1 + 0.1 * k)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
        if run.returncode not in (130, 0):
            # Before our first line runs, Python itself ends: by the signal, or while it starts.
            assert run.returncode in (-signal.SIGINT, 1)
            assert b"commands.py" not in err
        else:
            assert b"Traceback" not in err


GATES = ("--fail-above", "softmax-kl=1")


def test_a_limit_on_what_is_not_measured_is_refused_before_a_cache_is_made(tmp_path):
    got = subprocess.run(
        [*RUN, *MEASURE, "--cache", "a.geed", *GATES, "--out", "r.json"],
        env=ENV,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert got.returncode == 2
    assert "not measured; measured: latent-l2" in got.stderr
    assert os.listdir(tmp_path) == []


def test_a_limit_on_what_is_not_measured_is_refused_before_a_cache_is_read(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from onnx_geed.cache import store, write as caching
    from onnx_geed.cli import cli

    few = {"samples": 3, "norm_samples": 4, "measures": ["latent-l2"]}
    folder = tmp_path / "a.geed"
    caching.write_cache(MEASURE[1], MEASURE[3], "C4", folder, **few)

    def never(*a):
        raise AssertionError("the cache was read")

    monkeypatch.setattr(store, "read_shard", never)
    got = CliRunner().invoke(cli, ["measure", str(folder), *GATES])
    assert got.exit_code == 2
    assert "not measured" in got.stderr


def test_a_result_is_written_before_it_is_judged(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from onnx_geed import results
    from onnx_geed.cli import cli

    def broken(*a):
        raise RuntimeError("a fault in judging")

    monkeypatch.setattr(results, "over_limits", broken)
    for more in ((), ("--cache", str(tmp_path / "a.geed"))):
        out = tmp_path / "r.json"
        got = CliRunner().invoke(
            cli, [*MEASURE, "--out", str(out), *more, "--fail-above", "latent-l2=9"]
        )
        assert got.exit_code == 2
        assert "internal error, RuntimeError: a fault in judging" in got.stderr
        assert json.loads(out.read_text())["measurements"]
        out.unlink()


def test_results_do_not_replace_what_is_read(tmp_path):
    from click.testing import CliRunner

    from onnx_geed.cli import cli

    model = tmp_path / "m.onnx"
    model.write_bytes((DEMO / "digits_cnn.onnx").read_bytes())
    before = model.read_bytes()
    got = CliRunner().invoke(cli, ["measure", str(model), *MEASURE[2:], "--out", str(model)])
    assert got.exit_code == 2
    assert "which is read" in got.stderr
    assert model.read_bytes() == before


def test_a_result_that_cannot_be_written_is_kept_and_printed(tmp_path, monkeypatch):
    import tempfile

    from click.testing import CliRunner

    from onnx_geed import files
    from onnx_geed.cli import cli

    plain, calls = files.write_json, []

    def full_at_first(result, path):
        calls.append(path)
        if len(calls) == 1:
            raise GeedError(f"--out {path}: cannot be written (No space left on device)")
        plain(result, path)

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(files, "write_json", full_at_first)
    got = CliRunner().invoke(cli, [*MEASURE, "--out", str(tmp_path / "r.json")])
    assert got.exit_code == 2
    (kept,) = (tmp_path / "tmp").glob("*.json")
    assert f"the result was saved to {kept}" in got.stderr
    assert json.loads(kept.read_text())["measurements"]
    assert "latent-l2" in got.stdout


def test_a_signal_that_a_callback_swallows_comes_again(tmp_path):
    code = (
        "import ctypes, signal, time\n"
        "from onnx_geed.cli import install\n"
        "install()\n"
        "from onnx_geed.cli import cli\n"
        "call = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGTERM))\n"
        "def loop(**options):\n"
        "    call()\n"
        "    time.sleep(4)\n"
        "cli.commands['demo'].callback = loop\n"
        "cli(['demo'], prog_name='onnx-geed')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (143, "onnx-geed: terminated\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_does_not_change_the_status_of_a_finished_command(number):
    # What Python takes apart at its end takes long, and handlers are gone before.
    code = (
        "import os, sys, threading\n"
        "kept = [[i] for i in range(2_000_000)]\n"
        "main = threading.main_thread()\n"
        "threading.Thread(target=lambda: (main.join(), os.write(1, b'ends'))).start()\n"
        "sys.argv = ['onnx-geed', '--version']\n"
        "from onnx_geed.__main__ import main as run\n"
        "run()\n"
    )
    for delay in (0, 0.01, 0.03, 0.06):
        ending = subprocess.Popen(
            [sys.executable, "-c", code], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert ending.stdout is not None
        while b"ends" not in ending.stdout.readline(4):
            pass
        time.sleep(delay)
        ending.send_signal(number)
        _, told = ending.communicate(timeout=60)
        assert (ending.returncode, told) == (0, b""), delay


KEPT = """
import atexit, os, sys
class Kept:
    def __del__(self, write=os.write):
        write(1, b"taken apart")
kept = Kept()
{first}
from onnx_geed.cli.signals import install
install()
atexit.register(print, "registered")
sys.argv = ["onnx-geed", {word!r}]
"""


PROGRAM = "from onnx_geed.__main__ import program; program()"


def ended(script, **env):
    words, env = [sys.executable, "-c", script], {**ENV, **env}
    return subprocess.run(words, env=env, capture_output=True, text=True)


def told(word, first="", **env):
    run = ended(KEPT.format(word=word, first=first) + PROGRAM, **env)
    assert "Traceback" not in run.stderr
    return run.returncode, [line for line in run.stdout.splitlines() if not line.startswith("0.")]


@pytest.mark.parametrize(("word", "status"), [("--version", 0), ("no-such-command", 2)])
def test_a_finished_process_is_not_taken_apart(word, status):
    assert told(word) == (status, ["registered"])


def test_a_watched_process_ends_as_python_ends_it():
    watched = "sys.setprofile(lambda *a: None)"
    assert told("--version", watched) == (0, ["registered", "taken apart"])
    assert told("--version", LD_PRELOAD="libm.so.6") == (0, ["registered", "taken apart"])


def test_a_process_that_is_asked_on_does_not_leave():
    words = [sys.executable, "-i", "-m", "onnx_geed", "--version"]
    asked = "print('asked on')\nimport sys; sys.exit(7)\n"
    run = subprocess.run(words, env=ENV, capture_output=True, text=True, input=asked)
    assert run.returncode == 7
    assert "asked on" in run.stdout


def test_what_another_registered_first_is_called():
    first = "atexit.register(print, 'first')"
    assert told("--version", first) == (0, ["registered", "first", "taken apart"])


def test_what_a_users_own_module_leaves_open_is_written(tmp_path):
    (tmp_path / "mine.py").write_text("file = open('log.txt', 'w')\nfile.write('kept')\nX = 1\n")
    first = (
        f"os.chdir({str(tmp_path)!r})\n"
        "from onnx_geed.own_code import imported, importable\n"
        "with importable():\n"
        "    imported('mine', 'X', '')\n"
    )
    assert told("--version", first) == (0, ["registered", "taken apart"])
    assert (tmp_path / "log.txt").read_text() == "kept"


@pytest.mark.parametrize("start", ["module", "program"])
def test_the_program_leaves_and_shows_what_was_put_aside(start, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(KEPT.format(word="--version", first=""))
    words = ["-m", "onnx_geed", "--version"] if start == "module" else ["-c", PROGRAM]
    env = {**ENV, "PYTHONPATH": os.pathsep.join([str(tmp_path), ENV.get("PYTHONPATH", "")])}
    run = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True)
    assert run.returncode == 0
    assert "registered" in run.stdout
    assert "taken apart" not in run.stdout
    aside = "import io; print('before'); sys.stdout = io.StringIO()\n"
    run = ended(KEPT.format(word="--version", first="") + aside + PROGRAM, PYTHONUNBUFFERED="")
    assert run.stdout == "before\n"


IN_A_SCRIPT = {
    "main": "from onnx_geed.__main__ import main as run",
    "program": "from onnx_geed.__main__ import program\ndef run(): program()",
    "module": (
        "import runpy\ndef run(): "
        "runpy.run_module('onnx_geed', run_name='__main__', alter_sys=True)"
    ),
}


@pytest.mark.parametrize("way", IN_A_SCRIPT)
@pytest.mark.parametrize(
    ("last", "status"),
    [("sys.exit(5)", 5), ("assert 0", 1), ("kept.write('words')", 0), ("pass", 0)],
)
def test_a_script_that_runs_a_command_ends_with_its_own_status(way, last, status, tmp_path):
    script = (
        f"import sys\n{IN_A_SCRIPT[way]}\n"
        f"kept = open({str(tmp_path / 'kept')!r}, 'w')\n"
        "sys.argv = ['onnx-geed', '--version']\n"
        f"try:\n    run()\nexcept SystemExit:\n    pass\n{last}\n"
    )
    assert ended(script).returncode == status
    assert (tmp_path / "kept").read_text() == ("words" if "write" in last else "")


@pytest.mark.parametrize(("code", "status"), [("'words'", 1), ("None", 0), ("7", 7)])
def test_a_status_of_any_kind_is_kept(code, status):
    script = (
        "import sys\n"
        "from onnx_geed import __main__ as program, cli\n"
        "cli.cli = lambda **_: sys.exit(CODE)\n"
        "program.main()\n"
    )
    words = [sys.executable, "-c", script.replace("CODE", code)]
    run = subprocess.run(words, env=ENV, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (status, "words\n" * (status == 1))


def test_a_signal_that_comes_as_it_begins_to_be_ignored_is_not_told():
    """Python says so by the hook for what cannot be raised; anything else is still shown."""
    code = (
        "import sys\n"
        "from onnx_geed.cli import signals\n"
        "signals._ignore()\n"
        "class Late:\n"
        "    def __init__(self, error): self.error = error\n"
        "    def __del__(self): raise self.error\n"
        "Late(OSError('Signal 2 ignored due to race condition'))\n"
        "Late(OSError('another'))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, check=True)
    assert b"race condition" not in run.stderr
    assert run.stderr.count(b"OSError: another") == 1
