"""An ONNX file: read it with its external data, and write it."""

from __future__ import annotations

import filecmp
import heapq
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from onnx_geed.addresses import address_of, leaf
from onnx_geed.copies import Copy, copy_file
from onnx_geed.errors import GeedError, nearest, shown
from onnx_geed.files import Stamp, stamp, writing_beside
from onnx_geed.model.external_data import (
    external_files,
    leads_out,
    location_of,
    read_small,
)
from onnx_geed.model.fatal_attributes import check_attributes
from onnx_geed.model.fatal_constants import check_constants
from onnx_geed.model.fingerprint import Fingerprint, digest
from onnx_geed.model.nodes import reads
from onnx_geed.model.soundness import check_nodes, check_sound
from onnx_geed.model.stored_tensors import stored
from onnx_geed.model.weights_in_place import model_bytes, with_weights
from onnx_geed.named_paths import why_no_path
from onnx_geed.whole import whole

__all__ = ["Model", "check_weights", "load_model", "read_proto", "write_model"]


@dataclass(frozen=True, eq=False)
class Model:
    """A model that was read.

    Parameters
    ----------
    path : Path
        The file, or the local copy of one at an address.
    proto : onnx.ModelProto
        Its content: large weights not loaded, local functions inlined, nodes sorted. Weights in the
        file itself are treated as external data in that file.
    fingerprint : Fingerprint
        Of the file and its external data.
    opset : int
        Version of the default operator set.
    producer : str
        The program that wrote the file.
    metadata : dict of str to str
        Its ``metadata_props``.
    weights : tuple of Stamp
        The state of the weights' files when they were read; sessions read them again.
    address : str
        The address it was downloaded from, without keys and tokens; else empty.
    function : callable, optional
        If there is no file: the function to call, with a batch in and arrays by name out.
    """

    path: Path
    proto: onnx.ModelProto = field(repr=False)
    fingerprint: Fingerprint = field(repr=False)
    opset: int
    producer: str
    metadata: dict[str, str] = field(repr=False)
    weights: tuple[Stamp, ...] = field(repr=False, default=())
    address: str = ""
    function: Callable[[NDArray[Any]], dict[str, NDArray[Any]]] | None = field(
        repr=False, default=None
    )

    @property
    def called(self) -> str:
        """Its name in messages and results: address or path."""
        return self.address or str(self.path)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # On another machine the copy of what lies at an address is another file.
        if self.address and not self.path.is_file():
            here = load_model(self.address)
            if here.sha256 != self.sha256:
                raise GeedError(f"{self.address}: changed while it was measured")
            self.__dict__.update(path=here.path, weights=here.weights)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file and its external data.

        Raises
        ------
        GeedError
            If they could not be read to the end, or changed during the run.
        """
        return self.fingerprint.text

    def with_proto(self, proto: onnx.ModelProto) -> Model:
        """Return the same model with a rewritten graph."""
        return replace(self, proto=proto)


def load_model(path: str | Path) -> Model:
    """Read an ONNX file.

    Parameters
    ----------
    path : str or Path
        The file, or its address.

    Returns
    -------
    Model

    Raises
    ------
    GeedError
        If there is no such file, or it cannot be read.
        If it is not an ONNX model, or is truncated.
        If it would take an unreasonable amount of time or memory.
        If its external data are missing or truncated, or are where ONNX Runtime does not read them.
    """
    if not isinstance(path, str | os.PathLike):
        raise GeedError(f"a model is the path of an ONNX file, found {shown(path)}")
    if why := why_no_path(path):
        raise GeedError(f"{shown(path)!r} is no path: {why}; give the path of an ONNX file")
    if (address := address_of(path)) is not None:
        copy = _fetched(address)
        with copy.telling():
            return replace(load_model(copy.path), address=copy.address)
    path = Path(path)
    before = stamp(path)
    content, in_place = _content(path)
    try:
        proto = onnx.ModelProto.FromString(content)
    except Exception as error:  # protobuf's error class depends on its implementation
        if "depth" in str(error).lower():
            raise GeedError(
                f"{path}: bodies of its nodes (If, Loop, Scan) lie in each other deeper than "
                "can be read, some 30 deep; export it again with fewer"
            ) from None
        if _is_result(content):
            raise GeedError(
                f"{path}: is a result of a measurement, not an ONNX model; draw it with "
                "onnx-geed report, or give the model"
            ) from None
        raise GeedError(
            f"{path}: not an ONNX model, or cut off; export it again or copy it completely"
        ) from None
    if not proto.ir_version or not proto.graph.node or not proto.opset_import:
        raise GeedError(f"{path}: not an ONNX model (it holds no graph); give a file that is one")
    check_sound(proto, path)
    extras = external_files(proto, path)
    weights = ((before,) if in_place else ()) + tuple(map(stamp, extras))
    fingerprint = Fingerprint(path if in_place else content, weights)
    read_small(proto, path)
    if proto.functions:
        proto = _inlined(proto, path)
    _sort(proto.graph, path)
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    check_nodes(proto.graph, opset, path)
    check_attributes(proto.graph, path)
    check_constants(proto.graph, path)
    producer = f"{proto.producer_name} {proto.producer_version}".strip()
    metadata = {p.key: p.value for p in proto.metadata_props}
    return Model(path, proto, fingerprint, opset, producer, metadata, weights)


def read_proto(path: Path) -> onnx.ModelProto:
    """Return a model that was read before as the file has it: functions and nodes as they are."""
    proto: onnx.ModelProto = onnx.ModelProto.FromString(_content(path)[0])
    return proto


def _fetched(address: str) -> Copy:
    """Fetch a model, and the external data beside it that it names."""
    copy = copy_file(address)
    with copy.telling():
        content, _ = _content(copy.path)
    try:
        proto = onnx.ModelProto.FromString(content)
    except Exception:  # which reading it says in words
        return copy
    tensors = (t for t in stored(proto) if t.data_location == onnx.TensorProto.EXTERNAL)
    named = dict.fromkeys(map(location_of, tensors))
    beside = [one for one in named if one != copy.path.name and not leads_out(one)]
    return copy_file(address, beside) if beside else copy


def check_weights(model: Model) -> None:
    """Make sure that a model's external data are still those that were read.

    Parameters
    ----------
    model : Model
        The model.

    Raises
    ------
    GeedError
        If they have changed.
    """
    changes = [why for file in model.weights if (why := file.change())]
    if not changes:
        return
    try:
        extras = [f.path for f in model.weights if f.path != os.fspath(model.path)]
        same = digest([model.path, *extras]) == model.sha256
    except (GeedError, OSError):
        same = False
    if not same:
        raise GeedError(
            f"{model.called}: its weights changed while it was measured ({changes[0]}); measure a "
            "model that does not change"
        )


def _is_result(content: bytes) -> bool:
    """Say whether a file is JSON of this package's own."""
    return content[:64].lstrip().startswith(b"{") and b'"onnx-geed/' in content[:4096]


def _content(path: Path) -> tuple[bytes, bool]:
    """Return what is to be parsed, and whether large weights are left where they lie."""
    if path.is_dir():
        raise GeedError(f"{path}: is a folder; give the ONNX file in it")
    try:
        before = path.stat()
        if not (stat.S_ISREG(before.st_mode) or stat.S_ISFIFO(before.st_mode)):
            raise GeedError(f"{path}: is a device, which has no end; give the path of an ONNX file")
        if before.st_size >= 1 << 31:
            raise GeedError(
                f"{path}: is larger than 2 GiB, which no ONNX file can be; export the model again "
                "with its weights as external data"
            )
        return model_bytes(path)
    except FileNotFoundError:
        near = nearest(path.name, (p.name for p in path.parent.glob("*.onnx")))
        raise GeedError(f"{path}: no such file; give the path of an ONNX file.{near}") from None
    except OSError as error:
        raise GeedError(f"{path}: cannot be read ({error.strerror})") from None


def _inlined(proto: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    with whole():
        from onnx import inliner

    try:
        return inliner.inline_local_functions(proto)
    except Exception as error:  # the inliner raises bare RuntimeErrors and its own
        reason = shown(str(error).partition("\n")[0])
        raise GeedError(
            f"{path}: its local functions cannot be inlined ({reason}); export it without them"
        ) from None


def _sort(graph: onnx.GraphProto, path: Path) -> None:
    """Sort nodes topologically, keeping their order where it is one: some converters do not."""
    maker = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [{maker[name] for name in reads(node) if name in maker} for node in graph.node]
    readers: dict[int, list[int]] = {}
    for i, wanted in enumerate(needs):
        for j in wanted:
            readers.setdefault(j, []).append(i)
    left = [len(wanted) for wanted in needs]
    ready = [i for i, count in enumerate(left) if not count]
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for reader in readers.get(i, ()):
            left[reader] -= 1
            if not left[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(needs):
        stuck = next(i for i, count in enumerate(left) if count)
        name = next(iter(graph.node[stuck].output), "")
        raise GeedError(f"{path}: its graph has a cycle through {name!r}; export it again")
    if order != sorted(order):
        nodes = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
        del graph.node[:]
        graph.node.extend(nodes)


def write_model(
    proto: onnx.ModelProto, source: Path, out: str | Path, *, check: bool = False
) -> None:
    """Write a model made from a file, with that file's external data beside it.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model to write; it gets the weights that were left in that file.
    source : Path
        The file that it was made from.
    out : str or Path
        Where it goes, which may be an address; what is there is replaced at once, and only by a
        whole file.
    check : bool
        Whether it must pass :func:`onnx.checker.check_model`.

    Raises
    ------
    GeedError
        If the file cannot be written, or does not pass.
        If another file lies where external data would go.
    """
    with writing_beside(out, option="-o") as folder:
        extras = external_files(proto, source)
        relative = {extra: extra.relative_to(source.parent) for extra in extras}
        beside = Path(out).parent
        in_place = address_of(out) is None and all(
            (beside / r).resolve() == e.resolve() for e, r in relative.items()
        )
        for extra in extras if not in_place else ():
            if address_of(out) is None:
                _check_replaces_nothing(extra, beside / relative[extra], out)
            (folder / relative[extra]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(extra, folder / relative[extra])
        written = folder / leaf(out)
        with written.open("wb") as file:
            for piece in with_weights(proto, source):
                file.write(piece)
        if check and extras and in_place:
            # The checker looks for external data beside the file.
            checked = written.rename(folder.with_suffix(".onnx"))
            try:
                _check_written(checked, source, out)
            finally:
                checked.rename(written)
        elif check:
            _check_written(written, source, out)


def _check_replaces_nothing(extra: Path, target: Path, out: str | Path) -> None:
    """Refuse to replace a file that nobody named, unless it holds the same bytes."""
    if target.exists() and not filecmp.cmp(extra, target, shallow=False):
        raise GeedError(
            f"-o {out}: the model's weights {extra.name!r} go beside it, where another file "
            f"{target} would be replaced; move that, or name a file in another folder"
        )


def _check_written(written: Path, source: Path, out: str | Path) -> None:
    """Hold a model against the checker, before it gets its name."""
    try:
        onnx.checker.check_model(written)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().partition("\n")[0]
        raise GeedError(
            f"-o {out}: onnx.checker refuses what would be written ({reason}); does {source} "
            "itself pass it?"
        ) from None
