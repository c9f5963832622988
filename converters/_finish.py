"""From an exported graph to a file: names, metadata, parity with the framework, then the rename.

Every converter ends here. Nothing of onnx_geed is imported: what it reads is in the file.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

if __package__:
    from . import _graph
    from ._inputs import Input, check_length, with_layouts
    from ._options import (
        Problem,
        checked_layout,
        missing,
        note,
        read_classes,
        read_preprocess,
        reason_of,
    )
    from ._samples import loud, random_batches, real_batches
else:
    import _graph
    from _inputs import Input, check_length, with_layouts
    from _options import (
        Problem,
        checked_layout,
        missing,
        note,
        read_classes,
        read_preprocess,
        reason_of,
    )
    from _samples import loud, random_batches, real_batches

# Protobuf's limit is 2 GiB; beyond it weights lie beside the file.
_LARGEST = 1_900_000_000
_SEARCHED = "left to onnx-geed's own search, which layers shows; --latent LAYER names it"


class Usage(Problem):
    """A mistake in an option: another exporter would not help."""


@dataclass(frozen=True, eq=False)
class Source:
    """A model inside its framework.

    Parameters
    ----------
    forward : callable
        An array for each input, the batch axis in front, to the chosen output, an array.
    inputs : sequence of Input
        In the order in which the model takes them; the first is the main one.
    exports : sequence of (name, callable)
        Ways to make a ModelProto of it, the preferred one first.
    watch : callable, optional
        The same arrays to fingerprints of what every module puts out, by module path; ``PATH:in`` is what it
        reads.
    preprocess, classes, kind, latent
        What the framework knows of itself; the user's options override it.
    actions : dict of str to dict
        Action tables by module path.
    layouts : dict of str to str
        Layouts of what modules put out, by module path; that of the output by an empty one.
    """

    forward: Callable[..., Any]
    inputs: Sequence[Input]
    exports: Sequence[tuple[str, Callable[[], Any]]]
    watch: Callable[..., dict[str, _graph.Print | None]] | None = None
    preprocess: dict[str, Any] | None = None
    classes: list[str] | None = None
    kind: str | None = None
    latent: str | None = None
    actions: dict[str, dict[str, Any]] = field(default_factory=dict)
    layouts: dict[str, str] = field(default_factory=dict)


def finish(source: Source, settings: Any) -> None:
    """Export, annotate, check against the framework, and only then put the file in its place."""
    # From 1.29 on it would keep an identifier in the user's home, and report runs to its makers.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    with missing("onnx, onnxruntime or numpy", "pip install numpy onnx onnxruntime"):
        import numpy  # noqa: F401
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401

    preprocess = read_preprocess(settings.preprocess)
    preprocess = source.preprocess if preprocess is None else preprocess
    asked = read_classes(settings.classes)
    for path, layout in source.layouts.items():
        checked_layout(layout, _annotated(path, layout))
    source = replace(source, inputs=with_layouts(source.inputs, settings.input_layout))
    batches = random_batches(source.inputs, preprocess, settings.seed)
    random = len(batches)
    if settings.data:
        batches += real_batches(settings.data, source.inputs, preprocess)
    expected = [_expected(source, batch) for batch in batches]
    classes = _classes(asked, source, settings, expected[0].shape)
    seen_on = loud(batches[0], source.inputs)
    prints = _watched(source, seen_on)
    if any(not p.finite for p in prints.values()):
        seen_on = batches[0]
        prints = _watched(source, seen_on)
    for path, layout in source.layouts.items():
        if path in ("", *prints):
            shape = prints[path].shape if path else expected[0].shape
            check_length(layout, shape, _annotated(path, layout))
    for layer, layout in settings.layout:
        if layer in ("output", *prints):
            shape = prints[layer].shape if layer in prints else expected[0].shape
            check_length(layout, shape, f"--layout {layer}={layout}")
    failures: list[str] = []
    out = Path(settings.out)
    for name, export in source.exports:
        last = name == source.exports[-1][0]
        # Beside the file, so that the rename cannot fail halfway between two disks.
        try:
            beside = None if _is_device(out) else out.parent
            work = Path(tempfile.mkdtemp(prefix=".onnx-geed-", suffix=".unfinished", dir=beside))
        except OSError as error:
            raise Problem(f"-o {out}: cannot be written ({error.strerror})") from None
        try:
            try:
                proto = export()
            except Problem:
                raise
            except Exception as error:
                raise Problem(f"{name}: {reason_of(error)}") from None
            # Of an output that was rounded, the last bit may come out otherwise.
            tolerance = max(settings.tolerance, _graph.float_output(proto.graph))
            lines = _named(
                proto, source, settings, preprocess, classes, seen_on, expected[0], prints
            )
            _save(proto, work, out.name)
            worst = _compare(work / out.name, batches, expected, tolerance, name)
            _put_all(work, out)
        except Usage:
            raise
        except Problem as problem:
            failures.append(str(problem))
            if last:
                raise Problem(f"cannot be exported: {'; '.join(failures)}") from None
            note(f"{problem}; trying the next exporter")
            continue
        finally:
            shutil.rmtree(work, ignore_errors=True)
        print(f"wrote {out} ({name})")
        for line in lines:
            print(f"  {line}")
        kinds = "random and real" if len(batches) > random else "random"
        sizes = " and ".join(str(len(b[0])) for b in batches[:2])
        print(
            f"  parity with ONNX Runtime, {kinds} batches of {sizes}: worst difference "
            f"{worst:.1e} of the largest value"
        )
        return


def _classes(
    asked: list[str] | None, source: Source, settings: Any, shape: Sequence[int]
) -> list[str] | None:
    """Return names of classes: the user's, which must fit the output, else those of the framework."""
    count, known = _class_count(source, settings, shape), source.classes
    if asked is not None:
        if count not in (None, len(asked)):
            hint = "" if len(shape) == 2 else "; --layout output=LETTERS says which axis is C"
            raise Problem(
                f"--classes {settings.classes}: names {len(asked)} classes, but the output, of shape "
                f"{tuple(shape[1:])} per sample, has {count}; write one per line, in its order{hint}"
            )
        return asked
    if known is not None and count not in (None, len(known)):
        note(
            f"the framework names {len(known)} classes, which are not stored: the output has {count}"
        )
        return None
    if known is not None and len({*known}) < len(known):
        note("the framework gives two classes one name, so names are not stored")
        return None
    return known


def _class_count(source: Source, settings: Any, shape: Sequence[int]) -> int | None:
    """Count the classes of an output as `onnx-geed annotate` does; None where no axis is known."""
    stated = dict(settings.layout).get("output", source.layouts.get("", ""))
    # What keeps the axes of the input is taken to keep their order.
    letters = next((x for x in (stated, source.inputs[0].layout) if len(x) == len(shape)), "")
    if len(shape) == 2:
        axis = 1
    else:
        axis = max(letters.find("C"), letters.find("K"))
    if axis < 1:
        return None
    # A single score tells two classes apart.
    return max(shape[axis], 2)


def _annotated(path: str, layout: str) -> str:
    return f"layout {layout} of {path or 'the output'}"


def _expected(source: Source, batch: tuple[Any, ...]) -> Any:
    import numpy as np

    shapes = " and ".join(str(x.shape) for x in batch)
    try:
        value = np.asarray(source.forward(*batch))
    except Problem:
        raise
    except Exception as error:
        raise Problem(
            f"the model does not take a batch of shape {shapes}: {reason_of(error)}; "
            "--input-shape must be the shape of one sample"
        ) from None
    count = len(batch[0])
    if value.shape[:1] != (count,):
        raise Problem(
            f"the output has shape {value.shape} for a batch of {count}; axis 0 must be the batch"
        )
    if not np.isfinite(value).all():
        raise Problem(
            "the framework's own output has NaN or infinity; check weights and --preprocess"
        )
    return value


def _watched(source: Source, batch: tuple[Any, ...]) -> dict[str, _graph.Print]:
    if source.watch is None:
        return {}
    count = batch[0].shape[:1]
    return {p: v for p, v in source.watch(*batch).items() if v is not None and v.shape[:1] == count}


def _named(
    proto: Any,
    source: Source,
    settings: Any,
    preprocess: dict[str, Any] | None,
    classes: list[str] | None,
    batch: tuple[Any, ...],
    expected: Any,
    prints: dict[str, _graph.Print],
) -> list[str]:
    """Name tensors and write metadata, in place; return what to tell the user."""
    graph = proto.graph
    output = _interface(proto, source.inputs)
    inputs = [i.name for i in source.inputs]
    matches = _modules(proto, dict(zip(inputs, batch, strict=True)), prints)
    modules = {path: match.tensors[0] for path, match in matches.items()}
    if source.watch is not None and prints and not modules:
        note("no module's output was found in the file, so layers can only be named by tensor")

    def tensor(layer: str, option: str) -> str:
        if layer in modules:
            return modules[layer]
        if layer in _graph.names(graph):
            return layer
        last = layer.split(":")[0].split(".")[-1]
        near = [p for p in modules if last in p][:5]
        near = near or difflib.get_close_matches(layer, [*modules, *_graph.names(graph)])
        hint = f"; near: {', '.join(near)}" if near else ""
        raise Usage(f"{option} {layer}: the file has no such module or tensor{hint}")

    kind = settings.output_kind or source.kind or _kind(graph, output) or ""
    asked = settings.latent or source.latent
    latent: str | None = None
    if asked:
        latent = tensor(asked, "--latent")
    elif kind != "embedding":  # which is its own latent, as onnx-geed knows from the kind
        latent = _graph.find_latent(proto, inputs, output)
    # A tensor bears the path of the outermost module that puts it out, and no other tensor bears
    # a module's path: the newer exporter calls things conv2d, as Keras calls its layers.
    roles = {"latent": latent, **{name: name for name in inputs}, "output": output}
    new: dict[str, str] = {}
    for path in sorted(modules, key=lambda p: p.count(".")):
        if not path.endswith(":in"):
            new.setdefault(modules[path], path)
    for role, name in roles.items():
        if name is not None:
            # A module of that name keeps it, where it puts out something else.
            new[name] = role if modules.get(role, name) == name else f"the_{role}"
    new |= _graph.rename(graph, new, reserved=prints)
    inputs = [new.get(i, i) for i in inputs]
    output = new.get(output, output)
    for match in matches.values():
        match.tensors[:] = [new.get(t, t) for t in match.tensors]
    modules = {path: match.tensors[0] for path, match in matches.items()}
    latent = new.get(latent, latent) if latent is not None else None
    metadata = {
        "onnx_geed.input": inputs[0],
        "onnx_geed.output": output,
        "onnx_geed.input_layout": source.inputs[0].layout,
        "onnx_geed.latent": latent or "",
        "onnx_geed.output_kind": kind,
    }
    if kind == "probabilities":
        _check_probabilities(expected)
    if preprocess is not None:
        metadata["onnx_geed.preprocess"] = json.dumps(preprocess, sort_keys=True)
    if classes:
        metadata["onnx_geed.classes"] = json.dumps(classes)
    kept = {p: t for p, t in modules.items() if not p.endswith(":in")}
    if kept:
        metadata["onnx_geed.modules"] = json.dumps(kept)
    layouts = dict(zip(inputs[1:], (i.layout for i in source.inputs[1:]), strict=True))
    for path, layout in source.layouts.items():
        if path and path not in matches:
            note(
                f"{_annotated(path, layout)}: not stored, because the file has no tensor of that module"
            )
        for name in matches[path].tensors if path in matches else [] if path else [output]:
            layouts[name] = layout
    for layer, layout in settings.layout:
        name = tensor(layer, "--layout")
        if name in inputs:
            raise Usage(
                f"--layout {layer}={layout}: this is an input; write --input-layout {name}={layout}"
            )
        if layer in matches and matches[layer].moved and layout.endswith("C"):
            layout = f"NC{layout[1:-1]}"  # the file has its channels in front
        # Tensors of the same values are read alike, whichever of them is measured.
        for equal in matches[layer].tensors if layer in matches else [name]:
            layouts[equal] = layout
    metadata |= {f"onnx_geed.layout.{name}": layout for name, layout in layouts.items()}
    tables = 0
    for path, table in source.actions.items():
        if path in modules:
            tables += 1
            metadata |= {f"onnx_geed.action.{t}": json.dumps(table) for t in matches[path].tensors}
    written = {p.key: p.value for p in proto.metadata_props} | {
        k: v for k, v in metadata.items() if v
    }
    del proto.metadata_props[:]
    for key in sorted(written):
        proto.metadata_props.add(key=key, value=written[key])
    total = len([p for p in prints if not p.endswith(":in")])
    stated = kind or "not told: decided on data, --output-kind states it"
    lines = [
        *(
            f"input {name}: {('batch', *one.shape)}"
            f"{'' if one.is_float else ' ' + one.dtype}{' ' + one.layout if one.layout else ''}"
            for name, one in zip(inputs, source.inputs, strict=True)
        ),
        f"output {output}: {('batch', *expected.shape[1:])}, {stated}",
        f"latent: {latent or (output if kind == 'embedding' else _SEARCHED)}",
    ]
    if total:
        lines.append(f"module paths: {len(kept)} of {total} found in the file by their values")
    if hidden := [f"{n} {x}" for n, x in layouts.items() if n not in inputs]:
        lines.append(f"layouts: {', '.join(hidden)}")
    if source.actions:
        lines.append(f"action tables: {tables} of {len(source.actions)}")
    if preprocess is not None:
        lines.append(f"preprocess: {json.dumps(preprocess, sort_keys=True)}")
    return [line.replace("'batch'", "batch") for line in lines]


def _interface(proto: Any, inputs: Sequence[Input]) -> str:
    """Bring inputs and the output to their names, and the batch axis to its own."""
    import onnx

    graph = proto.graph
    stored = {i.name for i in graph.initializer}
    given = {i.name: i for i in graph.input if i.name not in stored}
    if len(given) != len(inputs):
        raise Problem(f"the graph has {len(given)} inputs ({', '.join(given)})")
    if len(graph.output) != 1:
        raise Problem(f"the graph has {len(graph.output)} outputs; choose one with --take")
    infos = list(given.values())
    if {i.name for i in inputs} == given.keys():
        infos = [given[i.name] for i in inputs]
    for info, dtype, called in (
        *((i, one.dtype, f"input {i.name}") for i, one in zip(infos, inputs, strict=True)),
        (graph.output[0], "float32", "output"),
    ):
        found = onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type).lower()
        if found not in ("undefined", "float" if dtype == "float32" else dtype):
            raise Problem(f"the graph's {called} is {found}, not {dtype}")
    rest = [i for i in graph.input if i.name in stored]
    ordered = [type(i).FromString(i.SerializeToString()) for i in (*infos, *rest)]
    del graph.input[:]
    graph.input.extend(ordered)
    infos = list(graph.input)[: len(inputs)]
    new = {info.name: one.name for info, one in zip(infos, inputs, strict=True)}
    _graph.rename(graph, {**new, graph.output[0].name: "output"})
    for info, one in zip(infos, inputs, strict=True):
        dims = info.type.tensor_type.shape.dim
        if len(dims) != 1 + len(one.shape) or dims[0].HasField("dim_value"):
            lengths = [d.dim_value or d.dim_param or "?" for d in dims]
            raise Problem(f"the batch axis of the exported input {lengths} is not free")
        dims[0].dim_param = "batch"
        for dim, length in zip(dims[1:], one.shape, strict=True):
            dim.dim_value = length
    shape = graph.output[0].type.tensor_type.shape
    if shape.dim and not shape.dim[0].HasField("dim_value"):
        shape.dim[0].dim_param = "batch"
    # Paths of this machine, and whatever else would differ on the next one.
    for holder in (
        proto,
        graph,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        holder.doc_string = ""
        if holder is not proto:
            del holder.metadata_props[:]
    for node in _graph.every_node(graph):
        node.doc_string = ""
        kept = [(p.key, p.value) for p in node.metadata_props if p.key.endswith("name_scopes")]
        del node.metadata_props[:]
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)
    name: str = graph.output[0].name
    return name


def _modules(
    proto: Any, feeds: dict[str, Any], prints: dict[str, _graph.Print]
) -> dict[str, _graph.Match]:
    import onnx

    if not prints:
        return {}

    def open_session(tensors: list[str]) -> Any:
        exposed = onnx.ModelProto()
        exposed.CopyFrom(proto)
        known = {o.name for o in proto.graph.output}
        exposed.graph.output.extend(onnx.ValueInfoProto(name=t) for t in tensors if t not in known)
        return _session(exposed)

    if proto.ByteSize() > _LARGEST:
        note("the model is over 2 GB, so module paths are not searched")
        return {}
    try:
        return _graph.match(open_session, proto.graph, feeds, prints)
    except Exception as error:
        count = len(next(iter(feeds.values())))
        raise Problem(
            f"ONNX Runtime does not run the graph on {count} samples ({reason_of(error, 120)}); does "
            "the model's code fix the batch size, with len(x) or int(...)? Use x.shape[0]"
        ) from None


def _kind(graph: Any, output: str) -> str | None:
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in (
        "Identity",
        "Cast",
        "Reshape",
        "Flatten",
        "Squeeze",
    ):
        node = makers.get(node.input[0])
    ends = {"Softmax": "probabilities", "Sigmoid": "probabilities", "LogSoftmax": "logits"}
    return ends.get(node.op_type) if node is not None else None


def _check_probabilities(expected: Any) -> None:
    import numpy as np

    within = (expected >= 0).all() and (expected <= 1).all()
    one = expected.ndim == 2 and expected.shape[1] > 1
    if not within or (one and np.abs(expected.sum(1, dtype=np.float64) - 1).max() > 1e-3):
        note("the output is declared as probabilities, but its rows do not sum to 1")


def _save(proto: Any, folder: Path, name: str) -> None:
    import onnx

    try:
        if proto.ByteSize() > _LARGEST:
            onnx.save_model(
                proto, folder / name, save_as_external_data=True, location=f"{name}.data"
            )
        else:
            (folder / name).write_bytes(proto.SerializeToString(deterministic=True))
    except OSError as error:
        raise Usage(f"-o {name}: cannot be written ({error.strerror or error})") from None


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _put_all(work: Path, out: Path) -> None:
    """Give finished files their names once all of them are on the disk, the model as the last."""
    try:
        if _is_device(out):
            out.write_bytes((work / out.name).read_bytes())
            return
        files = sorted(work.iterdir(), key=lambda p: p.name == out.name)
        for file in files:
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())
        for file in files:
            _put(file, out.parent / file.name)
    except OSError as error:
        raise Usage(f"-o {out}: cannot be written ({error.strerror or error})") from None


def _put(file: Path, target: Path) -> None:
    """Give a file its name: links are followed, and the mode of what was there is kept."""
    target = Path(os.path.realpath(target))
    if target.exists():
        file.chmod(target.stat().st_mode & 0o7777)
    try:
        os.replace(file, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # A link has led to another disk.
        copy = target.parent / f"{file.parent.name}.copy"
        try:
            shutil.copy(file, copy)
            with copy.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(copy, target)
        finally:
            copy.unlink(missing_ok=True)
    if os.name != "nt":
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _session(model: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    options.log_severity_level = 3
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _compare(
    path: Path, batches: Sequence[Any], expected: Sequence[Any], tolerance: float, exporter: str
) -> float:
    import numpy as np

    try:
        session = _session(path)
        names = [i.name for i in session.get_inputs()]
        results = [session.run(None, dict(zip(names, b, strict=True)))[0] for b in batches]
    except Exception as error:
        raise Problem(
            f"{exporter}: ONNX Runtime does not run the graph ({reason_of(error)})"
        ) from None
    worst = 0.0
    for a, b in zip(results, expected, strict=True):
        if np.shape(a) != b.shape:
            raise Problem(
                f"{exporter}: the output has shape {np.shape(a)} in ONNX Runtime and {b.shape} in the framework"
            )
        largest = float(np.abs(b).max(initial=0.0)) or 1.0
        difference = float(np.abs(np.asarray(a, np.float64) - b).max(initial=0.0)) / largest
        # Written so that NaN is a disagreement too.
        if not difference <= tolerance:
            raise Problem(
                f"{exporter}: ONNX Runtime differs from the framework by {difference:.1e} of the "
                f"largest value, more than --tolerance {tolerance:g}"
            )
        worst = max(worst, difference)
    return worst


if __name__ == "__main__":
    sys.exit("this is part of the converters: run from_torch.py, from_keras.py, ...")
