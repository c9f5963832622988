"""What a page draws of each kind of data, moved by the elements of the group."""

import base64
import io
import itertools
import re

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from recording import measurement

from onnx_geed import GeedError, measure, parse_group
from onnx_geed.data import Preprocess
from onnx_geed.groups import parse_layout
from onnx_geed.report.drawings import drawing_of
from onnx_geed.report.page import report
from onnx_geed.report.thumbnails import open_pictures, orbit_pictures
from onnx_geed.results import result

RNG = np.random.default_rng(7)


def drawn(layout, orbit, dtype="float32"):
    """Pictures of an orbit, and each as one text."""
    pictures = drawing_of(parse_layout(layout), np.dtype(dtype)).draw(np.asarray(orbit, np.float64))
    assert len(pictures) == len(orbit)
    for picture in pictures:
        assert bool(picture.src) != bool(picture.svg)
        assert picture.width > 0
    return pictures


def numbers(text):
    return [int(n) for n in re.findall(r"-?\d+", text)]


def paths(svg):
    """The d of every path, and its style."""
    return [(d, style) for d, style in re.findall(r'<path [^>]*?d="([^"]*)" ([^/]*)/>', svg)]


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def lines(svg):
    """Places of a line's steps, in quarters of a pixel."""
    return [
        np.array(numbers(d.replace("h0", ""))).reshape(-1, 2) for d, s in paths(svg) if "--s" in s
    ]


class TestLines:
    def test_a_short_line_has_every_place(self):
        x = RNG.standard_normal((1, 40))
        (one, other) = drawn("NCT", [x, x[:, ::-1]])
        (steps,), (turned,) = lines(one.svg), lines(other.svg)
        assert len(steps) == len(turned) == 40
        # Heights are turned round, and the larger is the higher.
        np.testing.assert_array_equal(steps[:, 1], turned[::-1, 1])
        assert steps[:, 1].argmin() == x[0].argmax()
        assert (np.diff(steps[:, 0]) > 0).all()

    def test_a_long_line_is_a_band_from_the_smallest_to_the_largest(self):
        x = np.zeros((1, 50_000))
        x[0, 31_000], x[0, 12_000] = 5, -3
        (band,) = lines(drawn("NCT", [x])[0].svg)
        assert len(band) == 2 * 144
        upper, lower = band[:144], band[:143:-1]
        assert upper[:, 1].argmin() == 31_000 * 144 // 50_000
        assert lower[:, 1].argmax() == 12_000 * 144 // 50_000

    @pytest.mark.parametrize(("layout", "shape"), [("NCT", (3, 20)), ("NXT", (3, 20))])
    def test_each_channel_has_a_line_in_its_own_room(self, layout, shape):
        steps = lines(drawn(layout, RNG.standard_normal((1, *shape)))[0].svg)
        assert [len(line) for line in steps] == [20] * 3
        tops = [(line[:, 1].min(), line[:, 1].max()) for line in steps]
        assert all(a[1] < b[0] for a, b in itertools.pairwise(tops))

    def test_the_axis_of_channels_may_stand_last(self):
        x = RNG.standard_normal((1, 3, 20))
        assert drawn("NXT", x)[0].svg == drawn("NTX", x.swapaxes(1, 2))[0].svg

    def test_orbits_share_a_scale(self):
        (small, large) = drawn("NT", [np.sin(np.arange(30)), 4 * np.sin(np.arange(30))])
        (a,), (b,) = lines(small.svg), lines(large.svg)
        assert 3.5 < np.ptp(b[:, 1]) / np.ptp(a[:, 1]) < 4.5

    def test_many_channels_are_cells(self):
        assert pixels(drawn("NCT", RNG.standard_normal((1, 40, 500)))[0].src).shape[1] <= 144

    @pytest.mark.parametrize("length", [1, 2])
    def test_constants_and_single_places_are_drawn(self, length):
        assert lines(drawn("NT", np.ones((2, length)))[0].svg)


class TestPoints:
    def dots(self, svg):
        """Places of the dots by colour, in quarters of a pixel."""
        return {
            style.split("var(--")[1][:2]: np.array(numbers(d.replace("h0", ""))).reshape(-1, 2)
            for d, style in paths(svg)
        }

    def test_space_has_three_projections_with_their_names(self):
        (one,) = drawn("NPX", RNG.standard_normal((1, 50, 3)))
        assert re.findall(r"<text[^>]*>(.*?)</text>", one.svg) == ["x→ y↓", "x→ z↑", "z→ y↓"]
        assert one.svg.count("h0") == 3 * 50
        assert "three projections" in one.what

    def test_the_plane_has_one(self):
        x = np.array([[0.0, 0], [1, 0], [0, 2]])
        (one,) = drawn("NPX", [x])
        dots = np.concatenate(list(self.dots(one.svg).values()))
        assert len(dots) == 3
        step = dots[1, 0] - dots[0, 0]
        assert step > 0
        np.testing.assert_allclose(dots[2] - dots[0], [0, 2 * step], atol=1)  # y runs down

    def test_of_many_some_are_drawn(self):
        (one,) = drawn("NPX", RNG.standard_normal((1, 20_000, 3)))
        assert one.svg.count("h0") == 3 * 300
        assert len(one.svg) < 12_000

    def test_a_quarter_turn_turns_the_dots(self):
        x = RNG.standard_normal((12, 2))
        group = parse_group("C4")
        from onnx_geed.groups import layout_action

        action = layout_action(group, parse_layout("NPX"), x.shape)
        first, second = (
            self.dots(p.svg) for p in drawn("NPX", [action.apply(g, x) for g in (0, 1)])
        )
        for colour, places in first.items():
            # About the middle at 32 pixels of the common box: right becomes up, down becomes right.
            away = places - places.mean(axis=0)
            turned = second[colour] - second[colour].mean(axis=0)
            np.testing.assert_allclose(turned, np.stack([away[:, 1], -away[:, 0]], axis=1), atol=2)

    def test_a_permutation_moves_the_colours_only(self):
        x = RNG.standard_normal((12, 3))
        one, other = drawn("NPX", [x, x[::-1]])
        assert one.svg != other.svg
        a, b = self.dots(one.svg), self.dots(other.svg)
        assert sorted(np.concatenate(list(a.values())).tolist()) == sorted(
            np.concatenate(list(b.values())).tolist()
        )

    def test_points_in_one_place_are_drawn(self):
        assert drawn("NPX", [np.zeros((4, 3))])[0].svg.count("h0") == 3 * 4

    def test_vectors_of_other_lengths_are_cells(self):
        assert drawn("NPX", RNG.standard_normal((1, 6, 5)))[0].src

    def test_components_may_stand_first(self):
        x = RNG.standard_normal((1, 6, 3))
        assert drawn("NXP", x.swapaxes(1, 2))[0].svg == drawn("NPX", x)[0].svg


class TestVolumes:
    def slices(self, svg):
        return [pixels(uri) for uri in re.findall(r'href="([^"]*)"', svg)]

    def test_the_middle_slices(self):
        x = RNG.random((1, 7, 9, 11))
        (one,) = drawn("NDHW", x)
        found = self.slices(one.svg)
        for got, want in zip(found, (x[0, 3], x[0, :, 4], x[0, :, :, 5]), strict=True):
            np.testing.assert_allclose(got, want * 255, atol=0.51)
        assert re.findall(r"<text[^>]*>(.*?)</text>", one.svg) == ["H×W", "D×W", "D×H"]

    def test_channels(self):
        x = RNG.random((1, 3, 5, 5, 5))
        assert self.slices(drawn("NCDHW", x)[0].svg)[0].shape == (5, 5, 3)
        (one,) = drawn("NCDHW", RNG.random((1, 2, 5, 5, 5)))
        assert "the first of 2 channels" in one.what

    def test_films_show_three_frames(self):
        x = RNG.random((1, 1, 9, 5, 6))
        (one,) = drawn("NCTHW", x)
        assert re.findall(r"<text[^>]*>(.*?)</text>", one.svg) == ["1", "5", "9"]
        np.testing.assert_allclose(self.slices(one.svg)[2], x[0, 0, 8] * 255, atol=0.51)

    def test_large_ones_are_thinned(self):
        assert len(drawn("NDHW", RNG.random((1, 200, 200, 200)))[0].svg) < 40_000


class TestFields:
    def arrows(self, svg):
        """Tails and tips."""
        ((d, _),) = paths(svg)
        return np.array([numbers(a) for a in re.findall(r"M(-?\d+ -?\d+L-?\d+ -?\d+)M", d)])

    def test_arrows_point_where_vectors_do(self):
        x = np.zeros((1, 2, 3, 3))
        x[0, 0], x[0, 1] = 1, 0.5
        arrows = self.arrows(drawn("NXHW", x)[0].svg)
        assert len(arrows) == 9
        away = arrows[:, 2:] - arrows[:, :2]
        np.testing.assert_allclose(away[:, 1] / away[:, 0], 0.5, atol=0.05)
        assert (away > 0).all()  # right and down

    def test_a_large_field_has_some_arrows_the_same_from_both_ends(self):
        x = RNG.standard_normal((2, 50, 50))
        turned = np.stack([-x[0, ::-1, ::-1], -x[1, ::-1, ::-1]])
        one, other = drawn("NXHW", [x, turned])
        first, second = self.arrows(one.svg), self.arrows(other.svg)
        assert len(first) == len(second) <= 100
        # A half turn: the last arrow becomes the first, and points the other way.
        side = 112 * 4
        np.testing.assert_allclose(side - first, second[::-1], atol=1)

    def test_zero_is_a_dot(self):
        ((d, _),) = paths(drawn("NXHW", np.zeros((1, 2, 2, 2)))[0].svg)
        assert d.count("h0") == 4

    def test_fields_in_space_show_the_middle_slice(self):
        (one,) = drawn("NXDHW", RNG.standard_normal((1, 3, 3, 4, 4)))
        assert len(self.arrows(one.svg)) + one.svg.count("h0") == 16
        assert "middle slice" in one.what

    def test_other_components_have_no_arrows(self):
        with pytest.raises(GeedError, match="in the plane are drawn with 2 components, not 3"):
            drawn("NXHW", np.zeros((1, 3, 4, 4)))


class TestBases:
    def one_hot(self, text):
        return np.array([[float(base == b) for b in "ACGT"] for base in text])

    def letters(self, svg):
        return "".join(re.findall(r"<tspan[^>]*>([ACGTN]*)</tspan>", svg))

    def test_short_sequences_are_written(self):
        text = "ACGTTGCANNACGTACGTACG"
        (one,) = drawn("NTB", [self.one_hot(text)])
        assert self.letters(one.svg) == text
        assert one.what == f"bases {text}"
        colours = dict(re.findall(r'fill="var\((--\w+)\)">([ACGTN])', one.svg))
        assert len(colours) == 5
        assert drawn("NBT", [self.one_hot(text).T])[0].svg == one.svg

    def test_long_ones_show_shares(self):
        x = self.one_hot("A" * 100 + "C" * 100)
        (one,) = drawn("NTB", [x])
        found = paths(one.svg)
        assert len(found) == 4
        bars = {style[:16]: d.count("M") for d, style in found}
        assert list(bars.values()) == [24, 24, 0, 0]
        assert "--s2" in found[0][1]


class TestCells:
    def test_an_adjacency_is_a_matrix_of_cells(self):
        x = (RNG.random((1, 6, 6)) < 0.4).astype(float)
        found = pixels(drawn("NPP", x)[0].src)
        side = found.shape[0] // 6
        cells = found[side // 2 :: side, side // 2 :: side]
        dark, light = cells[x[0] == 0], cells[x[0] == 1]
        assert len(np.unique(dark, axis=0)) == len(np.unique(light, axis=0)) == 1
        assert light.sum() / len(light) > dark.sum() / len(dark)

    def test_edges_with_features_show_their_size(self):
        x = RNG.standard_normal((1, 2, 5, 5))
        same = np.sqrt((x**2).sum(axis=1))
        assert drawn("NPPC", x)[0].src == drawn("NPP", same)[0].src

    def test_large_ones_are_averaged(self):
        x = np.zeros((1, 500, 500))
        x[0, :250] = 1
        found = pixels(drawn("NPP", x)[0].src)
        assert found.shape == (64, 64, 3)
        assert len(np.unique(found.reshape(-1, 3), axis=0)) == 2

    @pytest.mark.parametrize(
        ("layout", "shape"),
        [("NPC", (3, 16)), ("NK", (10,)), ("NC", (3,)), ("NP", (7,)), ("NX", (3,))],
    )
    def test_sets_and_vectors_are_strips(self, layout, shape):
        (one,) = drawn(layout, RNG.standard_normal((1, *shape)))
        assert one.width == pixels(one.src).shape[1] >= 24
        assert pixels(one.src).shape[0] >= 12

    def test_few_ids_are_numbers(self):
        ids = [5, 0, 311, 7]
        one, other = drawn("NT", [ids, ids[::-1]], "int64")
        assert re.findall(r"<text[^>]*>(\d+)</text>", one.svg) == ["5", "0", "311", "7"]
        assert re.findall(r"<text[^>]*>(\d+)</text>", other.svg) == ["7", "311", "0", "5"]
        assert one.what == "ids 5 0 311 7"

    def test_many_ids_are_cells(self):
        ids = RNG.integers(0, 30_000, (1, 500))
        assert pixels(drawn("NP", ids, "int32")[0].src).shape == (12, 144, 3)

    def test_a_mask_is_a_strip(self):
        assert drawn("NP", np.ones((1, 5)), "bool")[0].src


class TestImages:
    def test_other_channels_are_told(self):
        with pytest.raises(GeedError, match="with 1, 3 or 4 channels, not 13"):
            drawn("NCHW", np.zeros((1, 13, 4, 4)))

    def test_other_layouts_are_told(self):
        with pytest.raises(GeedError, match="samples with layout NCTX cannot be drawn"):
            drawn("NCTX", np.zeros((1, 2, 3, 4)))


def flat(inputs):
    """A network that sees every entry: all inputs flattened, and a matrix."""
    nodes, initial, parts, given = [], [], [], []
    for name, (shape, kind) in inputs.items():
        given.append((name, kind, ["N", *shape]))
        nodes.append(helper.make_node("Cast", [name], [f"{name}f"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Flatten", [f"{name}f"], [f"{name}v"]))
        parts.append(f"{name}v")
    size = sum(int(np.prod(shape)) for shape, _ in inputs.values())
    nodes.append(helper.make_node("Concat", parts, ["z"], axis=1))
    matrix = np.random.default_rng(0).standard_normal((size, 3)).astype(np.float32)
    initial.append(onnx.numpy_helper.from_array(matrix, "w"))
    nodes.append(helper.make_node("MatMul", ["z", "w"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "flat",
        [helper.make_tensor_value_info(*entry) for entry in given],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        initial,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=models.IR_VERSION
    )


def measured(folder, array, layout, group, **options):
    """A result of a network on data, and the data's path."""
    kind = TensorProto.INT64 if array.dtype.kind == "i" else TensorProto.FLOAT
    path = models.save(flat({"x": (array.shape[1:], kind)}), folder / "m.onnx")
    np.save(folder / "x.npy", array)
    options = {"measures": ["output-l2"], "input_layout": layout} | options
    return measure(path, folder / "x.npy", group, **options), folder / "x.npy"


def f32(*shape):
    return RNG.standard_normal((7, *shape)).astype(np.float32)


RUNS = {
    "line": (f32(1, 24), "NCT", "reverse"),
    "shifted line": (f32(24, 2), "NTC", "shift8"),
    "points": (f32(9, 3), "NPX", "O"),
    "permuted points": (f32(9, 3), "NPX", "S9~6"),
    "plane points": (f32(9, 2), "NPX", "D4"),
    "volume": (f32(1, 6, 6, 6), "NCDHW", "C4-z"),
    "field": (f32(2, 6, 6), "NXHW", "C4"),
    "bases": (np.eye(4, dtype=np.float32)[RNG.integers(0, 4, (7, 20))], "NTB", "revcomp"),
    "ids": (RNG.integers(0, 99, (7, 12)), "NT", "shift4"),
    "ids of points": (RNG.integers(0, 99, (7, 12)), "NP", "S12~5"),
    "adjacency": (f32(6, 6), "NPP", "S6~5"),
    "set": (f32(6, 2), "NPC", "S6~5"),
    "colours": (RNG.random((7, 3, 6, 6)).astype(np.float32), "NCHW", "C4*hue3"),
}


class TestPages:
    @pytest.mark.parametrize("kind", RUNS)
    def test_every_kind_of_data_is_drawn_under_every_element(self, tmp_path, kind):
        array, layout, group = RUNS[kind]
        one, data = measured(tmp_path, array, layout, group)
        text = report([one], data=data)
        assert "No pictures" not in text
        (section,) = re.findall(r'<section aria-label="Samples">.*?</section>', text, re.S)
        order = one["group"]["order"]
        shown = order if order <= 16 else 8
        named = re.findall(r'(?:alt|aria-label)="sample \d+, ([^":]*)', section)
        assert len(named) == 6 * shown
        pictures, _ = orbit_pictures(open_pictures(data, one), one, 0, range(order))
        looks = [(p.src, p.svg) for (p,) in pictures]
        assert len(set(looks)) == order, "an element that moves a sample is seen to"
        assert "{{" not in text
        assert len(text) < 1_500_000

    def test_what_is_drawn_is_what_the_elements_do(self, tmp_path):
        array, layout, group = RUNS["ids"]
        one, data = measured(tmp_path, array, layout, group)
        pictures, _ = orbit_pictures(open_pictures(data, one), one, 2, range(4))
        for g, (picture,) in enumerate(pictures):
            want = np.roll(array[2], 3 * g).tolist()
            assert re.findall(r"<text[^>]*>(\d+)</text>", picture.svg) == [*map(str, want)]

    def test_a_strand_is_reversed_and_complemented(self, tmp_path):
        array, layout, group = RUNS["bases"]
        one, data = measured(tmp_path, array, layout, group)
        (first,), (second,) = orbit_pictures(open_pictures(data, one), one, 0, range(2))[0]
        text = first.what.split()[1]
        swapped = text[::-1].translate(str.maketrans("ACGT", "TGCA"))
        assert second.what == f"bases {swapped}"

    def test_a_sampled_group_shows_each_sample_behind_its_own_element(self, tmp_path):
        array = np.repeat(f32(9, 3)[:1], 7, axis=0)
        one, data = measured(tmp_path, array, "NPX", "SO3~24")
        shown = open_pictures(data, one)
        (first,), (other,) = (orbit_pictures(shown, one, k, [0])[0][0] for k in (0, 1))
        assert first.svg != other.svg, "the same points, each turned by its own rotation first"
        again = orbit_pictures(shown, one | {"seed": one["seed"] + 1}, 0, [0])[0][0][0]
        assert again.svg != first.svg
        assert "as it was given" not in report([one], data=data)

    def test_components_are_drawn_right_and_down(self, tmp_path):
        down = f32(2, 5, 5)
        up = down * np.array([1, -1], np.float32)[:, None, None]
        (tmp_path / "up").mkdir()
        one, data = measured(tmp_path, down, "NXHW", "C4")
        two, other = measured(tmp_path / "up", up, "NXHW", "C4", components="right-up")
        assert two["group"]["components"] == "right-up"
        first = orbit_pictures(open_pictures(data, one), one, 0, range(4))
        assert orbit_pictures(open_pictures(other, two), two, 0, range(4)) == first

    def test_inputs_that_move_together_are_drawn_together(self, tmp_path):
        kind = TensorProto.FLOAT
        net = flat({"adj": ((6, 6), kind), "x": ((6, 2), kind), "t": ((3,), kind)})
        path = models.save(net, tmp_path / "m.onnx")
        arrays = {"adj": f32(6, 6), "x": f32(6, 2), "t": f32(3)}
        np.savez(tmp_path / "d.npz", **arrays)
        one = measure(
            path,
            tmp_path / "d.npz",
            "S6~5",
            input_layout={"adj": "NPP", "x": "NPC"},
            measures=["output-l2"],
        )
        assert [part["name"] for part in one["data"]["inputs"]] == ["adj", "x"]
        pictures, _ = orbit_pictures(open_pictures(tmp_path / "d.npz", one), one, 3, range(5))
        assert [len(drawn_) for drawn_ in pictures] == [2] * 5
        table = parse_group("S6~5").onward(one["seed"], 3)[0].table
        row = list(table[2])
        moved = arrays["adj"][3][np.ix_(row, row)], arrays["x"][3][row].T
        whole = [np.stack([arrays["adj"][3][np.ix_(p, p)] for p in map(list, table)])]
        whole.append(np.stack([arrays["x"][3][list(p)].T for p in table]))
        for k, letters in enumerate(("NPP", "NPC")):
            assert pictures[2][k].src == drawn(letters, whole[k])[2].src
            assert moved[k].shape == whole[k][2].shape
        text = report([one], data=tmp_path / "d.npz")
        assert text.count('alt="sample') == 6 * 5 * 2

    def test_an_input_of_another_file_is_told(self, tmp_path):
        kind = TensorProto.FLOAT
        net = flat({"adj": ((6, 6), kind), "x": ((6, 2), kind)})
        path = models.save(net, tmp_path / "m.onnx")
        np.save(tmp_path / "x.npy", f32(6, 2))
        np.save(tmp_path / "adj.npy", f32(6, 6))
        one = measure(
            path,
            tmp_path / "x.npy",
            "S6~5",
            input="x",
            feed={"adj": tmp_path / "adj.npy"},
            input_layout={"adj": "NPP", "x": "NPC"},
            measures=["output-l2"],
        )
        text = report([one], data=tmp_path / "x.npy")
        assert text.count('alt="sample') == 6 * 5
        assert f"No pictures of adj: it was read from {tmp_path / 'adj.npy'}." in text

    @pytest.mark.parametrize(
        ("layout", "shape", "why"),
        [
            ("NCHW", (13, 4, 4), "images are drawn with 1, 3 or 4 channels, not 13"),
            ("NCTX", (2, 4, 2), "samples with layout NCTX cannot be drawn"),
        ],
    )
    def test_what_cannot_be_drawn_is_a_note_and_no_error(self, tmp_path, layout, shape, why):
        group = "C4"
        one, data = measured(tmp_path, f32(*shape), layout, group)
        text = report([one], data=data)
        assert f"No pictures: {why}" in text
        assert "<img" not in text

    def test_a_large_sample_leaves_the_page_small(self, tmp_path):
        array = f32(4, 3000, 2).reshape(7, -1, 3)
        one, data = measured(tmp_path, array, "NPX", "O")
        assert len(report([one], data=data)) < 900_000

    def test_wrong_data_are_refused(self, tmp_path):
        array, layout, group = RUNS["points"]
        one, data = measured(tmp_path, array, layout, group)
        np.save(data, array + 1)
        with pytest.raises(GeedError, match="is not the one that was measured"):
            report([one], data=data)


def test_pictures_load_nothing_and_use_the_pages_colours(tmp_path):
    for kind in RUNS:
        array, layout, _ = RUNS[kind]
        orbit = [np.moveaxis(array[0], -1, 0) if layout in ("NTC", "NPC") else array[0]]
        for picture in drawn(layout, orbit, array.dtype):
            assert not re.search(r"<script|https?:|url\(|on\w+=", picture.svg)
            assert set(re.findall(r"#[0-9a-f]{6}", picture.svg)) == set()
            variables = set(re.findall(r"var\(--(\w+)\)", picture.svg))
            assert variables <= {"ink", "soft", "line", "s0", "s1", "s2", "s3", "s4", "s5"}


def test_texts_are_large_enough_to_be_read():
    for layout, shape in (("NPX", (9, 3)), ("NDHW", (4, 4, 4)), ("NTB", (9, 4))):
        (one,) = drawn(layout, RNG.random((1, *shape)))
        sizes = [float(n) for n in re.findall(r'font-size="([\d.]+)"', one.svg)]
        assert min(sizes) >= 11
        # Drawn at its own size: a unit is a pixel.
        assert f'viewBox="0 0 {one.width} ' in one.svg


def test_results_of_points_say_nothing_of_pixels_and_maps():
    group = parse_group("O")
    rng = np.random.default_rng(0)
    records = [
        measurement(
            measure="channel-cos",
            layer=layer,
            layout="NPC",
            output_action="points",
            deviations=level + 1e-5 * rng.standard_normal((6, 24)),
            elements=group.elements,
            between=np.full((4, 1), -0.6),
        )
        for layer, level in (("of_points", -0.9999), ("spread", -0.62))
    ]
    one = result(
        command="",
        software={},
        model={"path": "net.onnx", "sha256": "ab" * 32, "opset": 17, "producer": ""},
        data={
            "source": "x.npy",
            "fingerprint": "cd" * 32,
            "available": 6,
            "indices": list(range(6)),
            "names": None,
            "labels": None,
            "layout": "NPX",
            "shape": [9, 3],
        },
        group={
            "name": "O",
            "order": 24,
            "elements": list(group.elements),
            "exact": [True] * 24,
            "interpolation": "bilinear",
            "support": "full",
        },
        runtime={},
        seed=0,
        measurements=records,
    )
    text = re.sub(
        r"<style>.*?</style>|<svg.*?</svg>|<script>.*?</script>", "", report([one]), flags=re.S
    )
    said = re.sub(r'<p class="lead">.*?</p>', "", text).lower()
    assert "hidden tensors: the tensor of the moved input has cosine" in said
    assert "the tensor of the moved input" in said
    assert "equivariance is lost between of_points and spread" in said
    assert "tensors are hardly more alike within an orbit than between different samples" in said
    for word in ("pixel", "image", "interpol", "padding", "feature map", "resampl", "maps are"):
        assert word not in said, word


@pytest.mark.parametrize("group", ["brightness:60..180/3", "contrast:0.2..0.6/3", "blur:1..2/3"])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_families_that_change_values_are_drawn_as_they_were_measured(tmp_path, group, scale):
    array = scale * RNG.random((7, 3, 12, 12)).astype(np.float32)
    one, data = measured(tmp_path, array, "NCHW", group)
    pictures, notes = orbit_pictures(open_pictures(data, one), one, 2, range(4))
    assert notes == []
    family = parse_group(group).family
    wanted = family.orbit(array[2], one["seed"], 2).astype(float)
    if scale > 1:
        low, high = float(array[2].min()), float(array[2].max())
        wanted = (wanted - low) / (high - low)
    assert [p.src for (p,) in pictures] == [p.src for p in drawn("NCHW", wanted)]
    assert len({p.src for (p,) in pictures}) == 4
    assert "No pictures" not in report([one], data=data)


def test_a_folder_is_drawn_at_the_size_at_which_its_values_changed(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(3):
        pixels = RNG.integers(0, 256, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    path = models.save(flat({"x": ((3, 16, 16), TensorProto.FLOAT)}), tmp_path / "m.onnx")
    size = {"preprocess": Preprocess(resize=16, crop=16)}
    one = measure(path, folder, "noise:20..60/2", measures=["output-l2"], **size)
    (shown,) = open_pictures(folder, one)
    assert shown.samples.shape == (3, 16, 16)
    wanted = parse_group("noise:20..60/2").family.orbit(shown.samples[1], one["seed"], 1)
    pictures, _ = orbit_pictures([shown], one, 1, range(3))
    assert [p.src for (p,) in pictures] == [p.src for p in drawn("NCHW", wanted)]
