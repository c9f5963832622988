import models
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from recording import measurement

from onnx_geed import Table, load_model, measure, parse_group
from onnx_geed.cli import cli
from onnx_geed.model import between, off_centre, zero_padded
from onnx_geed.results import (
    diagnose,
    diagnose_corners,
    diagnosis_line,
    model_of,
    result,
)
from onnx_geed.text import span

C8 = parse_group("C8")
EXACT = (0, 2, 4, 6)
ROUND = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 16
LOPSIDED = np.array([[0, 0, 0], [0, 1, 3], [0, 0, 0]], np.float32) / 4


def net(path, layers, size=16, input_name="x"):
    """Write a chain of (op, filter or None, attributes) over one channel and a pooled head."""
    nodes, weights, last = [], [], input_name
    for i, (op, filters, attributes) in enumerate(layers):
        inputs = [last]
        if filters is not None:
            stack = (
                np.stack([filters, 2 * filters])[:, None]
                if i == 0
                else np.stack([np.stack([filters, 0.5 * filters]), np.stack([filters, filters])])
            )
            weights.append(numpy_helper.from_array(stack.astype(np.float32), f"w{i}"))
            inputs.append(f"w{i}")
        last = f"t{i}"
        nodes.append(helper.make_node(op, inputs, [last], name=f"n{i}", **attributes))
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["latent"], name="flat"))
    weights.append(numpy_helper.from_array(np.array([[1, -1, 2], [0, 2, 1]], np.float32), "w"))
    nodes.append(helper.make_node("MatMul", ["latent", "w"], ["logits"], name="head"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["N", 1, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


PAD = {"pads": [1, 1, 1, 1]}
SAME, STRIDE = ("Conv", ROUND, PAD), ("Conv", ROUND, PAD | {"strides": [2, 2]})
RELU = ("Relu", None, {})


def data(size=16, n=12):
    return np.random.default_rng(0).random((n, 1, size, size)).astype(np.float32)


def names(findings):
    return [f.name for f in findings]


def record(measure, deviations, layer="a", exact=None, **options):
    deviations = np.asarray(deviations, float)
    return measurement(
        measure=measure,
        layer=layer,
        layout="NCHW",
        output_action="grid" if measure == "channel-cos" else "trivial",
        deviations=deviations,
        elements=C8.elements,
        exact=(EXACT, deviations[:, list(EXACT)] if exact is None else exact),
        **options,
    )


def result_of(*records, is_exact=None):
    exact = [g in EXACT for g in range(8)] if is_exact is None else is_exact
    return result(
        command="",
        software={},
        model={"path": "none.onnx", "sha256": "0"},
        data={"source": "x", "fingerprint": "0", "indices": list(range(100)), "names": None},
        group={
            "name": "C8",
            "order": 8,
            "elements": list(C8.elements),
            "exact": exact,
            "interpolation": "bilinear",
            "support": "full",
        },
        runtime={},
        seed=0,
        measurements=records,
    )


def maps(exact_away, other_away, layer="a", n=5):
    """Deviations of channel-cos with these distances from −1."""
    rows = np.full((n, 8), -1 + other_away)
    rows[:, EXACT] = -1 + exact_away
    rows[:, 0] = -1
    return record("channel-cos", rows + 1e-9 * np.arange(n)[:, None], layer)


def test_a_sound_network_is_left_in_peace(tmp_path):
    path = net(tmp_path / "m.onnx", [SAME, RELU, STRIDE, SAME], size=17)
    measures = ["channel-cos", "latent-l2", "softmax-kl"]
    findings = diagnose(measure(path, data(17), "D4", measures=measures), load_model(path))
    assert names(findings) == []


def test_stride_two_on_an_even_size_is_found_and_named(tmp_path):
    path = net(tmp_path / "m.onnx", [SAME, RELU, STRIDE, RELU, SAME])
    made_of = measure(path, data(), "C4")
    first = diagnose(made_of, load_model(path))[0]
    assert (first.name, first.weight) == ("off-centre stride", "likely")
    assert "Conv n2" in first.text
    assert "stride 2 on a 16×16 map" in first.text
    assert diagnose(made_of)[0].name == "first break"
    assert "off-centre stride" not in names(diagnose(made_of))


def test_a_lopsided_filter_is_not_blamed_on_the_stride(tmp_path):
    path = net(tmp_path / "m.onnx", [SAME, RELU, ("Conv", LOPSIDED, PAD), RELU, STRIDE])
    first = diagnose(measure(path, data(), "C4"), load_model(path))[0]
    assert first.name == "first break"
    assert "Conv n2" in first.evidence
    assert "n4" not in first.evidence


def test_a_network_that_was_never_equivariant_has_no_first_break(tmp_path):
    layers = [("Conv", LOPSIDED, PAD), RELU, ("Conv", LOPSIDED, PAD), RELU]
    path = net(tmp_path / "m.onnx", layers)
    findings = diagnose(measure(path, data(), "C4", measures=["channel-cos"]), load_model(path))
    assert "first break" not in names(findings)
    assert "off-centre stride" not in names(findings)


def test_the_smaller_symmetry_is_named(tmp_path):
    flat = np.array([[0, 0, 0], [1, 2, 1], [0, 0, 0]], np.float32)  # kept by half turns only
    path = net(tmp_path / "m.onnx", [("Conv", flat, PAD), RELU])
    findings = [f for f in diagnose(measure(path, data(), "C4")) if f.name == "some elements"]
    assert len(findings) == 1
    assert "is equivariant under 180°, but not under 90°, 270°" in findings[0].text


def test_resampled_elements_alone_are_told_from_the_rest():
    findings = diagnose(result_of(maps(1e-7, 0.2)))
    assert names(findings) == ["resampled elements"]
    assert "--references" in findings[0].advice
    assert names(diagnose(result_of(maps(0.15, 0.2)))) == []
    assert names(diagnose(result_of(maps(1e-7, 1e-3)))) == []
    assert findings[0].text.startswith("Only resampled elements deviate")
    # What holds of one value is not said of the network.
    both = diagnose(result_of(maps(0.15, 0.2, layer="a"), maps(1e-7, 0.2, layer="b")))
    told = next(f for f in both if f.name == "resampled elements")
    assert told.text.startswith("In channel-cos@b only resampled elements deviate")


@pytest.mark.parametrize(
    ("trip", "name"), [(0.18, "interpolation"), (0.01, "quarter turns only"), (0.035, None)]
)
def test_references_decide_between_interpolation_and_the_network(trip, name):
    one = maps(1e-7, 0.2)
    one["references"] = {
        "input_round_trip": {"value": -1 + trip, "unnormalised": None},
        "output_round_trip": {"value": -1 + trip / 2, "unnormalised": None},
    }
    assert names(diagnose(result_of(one))) == ([name] if name else [])


def latents(value, m, measure="latent-cos"):
    rows = value + 1e-3 * np.random.default_rng(1).standard_normal((30, 8))
    return record(measure, rows, "z", normaliser=m, norm_samples=30)


def kl(value, n=30, noise=0.01):
    rows = value * (1 + noise * np.random.default_rng(2).standard_normal((n, 8)))
    return record("softmax-kl", rows, "p")


def test_an_ill_conditioned_m_is_found():
    for m in (0.01, -0.3, None):
        findings = diagnose(result_of(latents(-0.9, m)))
        assert "M ill-conditioned" in names(findings)
        (told,) = (f.evidence for f in findings if f.name == "M ill-conditioned")
        assert told.startswith("Unnormalised, the value is 0.9")
    assert names(diagnose(result_of(latents(-0.9, 0.5)))) == []
    assert names(diagnose(result_of(latents(-0.9, 0.99)))) == ["parallel latents"]


def test_insensitive_is_told_from_invariant():
    blunt = result_of(kl(1e-6), latents(0.5, 1.0, "latent-l2"), latents(-0.999, 0.997))
    assert "insensitive" in names(diagnose(blunt))
    invariant = result_of(kl(1e-6), latents(0.01, 1.0, "latent-l2"), latents(-0.999, 0.6))
    assert "insensitive" not in names(diagnose(invariant))
    far = blunt["measurements"][0]
    far["between_samples"] = 2.0
    assert "insensitive" not in names(diagnose(blunt))
    far["between_samples"] = 1e-5
    assert "insensitive" in names(diagnose(blunt))
    far["between_samples"] = 1e-2  # small, but ten thousand times what the group does
    assert "insensitive" not in names(diagnose(blunt))


@pytest.mark.parametrize(("between", "told"), [(-0.78, True), (-0.5, False)])
def test_maps_that_do_not_depend_on_the_sample_are_told(between, told):
    one = maps(0.1, 0.3)
    one["between_samples"] = between
    assert ("alike whatever is shown" in names(diagnose(result_of(one)))) == told


@pytest.mark.parametrize("relu", [True, False])
def test_a_channel_with_a_wrong_sign_is_named(tmp_path, relu):
    sound = models.c4_lifting(fields=4)
    if not relu:
        sound.graph.node[1].op_type = "Identity"
    elements = parse_group("C4").elements
    table = Table(elements, "channels", np.array(models.c4_channel_table(4)), "given")

    def odd_channels_of(model):
        path = models.save(model, tmp_path / "m.onnx")
        asked = {"measures": ["channel-cos@map1"], "output_action": {"map1": table}}
        result = measure(path, data(9), "C4", **asked)
        (entry,) = result["measurements"]
        assert np.mean(entry["per_channel"]) == pytest.approx(entry["value"])
        return entry, [f for f in diagnose(result) if f.name == "odd channels"]

    entry, findings = odd_channels_of(sound)
    assert entry["value"] == pytest.approx(-1)
    assert not findings
    w1 = numpy_helper.to_array(sound.graph.initializer[0]).copy()
    w1[5] *= -1
    sound.graph.initializer[0].CopyFrom(numpy_helper.from_array(w1, "w1"))
    entry, (finding,) = odd_channels_of(sound)
    assert entry["value"] > -0.95
    assert "channel 5 (counted from 0)" in finding.text
    assert ("has the wrong sign" in finding.text) == (not relu)


@pytest.mark.parametrize("odd", [-0.9, 0.0])
def test_a_channel_is_judged_by_its_own_cosine_where_the_identity_is_no_perfect_one(odd):
    # f̂ is the mean over the orbit: no element is held against itself.
    channels = -np.append(np.full(7, 0.9999), odd)
    known = {"per_channel": (channels, channels)}
    one = record("channel-cos", np.full((5, 8), channels.mean()), **known)
    (finding,) = [f for f in diagnose(result_of(one)) if f.name == "odd channels"]
    assert ("has the wrong sign" in finding.text) == (odd < -0.5)
    assert finding.evidence.startswith(f"The cosine is {span(odd)} there")


def test_silent_channels_are_counted_out():
    one = record("channel-cos", np.full((5, 8), -0.7), zero_pairs=0.5)
    findings = diagnose(result_of(one))
    assert names(findings) == ["silent channels"]
    assert "cosine is 0.400, not 0.700" in findings[0].evidence  # (0.5·1 + 0.5·0.4) = 0.7
    assert names(diagnose(result_of(record("channel-cos", np.full((5, 8), -0.7))))) == []


def test_too_few_samples_are_found_only_where_there_is_something_to_measure():
    rng = np.random.default_rng(0)
    wide = record("softmax-kl", rng.gamma(0.05, 1, (6, 1)) * np.ones((1, 8)))
    assert names(diagnose(result_of(wide))) == ["too few samples"]
    assert names(diagnose(result_of(kl(0.5)))) == []
    assert names(diagnose(result_of(kl(1e-9, n=3, noise=0.9)))) == []
    assert names(diagnose(result_of(kl(0.5, n=1)))) == ["too few samples"]
    # Rounding, of a measure that has a unit and so no floor of its own.
    for times, found in ((1.0, ["too few samples"]), (1e-9, [])):
        rows = times * np.array([0, 0, 0.1, 0, 0.1, 2.0])[:, None] * np.ones((1, 8))
        rounding = record("output-l2", rows, between=np.full((5, 8), 2.0))
        assert names(diagnose(result_of(rounding))) == found


def test_a_few_samples_that_carry_a_value_are_named():
    rows = np.full((1000, 8), 0.001)
    rows[40:70] = 0.5
    rows[55] = 0.6
    findings = diagnose(
        result_of(record("softmax-kl", rows)) | {"data": {"indices": range(100, 1100)}}
    )
    assert names(findings) == ["few samples carry it"]
    assert "sample 155, with 0.600" in findings[0].evidence
    rows[100:600] = 0.3
    assert names(diagnose(result_of(record("softmax-kl", rows)))) == []


def test_windows_off_the_centre_by_hand(tmp_path):
    def off(size, **attributes):
        path = net(tmp_path / "m.onnx", [("Conv", ROUND, attributes)], size=size)
        return [f.off for f in off_centre(load_model(path), "C4")]

    assert off(16, strides=[2, 2], pads=[1, 1, 1, 1]) == [(-1, -1)]
    assert off(17, strides=[2, 2], pads=[1, 1, 1, 1]) == []
    assert off(16, pads=[1, 1, 1, 1]) == []
    assert off(16, pads=[0, 1, 2, 1]) == [(2, 0)]
    assert off(16, strides=[2, 2], auto_pad="SAME_UPPER") == [(1, 1)]
    assert off(16, dilations=[2, 2], pads=[2, 2, 2, 2]) == []


def test_only_the_axes_that_a_group_moves_count(tmp_path):
    layers = [("Conv", ROUND, {"strides": [2, 1], "pads": [1, 1, 1, 1]})]
    model = load_model(net(tmp_path / "m.onnx", layers))
    counts = {g: len(off_centre(model, g)) for g in ("flip-v", "flip-h", "C4", "shift2x2")}
    assert counts == {"flip-v": 1, "flip-h": 0, "C4": 1, "shift2x2": 0}


def grid_net(path, rank, **attributes):
    """A convolution over a line, a plane or a volume, then its mean, as a network."""
    lengths, ones = ["a", "b", "c"][:rank], (1,) * rank
    window = np.ones((2, 1, *(3,) * rank), np.float32) * np.array([1, -0.5], np.float32).reshape(
        -1, 1, *ones
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], name="n", **attributes),
        helper.make_node("Relu", ["t"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "grid",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, *lengths])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(window, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.mark.parametrize(
    ("rank", "group", "words", "advice"),
    [
        (1, "reverse", "a line of 16 puts Conv n's windows 0.5 places off", "windows of 3, or"),
        (3, "Oh", "a 16×16×16 volume puts Conv n's windows 0.5 voxels off", "3×3×3 windows, or"),
        (2, "C4", "a 16×16 map puts Conv n's windows 0.5 pixels off", "3×3 windows, or"),
    ],
)
def test_windows_off_the_centre_of_lines_and_volumes(tmp_path, rank, group, words, advice):
    shape, pads = (5, 1, *(16,) * rank), [1] * (2 * rank)
    for strides, faulty in ((2, True), (1, False)):
        path = grid_net(tmp_path / "m.onnx", rank, strides=[strides] * rank, pads=pads)
        faults = off_centre(load_model(path), group, shape)
        assert bool(faults) is faulty
        if faulty:
            assert words in faults[0].text
            assert advice in faults[0].advice
    # A shift sees no centre, and what turns points alone moves no grid.
    assert off_centre(load_model(path), "shift8", shape) == []
    path = grid_net(tmp_path / "m.onnx", rank, strides=[2] * rank, pads=pads)
    for other in ("shift8", "S8~3", "hue3", "no group"):
        assert off_centre(load_model(path), other, shape) == []


def test_zero_padding_is_what_breaks_shifts_of_lines(tmp_path):
    path = grid_net(tmp_path / "m.onnx", 1, pads=[1, 1])
    x = np.random.default_rng(0).standard_normal((8, 1, 24)).astype(np.float32)
    shifted = measure(path, x, "shift8", input_layout="NCT", measures=["channel-cos@t"])
    first = diagnose(shifted, load_model(path))[0]
    assert (first.name, first.weight) == ("zero padding", "likely")
    assert "Conv n" in first.text
    turned = measure(path, x, "reverse", input_layout="NCT", measures=["channel-cos@t"])
    assert "zero padding" not in names(diagnose(turned, load_model(path)))


def test_a_volume_is_not_advised_to_take_a_disk():
    def advice(layout, group):
        one = maps(0, 0.3)
        trip = {"value": -0.7, "ci95": None, "unnormalised": None}
        one["references"] = {"input_round_trip": trip}
        made = result_of(one)
        made["data"]["layout"] = layout
        made["group"] = made["group"] | {"name": group}
        return next(f.advice for f in diagnose(made) if f.name == "interpolation")

    assert "--support disk" in advice("NCHW", "C8")
    assert "--support disk" not in advice("NCDHW", "C8-x")


@pytest.mark.parametrize("padding", [PAD, {"auto_pad": "SAME_UPPER"}])
def test_zero_padding_is_what_breaks_shifts(tmp_path, padding):
    layers = [("Conv", LOPSIDED, padding), RELU, ("Conv", ROUND, padding), RELU]
    path = net(tmp_path / "m.onnx", layers)
    first = diagnose(measure(path, data(), "shift4x4"), load_model(path))[0]
    assert (first.name, first.weight) == ("zero padding", "likely")
    assert "Conv n0" in first.text


def test_circular_padding_is_not_blamed(tmp_path):
    path = net(tmp_path / "m.onnx", [("Pad", None, {}), ("Conv", LOPSIDED, {}), RELU])
    model = onnx.load(path)
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "pads")
    )
    model.graph.node[0].input.append("pads")
    model.opset_import[0].version = 19
    for mode, padded in (("wrap", {}), ("constant", {"n0": "Pad n0"}), ("reflect", {})):
        del model.graph.node[0].attribute[:]
        model.graph.node[0].attribute.append(helper.make_attribute("mode", mode))
        # The chain of this file gives its second node a filter for two channels.
        if mode == "wrap":
            for tensor in model.graph.initializer:
                if tensor.name == "w1":
                    stack = np.stack([LOPSIDED, 2 * LOPSIDED])[:, None]
                    tensor.CopyFrom(numpy_helper.from_array(stack.astype(np.float32), "w1"))
        onnx.save(model, path)
        assert zero_padded(load_model(path)) == padded
        if mode == "wrap":
            made_of = measure(path, data(), "shift4x4", measures=["channel-cos@t2"])
            assert made_of["measurements"][0]["value"] == pytest.approx(-1, abs=1e-6)
            assert diagnose(made_of, load_model(path)) == ()


def test_nodes_between_two_tensors(tmp_path):
    model = load_model(net(tmp_path / "m.onnx", [SAME, RELU, SAME]))
    assert between(model, "t0", "t2").names == ("n1", "n2")
    assert between(model, None, "t1").names == ("n0", "n1")
    assert between(model, "t2", "t0").names == ()


def test_a_model_that_has_changed_is_not_asked(tmp_path):
    path = net(tmp_path / "m.onnx", [SAME])
    one = measure(path, data(), "C4")
    assert model_of(one) is not None
    net(path, [STRIDE])
    assert model_of(one) is None
    path.unlink()
    assert model_of(one) is None


def test_corners_are_found_from_the_disk_beside_the_square():
    full, disk = result_of(maps(0.15, 0.2)), result_of(maps(0.05, 0.1))
    disk["group"]["support"] = "disk"
    (finding,) = diagnose_corners(full, disk)
    # The means are (3·0.15 + 4·0.2)/8 and (3·0.05 + 4·0.1)/8: the identity adds nothing.
    assert f"account for {100 * (1 - 0.55 / 1.25):.0f} % of channel-cos@a" in finding.text
    assert diagnose_corners(disk, full) == ()
    assert diagnose_corners(full, full) == ()
    near = result_of(maps(0.14, 0.19))
    near["group"]["support"] = "disk"
    assert diagnose_corners(full, near) == ()
    disk["group"]["interpolation"] = "nearest"
    assert diagnose_corners(full, disk) == ()


BESIDE = {"name": "x", "source": "x", "layout": "NCHW", "shape": [1, 16, 16], "dtype": "float32"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"inputs": [BESIDE, BESIDE | {"name": "u", "fingerprint": "1"}]},
            {"inputs": [BESIDE, BESIDE | {"name": "u", "fingerprint": "2"}]},
        ),
        ({"fed": {"t": "1"}}, {"fed": {"t": "2"}}),
        ({"mask": None}, {"mask": "2"}),
        ({"indices": list(range(100))}, {"indices": list(range(100))[::-1]}),
    ],
    ids=["another input", "--feed", "--mask", "other samples"],
)
def test_corners_are_not_blamed_for_what_came_with_the_samples(ours, theirs):
    full, disk = result_of(maps(0.15, 0.2)), result_of(maps(0.05, 0.1))
    disk["group"]["support"] = "disk"
    full["data"] |= ours
    disk["data"] |= ours
    assert names(diagnose_corners(full, disk)) == ["square corners"]
    disk["data"] |= theirs
    assert diagnose_corners(full, disk) == ()


def test_corners_are_found_beside_what_only_one_result_measured():
    full, disk = result_of(maps(0.15, 0.2)), result_of(maps(0.05, 0.1), maps(0.1, 0.1, "b", n=3))
    disk["group"]["support"] = "disk"
    assert names(diagnose_corners(full, disk)) == ["square corners"]
    (fewer,) = result_of(maps(0.05, 0.1, n=4))["measurements"]
    disk["measurements"] = [fewer]
    assert diagnose_corners(full, disk) == ()


def test_the_terminal_says_it_in_one_line(tmp_path):
    path = net(tmp_path / "m.onnx", [SAME, RELU, STRIDE, RELU, SAME])
    np.save(tmp_path / "x.npy", data())
    command = ["measure", str(path), "--data", str(tmp_path / "x.npy"), "--group", "C4"]
    run = CliRunner().invoke(cli, command)
    assert run.exit_code == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if line.startswith("diagnosis: ")]
    assert len(lines) == 1
    assert "stride 2" in lines[0]
    assert max(map(len, run.stdout.splitlines())) <= 100
    assert diagnosis_line(result_of(kl(0.5))) == ""
