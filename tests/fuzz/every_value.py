"""Every attribute and constant input of every operator, with values that none allows.

``python tests/fuzz/every_value.py`` looks for what ends a process, or never ends: what the package
does not refuse goes through shape inference and through ONNX Runtime, in a child that is started
anew when it ends. It takes half an hour of one core. What the package would refuse for its time, or
ends as a loop, is left out. Models are ONNX's own tests of nodes, and
those of ``operators.txt``: domain, operator, opset, outputs, inputs | attributes. Where ONNX
Runtime refuses one of these as it stands, its values are tried all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

Feeds = dict[str, NDArray[Any]]

WHOLES = [0, -1, 1, 3, 2**31 - 1, 2**31, -(2**31), 2**32, -(2**40), 2**63 - 1, -(2**63)]
REALS = [0.0, -1.0, 1.0, float("nan"), float("inf"), -float("inf"), 3e38, 1e-45]
TEXTS = {"empty": b"", "long": b"x" * 10**7, "odd": b"\xff\xfe\0{", "dots": b"a....b"}

# A case that takes longer does not end; and bytes that a child gets.
SECONDS, MEMORY = 12, 3 << 30

# How often a Loop goes round.
_LOOPS = (("constant", "trip_count"), ("fed", "trip_count"))

# Inputs of more values are data.
_FEW = 64

Base = tuple[str, onnx.ModelProto, Feeds]

# A base by its number; whether an attribute, a constant or a value fed is changed; its name; how.
Case = tuple[int, str, str, str]


def bases() -> list[Base]:
    """Return a model of one node each, with what it is fed."""
    from onnx.backend.test.case.node import collect_testcases

    found: list[Base] = []
    for case in collect_testcases(None):
        if case.model is None or len(case.model.graph.node) != 1 or not case.data_sets:
            continue
        given = case.data_sets[0][0]
        if all(isinstance(array, np.ndarray | np.generic) for array in given):
            names = [info.name for info in case.model.graph.input]
            arrays = map(np.asarray, given)
            case.model.ir_version = min(case.model.ir_version, 10)
            found.append((case.name, case.model, dict(zip(names, arrays, strict=True))))
    listed = (Path(__file__).parent / "operators.txt").read_text(encoding="utf-8")
    return [*found, *map(_written, listed.splitlines())]


def _written(line: str) -> Base:
    head, stated = line.split(" | ", 1)
    domain, op, opset, outputs, *specs = head.split()
    domain = "" if domain == "-" else domain
    arrays = {f"i{i}": _array(spec) for i, spec in enumerate(specs) if spec != "-"}
    names = [f"i{i}" if spec != "-" else "" for i, spec in enumerate(specs)]
    made = [f"o{i}" for i in range(int(outputs))]
    node = helper.make_node(op, names, made, domain=domain, **json.loads(stated))
    infos = [
        helper.make_tensor_value_info(
            name,
            TensorProto.STRING if a.dtype == object else helper.np_dtype_to_tensor_dtype(a.dtype),
            a.shape,
        )
        for name, a in arrays.items()
    ]
    ends = [helper.make_empty_tensor_value_info(name) for name in made]
    opsets = [helper.make_opsetid("", int(opset))]
    if domain:
        opsets.append(helper.make_opsetid(domain, 3 if domain == "ai.onnx.ml" else 1))
    model = helper.make_model(helper.make_graph([node], "g", infos, ends), opset_imports=opsets)
    model.ir_version = 10
    return (f"{domain}:{op}", model, arrays)


def _array(spec: str) -> NDArray[Any]:
    """Return what ``dtype[shape]=values`` says; without values, random ones."""
    match = re.fullmatch(r"(\w+)\[([\d,]*)\](?:=(.*))?", spec)
    assert match, spec
    shape = tuple(int(n) for n in match[2].split(",") if n)
    if match[1] == "text":
        return np.array(match[3].replace("_", " ").split(","), object).reshape(shape)
    if match[3] is None:
        drawn = np.random.default_rng(0).random(shape, np.float32)
        return (drawn if match[1] == "float32" else 255 * drawn).astype(match[1])
    values = json.loads(f"[{match[3]}]")
    return np.resize(np.array(values, match[1]), shape)


def kinds_of_attributes() -> dict[str, dict[str, str]]:
    """Return the attributes of all operators, and what kind each is."""
    import onnxruntime.capi.onnxruntime_pybind11_state as state

    found: dict[str, dict[str, str]] = {}
    for schema in state.get_all_operator_schema():
        kinds = found.setdefault(f"{schema.domain}:{schema.name}", {})
        kinds |= {name: str(a.type).split(".")[-1] for name, a in schema.attributes.items()}
    return found


def values_of(kind: str, stated: AttributeProto | None) -> dict[str, Any]:
    """Return values of a kind, by what a report calls them."""
    one: dict[str, dict[str, Any]] = {
        "INT": {str(v): v for v in WHOLES},
        "FLOAT": {str(v): v for v in REALS},
        "STRING": TEXTS,
    }
    if kind in one:
        return one[kind]
    if kind == "STRINGS":
        long = {"long": [b"Relu"] * 1000, "many": [b""] * 100_000}
        return {"empty": [], "blank": [b""], **long, "of 10 MB": [TEXTS["long"]]}
    if kind not in ("INTS", "FLOATS"):
        return {}
    old = list(getattr(stated, kind.lower())) if stated is not None else []
    found = {"empty": [], "long": (old or [1]) * 1000, "one more": [*old, 1]}
    if old:
        found["one less"] = old[:-1]
    for value in WHOLES if kind == "INTS" else REALS:
        found |= {f"{n} of {value}": [value] * n for n in ([len(old)] if old else [1, 2, 4])}
        if len(old) > 1:
            found |= {
                f"first {value}": [value, *old[1:]],
                f"last {value}": [*old[:-1], value],
            }
    return found


def _put(node: onnx.NodeProto, name: str, kind: str, value: Any) -> None:
    for stated in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(stated)
    added = node.attribute.add(name=name, type=AttributeProto.AttributeType.Value(kind))
    field = {"INT": "i", "FLOAT": "f", "STRING": "s"}.get(kind, kind.lower())
    if kind.endswith("S"):
        getattr(added, field).extend(value)
    else:
        setattr(added, field, value)


def arrays_of(array: NDArray[Any], *, constant: bool) -> dict[str, Callable[[], NDArray[Any]]]:
    """Return what an input may be in place of an array, by what a report calls it."""

    def filled(where: Any, value: float) -> NDArray[Any]:
        changed = array.copy()
        changed.reshape(-1)[where] = value
        return changed

    found: dict[str, Callable[[], NDArray[Any]]] = {}
    whole = array.dtype.kind in "iu"
    for value in WHOLES if whole else REALS:
        if whole and not np.iinfo(array.dtype).min <= value <= np.iinfo(array.dtype).max:
            continue
        places = {"all": slice(None), "first": 0, "last": -1} if array.size > 1 else {"all": 0}
        for word, where in places.items() if array.size else ():
            found[f"{word} {value}"] = lambda where=where, value=value: filled(where, value)
    if constant:
        found["empty"] = lambda: array.reshape(-1)[:0]
        found["scalar"] = lambda: np.asarray(array.reshape(-1)[0] if array.size else array)
        found["long"] = lambda: np.resize(array, 2000) if array.size else array
        found["matrix"] = lambda: array.reshape(1, 1, -1)
    return found


def cases(every: list[Base], kinds: dict[str, dict[str, str]]) -> Iterator[Case]:
    """Yield what is tried: once for each operator, set of attributes and ranks of inputs."""
    seen: set[object] = set()
    for i, (_, model, feeds) in enumerate(every):
        node = model.graph.node[0]
        op, stated = f"{node.domain}:{node.op_type}", {a.name: a for a in node.attribute}
        form = (op, *sorted(stated), *((a.dtype.str[:2], a.ndim) for a in feeds.values()))
        for name, kind in sorted(kinds.get(op, {}).items()):
            if (form, name, True) not in seen:
                yield from (
                    (i, "attribute", name, how) for how in values_of(kind, stated.get(name))
                )
            seen.add((form, name, True))
        for name, array in feeds.items():
            few = array.dtype.kind in "iuf" and array.size <= _FEW
            if few and (form, name, False) not in seen:
                for how, fixed in (("constant", True), ("fed", False)):
                    yield from ((i, how, name, w) for w in arrays_of(array, constant=fixed))
            seen.add((form, name, False))


def build(case: Case, every: list[Base], kinds: dict[str, dict[str, str]]) -> Base:
    """Return the model of a case, and what it is fed."""
    i, what, name, how = case
    title, model, feeds = every[i]
    made = onnx.ModelProto.FromString(model.SerializeToString())
    node, feeds = made.graph.node[0], dict(feeds)
    for info in made.graph.output:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    if what == "attribute":
        kind = kinds[f"{node.domain}:{node.op_type}"][name]
        stated = {a.name: a for a in node.attribute}.get(name)
        _put(node, name, kind, values_of(kind, stated)[how])
        return title, made, feeds
    array = arrays_of(feeds[name], constant=what == "constant")[how]()
    if what == "fed":
        feeds[name] = array
        return title, made, feeds
    del feeds[name]
    for info in [info for info in made.graph.input if info.name == name]:
        made.graph.input.remove(info)
    made.graph.initializer.append(numpy_helper.from_array(array, name))
    return title, made, feeds


def try_all(start: int, status: str) -> None:
    """Try cases from the ``start``-th on, and keep in a file which one it is at."""
    import onnxruntime as ort

    from onnx_geed.model.divisions import guard_divisions
    from onnx_geed.model.fatal_attributes import check_attributes
    from onnx_geed.model.fatal_constants import check_constants
    from onnx_geed.model.labour import seconds_of
    from onnx_geed.model.shapes import infer
    from onnx_geed.model.soundness import check_nodes, check_sound

    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    file, path = os.open(status, os.O_WRONLY), Path("m.onnx")
    every, kinds = bases(), kinds_of_attributes()
    for number, case in enumerate(cases(every, kinds)):
        if number < start:
            continue
        _, model, feeds = build(case, every, kinds)
        os.pwrite(file, b"%9d look " % number, 0)
        signal.alarm(SECONDS)
        try:
            check_sound(model, path)
            opset = max([o.version for o in model.opset_import if not o.domain], default=0)
            check_nodes(model.graph, opset, path)
            check_attributes(model.graph, path)
            check_constants(model.graph, path)
            guard_divisions(model.graph, opset)
            os.pwrite(file, b"%9d infer" % number, 0)
            first = next(iter(model.graph.input), None)
            if first is not None:
                types = infer(model, first.name, feeds[first.name].shape, 1)
                if sum(seconds_of(node, types) for node in model.graph.node) > SECONDS:
                    continue
            if case[1:3] in _LOOPS and case[3] != "empty":
                continue
            os.pwrite(file, b"%9d open " % number, 0)
            content = model.SerializeToString()
            session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            os.pwrite(file, b"%9d run  " % number, 0)
            session.run(None, feeds)
        except Exception:  # refused, by us or by the runtime
            pass
        finally:
            signal.alarm(0)
    os.pwrite(file, b"%9d done " % -1, 0)


def main() -> int:
    """Print what ended a child, and return 1 where anything did."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--from", dest="start", type=int, default=0, metavar="CASE")
    parser.add_argument("--child", metavar="FILE", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        try_all(asked.start, asked.child)
        return 0
    every, kinds = bases(), kinds_of_attributes()
    listed = list(cases(every, kinds))
    print(f"{len(listed):,} cases", flush=True)
    start, faults = asked.start, 0
    with tempfile.NamedTemporaryFile() as status:
        while True:
            command = [sys.executable, __file__, "--child", status.name, "--from", str(start)]
            ended = subprocess.run(command, capture_output=True, check=False)
            words = Path(status.name).read_text(encoding="ascii").split()
            if ended.returncode >= 0:
                return 1 if faults or words[1:] != ["done"] else 0
            number, phase = int(words[0]), words[1]
            node = every[listed[number][0]][1].graph.node[0]
            name = signal.Signals(-ended.returncode).name
            told = (node.domain, node.op_type, *listed[number][1:])
            print(f"{number}: {name} at {phase}: {' '.join(told)}", flush=True)
            start, faults = number + 1, faults + 1


if __name__ == "__main__":
    sys.exit(main())
