"""What the package is made of and never does: holds SECURITY.md and docs/licences.md true."""

import ast
import fnmatch
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

import onnx_geed

ROOT = Path(onnx_geed.__file__).parents[1]
DEMO = Path(str(files("onnx_geed.demo")))
LICENCES = (ROOT / "docs/licences.md").read_text()

#: Every place that unpickles, runs text as a program, starts a program, loads a library or imports
#: by a name that is not in its source, each with the reason. The only list of them.
ALLOWED = {
    ("onnx_geed/addresses.py", "import aiohttp"): "what fsspec's errors are of",
    ("onnx_geed/addresses.py", "import fsspec"): "addresses that the user names",
    ("onnx_geed/cache/shard_file.py", "subprocess.run"): "this Python, on a damaged shard",
    ("onnx_geed/cli/landlock.py", "ctypes.CDLL"): "system calls that confine --isolate",
    ("onnx_geed/data/images.py", "ctypes.CDLL"): "Pillow's libtiff, which is loaded already",
    ("onnx_geed/extras.py", "importlib.import_module"): "packages of our own extras",
    ("onnx_geed/faces.py", "importlib.import_module"): "our own modules",
    ("onnx_geed/machine_code.py", "pickle.loads"): "loops that numba compiled on this machine",
    ("onnx_geed/jit.py", "importlib.import_module"): "PyYAML, our own modules",
    ("onnx_geed/object_code.py", "ctypes.CDLL"): "what compiled loops call, and memory for them",
    ("onnx_geed/measures/catalogue.py", "importlib.import_module"): "our own modules",
    ("onnx_geed/measures/lanes.py", "from_address"): "an array of a compiled loop",
    ("onnx_geed/own_code.py", "importlib.import_module"): "module:function, the user's own",
    ("onnx_geed/run/ray_cluster.py", "import ray"): "a cluster, where one is asked for",
    ("onnx_geed/run/ray_cluster.py", "import socket"): "whether the cluster's address answers",
    ("onnx_geed/run/ray_cluster.py", "socket.create_connection"): "the same",
    ("onnx_geed/run/ray_worker.py", "import ray"): "a worker of that cluster",
    (
        "onnx_geed/run/ray_worker.py",
        "_Unpickler(io.BytesIO(content), task).load",
    ): "jobs of the run's own driver",
    ("onnx_geed/run/ray_worker.py", "importlib.import_module"): "Ray, which runs it",
    ("onnx_geed/run/ray_worker.py", "pickle.loads"): "an error of its own, to see that it travels",
    ("onnx_geed/run/session.py", "ctypes.CDLL"): "malloc_trim of the C library",
    ("converters/from_jax.py", "importlib.import_module"): "packages of the framework",
    ("converters/from_keras.py", "importlib.import_module"): "packages of the framework",
    ("converters/from_keras.py", "keras.saving.load_model"): "in safe mode, unless --unsafe",
    ("converters/from_keras.py", "tf.saved_model.load"): "a graph of TensorFlow's operators",
    ("converters/from_sklearn.py", "joblib.load"): "--trust",
    ("converters/_callables.py", "importlib.import_module"): "MODULE:CALLABLE, the user's own",
    ("converters/_callables.py", "spec.loader.exec_module"): "FILE.py:CALLABLE, the user's own",
    ("converters/_torch_modules.py", "importlib.import_module"): "torchvision",
    ("converters/_torch_programs.py", "torch.export.load"): "weights only, objects are refused",
    ("converters/_torch_programs.py", "torch.jit.load"): "a program of PyTorch's operators",
}

# Calls by their last names; of `load` any but those that cannot run anything.
RUNS = re.compile(
    "eval|exec|compile|__import__|import_module|exec_module|system|popen|spawnl|execv|Popen|"
    "run_path|run_module|from_address|CDLL|Unpickler|urlopen|urlretrieve|create_connection"
)
MODULES = re.compile(
    "socket|ssl|http|urllib|ftplib|smtplib|requests|httpx|aiohttp|webbrowser|telnetlib|xmlrpc|"
    "fsspec|ray|marshal|shelve|dill|cloudpickle|code|codeop|multiprocessing"
)
# Readers of text, of numbers and of pictures, and a step of compiled code.
HARMLESS = re.compile(r"(json|tomllib|onnx|skops\.io|image|nibabel|builder)\.loads?")


def dotted(node):
    try:
        return ast.unparse(node)
    except ValueError:
        return ""


def doubtful(text):
    """What a source does that could run a program or reach elsewhere, as (what, line)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            for name in names:
                if name == "urllib.parse":  # takes addresses apart, and asks nobody
                    continue
                if name and MODULES.fullmatch(name.partition(".")[0]):
                    yield f"import {name.partition('.')[0]}", node.lineno
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            last = name.rpartition(".")[2]
            keywords = {k.arg: dotted(k.value) for k in node.keywords}
            if last in ("compile", "system") and name.startswith(("re.", "sys.", "platform.")):
                continue
            if last == "eval" and "." in name and not node.args:  # a network's own
                continue
            if name.startswith("subprocess."):
                yield name, node.lineno
            elif name == "np.load":
                if keywords.get("allow_pickle") != "False":
                    yield name, node.lineno
            elif name == "torch.load":
                if keywords.get("weights_only") != "True":
                    yield name, node.lineno
            elif RUNS.fullmatch(last):
                yield last if last == "from_address" else name, node.lineno
            elif (
                last in ("load", "loads", "load_model")
                and "." in name
                and not HARMLESS.fullmatch(name)
            ):
                yield name, node.lineno


def sources():
    for folder in ("onnx_geed", "converters"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text()


def test_nothing_is_unpickled_run_or_asked_for_but_where_it_is_listed():
    found = {(path, what): line for path, text in sources() for what, line in doubtful(text)}
    unknown = [f"{path}:{found[path, what]} {what}" for path, what in found.keys() - ALLOWED]
    assert not unknown, f"list it with its reason, and say it in SECURITY.md: {sorted(unknown)}"
    assert not ALLOWED.keys() - found.keys(), "no longer there"


@pytest.mark.parametrize(
    "line",
    [
        "eval('1')",
        "exec(text)",
        "compile(text, 'x', 'exec')",
        "import socket",
        "from urllib.request import urlopen",
        "import requests",
        "pickle.loads(data)",
        "pickle.load(file)",
        "pickle.Unpickler(file)",
        "joblib.load(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "os.system('ls')",
        "subprocess.run(['ls'])",
        "yaml.load(file)",
        "importlib.import_module(name)",
        "__import__(name)",
    ],
)
def test_a_planted_danger_is_found(line):
    assert list(doubtful(line))


@pytest.mark.parametrize(
    "line",
    [
        "json.loads(text)",
        "np.load(path, allow_pickle=False)",
        "torch.load(path, weights_only=True)",
        "re.compile('x')",
        "net.eval()",
        "pickle.dumps(job)",
        "net.load_state_dict(state)",
    ],
)
def test_what_does_no_harm_is_let_be(line):
    assert not list(doubtful(line))


def test_security_names_every_file_that_unpickles():
    page = (ROOT / "SECURITY.md").read_text()
    for path, what in ALLOWED:
        if what.endswith((".load", ".loads", "load_model")):
            assert Path(path).name in page, path


ALONE = """
import socket, sys
def refuse(*arguments, **named):
    sys.stderr.write("reached for the network\\n")
    raise OSError("the network is off")
class Socket(socket.socket):
    connect = connect_ex = sendto = bind = refuse
socket.socket = Socket
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse
"""


def alone(folder, *words):
    """Run the command line where every way to the network is cut."""
    (folder / "sitecustomize.py").write_text(ALONE)
    paths = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "onnx_geed", *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )


def test_the_commands_never_reach_for_the_network(tmp_path):
    model, data = DEMO / "digits_cnn.onnx", DEMO / "digits.npz"
    few = ("--samples", 3, "--norm-samples", 4, "--provider", "cpu")
    (tmp_path / "suite.toml").write_text(
        f'groups = ["flip-h"]\nmeasures = ["latent-l2"]\n[options]\nsamples = 3\n'
        f'[[models]]\nname = "m"\npath = "{model}"\n[[data]]\nname = "d"\npath = "{data}"\n'
    )
    for words in (
        ("--version",),
        ("converters",),
        ("layers", model),
        ("measure", model, "--data", data, "--group", "C4", *few, "--out", "a.json"),
        ("cache", model, "--data", data, "--group", "C4", *few, "-o", "a.geed"),
        ("measure", "a.geed", "--measure", "latent-l2"),
        (
            "fit",
            model,
            "--data",
            data,
            "--group=C4",
            "--layer=block5",
            "--fit-samples=20",
            "-of.npz",
        ),
        ("compile", model, "--group", "C4", "-o", "c.onnx"),
        ("annotate", model, "--latent", "latent", "-o", "n.onnx"),
        ("report", "a.json", "-o", "a.html", "--data", data),
        ("benchmark", "suite.toml", "-o", "results"),
    ):
        run = alone(tmp_path, *words)
        assert "reached for the network" not in run.stderr, words
        assert run.returncode == 0, (words, run.stderr)


def test_a_reach_for_the_network_is_seen(tmp_path):
    (tmp_path / "asking.py").write_text(
        "import socket\ndef images():\n    socket.create_connection(('localhost', 9))\n"
    )
    run = alone(
        tmp_path,
        *("measure", DEMO / "digits_cnn.onnx", "--data", "asking:images", "--group", "C4"),
    )
    assert "reached for the network" in run.stderr


def test_onnx_runtime_keeps_and_tells_nothing(tmp_path):
    """From 1.29 on it would write an identifier, and events to be sent, into the user's home."""
    (tmp_path / "home").mkdir()
    kept = {k: os.environ[k] for k in ("PATH", "NUMBA_CACHE_DIR") if k in os.environ}
    words = ("measure", DEMO / "digits_cnn.onnx", "--data", DEMO / "digits.npz", "--group", "C4")
    run = subprocess.run(
        [sys.executable, "-m", "onnx_geed", *map(str, words), "--samples=3", "--norm-samples=4"],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert not [p for p in tmp_path.rglob("*") if "onnxruntime" in p.name]


def test_whoever_imports_onnx_runtime_turns_its_telemetry_off():
    at_work = re.compile(r"^(?!if TYPE_CHECKING:).*\n +import onnxruntime", re.MULTILINE)
    loads = {path: text for path, text in sources() if at_work.search(text)}
    assert [*loads] == ["onnx_geed/run/runtime.py", "converters/_finish.py"]
    for path, text in loads.items():
        before, off, _ = text.partition('os.environ["ORT_DISABLE_TELEMETRY"] = "1"\n')
        assert off, path
        assert "\n        import onnxruntime" not in before, path


def rows():
    return re.findall(r"^\| `([^`]+)` \|.*\| ([^|]+) \|$", LICENCES, re.MULTILINE)


#: What Python, numba and the package itself keep of what they compiled, in `__pycache__`.
COMPILED = (".pyc", ".nbc", ".nbi", ".loop")


def packed():
    """Files of the wheel that are no Python, as the project's settings pack them."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package, patterns in tool["package-data"].items():
        folder = tool["package-dir"].get(package, package.replace(".", "/"))
        for pattern in patterns:
            found = [p.relative_to(ROOT).as_posix() for p in (ROOT / folder).glob(pattern)]
            assert found, f"{package}: nothing is called {pattern}"
            yield from found


def test_every_file_of_the_wheel_that_is_no_code_has_its_licence_in_the_table():
    named = {name for name, licence in rows() if licence.strip()}
    assert set(packed()) <= named
    there = {
        p.relative_to(ROOT).as_posix()
        for folder in ("onnx_geed", "converters")
        for p in (ROOT / folder).rglob("*")
        if p.is_file() and p.suffix not in (".py", *COMPILED)
    }
    assert there == set(packed()), "packed and there are not the same"


def test_every_picture_and_data_file_of_the_repository_has_its_licence_in_the_table():
    text = {".py", ".md", ".sh", ".toml", ".txt", ".pyc", ".css", ".js", ".j2", ".typed", ""}
    named = [name for name, _ in rows()]
    for folder in ("onnx_geed", "converters", "docs", "benchmarks/paper/figures", "tests"):
        for path in (ROOT / folder).rglob("*"):
            name = path.relative_to(ROOT).as_posix()
            if path.is_file() and path.suffix not in {*text, *COMPILED}:
                assert any(fnmatch.fnmatch(name, row) for row in named), name


def test_every_row_of_the_licences_is_a_file():
    for name, _ in rows():
        assert list(ROOT.glob(name)), name


def test_the_page_carries_no_font_script_or_address_of_others():
    for path in (ROOT / "onnx_geed/report/templates").iterdir():
        text = path.read_text()
        assert not re.search(r"@font-face|@import|src\s*=\s*[\"']?http|url\(\s*[\"']?http", text)


WEEKLY = (ROOT / ".ci/dependencies").read_text()
MORE = re.search("^more=(.*)$", WEEKLY, re.MULTILINE)[1]


def bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for name in ("report", "audio", "points", "volumes", *MORE.split(",")):
        wanted += project["optional-dependencies"][name]
    return wanted


@pytest.mark.parametrize("wanted", bounds(), ids=lambda w: w.partition(">")[0])
def test_a_dependency_has_both_bounds(wanted):
    assert re.match(r"[\w.-]+>=[\d.]+,<\d+(;|$)", wanted), wanted


def test_the_weekly_test_reads_every_bound():
    code = WEEKLY.partition("<<'PYTHON'\n")[2].partition("\nPYTHON\n")[0]
    for which in ("oldest", "newest"):
        run = subprocess.run(
            [sys.executable, "-", which, MORE],
            input=code,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        for wanted in bounds():
            name, lower = re.match(r"([\w.-]+)>=([\d.]+)", wanted).groups()
            line = f"{name}=={lower}" if which == "oldest" else name
            assert any(re.split("[; ]", got)[0] == line for got in run.stdout.splitlines()), line


@pytest.mark.skipif(
    int(importlib.metadata.version("setuptools").partition(".")[0]) < 77
    if importlib.util.find_spec("setuptools")
    else True,
    reason="needs setuptools 77, which a build brings",
)
@pytest.mark.slow
def test_two_builds_are_the_same_bytes(tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'packing'); import reproducible as r\n"
        "r.build_wheel('out'); r.build_sdist('out')\n"
    )
    digests = []
    for turn, mask in enumerate((0o022, 0o077)):
        folder = tmp_path / str(turn)
        ignored = shutil.ignore_patterns("__pycache__", ".git", "build", "*.egg-info", "work")
        shutil.copytree(ROOT, folder, ignore=ignored)
        for path in folder.rglob("*"):
            os.utime(path, (1e9 + turn, 1e9 + turn))
            path.chmod(0o777 & ~mask)
        (folder / "out").mkdir()
        subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
        built = sorted((folder / "out").iterdir())
        assert [p.suffix for p in built] == [".whl", ".gz"] or len(built) == 2
        digests.append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in built})
    assert digests[0] == digests[1]
    (wheel,) = (tmp_path / "0/out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        inside = {n for n in archive.namelist() if not n.endswith(".py") and ".dist-info" not in n}
    named = {re.sub("^converters/", "onnx_geed/converters/", name) for name in packed()}
    assert inside == named
