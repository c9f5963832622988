"""Every argument of every public function, with values that none or few take.

``python tests/fuzz/every_argument.py`` looks for what is neither an answer nor one line of the
package's own that names the argument, within ten seconds and 2 GiB. It runs in a child that is
started anew when it ends. Methods of actions, which loops call for every element, are left out:
they compute, and look at nothing. ``--accepted`` lists what is answered instead, to be read by
people. A name, such as ``cyclic`` or ``measure samples``, tries that alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import models
import numpy as np

import onnx_geed
from onnx_geed import GeedError, testing
from onnx_geed.errors import shown

#: What a call may cost. One that reads without end ends at the memory: two seconds, alone.
SECONDS, MEMORY = 60, 1 << 30


# The package cuts them there, and then says which arguments it means.
LONGEST_LINE = 1100


class Raising:
    """It says that it is an array, text, number and list, and is none."""

    def _none(self, *_: object, **__: object) -> Any:
        raise RuntimeError("none")

    __array__ = __len__ = __iter__ = __getitem__ = __repr__ = __str__ = _none
    __int__ = __index__ = __float__ = __fspath__ = __bool__ = __eq__ = __lt__ = _none
    __hash__ = None  # type: ignore[assignment]


def _of(base: type, *methods: str, **more: Any) -> type:
    """Return a class of one's own whose methods, those named, fail."""
    return type(f"Failing {base.__name__}", (base,), dict.fromkeys(methods, Raising._none) | more)


#: What is a text, number, list, mapping or array by its class, and fails when it is looked at.
TEXT = _of(str, "__eq__", "__str__", "__repr__", "__len__", "__getitem__", "__hash__", "__iter__")
WHOLE = _of(int, "__int__", "__index__", "__abs__", "__lt__", "__eq__", "__repr__", "__mul__")
REAL = _of(float, "__float__", "__lt__", "__eq__", "__repr__", "__mul__")
LIST = _of(list, "__iter__", "__len__", "__getitem__", "__repr__")
MAPPING = _of(dict, "__iter__", "__len__", "__getitem__", "__repr__", "get", "items", "keys")
ARRAY = _of(np.ndarray, "__array_ufunc__", "__array_function__", "__getitem__", "__len__")


class Endless(list[Any]):
    """It says that it has one entry, and has no last one."""

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat("x")


def gone() -> Any:
    """Return what stands for an object that is no more."""
    return weakref.proxy(Taking())


class Taking:
    """A class that takes anything."""

    def __init__(self, *_: object, **__: object) -> None:
        """Keep nothing."""


class Reentrant:
    """An array that is none, and whose every attribute is itself."""

    def __getattr__(self, name: str) -> Any:
        return self


def deep(levels: int) -> list[Any]:
    """Return a list in a list in a list."""
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


def holding_itself() -> list[Any]:
    """Return a list that holds itself."""
    made: list[Any] = []
    made.append(made)
    return made


#: Values, each made anew, by what a report calls them.
HOSTILE: Mapping[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "0": lambda: 0,
    "-1": lambda: -1,
    "1": lambda: 1,
    "10**9": lambda: 10**9,
    "10**20": lambda: 10**20,
    "10**400": lambda: 10**400,
    "10**5000": lambda: 10**5000,
    "-10**400": lambda: -(10**400),
    "1.5": lambda: 1.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "1j": lambda: 1j,
    "a fraction": lambda: Fraction(1, 3),
    "NumPy's nan": lambda: np.float64("nan"),
    "NumPy's 64-bit": lambda: np.int64(2**63 - 1),
    "no text": lambda: "",
    "x": lambda: "x",
    "half a letter": lambda: "\ud800",
    "a zero": lambda: "a\0b",
    "an escape": lambda: "\x1b[2J\r\n",
    "a long text": lambda: "C" * 10**6,
    "a long number": lambda: "C" + "9" * 5000,
    "bytes": lambda: b"\xff",
    "a class": lambda: Taking,
    "a function": lambda: lambda *_, **__: None,
    "an object": object,
    "raising": Raising,
    "itself": Reentrant,
    "a list of none": list,
    "a list": lambda: [1, 2],
    "a list of texts": lambda: ["x", "y"],
    "a list of None": lambda: [None],
    "unlike lists": lambda: [[1], [2, 3]],
    "a deep list": lambda: deep(3000),
    "holding itself": holding_itself,
    "a tuple of huge": lambda: (10**400, 10**400),
    "a mapping of none": dict,
    "a mapping": lambda: {"x": 1},
    "a mapping of numbers": lambda: {1: None},
    "a set": lambda: {1},
    "a huge range": lambda: range(10**12),
    "a generator": lambda: (i for i in range(3)),
    "without end": itertools.count,
    "an array of none": lambda: np.zeros((0,)),
    "an array": lambda: np.zeros(3),
    "a number's array": lambda: np.array(float("nan")),
    "an array of objects": lambda: np.array([None, {}], dtype=object),
    "an array of texts": lambda: np.array(["x", "y"]),
    "a complex array": lambda: np.zeros((2, 2), complex),
    "an array of times": lambda: np.zeros(2, "datetime64[s]"),
    "a structured array": lambda: np.zeros(2, [("x", "f4")]),
    "a masked array": lambda: np.ma.masked_array([1.0, 2.0], [True, False]),
    "a huge array": lambda: np.broadcast_to(np.float32(0), (10**6, 10**6)),
    "a failing text": lambda: TEXT("C4"),
    "a failing number": lambda: WHOLE(3),
    "a failing float": lambda: REAL(0.5),
    "a failing list": lambda: LIST([1]),
    "an endless list": lambda: Endless(["x"]),
    "a failing mapping": lambda: MAPPING(x=1),
    "a failing array": lambda: np.ones((9, 3, 8, 8), np.float32).view(ARRAY),
    "no more": gone,
    "an array of many axes": lambda: np.zeros((1,) * 30),
}


@dataclass
class Call:
    """A function, and arguments with which it ends well.

    Parameters
    ----------
    function : callable
        A public function, class or method.
    arguments : mapping of str to object
        By name.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]


class Writer:
    """What TensorBoard's writer has."""

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Keep nothing."""


class Run:
    """What a run of Weights & Biases has."""

    def log(self, values: Mapping[str, float], step: int | None) -> None:
        """Keep nothing."""


def prepare(folder: Path) -> None:
    """Write the files that the calls read."""
    data = np.random.default_rng(0).random((9, 3, 8, 8), np.float32)
    models.save(models.random_cnn(0, (8, 8)), folder / "m.onnx")
    np.save(folder / "x.npy", data)
    few: dict[str, Any] = {"provider": "cpu", "samples": 3, "norm_samples": 3}
    onnx_geed.measure(folder / "m.onnx", data, "C4", **few).save(folder / "r.json")
    for i in (1, 2):
        part = onnx_geed.measure(folder / "m.onnx", data, "C4", shard=f"{i}/2", **few)
        part.save(folder / f"part{i}.json")
    onnx_geed.write_cache(folder / "m.onnx", data, "C4", folder / "c.geed", **few)
    layer = onnx_geed.load(folder / "r.json")["measurements"][0]["layer"]
    tables = onnx_geed.fit_actions(folder / "m.onnx", data, "C4", [layer], fit_anyway=True, **few)
    onnx_geed.write_fits(folder / "fit.npz", tables)
    suite = 'groups = ["C4"]\nmodels = [{name = "m", path = "m.onnx"}]\n'
    suite += 'data = [{name = "x", path = "x.npy"}]\n[options]\nsamples = 3\nprovider = "cpu"\n'
    (folder / "s.toml").write_text(suite, encoding="utf-8")


def options_but(*stated: str) -> dict[str, Any]:
    """Return the options of a run, but for some, at their defaults."""
    defaults = onnx_geed.Options()
    return {f.name: getattr(defaults, f.name) for f in fields(defaults) if f.name not in stated}


def calls(folder: Path) -> dict[str, Call]:
    """Return what is called: each public function, class and method, by its name."""
    few: dict[str, Any] = {"provider": "cpu", "samples": 3, "norm_samples": 3}
    group, other = onnx_geed.cyclic(4), onnx_geed.cyclic(2)
    data, loaded = np.load(folder / "x.npy"), onnx_geed.load(folder / "r.json")
    model = onnx_geed.load_model(folder / "m.onnx")
    outputs = [info.name for info in model.proto.graph.output]
    layer = loaded["measurements"][0]["layer"]
    grid = onnx_geed.grid_action(group, 8, 8)
    swaps = np.array([[0, 1], [1, 0]])
    measure = onnx_geed.Measure("output-l2", "y", onnx_geed.Trivial(group))
    random = np.random.default_rng(1)
    vectors, maps = random.random((2, 4, 5)), random.random((2, 4, 3, 8, 8))
    samples = onnx_geed.open_samples(data, input_shape=(3, 8, 8), input_layout="NCHW")
    (table,) = [onnx_geed.read_table(folder / "fit.npz")]
    channels = onnx_geed.Table(group.elements, "channels", np.tile(np.arange(3), (4, 1)), "t")
    small = onnx_geed.parse_group("small-rotation")
    metric = onnx_geed.EquivarianceMetric(group, measures=["output-l2"])
    run = {"model": folder / "m.onnx", "data": data, "group": "C4"}
    beside = {"progress": None, "notify": None, "executor": "local", "address": None}
    said = {"command": None, "limits": ()}
    found: dict[str, Call] = {}

    def add(function: Callable[..., Any], name: str = "", /, **arguments: Any) -> None:
        found[name or function.__qualname__] = Call(function, arguments)

    add(onnx_geed.cyclic, n=4)
    add(onnx_geed.dihedral, n=4)
    add(onnx_geed.disk_mask, height=8, width=8)
    add(onnx_geed.grid_action, group=group, height=8, width=8, interpolation="bilinear")
    add(onnx_geed.parse_group, name="C4")
    add(onnx_geed.product, left=group, right=other, name=None, elements=None)
    add(onnx_geed.Group, name="own", elements=("e", "a"), table=swaps)
    add(group.index, element="e")
    add(group.inverse, g=1)
    add(group.is_subgroup, members=[0, 2])
    add(onnx_geed.Trivial, group=group, name="trivial")
    add(onnx_geed.Permutation, group=other, table=swaps, name="permutation", composes=True)
    add(onnx_geed.Matrices, group=other, matrices=np.array([np.eye(2), -np.eye(2)]), name="m")
    add(onnx_geed.IndexAction, group=other, axes="C", table=swaps, name="index")
    add(onnx_geed.FunctionAction, group=other, move=lambda g, y: y, name="function", any_size=True)
    named = {"source": "here", "group": "flip-h"}
    add(onnx_geed.Table, elements=("e", "a"), kind="channels", values=swaps, **named)
    add(onnx_geed.orbit, action=grid, x=data[0], out=None)
    add(onnx_geed.with_channels, action=grid, table=channels)
    add(onnx_geed.read_table, path=folder / "fit.npz")
    add(onnx_geed.write_fits, path="f.npz", tables=[table])
    for function in (onnx_geed.latent_l2, onnx_geed.latent_cos):
        add(function, activations=vectors, group=group)
    for function in (onnx_geed.output_l2, onnx_geed.unexplained):
        add(function, activations=vectors, action=group)
    for function in (onnx_geed.softmax_kl, onnx_geed.flip_rate):
        add(function, activations=vectors, action=group, kind="logits")
    for function in (onnx_geed.channel_cos, onnx_geed.channel_sums):
        add(function, activations=maps, action=grid, support="full")
    add(onnx_geed.sensitivity, activations=random.random((2, small.order, 5)), action=small)
    add(onnx_geed.Measure, name="output-l2", layer="y", action=measure.action, support="full",
        kind=None, background=None, target=False, drawn=None)  # fmt: skip
    add(onnx_geed.orbit_deviations, measure=measure, y=vectors[0], members=None)
    add(onnx_geed.normaliser, measure="latent-l2", points=vectors[:, 0])
    add(onnx_geed.load_model, path=folder / "m.onnx")
    add(onnx_geed.tensors, "tensors", model=model, input="x", output=outputs[-1],
        input_shape=(1, 3, 8, 8), latent=None, layouts=None, kind=None)  # fmt: skip
    add(onnx_geed.open_samples, source=data, input_shape=(3, 8, 8), input_layout="NCHW",
        preprocess=None, labels=None, name=None, dtype="float32", masked=False,
        allowed=1 << 30, others={"mask": False})  # fmt: skip
    add(samples.fingerprint, indices=[0, 1])
    add(samples.finish, x=data[0])
    add(samples.after, count=1)
    add(onnx_geed.parse_preprocess, text="scale=1")
    add(onnx_geed.Preprocess, resize=None, crop=None, channels=None, scale=1.0, mean=(), std=(),
        interpolation="bilinear")  # fmt: skip
    add(onnx_geed.Options, **options_but())
    add(onnx_geed.measure, **run, **beside, **said, shard=None, action=None, **few,
        **options_but(*few))  # fmt: skip
    add(partial(onnx_geed.measure, **few), "measure of an action", model=folder / "m.onnx",
        data=data, action=grid)  # fmt: skip
    add(partial(onnx_geed.measure_groups, **few), "measure_groups", model=folder / "m.onnx",
        data=data, groups=["C4"], **beside, **said, shard=None)  # fmt: skip
    add(onnx_geed.merge, parts=[folder / "part1.json", folder / "part2.json"], **said)
    add(onnx_geed.write_cache, **run, folder="w.geed", mode="raw", dtype="float32", limits=(),
        **beside, **few)  # fmt: skip
    add(onnx_geed.measure_cache, folder=folder / "c.geed", measures=(), samples=3, norm_samples=3,
        interval="t", precision=None, background=None, output_action=None, fit_samples=50,
        fit_anyway=False, target={}, progress=None, notify=None, **said)  # fmt: skip
    add(onnx_geed.fit_cached_actions, folder=folder / "c.geed", layers=[layer], kind="orthogonal",
        representation=False, samples=1, fit_samples=50, fit_anyway=True, memory="2GiB",
        progress=None, notify=None)  # fmt: skip
    add(onnx_geed.fit_actions, **run, layers=[layer], kind="orthogonal", representation=False,
        fit_anyway=True, **beside, **few)  # fmt: skip
    add(onnx_geed.benchmark, suite=folder / "s.toml", folder="out", notify=None, progress=None,
        executor="local", address=None)  # fmt: skip
    add(onnx_geed.compile_measurement, model=folder / "m.onnx", group="C4", out="made.onnx",
        data=None)  # fmt: skip
    add(onnx_geed.load, path=folder / "r.json")
    add(onnx_geed.read_result, path=folder / "r.json")
    add(onnx_geed.write_json, result=loaded, path="w.json")
    add(onnx_geed.write_report, results=[loaded], path="w.html", data=None, pictures=None,
        explorations=(), command=None)  # fmt: skip
    add(onnx_geed.aggregate, results=[loaded, loaded])
    add(onnx_geed.compare, a=loaded, b=loaded, force=False)
    add(onnx_geed.diagnose, result=loaded, model=None)
    add(loaded.compare, other=folder / "r.json", force=False)
    add(loaded.plot, kind="profile", measure=None)
    add(loaded.save, path="saved.json")
    if importlib.util.find_spec("pandas"):
        add(loaded.to_dataframe, library=None)
        add(loaded.compare(loaded).to_dataframe, library=None)
    add(onnx_geed.EquivarianceMetric, group=group, measures=["output-l2"])
    add(metric.update, f=lambda x: x.reshape(len(x), -1), batch=data[:2], labels=None)
    values = {"latent-l2@y": 0.5}
    add(onnx_geed.log_tensorboard, values=values, writer=Writer(), step=1)
    add(onnx_geed.log_wandb, values=values, step=1, run=Run())
    if importlib.util.find_spec("mlflow"):
        # Without a data base, which the skinny package has none of.
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        os.environ["MLFLOW_TRACKING_URI"] = (folder / "mlruns").as_uri()
        add(onnx_geed.log_mlflow, values=values, step=1)
    add(testing.assert_equivariant, **run, measure="flip-rate", limit=1.0, **few)
    add(testing.junit_xml, result=loaded, limits=["latent-l2=9"])
    add(testing.write_junit, result=loaded, limits=["latent-l2=9"], path="w.xml")
    return found


#: Those that found most, for the tests.
FEW = (
    *("10**5000", "raising", "a deep list", "a huge range", "without end"),
    *("a failing number", "a failing list", "an endless list", "a failing mapping"),
)

#: A function, an argument of it, and a value.
Case = tuple[str, str, str]


@dataclass(frozen=True)
class Cases:
    """What is tried.

    Parameters
    ----------
    wanted : str
        How its name begins, of function, argument and value; all by default.
    few : bool
        Only a few values.
    """

    wanted: str = ""
    few: bool = False

    def of(self, made: Mapping[str, Call]) -> Iterator[Case]:
        """Yield them."""
        for name, call in made.items():
            for case in itertools.product([name], call.arguments, FEW if self.few else HOSTILE):
                # What is like anything is an executor too.
                odd = case[1:] == ("executor", "itself")
                if not odd and f"{' '.join(case)} ".startswith(f"{self.wanted} ".lstrip()):
                    yield case


#: What messages call arguments otherwise.
_CALLED = {
    "batch": ("input",),
    "data": ("source",),
    "dtype": ("the model takes",),
    "f": ("a function must",),
    "input_shape": ("the model takes",),
    "model": ("a function must",),
    "other": ("b is", "b: "),
    "parts": ("no such file",),
    "run": ("wandb",),
    "source": ("--data",),
    "values": ("channels",),
    "writer": ("summarywriter",),
    "x": ("sample",),
}


def outcome(call: Call, argument: str, value: str) -> str:
    """Say how a call ends: ``answered``, ``refused``, or what is wrong with that."""
    given = HOSTILE[value]()
    try:
        call.function(**{**call.arguments, argument: given})
    except GeedError as error:
        return fault_of(str(error), argument, given)
    except AssertionError as error:
        allowed = call.function is testing.assert_equivariant
        return "answered" if allowed else f"AssertionError: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    return "answered"


def fault_of(message: str, argument: str, given: object) -> str:
    """Say what is wrong with a line that refuses an argument, which it has to name."""
    if len(message) >= LONGEST_LINE or not message.isprintable():
        return f"{len(message)} letters: {message[:200]!r}"
    said = message.lower()
    words = {argument, argument.replace("_", "-"), argument.rstrip("s")}
    phrases = {"out of memory", *_CALLED.get(argument, ())}
    if issubclass(type(given), str):
        text = str.__str__(given)
        phrases |= {shown(text)[:20].lower(), repr(text)[1:7].lower()}
    named = any(re.search(rf"(?<!\w){word}(?!\w)", said) for word in words)
    named = named or any(phrase in said for phrase in phrases)
    return "refused" if named else f"unnamed: {message[:300]!r}"


def child(folder: Path, status: str, start: int, chosen: Cases) -> None:
    """Try cases from the ``start``-th on, and keep in a file which one it is at."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    file, made, here = os.open(status, os.O_WRONLY), calls(folder), Path.cwd()
    for name in dict.fromkeys(name for name, *_ in chosen.of(made) if not start):
        made[name].function(**made[name].arguments)
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    most = held * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, (name, argument, value) in enumerate(chosen.of(made)):
        if number < start:
            continue
        os.pwrite(file, b"%9d" % number, 0)
        with tempfile.TemporaryDirectory(dir=here) as own:
            os.chdir(own)
            signal.alarm(SECONDS)
            ended = outcome(made[name], argument, value)
            signal.alarm(0)
        print(json.dumps([name, argument, value, ended]), flush=True)
    os.pwrite(file, b"%9d" % -1, 0)


def sweep(folder: Path, chosen: Cases) -> Iterator[tuple[Case, str]]:
    """Yield how each case ended, in children that run in a folder."""
    prepare(folder)
    listed, start = list(chosen.of(calls(folder))), 0
    asked = [chosen.wanted, *["--few"] * chosen.few]
    with tempfile.NamedTemporaryFile() as status, tempfile.TemporaryDirectory() as scratch:
        while start >= 0:
            line = [sys.executable, __file__, *asked, "--child", folder, status.name, str(start)]
            with subprocess.Popen(line, cwd=scratch, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout
                for told in process.stdout:
                    if told.startswith("["):
                        name, argument, value, ended = json.loads(told)
                        yield (name, argument, value), ended
            at = Path(status.name).read_text(encoding="ascii").strip()
            if not at:
                raise RuntimeError("a call with good arguments failed")
            start = int(at)
            if start >= 0:
                yield listed[start], f"ended the process: {process.returncode}"
                start += 1


def main() -> int:
    """Print what is wrong, and return 1 where anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wanted", nargs="?", default="", help="begins so")
    parser.add_argument("--few", action="store_true", help="only a few values")
    parser.add_argument("--accepted", action="store_true", help="list what is answered too")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    chosen = Cases(asked.wanted, asked.few)
    if asked.child:
        folder, status, start = asked.child
        child(Path(folder), status, int(start), chosen)
        return 0
    faults = runs = 0
    with tempfile.TemporaryDirectory() as folder:
        for (name, argument, value), ended in sweep(Path(folder), chosen):
            runs += 1
            fault = ended not in ("refused", "answered")
            faults += fault
            if fault or (asked.accepted and ended == "answered"):
                print(f"{name}({argument}= {value}): {ended}", flush=True)
    print(f"{runs:,} calls, {faults} faults", flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
