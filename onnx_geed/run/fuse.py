"""The measurement as one ONNX model: samples in, deviations out.

The group's action on the samples, the user's model, the action on its tensors and the sums of eq.
(2) to (6) become nodes of one graph, so that only a few numbers a sample leave the device.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_geed.data import Preprocess
from onnx_geed.errors import GeedError
from onnx_geed.groups import Group, colours_of, disk_mask, parse_layout, tables_of
from onnx_geed.measures import Plan, StackSums, changed_nodes, check_changed_as_nodes, orbit_nodes
from onnx_geed.model import LEAST_OPSET, Model, Nodes, expose_tensors
from onnx_geed.run.moved_input import MovedInput
from onnx_geed.run.source import Source
from onnx_geed.run.written_measures import Output, write_measures, write_stacks
from onnx_geed.whole import whole

__all__ = [
    "Fused",
    "check_graph_can_measure",
    "check_graph_can_move",
    "fuse_measurement",
    "takes_orbits",
    "to_measure_inside",
]

_PREFIX = "geed/"


_FEWEST_IR = 8


@dataclass(frozen=True)
class Fused:
    """A measurement as a model.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model.
    input : str
        Its input: samples as the user's model takes them, not yet acted on; or whole orbits.
    feeds : mapping of str to str
        The names here of the other inputs of the user's model.
    outputs : tuple of Output
        Its outputs.
    stacks : tuple of StackSums
        Sums of maps, of measures that are among no outputs.
    activations : tuple of str
        Tensors of the user's model that can be asked for besides, shape (N·n, ...).
    orbits : bool
        Whether it takes whole orbits, (N·n, ...), which were acted on.
    """

    proto: onnx.ModelProto = field(repr=False)
    input: str
    feeds: Mapping[str, str]
    outputs: tuple[Output, ...]
    stacks: tuple[StackSums, ...] = ()
    activations: tuple[str, ...] = ()
    orbits: bool = False

    @property
    def yielded(self) -> tuple[str, ...]:
        """Names of what a run is asked for."""
        sums = [name for stack in self.stacks for name in stack.names]
        return (*(output.name for output in self.outputs), *sums)


def fuse_measurement(
    model: Model,
    source: Source,
    plan: Plan,
    layers: Sequence[str],
    input: str,
    *,
    doubt: bool = False,
    exposed: bool = False,
    orbits: bool = False,
    stacked: int | None = None,
) -> Fused:
    """Build a measurement as a model.

    Parameters
    ----------
    model : Model
        The user's model, its batch axis free.
    source : Source
        The samples' shape, layout and action.
    plan : Plan
        The measures and their tensors.
    layers : sequence of str
        On which tensors; the measures of others are another pass's.
    input : str
        The acted-on input.
    doubt : bool
        Whether to measure with the inverse of a given table too, and to yield what is predicted.
    exposed : bool
        Whether the tensors themselves can be asked for too.
    orbits : bool
        Whether the inputs are whole orbits, made outside the graph.
    stacked : int, optional
        Most bytes of one sample's maps that are summed together. Then measures of maps that sums
        are enough for yield these in place of deviations; by default all yield deviations.

    Returns
    -------
    Fused

    Raises
    ------
    GeedError
        If the model's operator set is too old, or its names are those of a measurement.

    Notes
    -----
    ::

        Before: x (N·n, ..) → Conv → a → .. → Gemm → y                outputs a, y
        After:  samples (N, ..) → action → x (N·n, ..) → Conv → a → .. → Gemm → y
                a → f̂ → action → cosines → deviation/channel-cos/a (N, n)
                y → log-probabilities → KL → deviation/softmax-kl/y (N, n)
    """
    model = to_measure_inside(model)
    proto = expose_tensors(model, layers)
    names = _names(model)
    nodes = Nodes(model.opset)
    samples = _free("samples", names)
    if orbits:
        samples, (inputs, feeds) = input, _inputs_of_orbits(proto, source, input)
    else:
        inputs, feeds = _inputs(proto, nodes, source, samples, input, names)
    before, nodes.written[:] = list(nodes.written), []
    named = [measure for measure in plan.measures if measure.layer in layers]
    stacks: tuple[StackSums, ...] = ()
    if stacked is not None:
        stacks = write_stacks(nodes, plan, named, stacked)
        summed = {(m.name, m.layer) for sums in stacks for m in sums.stack.measures}
        named = [measure for measure in named if (measure.name, measure.layer) not in summed]
    outputs = write_measures(nodes, plan, named, doubt=doubt)
    graph = proto.graph
    body = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*before, *body, *nodes.written])
    graph.initializer.extend(nodes.constants.values())
    graph.input.extend(inputs)
    for output in outputs:
        single = output.part in ("latent", "identity", "classes")
        kind = TensorProto.FLOAT if single else TensorProto.DOUBLE
        graph.output.append(helper.make_tensor_value_info(output.name, kind, output.shape))
    graph.output.extend(onnx.ValueInfoProto(name=name) for sums in stacks for name in sums.names)
    own = tuple(dict.fromkeys(layers)) if exposed else ()
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in own)
    proto.ir_version = max(proto.ir_version, _FEWEST_IR)
    return Fused(proto, samples, feeds, tuple(outputs), stacks, own, orbits)


def to_measure_inside(model: Model) -> Model:
    """Return the model in an operator set that has what a measurement is written in.

    Raises
    ------
    GeedError
        If its operator set is older, and cannot be converted.
        If its names are those of a measurement.
    """
    if taken := [name for name in _names(model) if name.startswith(_PREFIX)]:
        raise GeedError(
            f"{model.called}: names its tensors {_PREFIX}..., as a measurement does "
            f"({min(taken)}); give the model that was measured"
        )
    if model.opset >= LEAST_OPSET:
        return model
    with whole():
        from onnx import version_converter

    try:
        proto = version_converter.convert_version(model.proto, LEAST_OPSET)
    except Exception as error:  # the converter raises bare RuntimeErrors and its own
        reason = str(error).strip().partition("\n")[0]
        raise GeedError(
            f"{model.called}: opset {model.opset} cannot be brought to {LEAST_OPSET} ({reason}); "
            "export the model again with a newer opset, or use --engine kernels"
        ) from None
    return replace(model, proto=proto, opset=LEAST_OPSET)


def _free(name: str, names: Collection[str]) -> str:
    """Return a name for an input that no tensor of the user's model has."""
    return name if name not in names else f"{_PREFIX}{name}"


def _names(model: Model) -> set[str]:
    return {name for n in model.proto.graph.node for name in (*n.input, *n.output)}


def _inputs_of_orbits(
    proto: onnx.ModelProto, source: Source, input: str
) -> tuple[list[onnx.ValueInfoProto], dict[str, str]]:
    """Return the model's own inputs, whose rows are those of orbits."""
    stored = {i.name for i in proto.graph.initializer}
    whole = {name for name, feed in source.feeds.items() if feed.rows == "whole"}
    declared = []
    for info in proto.graph.input:
        if info.name in stored:
            continue
        declared.append(onnx.ValueInfoProto.FromString(info.SerializeToString()))
        dims = declared[-1].type.tensor_type.shape.dim
        if info.name not in whole and dims:
            dims[0].dim_param = "rows"  # and no more N, which samples are
    return declared, {i.name: i.name for i in declared if i.name != input}


def _inputs(
    proto: onnx.ModelProto,
    nodes: Nodes,
    source: Source,
    samples: str,
    input: str,
    names: Collection[str],
) -> tuple[list[onnx.ValueInfoProto], dict[str, str]]:
    """Write the nodes that make the model's inputs from the measurement's."""
    stored = {i.name for i in proto.graph.initializer}
    infos = {i.name: i for i in proto.graph.input if i.name not in stored}
    order = source.action.group.order
    of_main = nodes.within("input")
    x = _orbit_rows(of_main, source.main, samples)
    # Whole numbers only change places, as they are.
    whole = source.main.samples.dtype.kind in "iub"
    kind = infos[input].type.tensor_type.elem_type if whole else TensorProto.FLOAT
    nodes.written.append(
        helper.make_node(
            "Cast",
            [x],
            [input],
            name=of_main.named("cast"),
            to=infos[input].type.tensor_type.elem_type,
        )
    )
    taken = source.row_shape
    declared = [helper.make_tensor_value_info(samples, kind, ["N", *taken])]
    feeds = {}
    for name, moved in source.partners.items():
        if name not in infos:
            continue
        feeds[name] = _free(f"samples/{name}", names)
        kind = infos[name].type.tensor_type.elem_type
        declared.append(helper.make_tensor_value_info(feeds[name], kind, ["N", *moved.row_shape]))
        inner = nodes.within(f"input/{name}")
        whole = moved.samples.dtype.kind in "iub"
        given = feeds[name] if whole else inner.cast(feeds[name], TensorProto.FLOAT, "float32")
        rows = _orbit_rows(inner, moved, given)
        nodes.written.append(
            helper.make_node("Cast", [rows], [name], name=inner.named("cast"), to=kind)
        )
    for name, feed in source.feeds.items():
        if name not in infos:
            continue
        if feed.rows == "whole":
            declared.append(infos[name])
            feeds[name] = name
            continue
        feeds[name] = _free(f"samples/{name}", names)
        kind = infos[name].type.tensor_type.elem_type
        rest = [int(n) for n in feed.values.shape[1:]]
        declared.append(helper.make_tensor_value_info(feeds[name], kind, ["N", *rest]))
        inner = nodes.within(f"input/{name}")
        wide = inner.reshape(feeds[name], [-1, 1, *rest], "one_each")
        times = inner.constant("times", np.array([1, order, *(1 for _ in rest)], np.int64))
        tiled = inner.add("Tile", [wide, times], "repeated")
        nodes.written.append(
            helper.make_node(
                "Reshape",
                [tiled, inner.constant("shape", np.array([-1, *rest], np.int64))],
                [name],
                name=of_main.named(name),
            )
        )
    return declared, feeds


def _orbit_rows(nodes: Nodes, moved: MovedInput, samples: str) -> str:
    """Write the rows (N·n, ...) of an input that the group moves, in the model's own layout."""
    action, shape = tables_of(moved.action), moved.samples.shape
    rank = len(shape)
    axes = [rank + axis for axis in action.axes]
    rest = [axis for axis in range(rank) if axis not in axes]
    # From the model's layout to rows of entries that move together, and back.
    kept = parse_layout(moved.layout).planes_last
    order = [kept[axis] for axis in (*rest, *axes)]
    turned = order != sorted(order)
    x = samples
    if turned:
        x = nodes.add("Transpose", [x], "channels_first", perm=[0, *(axis + 1 for axis in order)])
    if action.group.changes_values:
        prepared = moved.samples.preprocess
        x = changed_nodes(nodes, x, action.group, prepared, shape, disk=moved.disk)
    else:
        x = nodes.reshape(x, [-1, action.rows, action.moves.size], "flat")
        black = moved.samples.finish(np.zeros((1, *shape), dtype=moved.samples.dtype))
        background = np.ascontiguousarray(action.stacked(black)[0, :, 0])
        apart = moved.disk and action.inside("disk") is None
        if apart:  # of a group that moves no plane, such as colours
            inside = np.broadcast_to(disk_mask(*shape[-2:]), shape)
            mask = nodes.constant("disk", action.stacked(inside[None])[0])
            outside = nodes.constant("outside", action.stacked(black)[0])
            x = nodes.add("Where", [mask, x, outside], "masked")
        x = orbit_nodes(nodes, x, action, background, disk=moved.disk and not apart)
    x = nodes.reshape(x, [-1, *(shape[axis] for axis in (*rest, *axes))], "rows")
    if turned:
        back = [order.index(axis) + 1 for axis in range(rank)]
        x = nodes.add("Transpose", [x], "as_stored", perm=[0, *back])
    return x


def check_graph_can_measure(source: Source) -> None:
    """Refuse orbits that no tables written into a graph measure.

    Raises
    ------
    GeedError
        If padding is left out.
        If an action is a function of the user's own.
        If each sample is moved by elements of its own.
    """
    if source.mask is not None:
        raise GeedError("--mask needs kernels, which leave padding out")
    for moved in source.moved:
        tables_of(moved.action)
        if moved.action.group.kind == "sampled":
            raise GeedError(
                f"group {moved.action.group.name} moves each sample by elements of its own, so "
                "one set of tables does not serve all"
            )


def check_graph_can_move(source: Source) -> None:
    """Refuse actions on samples that no nodes before a model carry out.

    Raises
    ------
    GeedError
        If a family changes values as no nodes do.
        If colours are mixed, and not so behind channel order, mean and std, where a graph starts.
        If whole numbers are weighed, or drawn from other places than a permutation does.
    """
    for moved in source.moved:
        action = tables_of(moved.action)
        check_changed_as_nodes(action.group)
        if "C" in action.moved and not _commutes(action.group, moved.samples.preprocess):
            raise GeedError(
                f"group {action.group.name} mixes colours before mean, std and channel order are "
                "applied, and a graph starts after that, where these treat channels differently"
            )
        if moved.samples.dtype.kind in "iub" and action.moves.base_of.any():
            raise GeedError(
                f"group {action.group.name} does more than permute the entries, which are whole "
                "numbers: no nodes do that"
            )


def _commutes(group: Group, preprocess: Preprocess) -> bool:
    """Whether colours are mixed alike before and behind channel order, mean and std.

    Notes
    -----
    These are x → Ax + b, and the mixing is M on the channels and w at places, which
    :func:`orbit_nodes` surrounds with b. Where all of b is one number, that yields MwAx + b, which
    has to be AMwx + b. A group that mixes no colours moves each channel for itself, and mean and
    std are one number for all components of vectors: nothing has to be asked of these.
    """
    mixes = colours_of(group)
    if mixes is None:
        return True
    matrix, black = preprocess.on_colours(mixes.shape[1])
    # Entries of M are rounded: half a turn is symmetric, and so alike in BGR, but for that.
    apart = np.abs(matrix @ mixes - mixes @ matrix).max()
    return not np.ptp(black) and bool(apart <= 1e-12 * np.abs(matrix).max())


def takes_orbits(source: Source) -> bool:
    """Say whether orbits are to be made outside a graph: where it cannot, or not to the last bit.

    Choice: all families that change values are. Behind mean and std, what lies between two of 8
    bits could be rounded another way than the loops do.
    """
    if any(moved.action.group.changes_values for moved in source.moved):
        return True
    try:
        check_graph_can_move(source)
    except GeedError:
        return True
    return False
