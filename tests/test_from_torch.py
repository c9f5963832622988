"""A PyTorch checkpoint becomes a file whose measures are those of hooks inside PyTorch."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import naive
import numpy as np
import pytest

from onnx_geed import measure
from onnx_geed.listing import list_layers

FOLDER = Path(__file__).parent.parent / "converters"
SCRIPTS = sorted(FOLDER.glob("*.py"))

NETS = """
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
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_converters_stand_alone(script):
    text = script.read_text()
    for node in ast.walk(ast.parse(text)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        assert not any(n.split(".")[0] == "onnx_geed" for n in names)
    if script.name.startswith("from_"):
        assert re.search(r"^# /// script\n(# .*\n)+# ///$", text, re.MULTILINE)


@pytest.fixture
def box(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    (tmp_path / "nets.py").write_text(NETS)
    space = {}
    exec(NETS, space)
    torch.manual_seed(3)
    net = space["Net"]()
    with torch.no_grad():  # statistics as after training
        net.layer1[1].running_mean.normal_()
        net.layer1[1].running_var.uniform_(0.5, 2)
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}
    torch.save(wrapped, tmp_path / "net.pt")
    return tmp_path, net.eval()


def convert(folder, *arguments):
    return subprocess.run(
        [sys.executable, str(FOLDER / "from_torch.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_what_is_measured_is_what_hooks_see(box, exporter):
    import torch

    folder, net = box
    run = convert(
        folder,
        *("nets.py:Net", "--checkpoint", "net.pt", "--input-shape", "3,9,9"),
        *("--preprocess", "minus1to1", "--output-kind", "logits", "--exporter", exporter),
        *("-o", "net.onnx"),
    )
    assert run.returncode == 0, run.stderr
    assert "parity" in run.stdout + run.stderr
    listed = list_layers(folder / "net.onnx")
    assert listed["output"]["kind"] == "logits"
    data = np.random.default_rng(0).random((6, 3, 9, 9)).astype(np.float32)
    made = measure(
        folder / "net.onnx",
        data,
        "C8",
        measures=["channel-cos@layer1", "channel-cos@layer2", "softmax-kl"],
    )
    seen = {}
    for name in ("layer1", "layer2"):
        getattr(net, name).register_forward_hook(
            lambda _, __, y, name=name: seen.__setitem__(name, y.numpy())
        )
    order = made["data"]["indices"]
    orbits = (naive.orbit("C8", data[order]) - 0.5) / 0.5
    with torch.no_grad():
        logits = net(torch.from_numpy(orbits.reshape(-1, 3, 9, 9).astype(np.float32))).numpy()
    expected = [
        naive.channel_cos(seen[n].reshape(6, 8, *seen[n].shape[1:]), "C8").mean()
        for n in ("layer1", "layer2")
    ]
    expected.append(naive.softmax_kl(logits.reshape(6, 8, -1), "C8").mean())
    np.testing.assert_allclose([m["value"] for m in made["measurements"]], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nets.py:Nett", "--input-shape", "3,9,9"), "Nett"),
        (("nets.py:Net", "--input-shape", "1,9,9"), ""),
        (("nets.py:Net", "--input-shape", "3,9,9", "--checkpoint", "no.pt"), "no.pt"),
        (
            (
                *("nets.py:Net", "--input-shape", "3,9,9", "--checkpoint", "net.pt"),
                *("--kwargs", json.dumps({"classes": 7})),
            ),
            "head.weight",
        ),
    ],
)
def test_what_does_not_fit_is_told_and_leaves_no_file(box, arguments, told):
    folder, _ = box
    run = convert(folder, *arguments, "-o", "net.onnx")
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert told in run.stderr
    assert not list(folder.glob("*.onnx"))
