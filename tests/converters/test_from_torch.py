"""A PyTorch checkpoint becomes a file whose measures are those of hooks inside PyTorch."""

import argparse
import io
import json
import zipfile
from pathlib import Path

import naive
import numpy as np
import onnx
import pytest
from converting import assert_equal_to_hooks, converted, imported, refused

from onnx_geed import measure
from onnx_geed.errors import GeedError
from onnx_geed.model import list_layers

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("onnxscript", reason="needs PyTorch's exporters")

NETS = """
import dataclasses

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.layer2(self.layer1(x)).mean((2, 3)))


class Singular(Net):
    def forward(self, x):
        return self.head(torch.linalg.svdvals(self.layer2(self.layer1(x))).mean(2))


class Several(Net):
    def forward(self, x):
        maps = self.layer2(self.layer1(x))
        return {"maps": maps, "logits": self.head(maps.mean((2, 3)))}


class Clipped(nn.Module):
    # The noise of the parity check does not reach the clip.
    def __init__(self):
        super().__init__()
        self.layer1, self.layer2 = nn.Conv2d(3, 6, 3, padding=1), nn.Hardtanh(-6, 6)
        self.floor = nn.Hardtanh(-9, 1e6)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x.sub_(0.5).mul_(2)
        return self.head(self.layer2(self.layer1(self.floor(x))).mean((2, 3)))


class Called(nn.Module):
    def __init__(self):
        super().__init__()
        self.input, self.latent = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)
        self.output, self.head = nn.Conv2d(6, 7, 3), nn.Linear(7, 5)

    def forward(self, x):
        return self.head(self.output(self.latent(self.input(x)).relu()).mean((2, 3)))


class Capped(Net):
    def forward(self, x):
        return 30 * torch.tanh(super().forward(x) / 30)


class Noise(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1, self.layer2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 1)

    def forward(self, x):
        return x - self.layer2(self.layer1(x).relu())


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps, self.head = nn.LazyConv2d(6, 3), nn.LazyLinear(5)

    def forward(self, x):
        return self.head(self.maps(x).mean((2, 3)))


class Frozen(Net):
    def forward(self, x):
        maps = self.layer2(self.layer1(x))
        return self.head(maps.mean((2, 3))) + torch.zeros(len(x), 5)


@dataclasses.dataclass
class Outputs:
    logits: torch.Tensor
    maps: torch.Tensor


class Dataclass(Net):
    def forward(self, x):
        maps = self.layer2(self.layer1(x))
        return Outputs(self.head(maps.mean((2, 3))), maps)


class Behind(Net):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.head(self.drop(self.layer2(self.layer1(x)).mean((2, 3))))


class LastAxis(Net):
    def forward(self, x):
        return super().forward(x.permute(0, 3, 1, 2))


class Any(Net):
    def forward(self, *x):
        return super().forward(*x)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps, self.gate = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return self.maps(x).relu(), self.gate(x).sigmoid()


class Gates(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.act, self.head = Gated(), nn.ReLU(), nn.Linear(8, 5)

    def forward(self, x):
        maps, gate = self.block(x)
        # The activation is called twice: its path is that of the last call.
        return self.head(self.act(self.act(maps * gate) - 0.1).mean((2, 3)))


made = Net()


def stops():
    raise SystemExit("usage: train.py")
"""

SHAPE = ("--input-shape", "3,9,9")


@pytest.fixture
def net(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    torch.manual_seed(3)
    network = imported(tmp_path / "nets.py").Net()
    with torch.no_grad():  # statistics as after training
        network.layer1[1].running_mean.normal_()
        network.layer1[1].running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture
def box(tmp_path, net):
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}
    torch.save(wrapped, tmp_path / "net.pt")
    return tmp_path


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((6, 3, 9, 9)).astype(np.float32)


def hooks(net, mean=0.0, std=1.0):
    seen = {}
    for name in ("layer1", "layer2"):
        getattr(net, name).register_forward_hook(
            lambda _, __, y, name=name: seen.__setitem__(name, y.numpy())
        )

    def run(x):
        with torch.no_grad():
            output = net(torch.from_numpy((x - np.float32(mean)) / np.float32(std))).numpy()
        return {**seen, "latent": seen["layer2"].mean((2, 3)), "output": output}

    return run


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_what_is_measured_is_what_hooks_see(box, net, images, exporter):
    file = converted(
        *("torch", box, "nets.py:Net", "--checkpoint", "net.pt", *SHAPE),
        *("--preprocess", "minus1to1", "--output-kind", "logits", "--exporter", exporter),
    )
    listed = list_layers(file)
    assert listed["output"]["kind"] == "logits"
    assert_equal_to_hooks(file, "C8", images, hooks(net, 0.5, 0.5), ("layer1", "layer2"))
    # Its batch norm is folded into it, so that no tensor holds what it gives out.
    with pytest.raises(GeedError, match=r"no layer is called 'layer1\.0'"):
        measure(file, images, "C4", measures=["channel-cos@layer1.0"])


def test_class_scores_behind_their_layer_are_no_latent_and_an_image_is_none(box, net, images):
    file = converted("torch", box, "nets.py:Capped", "--checkpoint", "net.pt", *SHAPE)
    assert "onnx_geed.latent" not in list_layers(file)["metadata"]
    (record,) = measure(file, images, "C4", measures=["latent-l2"])["measurements"]
    turned = naive.orbit("C4", images.astype(float)).astype(np.float32)
    pooled = hooks(net)(turned.reshape(-1, 3, 9, 9))["latent"].reshape(6, 4, 8)
    expected = naive.latent_l2(pooled, "C4").mean() / naive.normaliser(pooled[:, 0], "latent-l2")
    assert record["value"] == pytest.approx(expected, rel=1e-4)
    listed = list_layers(converted("torch", box, "nets.py:Noise", *SHAPE))
    assert not [t for t in listed["tensors"] if "latent" in t["roles"]]
    assert "every place" in listed["no_latent"]


@pytest.mark.parametrize("form", ["safetensors", "module", "dino", "simclr", "lightning", "plain"])
def test_checkpoints_as_their_authors_ship_them(box, net, images, form):
    own = net.state_dict()
    prefixed = lambda prefix: {prefix + k: v for k, v in own.items()}  # noqa: E731
    name = "other.pt"
    if form == "safetensors":
        name = "other.safetensors"
        pytest.importorskip("safetensors.torch").save_file(own, box / name)
    else:
        content = {
            "plain": own,
            "module": {"model": prefixed("module.")},
            "lightning": {"state_dict": prefixed("model."), "hyper_parameters": {"lr": 0.1}},
            "dino": {
                "student": {k: v + 1 for k, v in prefixed("module.backbone.").items()},
                "teacher": prefixed("backbone.") | {"head.mlp.0.weight": torch.ones(2, 2)},
                "args": argparse.Namespace(lr=1),
            },
            "simclr": prefixed("encoder.") | {"projector.0.weight": torch.ones(2, 2)},
        }[form]
        torch.save(content, box / name)
    file = converted(
        *("torch", box, "nets.py:Net", "--checkpoint", name, *SHAPE, "--output-kind", "logits")
    )
    assert_equal_to_hooks(file, "flip-h", images, hooks(net), ("layer1", "layer2"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_programs_of_torchscript_and_of_torch_export(box, net, images):
    example = torch.zeros(2, 3, 9, 9)
    torch.jit.script(net).save(box / "script.pt")
    torch.jit.trace(net, example).save(box / "trace.pt")
    batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(net, (example,), dynamic_shapes=batch), box / "net.pt2")
    for name in ("script.pt", "trace.pt", "net.pt2"):
        file = converted("torch", box, name, *SHAPE, "--output-kind", "logits")
        assert_equal_to_hooks(file, "C4", images, hooks(net))


class Touch:
    """A pickle that leaves a file where it is read."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_program_whose_parts_run_code_is_refused(box, net):
    torch.export.save(torch.export.export(net, (torch.zeros(2, 3, 9, 9),)), box / "plain.pt2")
    left, pickled = box / "left", io.BytesIO()
    torch.save({"a": Touch(left)}, pickled)
    with zipfile.ZipFile(box / "plain.pt2") as plain:
        parts = {name: plain.read(name) for name in plain.namelist()}
    inputs = [name for name in parts if "sample_inputs" in name]
    top = inputs[0].partition("/")[0]
    for evil in (inputs[0], f"{top}/data/constants/opaque_obj_0"):
        with zipfile.ZipFile(box / "evil.pt2", "w") as archive:
            for name, content in {**parts, evil: pickled.getvalue()}.items():
                archive.writestr(name, content)
        assert "could run code" in refused("torch", box, "evil.pt2")
        assert not left.exists()


def test_one_of_several_outputs_is_chosen(box, net, images):
    arguments = ("torch", box, "nets.py:Several", "--checkpoint", "net.pt", *SHAPE)
    assert "logits" in refused(*arguments)
    file = converted(*arguments, "--take", "logits", "--output-kind", "logits")
    assert_equal_to_hooks(file, "C4", images, hooks(net), ("layer1",))


@pytest.mark.parametrize(("name", "take"), [("Several", ("--take", "logits")), ("Any", ())])
def test_a_model_that_takes_any_number_of_inputs_goes_by_the_newer_exporter(box, net, name, take):
    file = converted("torch", box, f"nets.py:{name}", *SHAPE, *take, "--exporter", "dynamo")
    assert onnx.load(file).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_only_without_its_head_does_a_model_put_out_an_embedding(box):
    kinds = {"head": "embedding", "drop": None, "layer1.1": None}
    for path, kind in kinds.items():
        file = converted("torch", box, "nets.py:Behind", *SHAPE, "--identity", path)
        assert list_layers(file)["metadata"].get("onnx_geed.output_kind") == kind


def test_the_shape_of_an_input_tells_where_its_colours_are(box):
    for name, shape, layout in (("LastAxis", "9,9,3", "NHWC"), ("Net", "3,9,9", "NCHW")):
        file = converted("torch", box, f"nets.py:{name}", "--input-shape", shape)
        assert list_layers(file)["input"]["layout"] == layout


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_programs_module_that_returns_several_tensors_has_no_path(box, images):
    gates = imported(box / "nets.py").Gates().eval()
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(gates, (torch.zeros(2, 3, 9, 9),), dynamic_shapes=batch)
    torch.export.save(program, box / "gates.pt2")
    file = converted("torch", box, "gates.pt2")
    modules = json.loads(list_layers(file)["metadata"]["onnx_geed.modules"])
    assert set(modules) == {"block.maps", "block.gate", "act", "head"}
    seen = []
    gates.act.register_forward_hook(lambda _, __, value: seen.append(value.numpy()))
    result = measure(file, images, "C4", measures=["channel-cos@act"])
    orbits = naive.orbit("C4", images[result["data"]["indices"]].astype(float))
    with torch.no_grad():
        gates(torch.from_numpy(orbits.reshape(-1, 3, 9, 9).astype(np.float32)))
    expected = naive.channel_cos(seen[-1].reshape(6, 4, 8, 7, 7), "C4").mean()
    assert result["measurements"][0]["value"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_lengths_that_a_program_leaves_free_are_those_that_are_asked_for(box, net):
    free = {0: torch.export.Dim("batch")}
    free |= {i: torch.export.Dim(f"side{i}", min=4, max=99) for i in (2, 3)}
    example = (torch.zeros(2, 3, 9, 9),)
    torch.export.save(torch.export.export(net, example, dynamic_shapes=(free,)), box / "net.pt2")
    file = converted("torch", box, "net.pt2", "--input-shape", "3,12,15")
    lengths = onnx.load(file).graph.input[0].type.tensor_type.shape.dim[1:]
    assert [d.dim_value for d in lengths] == [3, 12, 15]
    told = refused("torch", box, "net.pt2", "--input-shape", "1,12,15")
    assert "x=3,free,free" in told
    assert "torchscript" in refused("torch", box, "net.pt2", "--exporter", "torchscript")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_options_without_effect_are_refused(box, net):
    torch.jit.trace(net, torch.zeros(2, 3, 9, 9)).save(box / "trace.pt")
    own = ("nets.py:Net", *SHAPE)
    for option, *arguments in (
        ("--pretrained", *own, "--pretrained"),
        ("--prefix", *own, "--prefix", "module."),
        ("--checkpoint-key", *own, "--checkpoint-key", "teacher"),
        ("--allow-missing", *own, "--allow-missing"),
        ("--allow-unexpected", *own, "--allow-unexpected", "head*"),
        ("--kwargs", "nets.py:made", *SHAPE, "--kwargs", '{"classes": 7}'),
        ("--exporter dynamo", "trace.pt", *SHAPE, "--exporter", "dynamo"),
        ("--pretrained", "trace.pt", *SHAPE, "--pretrained"),
        ("--prefix", "trace.pt", *SHAPE, "--prefix", "module."),
    ):
        assert option in refused("torch", box, *arguments)


def test_the_same_model_gives_the_same_file(box):
    arguments = ("torch", box, "nets.py:Net", "--checkpoint", "net.pt", *SHAPE)
    first = converted(*arguments).read_bytes()
    assert converted(*arguments).read_bytes() == first


def test_both_batch_axis_and_names_are_free(box):
    model = onnx.load(converted("torch", box, "nets.py:Net", *SHAPE))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    metadata = {p.key: p.value for p in model.metadata_props}
    assert metadata["onnx_geed.latent"] == "latent"
    assert json.loads(metadata["onnx_geed.modules"])["layer1"]


@pytest.mark.filterwarnings("ignore")
def test_what_does_not_fit_is_told_and_leaves_no_file(box):
    assert "Net" in refused("torch", box, "nets.py:Nett", *SHAPE).partition("it has")[2]
    assert "2, 1, 9, 9" in refused("torch", box, "nets.py:Net", "--input-shape", "1,9,9")
    assert "no.pt" in refused("torch", box, "nets.py:Net", *SHAPE, "--checkpoint", "no.pt")
    seven = ("--kwargs", json.dumps({"classes": 7}))
    told = refused("torch", box, "nets.py:Net", *SHAPE, "--checkpoint", "net.pt", *seven)
    assert "head.weight" in told
    torch.save({"stem.weight": torch.ones(3)}, box / "wrong.pt")
    told = refused("torch", box, "nets.py:Net", *SHAPE, "--checkpoint", "wrong.pt")
    assert "stem.weight" in told
    assert "svd" in refused("torch", box, "nets.py:Singular", *SHAPE)


def test_a_clip_that_noise_does_not_reach_is_told_from_what_it_reads(box, images):
    torch.manual_seed(0)
    net = imported(box / "nets.py").Clipped().eval()
    torch.save(net.state_dict(), box / "c.pt")
    file = converted("torch", box, "nets.py:Clipped", "--checkpoint", "c.pt", *SHAPE)
    seen = hooks(net)

    def run(x):
        return {**seen(x.copy()), "latent": None}

    modules = json.loads(list_layers(file)["metadata"]["onnx_geed.modules"])
    assert modules["layer1"] != modules["layer2"]
    assert modules["floor"] == "floor"
    loud = 40 * images
    values = run(loud)
    assert not np.allclose(values["layer1"], values["layer2"])
    for name in ("layer1", "layer2"):
        result = measure(file, loud, "C4", measures=[f"channel-cos@{name}"])
        orbits = naive.orbit("C4", loud[result["data"]["indices"]].astype(float))
        maps = run(orbits.reshape(-1, 3, 9, 9).astype(np.float32))[name].reshape(6, 4, 6, 9, 9)
        expected = naive.channel_cos(maps, "C4").mean()
        assert result["measurements"][0]["value"] == pytest.approx(expected, rel=1e-4)


def test_modules_called_as_the_files_own_tensors_keep_their_names(box):
    file = converted("torch", box, "nets.py:Called", *SHAPE, "--output-kind", "logits")
    listed = list_layers(file)
    modules = json.loads(listed["metadata"]["onnx_geed.modules"])
    assert {name: modules[name] for name in ("input", "latent", "output")} == {
        name: name for name in ("input", "latent", "output")
    }
    shapes = {t["name"]: t["shape"] for t in listed["tensors"]}
    assert shapes["latent"][1] == 6
    assert shapes["output"][1] == 7
    assert listed["output"]["name"] == "the_output"
    assert shapes["the_latent"][1:] == [7]


def test_lazy_layers_are_filled_and_dataclasses_taken_apart(box):
    converted("torch", box, "nets.py:Lazy", *SHAPE)
    converted("torch", box, "nets.py:Dataclass", *SHAPE, "--take", "logits")
    assert "--input-shape" in refused("torch", box, "nets.py:Lazy")
    assert "logits" in refused("torch", box, "nets.py:Dataclass", *SHAPE, "--take", "scores")


@pytest.mark.filterwarnings("ignore")  # PyTorch: quantised tensors will go
def test_an_output_of_another_precision_becomes_float32(tmp_path):
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, of):\n"
        "        super().__init__()\n"
        "        self.head, self.of = nn.Linear(4, 3), getattr(torch, of)\n"
        "    def forward(self, x):\n"
        "        return self.head(x).to(self.of).softmax(1)\n"
    )
    for of in ("float16", "float64"):
        kwargs = ("--kwargs", json.dumps({"of": of}))
        file = converted("torch", tmp_path, "nets.py:Net", "--input-shape", "4", *kwargs)
        made = onnx.load(file).graph.output[0].type.tensor_type
        assert made.elem_type == onnx.TensorProto.FLOAT


def test_names_of_classes_fit_the_output_and_are_distinct(box):
    nets = ("torch", box, "nets.py:Net", "--input-shape", "3,12,12", "--classes")
    (box / "twice.txt").write_text("a\nb\nc\nb\nd\n")
    assert "names 'b' twice" in refused(*nets, "twice.txt")
    (box / "two.txt").write_text("no\nyes\n")
    assert "names 2 classes" in refused(*nets, "two.txt")
    # One score tells two classes apart.
    model = onnx.load(converted(*nets, "two.txt", "--kwargs", '{"classes": 1}'))
    metadata = {p.key: p.value for p in model.metadata_props}
    assert json.loads(metadata["onnx_geed.classes"]) == ["no", "yes"]


# Which of a process's calls warns, as PyTorch does once, is a matter of order.
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_what_stops_or_freezes_is_one_line(box, net):
    assert "usage: train.py" in refused("torch", box, "nets.py:stops", *SHAPE)
    assert "len(x)" in refused(
        *("torch", box, "nets.py:Frozen", *SHAPE, "--exporter", "torchscript")
    )
    quantised = torch.quantize_per_tensor(net.head.weight, 0.1, 0, torch.qint8)
    torch.save(net.state_dict() | {"head.weight": quantised}, box / "q.pt")
    assert "quantised" in refused("torch", box, "nets.py:Net", "--checkpoint", "q.pt", *SHAPE)
    assert "--output-kind" in refused("torch", box, "nets.py:Net", "--output-kind", "scores")
