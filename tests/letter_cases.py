"""Networks with their data, groups and layouts, and what is known of each of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import letter_models as lm
import naive
import naive_letters
import numpy as np
import onnx
from naive import Floats
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator


class Case(NamedTuple):
    """One run.

    ``inputs`` has a layout for each input, none for one that is fed as it is. ``tensors`` has a
    layout for each tensor that is looked at. ``known`` says of ``MEASURE@TENSOR`` what ``relative``
    is at least; 0 says that the tensor is perfect, ``UNKNOWN`` nothing.
    """

    model: Callable[[], onnx.ModelProto]
    inputs: Mapping[str, str | None]
    group: str
    tensors: Mapping[str, str]
    known: Mapping[str, float]


GRAPH = {"adj": "NPP", "x": "NPC"}
GRAPH_FED = {"adj": None, "x": "NPC"}
MASKED = {"x": "NPC", "mask": "NP"}
LINE = {"map": "NCT", "y": "NCT"}
VOLUME = {"map": "NCDHW", "latent": "NK", "y": "NK"}
LATENT = {"latent": "NK", "y": "NK"}
DENSE = {"map": "NCHW", "y": "NCHW"}


UNKNOWN = -1.0


def _key(measure: str, tensor: str) -> str:
    return f"{measure.replace('_', '-')}@{tensor}"


def _case(
    model: Callable[[], onnx.ModelProto],
    inputs: str | Mapping[str, str | None],
    group: str,
    tensors: str | Mapping[str, str] = LATENT,
    **known: float,
) -> Case:
    """A case, from ``measure__tensor=least relative``; one layout is that of x, or of y.

    Whose distance is known, of that the unexplained share is too; of scores that of flips.
    """
    for key, least in list(known.items()):
        measure, tensor = key.split("__")
        if measure == "output_l2":
            known[f"unexplained__{tensor}"] = least and 1e-3
        if measure == "softmax_kl":
            known[f"flip_rate__{tensor}"] = least and UNKNOWN
    return Case(
        model,
        {"x": inputs} if isinstance(inputs, str) else inputs,
        group,
        {"y": tensors} if isinstance(tensors, str) else tensors,
        {_key(*key.split("__")): least for key, least in known.items()},
    )


# The networks that stand with options, by short names.
any_conv, symmetric_conv = lm.circular_conv, lambda: lm.circular_conv(symmetric=True)
per_node = lambda: lm.graph_network(per_node=True)  # noqa: E731


CASES: dict[str, Case] = {
    "circular conv, shift24": _case(
        any_conv, "NCT", "shift24", LINE, channel_cos__map=0, channel_cos__y=0, output_l2__y=0
    ),
    "circular conv, shift4": _case(any_conv, "NCT", "shift4", LINE, output_l2__y=0),
    "symmetric conv, reverse": _case(
        symmetric_conv, "NCT", "reverse", LINE, channel_cos__map=0, output_l2__y=0
    ),
    "any conv, reverse": _case(
        any_conv, "NCT", "reverse", LINE, channel_cos__map=0.2, output_l2__y=0.3
    ),
    "circular classifier, shift24": _case(
        lm.circular_classifier,
        "NCT",
        "shift24",
        {"map2": "NCT", **LATENT},
        channel_cos__map2=0,
        latent_l2__latent=0,
        softmax_kl__y=0,
    ),
    "circular classifier, reverse": _case(
        lm.circular_classifier, "NCT", "reverse", latent_l2__latent=0.1, softmax_kl__y=0.005
    ),
    "distances, O": _case(lm.distance_net, "NPX", "O", output_l2__y=0, latent_l2__latent=0),
    "distances, SO3~24": _case(lm.distance_net, "NPX", "SO3~24", output_l2__y=0),
    "distances, C5-x": _case(lm.distance_net, "NPX", "C5-x", output_l2__y=0),
    "distances, O*S12~3": _case(lm.distance_net, "NPX", "O*S12~3", output_l2__y=0),
    "centroid, O": _case(lm.centroid_net, "NPX", "O", "NX", output_l2__y=0),
    "centroid, Oh": _case(lm.centroid_net, "NPX", "Oh", "NX", output_l2__y=0),
    "centroid, SO3~24": _case(lm.centroid_net, "NPX", "SO3~24", "NX", output_l2__y=0),
    "centroid, SO3~7": _case(
        lm.centroid_net, "NPX", "SO3~7", "NX", output_l2__y=0, channel_cos__y=0, unexplained__y=0
    ),
    "centroid, O3~10": _case(lm.centroid_net, "NPX", "O3~10", "NX", output_l2__y=0),
    "centroid as scalars, SO3~7": _case(
        lm.centroid_net, "NPX", "SO3~7", "NK", output_l2__y=0.3, unexplained__y=0.3
    ),
    "distances, SO3~7": _case(lm.distance_net, "NPX", "SO3~7", output_l2__y=0, latent_l2__latent=0),
    "point net, SO3~7": _case(
        lm.point_net, "NPX", "SO3~7", output_l2__y=0.5, latent_l2__latent=0.3
    ),
    "points segmented, SO3~5": _case(
        lm.point_segmentation, "NPX", "SO3~5", "NPC", output_l2__y=0.2, softmax_kl__y=0.05
    ),
    "centroid, O3~48": _case(lm.centroid_net, "NPX", "O3~48", "NX", output_l2__y=0),
    "centroid, C7-y": _case(lm.centroid_net, "NPX", "C7-y", "NX", output_l2__y=0),
    "centroid, S12~20": _case(lm.centroid_net, "NPX", "S12~20", "NX", output_l2__y=0),
    "centroid as scalars, O": _case(lm.centroid_net, "NPX", "O", "NK", output_l2__y=0.3),
    "plane centroid, C5": _case(lambda: lm.centroid_net(12, 2), "NPX", "C5", "NX", output_l2__y=0),
    "plane centroid, D3": _case(lambda: lm.centroid_net(12, 2), "NPX", "D3", "NX", output_l2__y=0),
    "plane centroid, SO2~8": _case(
        lambda: lm.centroid_net(12, 2), "NPX", "SO2~8", "NX", output_l2__y=0
    ),
    "centroid as scalars, SO2~8": _case(
        lambda: lm.centroid_net(12, 2), "NPX", "SO2~8", "NK", output_l2__y=0.3, unexplained__y=0.3
    ),
    "point net, O": _case(lm.point_net, "NPX", "O", output_l2__y=0.5, latent_l2__latent=0.3),
    "point net, SO3~24": _case(lm.point_net, "NPX", "SO3~24", output_l2__y=0.5),
    "point net, S12~20": _case(
        lm.point_net,
        "NPX",
        "S12~20",
        {"of_points": "NPC", "y": "NK"},
        channel_cos__of_points=0,
        output_l2__y=0,
    ),
    "points segmented, S12~20": _case(
        lm.point_segmentation, "NPC", "S12~20", "NPC", output_l2__y=0, softmax_kl__y=0
    ),
    "points segmented first, S12~20": _case(
        lambda: lm.point_segmentation(channels_first=True),
        "NPC",
        "S12~20",
        "NCP",
        output_l2__y=0,
        softmax_kl__y=0,
        channel_cos__y=0,
    ),
    "points segmented, O": _case(
        lm.point_segmentation, "NPX", "O", "NPC", output_l2__y=0.2, softmax_kl__y=0.05
    ),
    "sets, S16~20": _case(
        lm.deep_sets,
        "NPC",
        "S16~20",
        {"members": "NPC", **LATENT},
        channel_cos__members=0,
        latent_l2__members=0,
        latent_cos__latent=0,
        latent_l2__latent=0,
        output_l2__y=0,
    ),
    "small sets, S4": _case(lambda: lm.deep_sets(4), "NPC", "S4", output_l2__y=0),
    "flat network, S16~20": _case(lm.flat_network, "NPC", "S16~20", output_l2__y=0.7),
    "masked sets, S16~20": _case(lm.masked_sets, MASKED, "S16~20", "NPC", output_l2__y=0),
    "graph, S10~20": _case(
        lm.graph_network,
        GRAPH,
        "S10~20",
        {"spread": "NPC", "y": "NK"},
        channel_cos__spread=0,
        output_l2__y=0,
    ),
    "nodes, S10~20": _case(per_node, GRAPH, "S10~20", "NPC", output_l2__y=0, softmax_kl__y=0),
    "graph fed, S10~20": _case(lm.graph_network, GRAPH_FED, "S10~20", output_l2__y=0.2),
    "nodes fed, S10~20": _case(per_node, GRAPH_FED, "S10~20", "NPC", output_l2__y=0.4),
    "edges, S8~10": _case(
        lm.edge_network,
        "NPPC",
        "S8~10",
        {"edges": "NPPC", "y": "NPC"},
        channel_cos__edges=0,
        output_l2__y=0,
        latent_l2__y=0,
    ),
    "video, D4": _case(
        lm.video_network, "NCTHW", "D4", "NCTHW", output_l2__y=0, channel_cos__y=0, latent_l2__y=0
    ),
    "video, C4*reverse": _case(lm.video_network, "NCTHW", "C4*reverse", "NCTHW", output_l2__y=0),
    "video, shift4": _case(lm.video_network, "NCTHW", "shift4", "NCTHW", output_l2__y=0.1),
    "divergence, D4": _case(lm.divergence, "NXHW", "D4", "NCHW", output_l2__y=0, channel_cos__y=0),
    "divergence, C8": _case(lm.divergence, "NXHW", "C8", "NCHW", output_l2__y=0.1),
    "divergence in space, Oh": _case(
        lambda: lm.divergence(3, 3), "NXDHW", "Oh", "NCDHW", output_l2__y=0
    ),
    "divergence in space, C5-z": _case(
        lambda: lm.divergence(4, 3), "NXDHW", "C5-z", "NCDHW", output_l2__y=0.1
    ),
    "volume, O": _case(
        lambda: lm.volume_network(4, symmetry="O"),
        "NCDHW",
        "O",
        VOLUME,
        channel_cos__map=0,
        output_l2__y=0,
        latent_l2__latent=0,
    ),
    "volume, Oh": _case(lambda: lm.volume_network(4), "NCDHW", "Oh", VOLUME, output_l2__y=0),
    "volume, C4-x": _case(
        lambda: lm.volume_network(4), "NCDHW", "C4-x", VOLUME, channel_cos__map=0, output_l2__y=0
    ),
    "volume with an axis, C4-z": _case(
        lambda: lm.volume_network(4, symmetry="z"),
        "NCDHW",
        "C4-z",
        VOLUME,
        channel_cos__map=0,
        output_l2__y=0,
    ),
    "volume with an axis, O": _case(
        lambda: lm.volume_network(4, symmetry="z"),
        "NCDHW",
        "O",
        VOLUME,
        channel_cos__map=0.1,
        latent_l2__map=0.1,
        latent_cos__latent=0.0001,
        output_l2__y=0.1,
    ),
    "volume, C8-y": _case(
        lambda: lm.volume_network(4),
        "NCDHW",
        "C8-y",
        VOLUME,
        channel_cos__map=0.01,
        output_l2__y=0.1,
    ),
    "volume, SO3~24": _case(
        lambda: lm.volume_network(4),
        "NCDHW",
        "SO3~24",
        VOLUME,
        channel_cos__map=0,
        output_l2__y=0,
    ),
    "volume, SO3~4": _case(
        lambda: lm.volume_network(4),
        "NCDHW",
        "SO3~4",
        VOLUME,
        channel_cos__map=0.01,
        output_l2__y=0.01,
    ),
    "long volume, O": _case(
        lambda: lm.volume_network((4, 3, 4)),
        "NCDHW",
        "O",
        VOLUME,
        channel_cos__map=0.01,
        output_l2__y=0.1,
    ),
    "any volume, Oh": _case(
        lambda: lm.volume_network(4, symmetry=None), "NCDHW", "Oh", VOLUME, output_l2__y=0.3
    ),
    "gradient, C4": _case(lm.gradient_field, "NCHW", "C4", "NXHW", output_l2__y=0),
    "gradient, D4": _case(
        lm.gradient_field, "NCHW", "D4", "NXHW", output_l2__y=0, channel_cos__y=0
    ),
    "gradient, flip-h": _case(lm.gradient_field, "NCHW", "flip-h", "NXHW", output_l2__y=0),
    "gradient, C8": _case(lm.gradient_field, "NCHW", "C8", "NXHW", output_l2__y=0.1),
    "gradient, SO2~8": _case(
        lm.gradient_field, "NCHW", "SO2~8", "NXHW", output_l2__y=0.1, channel_cos__y=0.1
    ),
    "gradient, O2~8": _case(lm.gradient_field, "NCHW", "O2~8", "NXHW", output_l2__y=0),
    "gradient as scalars, C4": _case(lm.gradient_field, "NCHW", "C4", "NCHW", output_l2__y=0.7),
    "gradient as scalars, D4": _case(lm.gradient_field, "NCHW", "D4", "NCHW", output_l2__y=0.7),
    "dense scores, C4": _case(
        lm.dense_segmentation,
        "NCHW",
        "C4",
        DENSE,
        output_l2__y=0,
        softmax_kl__y=0,
        channel_cos__map=0,
    ),
    "dense scores, D4": _case(lm.dense_segmentation, "NCHW", "D4", "NCHW", softmax_kl__y=0),
    "dense scores, C8": _case(lm.dense_segmentation, "NCHW", "C8", "NCHW", softmax_kl__y=0.0001),
    "any dense scores, C4": _case(
        lambda: lm.dense_segmentation(symmetric=False),
        "NCHW",
        "C4",
        "NCHW",
        output_l2__y=0.5,
        softmax_kl__y=0.2,
    ),
    "dna, revcomp": _case(lm.dna_network, "NBT", "revcomp", output_l2__y=0, latent_l2__latent=0),
    "dna bases last, revcomp": _case(
        lambda: lm.dna_network(bases_last=True), "NTB", "revcomp", output_l2__y=0
    ),
    "untied dna, revcomp": _case(
        lambda: lm.dna_network(tied=False), "NBT", "revcomp", output_l2__y=0.3
    ),
    "grey, hue3": _case(lm.grey_network, "NCHW", "hue3", "NCHW", output_l2__y=0, channel_cos__y=0),
    "grey, C4*hue3": _case(lm.grey_network, "NCHW", "C4*hue3", "NCHW", output_l2__y=0),
    "luma, hue3": _case(lambda: lm.grey_network(lm.LUMA), "NCHW", "hue3", "NCHW", output_l2__y=0.2),
    "tokens, reverse": _case(
        lm.token_network, "NT", "reverse", output_l2__y=0, latent_l2__latent=0
    ),
    "tokens, S12~20": _case(lm.token_network, "NP", "S12~20", output_l2__y=0),
    "tokens in place, reverse": _case(
        lambda: lm.token_network(position=True), "NT", "reverse", output_l2__y=0.4
    ),
    "hashed tokens, S12~20": _case(
        lambda: lm.token_network(hashed=True), "NP", "S12~20", output_l2__y=0
    ),
    "hashed tokens in place, reverse": _case(
        lambda: lm.token_network(hashed=True, position=True), "NT", "reverse", output_l2__y=0.4
    ),
    "tokens in place, S12~20": _case(
        lambda: lm.token_network(position=True), "NP", "S12~20", output_l2__y=0.4
    ),
}


def data_of(case: Case, count: int = 6, seed: int = 0) -> dict[str, NDArray]:
    """Samples for each input, by its name and letters."""
    rng, graph = np.random.default_rng(seed), case.model().graph
    found: dict[str, NDArray] = {}
    for value in graph.input:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
        letters = (case.inputs[value.name] or "").removeprefix("N")
        shape = (count, *dims)
        if value.type.tensor_type.elem_type == TensorProto.INT64:
            hashed = any(made.op_type == "Mod" for made in graph.node)
            found[value.name] = rng.integers(0, 2**40 if hashed else 20, size=shape)
        elif value.name == "adj":
            edges = np.triu(rng.random(shape) < 0.3, 1)
            found[value.name] = edges + edges.transpose(0, 2, 1)
        elif value.name == "mask":
            found[value.name] = np.arange(dims[0]) < rng.integers(4, dims[0], size=(count, 1))
        elif "B" in letters:
            bases = np.eye(4)[rng.integers(0, 4, size=(count, max(dims)))]
            found[value.name] = bases if letters == "TB" else bases.transpose(0, 2, 1)
        elif "H" in letters:
            found[value.name] = rng.random(shape)
        else:
            found[value.name] = rng.normal(size=shape)
    return {name: x if x.dtype == np.int64 else x.astype(np.float32) for name, x in found.items()}


def in_float64(model: onnx.ModelProto, outputs: list[str]) -> ReferenceEvaluator:
    """The same graph with float64 inputs, weights and outputs, run by numpy."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for i, tensor in enumerate(copy.graph.initializer):
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float64)
            copy.graph.initializer[i].CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in copy.graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del copy.graph.output[:]
    for name in outputs:
        info = onnx.helper.make_tensor_value_info(name, TensorProto.DOUBLE, None)
        copy.graph.output.append(info)
    return ReferenceEvaluator(copy)


def orbits_of(
    case: Case,
    data: Mapping[str, NDArray],
    indices: Sequence[int],
    seed: int,
    interpolation: str = "bilinear",
) -> dict[str, Floats]:
    """Inputs (N, |G|, ...) of samples by their indices, moved together."""
    found = {}
    for name, every in data.items():
        x = every[list(indices)]
        if letters := case.inputs[name]:
            moved = naive_letters.orbit(
                case.group, letters[1:], x, interpolation, seed=seed, indices=indices
            )
        else:
            moved = np.repeat(x[:, None], len(naive_letters.elements(case.group)), axis=1)
        found[name] = moved.astype(np.int64 if x.dtype == np.int64 else np.float64)
    return found


def activations(
    case: Case,
    data: Mapping[str, NDArray],
    indices: Sequence[int] | None = None,
    seed: int = 0,
    interpolation: str = "bilinear",
) -> dict[str, Floats]:
    """The case's tensors (N, |G|, ...) of orbits of samples, in float64 throughout."""
    chosen = range(len(next(iter(data.values())))) if indices is None else indices
    tensors, moved = list(case.tensors), orbits_of(case, data, chosen, seed, interpolation)
    count, order = next(iter(moved.values())).shape[:2]
    flat = {name: x.reshape(count * order, *x.shape[2:]) for name, x in moved.items()}
    values = in_float64(case.model(), tensors).run(None, flat)
    return {
        name: value.reshape(count, order, *value.shape[1:])
        for name, value in zip(tensors, values, strict=True)
    }


PERFECT = {
    "channel-cos": -1.0,
    "latent-cos": -1.0,
    "latent-l2": 0.0,
    "output-l2": 0.0,
    "unexplained": 0.0,
    "softmax-kl": 0.0,
    "flip-rate": 0.0,
}


def deviations(
    measure: str,
    values: Floats,
    group: str,
    letters: str,
    *,
    indices: Sequence[int] | None = None,
    seed: int = 0,
    **options: object,
) -> Floats:
    """What the twin says of a measure, before normalising: (N, |G|).

    The elements of some sampled groups are others for each sample: those of x' where ``seen`` is of
    x', which is the next one then.
    """
    numbers = range(len(values)) if indices is None else indices
    if naive_letters.drawn(group, 0, 0) != group:
        seen, rows = options.pop("seen", None), []
        for k in range(len(values)):
            number = numbers[k if seen is None else (k + 1) % len(values)]
            own, at = naive_letters.drawn(group, seed, number), slice(k, k + 1)
            other = None if seen is None else seen[at]
            rows.append(_alike(measure, values[at], own, letters, seen=other, **options))
        return np.concatenate(rows)
    return _alike(measure, values, group, letters, **options)


def _alike(measure: str, values: Floats, group: str, letters: str, **options: object) -> Floats:
    """The same where all samples are moved alike.

    The mean of n independent elements is nearer to them than that of all: distances are a root of
    (n - 1)/n of what they are in expectation, and their squares (n - 1)/n.
    """
    found = _uncorrected(measure, values, group, letters, **options)
    power = {"output-l2": 1, "latent-l2": 1, "unexplained": 2}.get(measure)
    names = naive_letters.elements(group)
    if power is None or not naive_letters.is_independent(group) or options.get("seen") is not None:
        return found
    shape = values.shape[2:]
    if measure != "latent-l2" and naive_letters.kernel_of_action(group, letters, shape) != names:
        return found
    n = len(options.get("members") or names)
    return found * (n / (n - 1)) ** (power / 2)


def _uncorrected(
    measure: str, values: Floats, group: str, letters: str, **options: object
) -> Floats:
    of_measure = {
        "channel-cos": naive_letters.channel_cos,
        "output-l2": naive_letters.output_l2,
        "unexplained": naive_letters.squares,
        "softmax-kl": naive_letters.softmax_kl,
        "flip-rate": naive_letters.flip_rate,
    }
    if twin := of_measure.get(measure):
        return twin(values, group, letters, **options)
    points = naive_letters.latent(values, letters)
    if options.get("seen") is not None:
        options["seen"] = naive_letters.latent(options["seen"], letters)
    # One channel of places that do not move has a vector's cosine.
    of_points = {"latent-l2": naive_letters.output_l2, "latent-cos": naive_letters.channel_cos}
    return of_points[measure](points, group, "K", **options)


def mean(measure: str, d: Floats, values: Floats, group: str, letters: str) -> float:
    """The mean over samples and elements; where e scores 0 by definition, over the others."""
    if measure == "flip-rate":
        return float(d[:, 1:].mean())
    if measure != "unexplained":
        return float(d.mean())
    return naive_letters.mean_without_identity(d, group, letters, values.shape[2:])


def value(measure: str, values: Floats, group: str, letters: str, **options: object) -> float:
    """The value of a record, the samples of D being the points of M."""
    d = deviations(measure, values, group, letters, **options)
    found = mean(measure, d, values, group, letters)
    if measure == "unexplained":
        return found / naive_letters.mean_square(values[:, 0])
    if measure.startswith("latent"):
        return found / naive.normaliser(naive_letters.latent(values, letters)[:, 0], measure)
    return found


def relative(
    measure: str, values: Floats, group: str, letters: str, **options: object
) -> float | None:
    """0 where perfect, 1 where f(gx) is no closer than that of the next sample.

    None where those are no further away than rounding.
    """
    others = np.roll(values, -1, axis=0)
    twins = values, group, letters
    away, between = (
        mean(measure, deviations(measure, *twins, **seen, **options), *twins) - PERFECT[measure]
        for seen in ({}, {"seen": others})
    )
    return away / between if between > 1e-9 else None
