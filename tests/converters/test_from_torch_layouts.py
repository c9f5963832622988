"""Models of lines, points, graphs, volumes and fields: their files say so and measure right."""

import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from converting import converted, imported, refused

from onnx_geed import measure
from onnx_geed.model import list_layers

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("onnxscript", reason="needs PyTorch's exporters")

NETS = """
import torch
from torch import nn


class Line(nn.Module):
    onnx_geed_input_layout = "NCT"

    def __init__(self, padding="circular"):
        super().__init__()
        self.maps = nn.Conv1d(2, 6, 3, padding=1, padding_mode=padding)
        self.maps.onnx_geed_layout = "NCT"
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.maps(x).relu().mean(2))


class PerPoint(nn.Sequential):
    onnx_geed_layout = "NPC"


class PointNet(nn.Module):
    onnx_geed_input_layout = "NPX"

    def __init__(self):
        super().__init__()
        self.points = PerPoint(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 24))
        self.head = nn.Linear(24, 5)

    def forward(self, pos):
        return self.head(self.points(pos).amax(1).relu())


class Volume(nn.Module):
    onnx_geed_input_layout = "NCDHW"

    def __init__(self, symmetric=True):
        super().__init__()
        self.maps = nn.Conv3d(1, 4, 3, padding=1)
        self.maps.onnx_geed_layout = "NCDHW"
        self.head = nn.Linear(4, 3)
        if symmetric:
            steps = torch.arange(-1, 2).abs()
            shells = steps[:, None, None] + steps[:, None] + steps
            self.maps.weight.data = torch.randn(4, 1, 4)[..., shells]

    def forward(self, x):
        return self.head(self.maps(x).relu().mean((2, 3, 4)))


class Graph(nn.Module):
    onnx_geed_input_layout = {"x": "NPC", "adj": "NPP"}
    onnx_geed_layout = "NPC"

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 4)

    def forward(self, x, adj):
        adj = adj + torch.eye(adj.shape[-1])
        root = adj.sum(-1).rsqrt()
        adj = root[:, :, None] * adj * root[:, None]
        return adj @ self.second((adj @ self.first(x)).relu())


class Set(nn.Module):
    onnx_geed_input_layout = "NPC"

    def __init__(self, places=False):
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.embed, self.head = nn.Linear(3, 8), nn.Linear(8, 4)
        self.places = nn.Parameter(torch.randn(10, 8) * places)

    def forward(self, x):
        x = self.embed(x) + self.places
        return self.head((x + self.attend(x, x, x, need_weights=False)[0]).relu().mean(1))


class Gradient(nn.Module):
    onnx_geed_input_layout = "NCHW"
    onnx_geed_layout = "NXHW"

    def __init__(self):
        super().__init__()
        right = torch.tensor([[0, 0, 0], [-1, 0, 1], [0, 0, 0.0]])
        self.register_buffer("steps", torch.stack([right, right.T])[:, None] / 2)

    def forward(self, x):
        x = x.tanh() + x.mean((2, 3), keepdim=True)
        return nn.functional.conv2d(x, self.steps, padding=1)


class Tokens(nn.Module):
    onnx_geed_input_layout = {"ids": "NT"}

    def __init__(self, places=False):
        super().__init__()
        self.words, self.head = nn.Embedding(30, 8), nn.Linear(8, 4)
        self.places = nn.Parameter(torch.randn(12, 8) * places)

    def forward(self, ids):
        return self.head((self.words(ids) + self.places).tanh().mean(1))


class Masked(nn.Module):
    def forward(self, x, mask, weight):
        return (x * mask[..., None]).sum(1) * weight


class Wrong(Line):
    onnx_geed_input_layout = "NCQ"


class Short(Line):
    def __init__(self):
        super().__init__()
        self.maps.onnx_geed_layout = "NC"


class Renamed(Graph):
    onnx_geed_input_layout = {"y": "NPC"}
"""

LINE = ("nets.py:Line", "--input-shape", "2,12")
POINTS = ("nets.py:PointNet", "--input-shape", "pos=10,3")
VOLUME = ("nets.py:Volume", "--input-shape", "1,6,6,6")
GRAPH = ("nets.py:Graph", "--input-shape", "adj=10,10", "--input-shape", "x=10,3")
SET = ("nets.py:Set", "--input-shape", "10,3")
FIELD = ("nets.py:Gradient", "--input-shape", "1,9,9")
TOKENS = ("nets.py:Tokens", "--input-shape", "ids=12:int64")


@pytest.fixture
def box(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def metadata_of(file):
    start = "onnx_geed."
    return {p.key.removeprefix(start): p.value for p in onnx.load(file).metadata_props}


def layouts_of(file):
    found = {k: v for k, v in metadata_of(file).items() if "layout" in k}
    return {k.removeprefix("layout."): v for k, v in found.items()}


@pytest.mark.parametrize(
    ("arguments", "layouts"),
    [
        (LINE, {"input_layout": "NCT", "maps": "NCT"}),
        (POINTS, {"input_layout": "NPX", "points": "NPC"}),
        (VOLUME, {"input_layout": "NCDHW", "maps": "NCDHW"}),
        (GRAPH, {"input_layout": "NPC", "adj": "NPP", "output": "NPC"}),
        (SET, {"input_layout": "NPC"}),
        (FIELD, {"input_layout": "NCHW", "output": "NXHW"}),
        (TOKENS, {"input_layout": "NT"}),
    ],
    ids=lambda value: value[0].split(":")[1] if isinstance(value, tuple) else "",
)
def test_what_modules_say_of_themselves_is_in_the_file(box, arguments, layouts):
    file = converted("torch", box, *arguments, "--exporter", "torchscript")
    assert layouts_of(file) == layouts
    # And onnx-geed reads it so.
    listed = list_layers(file)
    main, *others = [i["layout"] for i in listed["inputs"]]
    tensors = {t["name"]: t["layout"] for t in listed["tensors"]}
    assert main == layouts.pop("input_layout")
    assert others == [layouts.pop("adj")] if "adj" in layouts else others == []
    assert tensors.items() >= layouts.items()


def noise(*shape):
    return np.random.default_rng(0).standard_normal((6, *shape)).astype(np.float32)


def graphs():
    weights = np.random.default_rng(1).random((6, 10, 10), np.float32)
    return {"x": noise(10, 3), "adj": (weights + weights.swapaxes(1, 2)) / 2}


def words():
    return np.random.default_rng(2).integers(0, 30, (6, 12))


# What is exact, and what is not: another group, another model, or what is moved wrong.
ANSWERS = {
    "line": (LINE, noise(2, 12), "shift12", {"kwargs": {"padding": "zeros"}}),
    "points": (POINTS, noise(10, 3), "S10~12", {"group": "SO3~24"}),
    "volume": (VOLUME, noise(1, 6, 6, 6), "O", {"kwargs": {"symmetric": False}}),
    "graph": (GRAPH, graphs(), "S10~12", {"input_layout": {"adj": "NKC"}}),
    "set": (SET, noise(10, 3), "S10~12", {"kwargs": {"places": True}}),
    "field": (FIELD, noise(1, 9, 9), "D4", {"layout": {"output": "NCHW"}}),
    "tokens": (TOKENS, words(), "reverse", {"kwargs": {"places": True}}),
}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_known_answer_comes_out_and_another_of_what_is_broken(box, name):
    arguments, data, group, broken = ANSWERS[name]
    file = converted("torch", box, *arguments)
    exact = measure(file, data, group, measures=["output-l2"])["measurements"][0]
    assert exact["value"] == pytest.approx(0, abs=2e-6)
    assert exact["between_samples"] > 0.05
    options = dict(broken)
    if kwargs := options.pop("kwargs", None):
        file = converted("torch", box, *arguments, "--kwargs", json.dumps(kwargs))
    options = {"group": group, "measures": ["output-l2"]} | options
    other = measure(file, data, **options)["measurements"][0]
    assert other["relative"] > 0.02


def test_inputs_keep_their_names_types_and_order(box):
    file = converted(
        *("torch", box, "nets.py:Masked", "--input-shape", "weight=1"),
        *("--input-shape", "mask=7:bool", "--input-shape", "x=7,3"),
        *("--input-layout", "x=NPC", "--input-layout", "mask=NP"),
    )
    session = onnxruntime.InferenceSession(str(file))
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("x", "tensor(float)", ["batch", 7, 3]),
        ("mask", "tensor(bool)", ["batch", 7]),
        ("weight", "tensor(float)", ["batch", 1]),
    ]
    assert metadata_of(file)["input"] == "x"
    assert layouts_of(file) == {"input_layout": "NPC", "mask": "NP"}
    rng = np.random.default_rng(0)
    fed = {
        "x": rng.standard_normal((4, 7, 3)).astype(np.float32),
        "mask": rng.random((4, 7)) < 0.5,
        "weight": np.ones((4, 1), np.float32),
    }
    expected = imported(box / "nets.py").Masked()(*map(torch.from_numpy, fed.values()))
    np.testing.assert_allclose(session.run(None, fed)[0], expected.numpy(), rtol=1e-5)


def test_the_only_input_need_not_be_named(box):
    file = converted("torch", box, "nets.py:Tokens", "--input-shape", "12:int64")
    assert metadata_of(file)["input"] == "input"
    assert layouts_of(file) == {"input_layout": "NT"}


def test_options_go_before_what_modules_say(box):
    stated = ("--input-layout", "NTC", "--layout", "maps=NKT", "--layout", "output=NK")
    file = converted("torch", box, *LINE, *stated)
    assert layouts_of(file) == {"input_layout": "NTC", "maps": "NKT", "output": "NK"}


BESIDE = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps, self.same = nn.Conv2d(3, 2, 3, padding=1), nn.AvgPool2d(1)

    def forward(self, x, more):
        return self.same(self.maps(x)).relu().mean((2, 3)) + more
"""


@pytest.mark.parametrize(("shape", "layout"), [("3,8,8", "NCHW"), ("8,8,8", None)])
def test_an_image_beside_another_input_is_told_by_its_channels(tmp_path, shape, layout):
    channels = int(shape.split(",")[0])
    (tmp_path / "nets.py").write_text(BESIDE.replace("Conv2d(3,", f"Conv2d({channels},"))
    nets = ("torch", tmp_path, "nets.py:Net", "--input-shape", f"x={shape}")
    nets += ("--input-shape", "more=2")
    assert metadata_of(converted(*nets)).get("input_layout") == layout
    if layout:
        converted(*nets, "--preprocess", "imagenet")
    else:
        assert "state it with --input-layout" in refused(*nets, "--preprocess", "imagenet")


def test_a_stated_layout_is_that_of_every_tensor_of_the_same_values(tmp_path):
    (tmp_path / "nets.py").write_text(BESIDE)
    nets = ("torch", tmp_path, "nets.py:Net", "--input-shape", "x=3,8,8", "--input-shape", "more=2")
    file = converted(*nets, "--layout", "maps=NXHW")
    maps = {k: v for k, v in metadata_of(file).items() if k.startswith("layout.")}
    # What the convolution puts out, and what the pooling of single places does.
    assert list(maps.values()) == ["NXHW", "NXHW"]


def test_real_samples_of_several_inputs_are_matched_by_name(box):
    rng = np.random.default_rng(0)
    x, adj = rng.random((6, 10, 3), np.float32), rng.random((6, 10, 10), np.float32)
    np.savez(box / "graphs.npz", adj=adj, x=x)
    converted("torch", box, *GRAPH, "--data", "graphs.npz")
    np.savez(box / "other.npz", x=x)
    assert "call the samples adj" in refused("torch", box, *GRAPH, "--data", "other.npz")
    np.save(box / "x.npy", x)
    assert "adj" in refused("torch", box, *GRAPH, "--data", "x.npy")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TorchScript
def test_programs_have_several_inputs_too(box):
    net = imported(box / "nets.py").Graph().eval()
    example = torch.zeros(2, 10, 3), torch.zeros(2, 10, 10)
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(net, example, dynamic_shapes=(batch, batch))
    torch.export.save(program, box / "net.pt2")
    torch.jit.trace(net, example).save(box / "trace.pt")
    stated = ("--input-layout", "x=NPC", "--input-layout", "adj=NPP")
    for arguments in (("net.pt2",), ("trace.pt", *GRAPH[1:])):
        file = converted("torch", box, *arguments, *stated)
        assert layouts_of(file) == {"input_layout": "NPC", "adj": "NPP"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*LINE, "--input-layout", "NCQ"), "there is no letter 'Q'"),
        ((*LINE, "--input-layout", "CNT"), "N, the batch, must come first"),
        ((*LINE, "--input-layout", "NTT"), "T occurs 2 times"),
        ((*LINE, "--input-layout", "NPPP"), "P occurs 3 times"),
        ((*LINE, "--input-layout", "NCHW"), r"names 4 axes, but the tensor has 3 \(batch, 2, 12\)"),
        ((*LINE, "--input-layout", "y=NCT"), "the inputs are input"),
        ((*LINE, "--layout", "NCT"), "write LAYER=LETTERS"),
        ((*LINE, "--layout", "maps=NTD:3"), "there is no letter ':'"),
        ((*LINE, "--layout", "maps=NCHW"), "maps=NCHW: names 4 axes, but the tensor has 3"),
        ((*LINE, "--layout", "mops=NCT"), "near: maps"),
        ((*LINE, "--layout", "input=NCT"), "write --input-layout input=NCT"),
        (("nets.py:Wrong", *LINE[1:]), "there is no letter 'Q'"),
        (("nets.py:Short", *LINE[1:]), "layout NC of maps: names 2 axes, but the tensor has 3"),
        (("nets.py:Renamed", *GRAPH[1:]), "there is no input y; there are x, adj"),
        ((*GRAPH, "--input-layout", "NPC"), "the model takes x, adj; write NAME=NPC"),
        (GRAPH[:-2], "the model takes x before it"),
        (("nets.py:Graph", "--input-shape", "ad=10,10"), "takes x, adj; did you mean adj"),
        (("nets.py:Tokens", "--input-shape", "ids=12:int46"), "no type int46"),
        (("nets.py:Line", "--input-shape", "0,3"), "--input-shape 0,3"),
    ],
)
def test_what_does_not_fit_is_one_line(box, arguments, told):
    assert re.search(told, refused("torch", box, *arguments))
