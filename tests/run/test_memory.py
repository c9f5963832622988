"""Large images keep to --memory, or are refused with the size that they need."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from models import FLOAT, build, conv, integers, node, weights
from onnx import helper

from onnx_geed.errors import GeedError
from onnx_geed.run import room
from onnx_geed.run.options import Options
from onnx_geed.run.prepare import prepare_run
from onnx_geed.text import parse_bytes

RUN = r"""
import re, sys
from pathlib import Path
from onnx_geed.cli.commands import cli
try:
    cli(sys.argv[1:])
finally:  # ru_maxrss would count who started this process
    status = Path("/proc/self/status").read_text()
    print("peak", re.search(r"VmHWM:\s+(\d+) kB", status)[1], file=sys.stderr)
"""

BOOL, INT64 = onnx.TensorProto.BOOL, onnx.TensorProto.INT64

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")

GROUPS = ("flip-h", "C8", "rotate:-30..30/4", "brightness:0.5..1.5/4", "SO2~4", "small-rotation")

# What a process holds beside what is reckoned: Python, NumPy, Numba, the runtime.
BESIDE = 512 << 20


def measured(*arguments):
    """Return exit status, errors and the most memory that a command took, in bytes."""
    run = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)], capture_output=True, text=True
    )
    errors, _, peak = run.stderr.strip().rpartition("peak ")
    return run.returncode, errors, 1024 * int(peak)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model that changes nothing, and two images of 4 million pixels."""
    folder = tmp_path_factory.mktemp("large")
    free = ["N", "C", "H", "W"]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    model = build([node], [], [("x", FLOAT, free)], [("y", FLOAT, free)])
    onnx.save(model, folder / "relu.onnx")
    weight = weights("w", np.random.default_rng(1).standard_normal((6, 1, 1, 1)))
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    six = build([node], [weight], [("x", FLOAT, ["N", 1, "H", "W"])], [("y", FLOAT, free)])
    onnx.save(six, folder / "scores.onnx")
    images = np.random.default_rng(0).random((2, 1, 2048, 2048), dtype=np.float32)
    np.save(folder / "images.npy", images)
    np.save(folder / "small.npy", images[..., :1024, :1024])
    return folder


def raised(folder, model, images, *options):
    """Raise the memory as messages say until a command runs; it never takes more."""
    command = ["measure", folder / model, "--data", folder / images, *options]
    memory, refusals = "256MiB", 0
    for _ in range(6):
        status, errors, peak = measured(*command, "--memory", memory, "-q")
        assert peak <= parse_bytes(memory) + BESIDE
        if status == 0:
            break
        assert status == 2
        assert len(errors.strip()) < 400
        assert "\n" not in errors.strip()
        memory = re.search(r"raise it to (\S+), or use smaller samples", errors)[1]
        refusals += 1
    assert status == 0, errors
    assert refusals <= 3


@pytest.mark.parametrize("group", GROUPS)
def test_large_images_keep_to_the_memory_that_is_asked_for(large, group):
    raised(large, "relu.onnx", "images.npy", "--group", group)


def test_orbits_that_are_kept_whole_count_as_measures_have_them(large):
    measures = ("--measure=softmax-kl@y", "--measure=channel-cos@y", "--measure=unexplained@y")
    raised(large, "scores.onnx", "small.npy", "--group=D4", "--output-kind=logits", *measures)


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A set of points, and an image of 4.7 MiB that none of the group's elements moves."""
    folder = tmp_path_factory.mktemp("beside")
    rng = np.random.default_rng(0)
    nodes = [
        node("MatMul", "a w", "h"),
        node("Add", "h p", "s"),
        node("Relu", "s", "r"),
        node("ReduceMean", "r", "m", axes=[1], keepdims=0),
        node("Conv", "v k", "c", strides=[128, 128]),
        node("GlobalAveragePool", "c", "g"),
        node("Flatten", "g", "f"),
        node("Concat", "m f", "y", axis=1),
    ]
    stored = [
        weights("w", rng.normal(size=(3, 8))),
        weights("p", rng.normal(size=(5, 8))),
        weights("k", rng.normal(size=(4, 3, 8, 8))),
    ]
    given = [("a", FLOAT, ["N", 5, 3]), ("v", FLOAT, ["N", 3, 640, 640])]
    onnx.save(build(nodes, stored, given, [("y", FLOAT, ["N", 12])]), folder / "beside.onnx")
    a = rng.normal(size=(3, 5, 3)).astype(np.float32)
    np.savez(folder / "sets.npz", a=a, v=rng.random((3, 3, 640, 640), dtype=np.float32))
    return folder


@pytest.mark.parametrize("layouts", [("a=NPC",), ("a=NPC", "v=NCHW")])
def test_inputs_that_do_not_move_count_and_are_not_held_for_a_whole_orbit(beside, layouts):
    """120 copies of the image take 562 MiB: neither are they made, nor is their orbit refused."""
    asked = ["--group=S5", "--input=a", "--measure=output-l2@y", "--output-kind=embedding"]
    asked += [f"--input-layout={layout}" for layout in layouts]
    command = ["measure", beside / "beside.onnx", "--data", beside / "sets.npz", *asked]
    for memory in ("256MiB", "384MiB"):
        status, errors, peak = measured(*command, f"--memory={memory}", "-q")
        assert status == 0, errors
        assert peak <= parse_bytes(memory) + BESIDE // 2


def test_tables_of_several_groups_count_together(large):
    groups = (f"--group={name}" for name in ("rotate:-30..30/4", "zoom:0.8..1.25/4", "flip-h"))
    raised(large, "relu.onnx", "images.npy", *groups)


def test_tables_that_no_memory_holds_are_refused_before_they_are_made(large):
    group = ["--group", "C720"]
    status, errors, peak = measured(
        *("measure", large / "relu.onnx", "--data", large / "images.npy", *group)
    )
    assert status == 2
    assert "C720" in errors
    assert "GiB" in errors
    assert peak < 2 * BESIDE


def rounds(shaped):
    """Maps behind a Loop of one round, whose shape the file tells or not; one map has 24 MiB."""
    image = [1, 1, 256, 256]
    steps = [node("Identity", "c", "d"), node("Relu", "v", "u")]
    scalar = [("i", INT64, []), ("c", BOOL, []), ("v", FLOAT, None)]
    body = helper.make_graph(
        steps,
        "body",
        [helper.make_tensor_value_info(*info) for info in scalar],
        [helper.make_tensor_value_info(n, t, None) for n, t in (("d", BOOL), ("u", FLOAT))],
    )
    nodes = [
        node("Loop", "once yes x", "looped", body=body),
        node("Reshape", "looped image", "x0") if shaped else node("Identity", "looped", "x0"),
        conv("x0", "w", "a", pad=0),
        node("Relu", "a", "b"),
        conv("b", "v", "c", pad=0),
        node("Add", "b c", "s"),
        node("GlobalAveragePool", "s", "p"),
        node("Flatten", "p", "y"),
    ]
    rng = np.random.default_rng(0)
    stored = [
        *(integers("once", 1), weights("yes", True, bool), integers("image", [-1, *image[1:]])),
        weights("w", rng.normal(size=(96, 1, 1, 1))),
        weights("v", rng.normal(size=(96, 96, 1, 1)) / 96),
    ]
    return build(nodes, stored, [("x", FLOAT, image)], [("y", FLOAT, [1, 96])])


def test_maps_whose_shapes_only_a_run_tells_count_as_soon_as_it_does(tmp_path, monkeypatch):
    images = np.random.default_rng(0).random((2, 1, 256, 256), dtype=np.float32)
    options = Options(samples=2, norm_samples=2, provider="cpu")
    found = {}
    for shaped in (True, False):
        path = tmp_path / f"{shaped}.onnx"
        onnx.save(rounds(shaped), path)
        found[shaped] = prepare_run(path, images, "C4", options)
    shapes = {t.name: t.shape for t in found[False].tensors}
    assert shapes["s"] is None
    # The sum, and both maps that it is made of.
    assert found[False].footprint.row >= 3 * (24 << 20)
    assert found[False].footprint == found[True].footprint
    assert found[False].task.batch == found[True].task.batch
    monkeypatch.setattr(room, "_LEAST", 1 << 20)
    for path in tmp_path.glob("*.onnx"):
        with pytest.raises(GeedError, match=r"one row take 7\d\.\d MiB.* tensor \S+ \(N, 96, 256"):
            prepare_run(path, images, "C4", replace(options, memory="64MiB"))
