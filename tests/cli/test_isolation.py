"""A model of a stranger, in a process of its own: what it may not do, and how it ends.

What a hostile model would do by a fault of the runtime, a data function does here by right.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).parents[2]
DEMO = Path(str(files("onnx_geed.demo")))
MODEL = DEMO / "digits_cnn.onnx"
FEW = ("--samples=3", "--norm-samples=4", "--measure=latent-l2")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs Linux or macOS")
linux = pytest.mark.skipif(sys.platform != "linux", reason="a door that Linux alone closes")

HOSTILE = """
import ctypes, fcntl, os, pathlib, resource, signal, socket, sys, tempfile, time
import numpy as np

GOOD = np.random.default_rng(0).random((6, 1, 29, 29), dtype=np.float32)

def good():
    return GOOD

def fine():
    return GOOD

def crashes():
    ctypes.string_at(0)

def divides():
    os.kill(os.getpid(), signal.SIGFPE)


def aborts():
    os.abort()

def takes_memory():
    np.ones(20 << 30, np.uint8)

def sleeps():
    time.sleep(1000)

def leaves_a_daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print("pid", os.getpid(), file=sys.stderr, flush=True)
            os.execvp("sleep", ["sleep", "1000"])
        os._exit(0)
    time.sleep(0.3)
    return GOOD

def exits():
    os._exit(77)

def leaves_a_child():
    os.system("exec sleep 1000 & echo $! > " + os.environ["TMPDIR"] + "/pid")
    print("pid", open(os.environ["TMPDIR"] + "/pid").read().strip(), file=sys.stderr, flush=True)
    os.abort()

def tries():
    beside = pathlib.Path("other.json")
    for name, act in {
        "connect": lambda: socket.create_connection(("127.0.0.1", 9)),
        "ask a neighbour": lambda: socket.socket(socket.AF_UNIX).close(),
        "write home": lambda: (pathlib.Path.home() / "note").write_text("here"),
        "write beside": lambda: beside.write_text("{}"),
        "cut": lambda: os.truncate("kept.txt", 4),
        "open to all": lambda: os.chmod("kept.txt", 0o644),
        "replace": lambda: os.replace("spare.txt", "kept.txt"),
        "end others": lambda: os.kill(os.getppid(), 0),
        "limit others": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU),
        "slow others": lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 1),
        "type": lambda: fcntl.ioctl(0, 0x5412, b"x"),
        "write here": lambda: (pathlib.Path(tempfile.gettempdir()) / "x").write_text("x"),
    }.items():
        try:
            act()
        except PermissionError:
            print("refused", name, file=sys.stderr)
        except OSError:
            pass
    return GOOD
"""


@pytest.fixture(scope="module", autouse=True)
def loops(tmp_path_factory):
    """Compile what these commands compile: a confined process keeps nothing for the next one.

    Each would take that long, against a limit on time and beside a process that has it from disk.
    """
    place = tmp_path_factory.mktemp("loops")
    digits, few = DEMO / "digits.npz", (*FEW, "--provider=cpu")
    fit = ("--layer=block5", "--samples=3", "--fit-samples=9", "--fit-anyway", "-o", "f.npz")
    for words in (
        ("measure", MODEL, "--data", digits, "--group=C4", "--group=C8", *few, "--out=r.json"),
        ("cache", MODEL, "--data", digits, "--group=C4", *FEW[:2], "-o", "a.geed"),
        ("measure", "a.geed", FEW[2], "--out=c.json"),
        ("fit", MODEL, "--data", digits, "--group=C4", *fit),
    ):
        got = geed(place, *words)
        assert got.returncode == 0, got.stderr


@pytest.fixture
def place(tmp_path):
    """A folder to work in, with a home beside it and a file that is not to be touched."""
    (tmp_path / "home").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    (work / "hostile.py").write_text(HOSTILE)
    (work / "kept.txt").write_text("kept")
    return work


def environment(place):
    path = os.pathsep.join([str(ROOT), str(place)])
    cache = os.environ.get("NUMBA_CACHE_DIR")
    more = {"NUMBA_CACHE_DIR": cache} if cache else {}
    return {**os.environ, **more, "PYTHONPATH": path, "HOME": str(place.parent / "home")}


def geed(place, *words, **more):
    command = [sys.executable, "-m", "onnx_geed", *map(str, words)]
    return subprocess.run(
        command, cwd=place, env=environment(place), capture_output=True, text=True, timeout=120,
        **more,
    )  # fmt: skip


def measure(place, data, *more):
    words = ("measure", MODEL, "--data", data, "--group=C4", *FEW, "--out", "r.json", *more)
    return geed(place, *words)


def said(got):
    """The last line on stderr; those before it are notes."""
    *notes, last = got.stderr.splitlines()
    assert all(note.startswith(("note: ", "onnx-geed: compiling")) for note in notes), got.stderr
    return last


def is_gone(pid):
    """Whether a process ends within some seconds, its parent having taken note or not."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if sys.platform == "linux" and not Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def left(place):
    names = {p.name for p in place.iterdir()} - {"hostile.py", "kept.txt", "__pycache__"}
    assert (place / "kept.txt").read_text() == "kept"
    assert (place / "kept.txt").stat().st_mode & 0o777 != 0o777
    assert not (place.parent / "home/note").exists()
    return names


def test_a_result_is_that_of_the_process_itself_to_the_last_bit(place):
    plain = measure(place, DEMO / "digits.npz")
    own = json.loads((place / "r.json").read_text())
    (place / "r.json").unlink()
    got = measure(place, DEMO / "digits.npz", "--isolate")
    assert (got.returncode, got.stdout, got.stderr) == (0, plain.stdout, plain.stderr)
    isolated = json.loads((place / "r.json").read_text())
    how = isolated["runtime"].pop("isolated")
    assert how["time_seconds"] == 3600
    if sys.platform == "linux":
        assert (how["network"], how["writes"]) == (True, True)
        assert how["memory_bytes"] > 1 << 28
    for result in (own, isolated):
        del result["created"], result["command"], result["runtime"]["seconds"]
    assert isolated == own
    assert left(place) == {"r.json"}


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("crashes", "digits_cnn.onnx: crashed its process (SIGSEGV)"),
        ("aborts", "raise --memory-limit"),
        ("aborts", "(SIGABRT): a library ended it on a fault in the model, or too little memory"),
        ("divides", "(SIGFPE): a library ended it on a fault in the model, a division"),
        ("leaves_a_child", "(SIGABRT)"),
        ("exits", "ended its process with status 77, which no command uses"),
        pytest.param(
            "takes_memory",
            "the limit of this process is 4.0 GiB; raise --memory-limit",
            marks=linux,
        ),
        ("sleeps", "digits_cnn.onnx: was stopped after 3 s; raise --time-limit if it needs longer"),
    ],
)
def test_what_a_model_must_not_do_ends_in_one_line(place, does, words):
    more = ("--time-limit=3",) if does == "sleeps" else ()
    got = measure(place, f"hostile:{does}", "--isolate", "--memory-limit=4GiB", *more)
    assert got.returncode == 2
    if does == "leaves_a_child":
        pid = int(got.stderr.partition("pid ")[2].split()[0])
        assert is_gone(pid)
        got.stderr = got.stderr.replace(f"pid {pid}\n", "")
    assert words in said(got)
    assert left(place) == set()


@linux
def test_doors_are_closed_that_are_open_without(place):
    refused = {}
    for more in (("--isolate",), ()):
        (place / "spare.txt").write_text("kept")
        got = measure(place, "hostile:tries", *more)
        assert got.returncode == 0, got.stderr
        refused[more] = list(dict.fromkeys(re.findall("^refused (.*)$", got.stderr, re.MULTILINE)))
        if more:
            assert left(place) == {"r.json", "spare.txt"}
    assert refused["--isolate",] == [
        *("connect", "ask a neighbour", "write home", "write beside", "cut", "open to all"),
        *("replace", "end others", "limit others", "slow others", "type"),
    ]
    assert {*refused[()]} <= {"type"}


@linux
def test_no_thread_is_older_than_the_confinement(place):
    script = (
        "import os, onnx_geed.cli.isolation as isolation\n"
        "enter = isolation._enter\n"
        "def counted(*a):\n"
        "    print('threads', len(os.listdir('/proc/self/task')), flush=True)\n"
        "    enter(*a)\n"
        "isolation._enter = counted\n"
        "from onnx_geed.__main__ import main\n"
        "main()\n"
    )
    words = ("measure", MODEL, "--data", DEMO / "digits.npz", "--group=C4", *FEW, "--isolate")
    got = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], cwd=place, env=environment(place),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert got.stdout.startswith("threads 1\n"), got.stderr


@pytest.mark.parametrize(
    ("number", "twice"),
    [
        (signal.SIGINT, False),
        (signal.SIGTERM, False),
        (signal.SIGHUP, False),
        (signal.SIGALRM, False),
        (signal.SIGUSR1, False),
        (signal.SIGXCPU, False),
        (signal.SIGINT, True),
    ],
)
def test_a_signal_ends_both(place, number, twice):
    command = [sys.executable, "-m", "onnx_geed", "measure", str(MODEL), "--data", "hostile:sleeps"]
    scratch = place.parent / "scratch"
    scratch.mkdir()
    run = subprocess.Popen(
        [*command, "--group=C4", "--isolate", "--out=r.json"], cwd=place,
        env={**environment(place), "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    child = None
    for _ in range(500):
        time.sleep(0.02)
        names = Path(f"/proc/{run.pid}/task/{run.pid}/children")
        text = names.read_text() if names.exists() else ""
        if text and Path(f"/proc/{text.strip()}/syscall").exists():
            child = int(text)
            break
    time.sleep(1.5)
    run.send_signal(number)
    if twice:
        run.send_signal(number)
    _, told = run.communicate(timeout=20)
    assert run.returncode in ((128 + number, 2) if twice else (128 + number,)), told
    assert "Traceback" not in told
    if not twice:
        words = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
        name = signal.Signals(number).name
        assert told.splitlines()[-1] == f"onnx-geed: {words.get(name, name)}"
    assert child is None or is_gone(child)
    assert left(place) == set()
    assert not list(scratch.iterdir())


@linux
def test_a_child_ends_with_a_parent_that_is_killed(place):
    run = subprocess.Popen(
        [sys.executable, "-m", "onnx_geed", "measure", str(MODEL), "--data=hostile:sleeps",
         "--group=C4", "--isolate"], cwd=place, env=environment(place), stderr=subprocess.PIPE,
    )  # fmt: skip
    listed = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    while not (text := listed.read_text()):
        time.sleep(0.02)
    time.sleep(1)
    run.kill()
    run.communicate(timeout=20)
    assert is_gone(int(text))


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (("layers", MODEL), set()),
        (("compile", MODEL, "--group=C4", "-o", "m.onnx"), {"m.onnx"}),
        (("annotate", MODEL, "--latent=latent", "-o", "a.onnx"), {"a.onnx"}),
        (("cache", MODEL, "--data=DATA", "--group=C4", *FEW[:2], "-o", "x/a.geed"), {"x"}),
        (
            (
                *("fit", MODEL, "--data=DATA", "--group=C4", "--layer=block5", "--samples=3"),
                *("--fit-samples=9", "--fit-anyway", "-o", "f.npz"),
            ),
            {"f.npz"},
        ),
        (
            (
                *("measure", MODEL, "--data=DATA", "--group=C4", *FEW, "--out=r.json"),
                *("--junit=j.xml", "--fail-above=latent-l2=0.0001", "--cache=a.geed"),
            ),
            {"r.json", "j.xml", "a.geed"},
        ),
        (
            ("measure", MODEL, "--data=DATA", "--group=C4", "--group=C8", *FEW, "--out=r.json"),
            {"r.C4.json", "r.C8.json"},
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_every_command_that_opens_a_model_can_be_isolated(place, words, made):
    words = [str(w).replace("DATA", str(DEMO / "digits.npz")) for w in words]
    got = []
    for more in ((), ("--isolate",)):
        got.append(geed(place, *words, *more))
        assert left(place) == made, got[-1].stderr
        kept = place.parent / str(len(got))
        kept.mkdir()
        for name in made:
            (place / name).rename(kept / name)
    plain, isolated = got
    assert (isolated.returncode, isolated.stdout, isolated.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )
    if made & {"m.onnx", "a.onnx", "f.npz"}:
        (name,) = made
        a, b = (place.parent / n / name for n in "12")
        assert a.read_bytes() == b.read_bytes()


def test_an_error_of_the_command_is_told_once_and_leaves_nothing(place):
    for words in (("-o", "new/deep/a.geed"), ("-o", "b.geed")):
        got = geed(place, "cache", "no.onnx", "--data=x.npy", "--group=C4", *words, "--isolate")
        assert (got.returncode, len(got.stderr.splitlines())) == (2, 1)
        assert "no.onnx" in got.stderr
    assert left(place) == set()


def test_one_model_of_a_suite_that_crashes_is_one_that_failed(place):
    (place / "suite.toml").write_text(
        'groups = ["C4"]\nmeasures = ["latent-l2"]\n[options]\nsamples = 3\nnorm_samples = 4\n'
        f'[[models]]\nname = "CNN"\npath = "{MODEL}"\n'
        + "".join(
            f'[[data]]\nname = "{name}"\npath = "hostile:{name}"\n'
            for name in ("good", "crashes", "fine", "sleeps")
        )
    )
    words = ("benchmark", "suite.toml", "-o", "out", "--isolate", "--time-limit=15")
    got = geed(place, *words)
    assert got.returncode == 2
    told = [line for line in got.stderr.splitlines() if line.startswith("[")]
    assert [line.partition(": ")[2] for line in told if "measuring" not in line] == [
        "failed: " + str(text)
        for text in (
            "crashed its process (SIGSEGV): a fault in a library, or too little "
            "memory (limit: the one of this shell or machine; raise --memory-limit)",
            "was stopped after 15 s; raise --time-limit if it needs longer",
        )
    ], got.stderr
    assert sum("[1/4]" in line for line in told) == 1
    summary = json.loads((place / "out/summary.json").read_text())
    assert [row["data"] for row in summary["rows"]] == ["good", "fine"]
    assert len(summary["failed"]) == 2
    assert got.stderr.splitlines()[-1].startswith("onnx-geed: 2 of the suite's runs failed")


SUITE = (
    'groups = ["C4"]\nmeasures = ["latent-l2"]\n[options]\nsamples = 3\nnorm_samples = 4\n'
    f'[[models]]\nname = "CNN"\npath = "{MODEL}"\n[[data]]\nname = "good"\npath = "hostile:good"\n'
)


def test_a_suite_is_started_again_where_it_was(place):
    """What is there is replaced, with the mode that it has, by a process that may change none."""
    (place / "suite.toml").write_text(SUITE)
    words = ("benchmark", "suite.toml", "-o", "out", "--isolate")
    summary = place / "out/summary.json"
    first = geed(place, *words)
    assert first.returncode == 0, first.stderr
    assert "atplotlib" not in first.stderr  # which finds no place for its list of fonts
    content = summary.read_bytes()
    for mode in (0o600, 0o664):
        summary.write_text("{}")
        summary.chmod(mode)
        again = geed(place, *words)
        assert again.returncode == 0, again.stderr
        assert "kept" in again.stderr
        assert summary.read_bytes() == content
        assert summary.stat().st_mode & ~mode & 0o777 == 0


def test_what_comes_after_the_cells_of_a_suite_is_no_cells(place):
    """A page that fails is not held against the model that was measured last."""
    (place / "suite.toml").write_text(SUITE)
    (place / "hostile.py").write_text(
        HOSTILE + "\nimport onnx_geed.run.suite as suite\n"
        "write = suite.write_json\n"
        "def late(content, path):\n"
        "    os.abort() if content['schema'] == suite.SUITE_SCHEMA else write(content, path)\n"
        "suite.write_json = late\n"
    )
    got = geed(place, "benchmark", "suite.toml", "-o", "out", "--isolate")
    assert got.returncode == 2
    assert "failed" not in got.stderr
    told = "onnx-geed: suite.toml: crashed its process (SIGABRT)"
    assert got.stderr.splitlines()[-1].startswith(told)
    (cell,) = (place / "out/cells").iterdir()
    assert json.loads(cell.read_text())["measurements"]


def test_a_limit_on_time_goes_with_it(place):
    got = measure(place, DEMO / "digits.npz", "--time-limit=3")
    assert got.returncode == 2
    assert "--time-limit: works only with --isolate; give both" in got.stderr


@linux
@pytest.mark.parametrize("more", [(), ("--isolate",)])
def test_a_limit_on_memory_is_the_same_with_it_and_without(place, more):
    for limit, words in (
        ("4GiB", "the limit of this process is 4.0 GiB; raise --memory-limit"),
        ("1MB", "--memory-limit 1MB: starting takes 512.0 MiB; give at least that"),
        ("much", "'much' is not a size of memory"),
    ):
        got = measure(place, "hostile:takes_memory", f"--memory-limit={limit}", *more)
        assert got.returncode == 2
        assert words in said(got)
    assert left(place) == set()


def test_a_limit_on_memory_is_an_option_of_commands_alone(place):
    got = geed(place, "--memory-limit=4GiB", "layers", "net.onnx")
    assert got.returncode == 2
    assert "No such option" in got.stderr


def test_what_cannot_hold_in_isolation_is_refused(place):
    got = measure(place, DEMO / "digits.npz", "--memory-limit=4GiB", "--executor=ray")
    assert "--memory-limit: limits only this process, not the workers" in said(got)
    for more, words in (
        (("--executor=ray",), "limits only this process, not the workers of a cluster"),
        (("--executor=ray", "--address=127.0.0.1:9"), "leave out --executor ray"),
        (("--labels=https://host/y.npy",), "so https://host/y.npy cannot be reached"),
        (("--preprocess=memory://p.json",), "so memory://p.json cannot be reached"),
        (("--cache=s3://bucket/a.geed",), "so s3://bucket/a.geed cannot be reached"),
        (("--junit=s3://bucket/j.xml", "--fail-above=latent-l2=1"), "so s3://bucket/j.xml cannot"),
    ):
        got = measure(place, DEMO / "digits.npz", "--isolate", *more)
        assert (got.returncode, len(got.stderr.splitlines())) == (2, 1)
        assert words in said(got)
    assert left(place) == set()


def test_an_address_inside_a_suite_is_refused_too(place):
    (place / "suite.toml").write_text(
        'groups = ["C4"]\n[[models]]\nname = "CNN"\npath = "https://host/net.onnx"\n'
        '[[data]]\nname = "d"\npath = "hostile:good"\n'
    )
    got = geed(place, "benchmark", "suite.toml", "-o", "out", "--isolate")
    assert got.returncode == 2
    assert "--isolate: closes the network, so https://host/net.onnx cannot be reached" in got.stderr


def test_a_file_of_another_name_is_not_taken_over(place):
    """What a child leaves where its files wait gets a name only if that is its output's."""
    (place / "hostile.py").write_text(
        HOSTILE + "\n"
        "def plants():\n"
        "    import onnx_geed.confinement as c\n"
        "    (waiting,) = c.confined().staging.values()\n"
        "    for name in ('other.json', 'r.onnx', 'r.1.json', 'r.xml', 'digits_cnn.onnx'):\n"
        "        (waiting / name).write_text('{}')\n"
        "    (waiting / 'r.link').unlink(missing_ok=True)\n"
        "    (waiting / 'r.link').symlink_to('/etc/passwd')\n"
        "    return GOOD\n"
    )
    (place / "r.onnx").write_text("mine")
    got = measure(place, "hostile:plants", "--isolate")
    assert got.returncode == 0, got.stderr
    assert left(place) == {"r.json", "r.onnx"}
    assert (place / "r.onnx").read_text() == "mine"


@pytest.mark.parametrize("act", ["pass", "(waiting / 'r.json').symlink_to('/etc/passwd')"])
def test_a_file_that_was_asked_for_and_is_not_there_is_an_error(place, act):
    (place / "hostile.py").write_text(
        "import os\n"
        "def leaves():\n"
        "    import onnx_geed.confinement as c\n"
        "    (waiting,) = c.confined().staging.values()\n"
        "    (waiting / 'r.1.json').write_text('{}')\n"
        f"    {act}\n"
        "    os._exit(0)\n"
    )
    (place / "r.json").write_text("mine")
    got = measure(place, "hostile:leaves", "--isolate")
    assert got.returncode == 2
    assert "before it wrote r.json, which is unchanged" in said(got)
    assert left(place) == {"r.json"}
    assert (place / "r.json").read_text() == "mine"


@linux
def test_a_process_that_has_left_its_session_ends_too(place):
    got = measure(place, "hostile:leaves_a_daemon", "--isolate")
    assert got.returncode == 0, got.stderr
    assert is_gone(int(got.stderr.partition("pid ")[2].split()[0]))


def test_external_data_go_with_a_model(place):
    (place / "theirs/w").mkdir(parents=True)
    (place / "ours").mkdir()
    model = onnx.load(MODEL)
    onnx.save(model, place / "theirs/net.onnx", save_as_external_data=True, location="w/net.bin")
    words = ("annotate", "theirs/net.onnx", "--latent=latent", "-o", "ours/known.onnx")
    for more in (("--isolate",), ()):
        got = geed(place, *words, *more)
        assert got.returncode == 0, got.stderr
        names = {str(p.relative_to(place)) for p in (place / "ours").rglob("*") if p.is_file()}
        assert names == {"ours/known.onnx", "ours/w/net.bin"}
        shutil.rmtree(place / "ours/w")
    (place / "ours/w").mkdir()
    (place / "ours/w/net.bin").write_text("mine")
    got = geed(place, *words, "--isolate")
    assert got.returncode == 2
    assert "where another file ours/w/net.bin would be replaced" in got.stderr
    assert (place / "ours/w/net.bin").read_text() == "mine"


def test_a_pipe_is_written_to_as_it_is(place):
    os.mkfifo(place / "pipe")
    reader = subprocess.Popen(["cat", "pipe"], cwd=place, stdout=subprocess.PIPE, text=True)
    words = ("measure", MODEL, "--data", DEMO / "digits.npz", "--group=C4", *FEW)
    got = geed(place, *words, "--out=pipe", "--isolate")
    text, _ = reader.communicate(timeout=20)
    assert got.returncode == 0, got.stderr
    assert json.loads(text)["measurements"]
