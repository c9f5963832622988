"""What every entry of the catalogue promises, whichever measures there are."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from running import session

from onnx_geed import GeedError
from onnx_geed.measures import CATALOGUE, Descriptor, descriptor_of, parse_request
from onnx_geed.measures.normalisation import normaliser
from onnx_geed.model import Nodes

ENTRIES = list(CATALOGUE.values())
# A share of the error compares with what is right, and without classes as any distance.
COMPARED = [replace(e.against_target(), worst=np.inf) if e.of_error else e for e in ENTRIES]
AS_NODES = [entry for entry in ENTRIES if entry.nodes]


def names(entries):
    return {"argvalues": entries, "ids": [entry.name for entry in entries]}


def rows(entry, seed):
    """Vectors of many lengths, log-probabilities or a class, as the entry's function takes them."""
    if entry.view == "classes":
        return np.full((12, 1), float(seed))
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(12, 7)) * np.exp(rng.normal(size=(12, 1)) * 3)
    if entry.view != "scores":
        return values
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


def deviations(entry, u, v):
    """m of rows by the entry's own function."""
    out = np.empty(len(u))
    if entry.view == "maps":
        sums = [(u * v).sum(axis=1), (u * u).sum(axis=1), (v * v).sum(axis=1)]
        entry.pairs(np.stack(sums, axis=1), out)
    else:
        entry.pairs(u, v, out)
    return -out if entry.similarity else out


@pytest.mark.parametrize("entry", **names(COMPARED))
def test_equal_pairs_are_perfect_and_others_are_worse(entry):
    u, v = rows(entry, 0), rows(entry, 1)
    np.testing.assert_allclose(deviations(entry, u, u), entry.perfect, atol=1e-12)
    apart = deviations(entry, u, v)
    assert (apart > entry.perfect + 0.01).all()
    assert (apart <= entry.worst).all()


@pytest.mark.parametrize("entry", **names(AS_NODES))
def test_the_nodes_of_an_entry_compute_what_its_function_does(entry):
    u, v = rows(entry, 2), rows(entry, 3)
    v[:3] = u[:3]
    if entry.view != "scores":
        u[4], v[5], u[6], v[6] = 0, 0, 0, 0
    nodes = Nodes(17)
    pairs = entry.nodes(nodes, "u", "v", 1)
    info = {n: helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in ("u", "v")}
    wanted = [pairs.values, *filter(None, [pairs.squares, pairs.zero_pairs])]
    graph = helper.make_graph(
        nodes.written,
        "pairs",
        list(info.values()),
        [onnx.ValueInfoProto(name=name) for name in wanted],
        list(nodes.constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    values, *others = session(model).run(None, {"u": u, "v": v})
    values = -values if entry.similarity else values
    np.testing.assert_allclose(values, deviations(entry, u, v), rtol=1e-12, atol=1e-12)
    assert bool(pairs.zero_pairs) == entry.similarity
    if entry.similarity:
        squares, zero_pairs = others
        np.testing.assert_allclose(squares, (u * u).sum(axis=1), rtol=1e-12)
        assert list(zero_pairs) == [i == 6 for i in range(12)]


@pytest.mark.parametrize("entry", **names([e for e in ENTRIES if e.normaliser]))
def test_m_is_the_mean_of_what_is_compared_over_distinct_pairs(entry):
    points = rows(entry, 4)
    a, b = np.triu_indices(len(points), 1)
    sign = -1 if entry.similarity else 1
    want = sign * deviations(entry, points[a], points[b]).mean()
    assert normaliser(entry.name, points) == pytest.approx(want, rel=1e-12)


def test_reading_the_catalogue_loads_neither_arrays_nor_compiler():
    code = (
        "import sys\n"
        "from onnx_geed.measures import CATALOGUE, Request, descriptor_of, parse_request\n"
        "parse_request('latent-l2@x'), descriptor_of('softmax-kl').value_unit(normalised=True)\n"
        "heavy = {'numba', 'numpy', 'onnx', 'onnxruntime', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_entry_is_found_by_its_name_alone():
    for name, entry in CATALOGUE.items():
        assert entry.name == name
        assert descriptor_of(name) is entry
    with pytest.raises(GeedError, match="Did you mean 'softmax-kl'"):
        descriptor_of("softmax-lk")
    with pytest.raises(GeedError, match="no measure is called None"):
        descriptor_of(None)
    with pytest.raises(GeedError, match="write a layer after the @"):
        parse_request("latent-l2@")


def test_an_entry_needs_no_more_than_words_and_one_function():
    needed = [
        name
        for name, field in Descriptor.__dataclass_fields__.items()
        if repr(field.default).startswith("<dataclasses._MISSING")
    ]
    assert needed == [
        *("name", "role", "view", "actions", "perfect", "worst", "unit", "title", "label"),
        *("formula", "pairs"),
    ]
