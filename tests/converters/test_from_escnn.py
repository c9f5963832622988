"""An escnn network becomes a file that knows how the group moves its channels."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from converting import FOLDER, converted, refused

from onnx_geed import measure

pytest.importorskip("torch", reason="needs escnn")
if not any((Path(p) / "escnn").is_dir() for p in sys.path):
    pytest.skip("needs escnn", allow_module_level=True)

# What escnn says of packages that it does without.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

NETS = """
import math

import torch
from escnn import gspaces, nn as enn
from torch import nn


class Net(nn.Module):
    def __init__(self, n=8, dihedral=False, axis=math.pi / 2, size=17):
        super().__init__()
        act = gspaces.flipRot2dOnR2(n, axis=axis) if dihedral else gspaces.rot2dOnR2(n)
        self.inside = enn.FieldType(act, [act.trivial_repr])
        first = enn.FieldType(act, 3 * [act.regular_repr])
        second = enn.FieldType(act, 2 * [act.regular_repr] + [act.trivial_repr])
        self.block1 = enn.SequentialModule(
            enn.MaskModule(self.inside, size, margin=1),
            enn.R2Conv(self.inside, first, 5, padding=2, bias=False),
            enn.InnerBatchNorm(first),
            enn.ReLU(first),
        )
        self.block2 = enn.SequentialModule(
            enn.R2Conv(first, second, 5, padding=2, bias=False),
            enn.InnerBatchNorm(second),
            enn.ReLU(second),
        )
        self.pool = enn.GroupPooling(second)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        x = self.block2(self.block1(enn.GeometricTensor(x, self.inside)))
        return self.head(self.pool(x).tensor.mean((2, 3)))


def d4():
    return Net(4, True)


def d4_other_axis():
    return Net(4, True, axis=0.0)


def d8():
    return Net(8, True)


def alone():
    act = gspaces.rot2dOnR2(4)
    inside = enn.FieldType(act, [act.trivial_repr])
    outside = enn.FieldType(act, 2 * [act.regular_repr])
    return enn.SequentialModule(enn.R2Conv(inside, outside, 3, padding=1), enn.ReLU(outside))


def wound():
    act = gspaces.rot2dOnR2(8)
    inside = enn.FieldType(act, [act.trivial_repr])
    waves = enn.FieldType(act, 2 * [act.irrep(1)])
    return enn.SequentialModule(enn.R2Conv(inside, waves, 3, padding=1))


def plain():
    return nn.Conv2d(1, 2, 3)
"""

# Nothing touches the border, so that rotating loses little.
PLACES = np.hypot(*np.mgrid[-8:9, -8:9])


@pytest.fixture(scope="module")
def blobs():
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).standard_normal((6, 1, 17, 17))
    smooth = gaussian_filter(noise, (0, 0, 1.5, 1.5)) * 4
    return (smooth * (PLACES < 6)).astype(np.float32)


@pytest.fixture
def box(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def without_tables(file):
    model = onnx.load(file)
    kept = [p for p in model.metadata_props if not p.key.startswith("onnx_geed.action.")]
    kept = [onnx.StringStringEntryProto(key=p.key, value=p.value) for p in kept]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    other = file.with_name("bare.onnx")
    onnx.save(model, other)
    return other


def channelwise(file, data, group, *layers):
    result = measure(file, data, group, measures=[f"channel-cos@{layer}" for layer in layers])
    return result["measurements"]


def test_a_c8_steerable_network_scores_near_minus_one_with_its_table_only(box, blobs):
    file = converted("escnn", box, "nets.py:Net", "--input-shape", "1,17,17")
    bare = without_tables(file)
    layers = ("block1", "block2")
    for with_table, without in zip(
        channelwise(file, blobs, "C8", *layers),
        channelwise(bare, blobs, "C8", *layers),
        strict=True,
    ):
        assert with_table["output_action"] != "trivial"
        assert with_table["value"] < -0.98
        assert with_table["exact"]["value"] == pytest.approx(-1, abs=1e-5)
        assert without["value"] > with_table["value"] + 0.05
        assert without["exact"]["value"] > -0.95


@pytest.mark.parametrize(
    ("net", "group"), [("Net", "C4"), ("d4", "D4"), ("d4_other_axis", "D4"), ("d8", "D8")]
)
def test_tables_are_right_for_mirrors_and_subgroups_too(box, blobs, net, group):
    file = converted("escnn", box, f"nets.py:{net}", "--input-shape", "1,17,17")
    noise = np.random.default_rng(1).random((4, 1, 17, 17)).astype(np.float32)
    for record in channelwise(file, noise, group, "block1", "block2"):
        exact = record["exact"] or record
        assert exact["value"] == pytest.approx(-1, abs=1e-5)


def test_a_checkpoint_is_measured_as_escnn_computes(box, blobs):
    sys.path.insert(0, str(FOLDER))
    from from_escnn import stand_in

    stand_in()
    import torch

    space = {}
    exec(NETS, space)
    torch.manual_seed(4)
    net = space["Net"]()
    torch.save({"state_dict": net.state_dict()}, box / "net.pt")
    file = converted(
        *("escnn", box, "nets.py:Net", "--checkpoint", "net.pt", "--input-shape", "1,17,17")
    )
    # Eq. (5) by hand at a quarter turn: regular fields of C8 are shifted by two places.
    result = measure(file, blobs, "C4", measures=["channel-cos@block1", "softmax-kl"])
    sample = blobs[result["data"]["indices"][0]]
    turned = np.rot90(sample, axes=(-2, -1)).copy()
    kept = []
    net.eval()
    net.block1.register_forward_hook(lambda _, __, y: kept.append(y.tensor))
    with torch.no_grad():
        logits = [net(torch.from_numpy(x[None])) for x in (sample, turned)]
    f, fg = (maps[0].double().numpy() for maps in kept)
    assert logits[0].numpy() == pytest.approx(logits[1].numpy(), abs=1e-5)
    shifted = np.concatenate([np.roll(field, 2, axis=0) for field in f.reshape(3, 8, 17, 17)])
    expected = np.rot90(shifted, axes=(-2, -1))
    cosines = (fg * expected).sum((1, 2)) / np.sqrt((fg**2).sum((1, 2)) * (expected**2).sum((1, 2)))
    value = result["measurements"][0]["deviations"][0][1]
    assert value == pytest.approx(-cosines.mean(), abs=1e-4)
    assert value == pytest.approx(-1, abs=1e-5)


def test_a_network_of_geometric_tensors_is_taken_as_it_is(box):
    file = converted("escnn", box, "nets.py:alone", "--input-shape", "1,17,17")
    tables = [p for p in onnx.load(file).metadata_props if p.key.startswith("onnx_geed.action.")]
    assert tables
    table = json.loads(tables[-1].value)
    assert table["elements"] == ["e", "r1", "r2", "r3"]
    assert table["channels"][0] == list(range(8))
    assert math.prod(len(set(row)) for row in table["channels"]) == 8**4


def test_what_has_no_table_is_told(box):
    run = converted("escnn", box, "nets.py:wound", "--input-shape", "1,17,17")
    assert not any("action" in p.key for p in onnx.load(run).metadata_props)


def test_what_does_not_fit_is_told_and_leaves_no_file(box):
    shape = ("--input-shape", "1,17,17")
    assert "from_torch.py" in refused("escnn", box, "nets.py:plain", *shape)
    assert "--input-shape" in refused("escnn", box, "nets.py:Net")
    assert "2, 3, 17, 17" in refused("escnn", box, "nets.py:Net", "--input-shape", "3,17,17")
    assert "nop.pt" in refused("escnn", box, "nets.py:Net", "--checkpoint", "nop.pt", *shape)


MIRRORS = """
import math

from escnn import gspaces, nn as enn


def net(axis):
    act = gspaces.flip2dOnR2(axis=axis)
    inside = enn.FieldType(act, [act.trivial_repr])
    outside = enn.FieldType(act, 2 * [act.regular_repr])
    return enn.SequentialModule(enn.R2Conv(inside, outside, 3, padding=1), enn.ReLU(outside))


def across():
    return net(math.pi / 2)


def down():
    return net(0.0)
"""


@pytest.mark.parametrize(
    ("name", "group", "other"), [("across", "flip-h", "flip-v"), ("down", "flip-v", "flip-h")]
)
def test_a_table_of_one_mirror_says_which(tmp_path, name, group, other):
    (tmp_path / "mirrors.py").write_text(MIRRORS)
    file = converted("escnn", tmp_path, f"mirrors.py:{name}", "--input-shape", "1,9,9")
    entries = {p.key: p.value for p in onnx.load(file).metadata_props}
    tables = [json.loads(v) for k, v in entries.items() if k.startswith("onnx_geed.action.")]
    assert {table["group"] for table in tables} == {group}
    x = np.random.default_rng(0).random((6, 1, 9, 9)).astype(np.float32)
    few = {"measures": ["channel-cos"], "samples": 6, "provider": "cpu"}
    for record in measure(file, x, group, **few)["measurements"]:
        assert record["value"] == pytest.approx(-1, abs=1e-6)
    for record in measure(file, x, other, **few)["measurements"]:
        assert record["value"] > -0.999
        assert "channels" not in record["output_action"]


VECTORS = """
import math

from escnn import gspaces, nn as enn
from torch import nn


class Vectors(nn.Module):
    def __init__(self, dihedral=False, pooled=False, several=1, bent=False, of_vectors=False):
        super().__init__()
        act = gspaces.flipRot2dOnR2(4, axis=math.pi / 2) if dihedral else gspaces.rot2dOnR2(4)
        vector = act.irrep(1, 1) if dihedral else act.irrep(1)
        self.inside = enn.FieldType(act, [vector if of_vectors else act.trivial_repr])
        hidden = enn.FieldType(act, 3 * [act.regular_repr])
        outside = enn.FieldType(act, several * [vector])
        self.block = enn.SequentialModule(
            enn.R2Conv(self.inside, hidden, 3, padding=1), enn.ReLU(hidden)
        )
        self.vectors = enn.R2Conv(hidden, outside, 3, padding=1)
        self.pooled, self.bent = pooled, bent

    def forward(self, x):
        y = self.vectors(self.block(enn.GeometricTensor(x, self.inside))).tensor
        y = y * y.exp() if self.bent else y
        return y.mean((2, 3)) if self.pooled else y
"""


def layouts_of(file):
    start = "onnx_geed.layout."
    found = {p.key: p.value for p in onnx.load(file).metadata_props}
    return {k.removeprefix(start): v for k, v in found.items() if k.startswith(start)}


@pytest.mark.parametrize("dihedral", [False, True])
@pytest.mark.parametrize(("pooled", "layout"), [(False, "NXHW"), (True, "NX")])
def test_a_vector_output_says_so_and_turns_with_the_plane(box, dihedral, pooled, layout):
    (box / "nets.py").write_text(VECTORS)
    arguments = ("escnn", box, "nets.py:Vectors", "--input-shape", "1,9,9", "--kwargs")
    kwargs = {"dihedral": dihedral, "pooled": pooled}
    file = converted(*arguments, json.dumps(kwargs))
    assert layouts_of(file) == {"output": layout}
    noise = np.random.default_rng(1).standard_normal((4, 1, 9, 9)).astype(np.float32)
    group = "D4" if dihedral else "C4"
    measured = measure(file, noise, group, measures=["output-l2"])["measurements"][0]
    assert measured["value"] == pytest.approx(0, abs=1e-5)
    assert measured["between_samples"] > 1e-2
    # As scalars they are not moved right, and neither is what no field describes.
    letter = {"NXHW": "NCHW", "NX": "NK"}[layout]
    other = measure(file, noise, group, measures=["output-l2"], layout={"output": letter})
    assert other["measurements"][0]["relative"] > 0.3
    file = converted(
        *arguments, json.dumps(kwargs | {"bent": True}), "--layout", f"output={layout}"
    )
    bent = measure(file, noise, group, measures=["output-l2"])["measurements"][0]
    assert bent["relative"] > 0.1


def test_what_is_no_single_vector_is_left_to_the_user(box):
    (box / "nets.py").write_text(VECTORS)
    shape = ("nets.py:Vectors", "--input-shape", "1,9,9", "--kwargs")
    assert layouts_of(converted("escnn", box, *shape, '{"several": 2}')) == {}
    shape = ("nets.py:Vectors", "--input-shape", "2,9,9", "--kwargs", '{"of_vectors": true}')
    file = converted("escnn", box, *shape)
    assert not any(p.key == "onnx_geed.input_layout" for p in onnx.load(file).metadata_props)
    file = converted("escnn", box, *shape, "--input-layout", "NXHW")
    assert any(p.key == "onnx_geed.input_layout" for p in onnx.load(file).metadata_props)
