"""A group that does not move the input is refused, and samples that it does not move are named."""

import itertools

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnx_geed import GeedError, disk_mask, grid_action, measure, parse_group, write_cache
from onnx_geed.cache import contents, measure_cache
from onnx_geed.run import benchmark, compile_measurement

RUN = {"measures": ["latent-l2"], "samples": 4, "norm_samples": 4, "provider": "cpu"}
GROUPS = ["C2", "C3", "C4", "C64", "D1", "D2", "D4", "flip-h", "flip-v", "shift2x1", "shift1x2"]


def net(path, *shape):
    """Write a model of a sample's values and their squares, weighted one by one."""
    size = int(np.prod(shape))
    weights = np.random.default_rng(0).standard_normal((size, 3)).astype(np.float32)
    head = np.random.default_rng(1).standard_normal((3, 2)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["latent"]),
        helper.make_node("MatMul", ["latent", "h"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(head, "h")],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    if len(shape) == 2:  # which axes three are must be stated
        model.metadata_props.add(key="onnx_geed.input_layout", value="NHW")
    onnx.save(model, path)
    return path


def noise(*shape, samples=6):
    return np.random.default_rng(2).random((samples, *shape)).astype(np.float32)


REFUSED = [
    ("flip-v", (1, 800), "flip leaves every sample unchanged.*flip-h or shift1x<b>"),
    ("flip-h", (800, 1), "flip leaves every sample unchanged.*flip-v or shift<a>x1"),
    ("flip-v", (1, 1, 40), "grid of 1×40"),
    ("C4", (1, 40), "no room for a rotation such as r1"),
    ("C3", (40, 1), "no room for a rotation such as r1"),
    ("C8", (3, 1, 41), "no room for a rotation such as r1"),
    ("D2", (1, 40), "sr1 leaves every sample unchanged"),
    ("C2", (1, 1), "r1 leaves every sample unchanged.*samples of one pixel cannot be moved"),
    ("D4", (1, 1), "r1, r2, r3 and 4 more leave every sample unchanged"),
    ("C1", (8, 8), "holds only the identity"),
    ("shift1x1", (8, 8), "holds only the identity"),
]


@pytest.mark.parametrize(("group", "shape", "message"), REFUSED)
def test_a_group_that_does_not_move_the_input_is_refused(tmp_path, group, shape, message):
    path = net(tmp_path / "net.onnx", *shape)
    for name in (group, parse_group(group)):
        with pytest.raises(GeedError, match=f"group {group} .*{message}") as caught:
            measure(path, noise(*shape), name, **RUN)
        assert "\n" not in str(caught.value)
    with pytest.raises(GeedError, match=message):
        write_cache(path, noise(*shape), group, tmp_path / "a.geed", **RUN)
    with pytest.raises(GeedError, match=message):
        compile_measurement(path, group, tmp_path / "c.onnx", measures=["latent-l2"])
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize(
    ("group", "shape"),
    [
        ("flip-h", (1, 40)),
        ("flip-v", (40, 1)),
        ("C2", (1, 40)),
        ("D1", (1, 40)),
        ("C4", (2, 40)),
        ("shift1x2", (1, 40)),
        ("shift2x1", (2, 3)),
        ("D4", (2, 2)),
        ("C8", (2, 2)),
    ],
)
def test_a_group_that_moves_a_small_grid_is_measured(tmp_path, group, shape):
    result = measure(net(tmp_path / "net.onnx", *shape), noise(*shape), group, **RUN)
    assert result["measurements"][0]["value"] > 0.01
    assert not any("of D unchanged" in note for note in result["notes"])


def idle(action, mask):
    """Elements that keep every image with one lit pixel, idle pixel by pixel."""
    height, width = action.shape
    idle = set(range(action.group.order))
    for i, j in itertools.product(range(height), range(width)):
        if mask[i, j]:
            one = np.zeros((height, width))
            one[i, j] = 1
            idle = {g for g in idle if np.abs(action.apply(g, one) - one).max() <= 1e-6}
    return tuple(sorted(idle))


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("group", GROUPS)
def test_elements_that_move_nothing_are_those_that_move_no_pixel(group, interpolation):
    for height, width in itertools.product(range(1, 7), repeat=2):
        try:
            action = grid_action(parse_group(group), height, width, interpolation)
        except GeedError:
            continue  # a shift that does not divide
        full, disk = np.ones((height, width), bool), disk_mask(height, width)
        assert action.kernel_of_action() == action.kernel_of_action(full) == idle(action, full)
        assert action.kernel_of_action(disk) == idle(action, disk), (height, width)


def test_a_turn_that_nearest_pixels_round_away_is_measured_and_named(tmp_path):
    path = net(tmp_path / "net.onnx", 4, 4)
    result = measure(path, noise(4, 4), "C24", interpolation="nearest", **RUN)
    (note,) = [n for n in result["notes"] if "of D unchanged" in n]
    kernel = grid_action(parse_group("C24"), 4, 4, "nearest").kernel_of_action()
    assert len(kernel) > 1
    named = [f"r{g}" for g in kernel[1:]]
    assert note.startswith(f"{', '.join(named)} of C24 leave each of the 4 samples")
    smooth = measure(path, noise(4, 4), "C24", **RUN)
    assert not any("of D unchanged" in n for n in smooth["notes"])


def test_a_disk_may_leave_nothing_to_move(tmp_path):
    path = net(tmp_path / "net.onnx", 1, 41)
    assert measure(path, noise(1, 41), "flip-h", **RUN)["measurements"][0]["value"] > 0.01
    with pytest.raises(GeedError, match=r"inside its disk .*flip leaves.*use --support full"):
        measure(path, noise(1, 41), "flip-h", support="disk", **RUN)


def symmetric(*shape):
    x = noise(*shape)
    return (x + x[..., ::-1]) / 2


CASES = {
    "mirrored": ("flip-h", symmetric(8, 8), True),
    "turned once": ("C4", np.full((6, 8, 8), 0.5, np.float32), True),
    "all black": ("C8", np.zeros((6, 8, 8), np.float32), True),
    "shifted": ("shift2x2", np.full((6, 8, 8), -2.0, np.float32), True),
    "by rounding alone": ("flip-h", symmetric(8, 8) + 1e-8 * noise(8, 8), True),
    "noise": ("flip-h", noise(8, 8), False),
    "slightly": ("flip-h", symmetric(8, 8) + 1e-3 * noise(8, 8), False),
}


@pytest.mark.parametrize("engine", ["kernels", "graph"])
@pytest.mark.parametrize(("group", "data", "noted"), CASES.values(), ids=CASES)
def test_samples_that_the_group_leaves_as_they_are_are_noted(tmp_path, group, data, noted, engine):
    path = net(tmp_path / "net.onnx", 8, 8)
    result = measure(path, data.astype(np.float32), group, engine=engine, **RUN)
    message = f"group {group} leaves each of the 4 samples of D unchanged"
    assert any(message in note for note in result["notes"]) == noted
    result = write_cache(path, data.astype(np.float32), group, tmp_path / "a.geed", **RUN)
    again = measure_cache(tmp_path / "a.geed")
    assert any(message in note for note in again["notes"]) == noted


def test_elements_are_named_where_others_move_the_samples(tmp_path):
    half_turn = noise(8, 8)
    half_turn = (half_turn + half_turn[:, ::-1, ::-1]) / 2
    result = measure(net(tmp_path / "net.onnx", 8, 8), half_turn, "C8", **RUN)
    assert [n for n in result["notes"] if "of D unchanged" in n] == [
        "r4 of C8 leaves each of the 4 samples of D unchanged: any model is perfect under such an "
        "element, which brings the values closer to perfect"
    ]


def test_one_sample_that_moves_is_enough(tmp_path):
    path, data = net(tmp_path / "net.onnx", 8, 8), symmetric(8, 8)
    drawn = np.random.default_rng(0).permutation(6)
    data[drawn[3]] = noise(8, 8)[0]
    assert not any("of D unchanged" in n for n in measure(path, data, "flip-h", **RUN)["notes"])
    fewer = measure(path, data, "flip-h", **{**RUN, "samples": 3})
    assert any("each of the 3 samples" in n for n in fewer["notes"])


def test_a_disk_is_what_is_left_as_it_is(tmp_path):
    path, data = net(tmp_path / "net.onnx", 9, 9), symmetric(9, 9)
    data[:, 0, 0] = 3  # outside the disk
    assert not any("of D unchanged" in n for n in measure(path, data, "flip-h", **RUN)["notes"])
    inside = measure(path, data, "flip-h", support="disk", **RUN)
    assert any("each of the 4 samples" in n for n in inside["notes"])


@pytest.mark.parametrize("moves_at", [None, 25])
def test_with_a_precision_only_the_samples_that_were_taken_count(tmp_path, moves_at):
    path = net(tmp_path / "net.onnx", 8, 8)
    x = noise(8, 8, samples=60)
    data = (x + x[..., ::-1]) / 2
    if moves_at is not None:
        data[np.random.default_rng(0).permutation(60)[moves_at]] = x[0]
    result = measure(path, data, "flip-h", measures=["latent-l2"], precision=0.1, norm_samples=4)
    # The values of the first 20 are all 0, so that the run ends there.
    assert result["precision"]["samples"] == 20
    assert any("each of the 20 samples" in n for n in result["notes"])


def unmoved(result):
    return [note for note in result["notes"] if "of D unchanged" in note]


@pytest.mark.parametrize("mode", ["raw", "stats"])
def test_a_cache_tells_of_as_many_samples_as_are_measured(tmp_path, mode):
    path, x = net(tmp_path / "net.onnx", 8, 8), noise(8, 8, samples=12)
    drawn = np.random.default_rng(0).permutation(12)
    x[drawn[:3]] = 0.5  # which nothing moves
    x[drawn[3:8]] = ((x + x[:, ::-1, ::-1]) / 2)[drawn[3:8]]  # which r2 of C4 leaves as they are
    run = RUN | {"samples": 12}
    write_cache(path, x, "C4", tmp_path / "a.geed", mode=mode, **run)
    for count in (1, 3, 4, 8, 9, 12):
        who = "group C4" if count <= 3 else "r2 of C4" if count <= 8 else None
        every = "the only sample" if count == 1 else f"each of the {count} samples"
        (told,) = unmoved(measure_cache(tmp_path / "a.geed", samples=count)) or [None]
        assert (told is None) == (who is None)
        assert who is None or told.startswith(f"{who} leaves {every} of D unchanged")
        assert unmoved(measure(path, x, "C4", **run | {"samples": count})) == [told][: bool(told)]


def test_a_cache_that_a_precision_ends_early_tells_of_the_samples_taken(tmp_path):
    path, x = net(tmp_path / "net.onnx", 8, 8), noise(8, 8, samples=60)
    data = (x + x[..., ::-1]) / 2
    data[np.random.default_rng(0).permutation(60)[25]] = x[0]
    few = RUN | {"samples": 60}
    write_cache(path, data, "flip-h", tmp_path / "a.geed", **few)
    assert unmoved(measure_cache(tmp_path / "a.geed")) == []
    result = measure_cache(tmp_path / "a.geed", precision=0.1)
    assert result["precision"]["samples"] == 20
    (note,) = unmoved(result)
    assert note.startswith("group flip-h leaves each of the 20 samples of D unchanged")


def test_an_older_cache_tells_what_it_knows_of_as_many_samples_as_are_measured(
    tmp_path, monkeypatch
):
    path, data = net(tmp_path / "net.onnx", 8, 8), symmetric(8, 8)

    def as_before(*args):
        manifest = contents.contents_of(*args)
        del manifest.description["unmoved"]
        manifest.description["notes"].append(OLD)
        return manifest

    with monkeypatch.context() as earlier:
        earlier.setattr("onnx_geed.cache.write.contents_of", as_before)
        write_cache(path, data, "flip-h", tmp_path / "a.geed", **RUN)
    (whole,) = unmoved(measure_cache(tmp_path / "a.geed"))
    (few,) = unmoved(measure_cache(tmp_path / "a.geed", samples=1))
    assert whole == OLD
    assert few == OLD.replace("each of the 4 samples", "the only sample")


OLD = (
    "group flip-h leaves each of the 4 samples of D unchanged: the values say nothing about the "
    "model; give samples that it changes, or take another group"
)


def test_a_cache_tells_of_missing_samples_only_where_they_are_asked_for(tmp_path):
    path, data = net(tmp_path / "net.onnx", 8, 8), noise(8, 8)
    run = RUN | {"samples": 9, "norm_samples": 8}
    write_cache(path, data, "flip-h", tmp_path / "a.geed", **run)
    both = [
        "only 6 of the 9 samples asked for exist",
        "only 6 of the 8 samples wanted for M exist",
    ]
    for more, told in (
        ({}, both),
        ({"samples": 6}, both[1:]),
        ({"norm_samples": 5}, both[:1]),
        ({"samples": 2, "norm_samples": 6}, []),
        ({"precision": 0.1}, both[1:]),
    ):
        result = measure_cache(tmp_path / "a.geed", **more)
        assert [note for note in result["notes"] if note.startswith("only ")] == told


def test_a_suite_says_so_of_its_cell_and_goes_on(tmp_path):
    net(tmp_path / "thin.onnx", 1, 40)
    np.save(tmp_path / "x.npy", noise(1, 40))
    (tmp_path / "suite.toml").write_text(
        'groups = ["flip-v", "flip-h"]\nmeasures = ["latent-l2"]\n[[models]]\nname = "thin"\n'
        'path = "thin.onnx"\n[[data]]\nname = "x"\npath = "x.npy"\n'
    )
    result = benchmark(tmp_path / "suite.toml", tmp_path / "out")
    (failed,) = result["failed"]
    assert "flip-v does not move this input" in failed["message"]
    assert [row["group"] for row in result["rows"]] == ["flip-h"]


def test_photographs_are_read_no_more_than_once_more(tmp_path, monkeypatch):
    models.save(models.random_cnn(0, (8, 8)), tmp_path / "net.onnx")
    from onnx_geed.run import unmoved
    from onnx_geed.run.moved_input import MovedInput

    read = []
    sample = MovedInput.sample
    monkeypatch.setattr(MovedInput, "sample", lambda s, k: read.append(k) or sample(s, k))
    before = unmoved.unmoving
    counts = []

    def counted(*args, **options):
        read.clear()
        idle = before(*args, **options)
        counts.append(len(read))
        return idle

    monkeypatch.setattr("onnx_geed.run.pipeline.unmoving", counted)
    measure(tmp_path / "net.onnx", noise(3, 8, 8), "C8", **RUN)
    assert counts == [1]


IMAGE, SET = noise(1, 4, 4), noise(3, 2, samples=6) + noise(3, 2, samples=6)[::-1]


def two_inputs(path):
    """Weighted values of an image beside a sum over a set, which orders of it leave as it is."""
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("ReduceSum", ["set", "one"], ["sum"], keepdims=0),
        helper.make_node("Concat", ["flat", "sum"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "w"], ["y"]),
        helper.make_node("Mul", ["set", "ramp"], ["placed"]),
        helper.make_node("ReduceSum", ["placed", "one"], ["z"], keepdims=0),
    ]
    held = {
        "one": np.array([1]),
        "w": rng.standard_normal((18, 3)).astype(np.float32),
        "ramp": np.arange(3, dtype=np.float32)[:, None],
    }
    sides = {"image": (1, 4, 4), "set": (3, 2), "y": (3,), "z": (2,)}
    infos = {
        k: helper.make_tensor_value_info(k, TensorProto.FLOAT, ["N", *s]) for k, s in sides.items()
    }
    graph = helper.make_graph(
        *(nodes, "net", [infos["image"], infos["set"]], [infos["y"], infos["z"]]),
        [onnx.numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path, held["w"]


@pytest.mark.parametrize("acted", ["image", "set"])
@pytest.mark.parametrize("group", ["flip-h*S3", "S3*flip-h", "flip-h", "S3"])
def test_an_element_may_move_any_of_several_inputs(tmp_path, group, acted):
    path, w = two_inputs(tmp_path / "m.onnx")
    result = measure(
        *(path, {"image": IMAGE, "set": SET}, group),
        measures=["output-l2@y", *(["output-l2@z"] if "S3" in group else [])],
        input=acted,
        input_layout={"image": "NCHW", "set": "NPC"},
        layout={"y": "NK"} | ({"z": "NK"} if "S3" in group else {}),
        **{"output": "y", "output_kind": "embedding", "provider": "cpu"},
        samples=6,
    )
    y, *of_set = (record["value"] for record in result["measurements"])
    # Of a flip's orbit both images lie as far from their mean; each as often as there are orders.
    flat = IMAGE.reshape(6, -1) @ w[:16] - IMAGE[..., ::-1].reshape(6, -1) @ w[:16]
    turned = np.linalg.norm(flat, axis=1).mean() / 2 if "flip" in group else 0
    assert y == pytest.approx(turned, rel=1e-5, abs=1e-6)
    weights = np.array(list(itertools.permutations(range(3))))
    placed = np.einsum("gp,npc->ngc", weights, SET)
    spread = np.linalg.norm(placed - placed.mean(axis=1, keepdims=True), axis=2).mean()
    assert of_set == pytest.approx([spread] * ("S3" in group), rel=1e-5)
    shapes = {"image": "NCHW, 1 × 4 × 4", "set": "NPC, 3 × 2"}
    still = {"flip-h": "set", "S3": "image"}.get(group)
    unmoved = [
        f"input {name} ({shape}) is fed unmoved: {group} moves none of its axes"
        for name, shape in shapes.items()
        if name == still
    ]
    assert [note for note in result["notes"] if "unmoved" in note] == unmoved


@pytest.mark.parametrize("acted", ["image", "set"])
def test_an_element_that_moves_none_of_several_inputs_is_refused(tmp_path, acted):
    path, _ = two_inputs(tmp_path / "m.onnx")
    asked = {"input": acted, "input_layout": {"image": "NCHW", "set": "NPC"}, "output": "y"}
    data = {"image": IMAGE, "set": SET}
    with pytest.raises(GeedError, match=r"P 3 e\*reverse leaves every sample unchanged"):
        measure(path, data, "S3*reverse", **asked)
    with pytest.raises(GeedError, match="group S5 does not move this input: it moves P of 5"):
        measure(path, data, "S5", **asked)
