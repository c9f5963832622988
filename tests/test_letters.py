"""Whole measurements of every kind of data: known answers, and the slow twin's own run in float64.

Every network, with its data, group and layouts, is an entry of ``letter_cases.CASES``.
"""

import functools
import json
from typing import NamedTuple

import letter_models
import models
import naive_letters as twin
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from letter_cases import (
    CASES,
    PERFECT,
    UNKNOWN,
    activations,
    data_of,
    deviations,
    relative,
    value,
)

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.cli import cli

# Every kind of axis and of action once, for what costs more than a run.
SOME = [
    "circular conv, shift24",
    "circular classifier, reverse",
    "centroid, O",
    "centroid, SO3~24",
    "centroid, SO3~7",
    "point net, SO3~7",
    "points segmented, SO3~5",
    "volume, SO3~4",
    "point net, S12~20",
    "points segmented, O",
    "points segmented first, S12~20",
    "masked sets, S16~20",
    "nodes, S10~20",
    "nodes fed, S10~20",
    "edges, S8~10",
    "volume with an axis, O",
    "video, C4*reverse",
    "divergence, C8",
    "gradient, C8",
    "gradient, SO2~8",
    "centroid as scalars, SO2~8",
    "any dense scores, C4",
    "dense scores, C8",
    "untied dna, revcomp",
    "luma, hue3",
    "tokens, S12~20",
    "hashed tokens in place, reverse",
]


def saved(case, folder, data):
    """The model's path, DATA and the options that say what the arrays are."""
    path = models.save(case.model(), folder / "model.onnx")
    acted = moved(case)
    # What a network calls y or map may be listed or not; layouts are stated for what is measured.
    measured = {key.partition("@")[2] for key in case.known}
    options = {
        "input_layout": acted if len(acted) > 1 else acted["x"],
        "layout": {name: letters for name, letters in case.tensors.items() if name in measured},
        "feed": {name: data[name] for name in case.inputs if name not in acted},
        "measures": list(case.known),
        "provider": "cpu",
    }
    if any(key.startswith("softmax-kl") for key in case.known):
        options["output_kind"] = "logits"
    if len(acted) == 1:
        return path, data["x"], options | ({"input": "x"} if len(case.inputs) > 1 else {})
    np.savez(folder / "data.npz", **{name: data[name] for name in acted})
    return path, folder / "data.npz", options


def by_kernels(path, data, group, options, folder):
    return geed.measure(path, data, group, engine="kernels", **options)


def by_graph(path, data, group, options, folder):
    return geed.measure(path, data, group, engine="graph", **options)


def row_by_row(path, data, group, options, folder):
    return geed.measure(path, data, group, engine="kernels", batch_size=1, **options)


def from_raw_cache(path, data, group, options, folder):
    write_cache(path, data, group, folder / "raw.geed", mode="raw", **options)
    return measure_cache(folder / "raw.geed")


def from_stats_cache(path, data, group, options, folder):
    write_cache(path, data, group, folder / "stats.geed", mode="stats", **options)
    return measure_cache(folder / "stats.geed")


def from_metadata(path, data, group, options, folder):
    """Layouts that the file itself states."""
    options = dict(options)
    inputs, tensors = options.pop("input_layout"), options.pop("layout")
    named = inputs if isinstance(inputs, dict) else {"x": inputs}
    entries = {f"onnx_geed.layout.{name}": text for name, text in {**named, **tensors}.items()}
    models.save(models.with_metadata(onnx.load(path), entries), path)
    return geed.measure(path, data, group, **options)


WAYS = [by_kernels, by_graph, row_by_row, from_raw_cache, from_stats_cache, from_metadata]


class Wanted(NamedTuple):
    """What the twin's float64 run says of a measure on a tensor."""

    scale: float
    deviations: np.ndarray
    value: float
    relative: float | None
    members: list[str] | None
    part: np.ndarray | None
    half: float | None


@functools.cache
def wanted(name, key, indices, seed, interpolation):
    case, (measure, _, tensor) = CASES[name], key.partition("@")
    orbits = orbits_of_case(name, indices, seed, interpolation)[tensor]
    letters, options = case.tensors[tensor][1:], {"interpolation": interpolation}
    options |= {"indices": indices, "seed": seed}
    twins = measure, orbits, case.group, letters
    # Vectors that do not move along are judged by the input alone.
    moving = [] if measure.startswith("latent") else [(letters, orbits.shape[2:])]
    members = twin.exact_subgroup(case.group, [*input_grids(name), *moving])
    return Wanted(
        max(1.0, float(np.abs(orbits).max())),
        deviations(*twins, **options),
        value(*twins, **options),
        relative(*twins, **options),
        members,
        members and deviations(*twins, members=members, **options),
        (half := twin.half(case.group)) and value(*twins, members=half, **options),
    )


@functools.cache
def orbits_of_case(name, indices, seed, interpolation):
    case = CASES[name]
    return activations(case, data_of(case), indices, seed, interpolation)


def input_grids(name):
    case, data = CASES[name], data_of(CASES[name])
    return [(letters[1:], data[x].shape[1:]) for x, letters in moved(case).items()]


def check(name, result, known=None, interpolation="bilinear"):
    """Hold every record against what is known, and against the twin's float64 run."""
    case, group = CASES[name], result["group"]
    indices = tuple(result["data"]["indices"])
    assert sorted(indices) == list(range(len(indices)))
    assert group["elements"] == twin.elements(case.group)
    exact = [
        all(twin.is_exact(case.group, g, *grid) for grid in input_grids(name))
        for g in group["elements"]
    ]
    assert group["exact"] == exact
    known = case.known if known is None else known
    records = {f"{r['measure']}@{r['layer']}": r for r in result["measurements"]}
    assert records.keys() == known.keys()
    for key, least in known.items():
        record = records[key]
        assert record["layout"] == case.tensors[record["layer"]]
        want = wanted(name, key, indices, result["seed"], interpolation)
        got = np.array(record["deviations"])
        close = {"rtol": 1e-5, "atol": 1e-5 * want.scale, "err_msg": key}
        np.testing.assert_allclose(got, want.deviations, **close)
        assert record["value"] == pytest.approx(want.value, rel=1e-3, abs=1e-4), key
        if want.relative is None:
            assert record["relative"] is None, key
        else:
            assert record["relative"] == pytest.approx(want.relative, rel=1e-3, abs=1e-5), key
        if want.members is None:
            assert record["exact"] is None, key
        else:
            assert record["exact"]["elements"] == want.members
            np.testing.assert_allclose(record["exact"]["deviations"], want.part, **close)
        if want.half is None:
            assert record["half"] is None, key
        else:
            assert record["half"]["elements"] == twin.half(case.group)
            assert record["half"]["value"] == pytest.approx(want.half, rel=1e-3, abs=1e-4), key
        if least == 0:
            assert abs(record["relative"] or 0) < 1e-5, key
            assert np.abs(got - PERFECT[record["measure"]]).max() <= 1e-5 * want.scale, key
        elif least != UNKNOWN:
            assert record["relative"] > least, key


def moved(case):
    return {name: letters for name, letters in case.inputs.items() if letters}


@pytest.mark.parametrize("name", CASES)
def test_known_answers_and_the_twins(tmp_path, name):
    case = CASES[name]
    data = data_of(case)
    path, given, options = saved(case, tmp_path, data)
    check(name, by_kernels(path, given, case.group, options, tmp_path))


@pytest.mark.parametrize("engine", ["kernels", "graph"])
@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
@pytest.mark.parametrize("name", ["gradient, C8", "volume, C8-y", "long volume, O"])
def test_every_interpolation_measures_the_same(tmp_path, name, interpolation, engine):
    case = CASES[name]
    path, given, options = saved(case, tmp_path, data_of(case))
    options |= {"interpolation": interpolation, "engine": engine}
    result = geed.measure(path, given, case.group, **options)
    check(name, result, dict.fromkeys(case.known, UNKNOWN), interpolation)


@pytest.mark.parametrize("way", WAYS[1:], ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", SOME)
def test_every_way_measures_the_same(tmp_path, name, way):
    if way is by_graph and "~" in CASES[name].group:
        way = by_kernels  # a graph refuses these, as the next test says
    case = CASES[name]
    data = data_of(case)
    path, given, options = saved(case, tmp_path, data)
    check(name, way(path, given, case.group, options, tmp_path))


@pytest.mark.parametrize("name", ["centroid, SO3~24", "centroid, SO3~7", "nodes, S10~20"])
def test_graphs_refuse_sampled_groups_in_one_line(tmp_path, name):
    """Each sample is moved by elements of its own, so that no tables of a graph serve all."""
    case = CASES[name]
    path, given, options = saved(case, tmp_path, data_of(case))
    with pytest.raises(geed.GeedError, match="elements of its own") as error:
        geed.measure(path, given, case.group, engine="graph", **options)
    assert "\n" not in str(error.value)
    with pytest.raises(geed.GeedError, match="elements of its own"):
        geed.compile_measurement(path, case.group, tmp_path / "c.onnx", data=given, **options)


@pytest.mark.parametrize("name", [name for name in SOME if "~" not in CASES[name].group])
def test_compiled_measurements_are_the_same(tmp_path, name):
    case = CASES[name]
    data = data_of(case)
    path, given, options = saved(case, tmp_path, data)
    del options["provider"]
    out = tmp_path / "measured.onnx"
    geed.compile_measurement(path, case.group, out, data=given, **options)
    session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    main = "x" if len(case.inputs) == 1 or "x" in options.get("input", "") else None
    feeds = {}
    for stored in session.get_inputs():
        name_of = stored.name.partition("/")[2] or main or next(iter(case.inputs))
        feeds[stored.name] = data[name_of]
    got = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    values = activations(case, data)
    for key in case.known:
        measure, _, tensor = key.partition("@")
        want = deviations(measure, values[tensor], case.group, case.tensors[tensor][1:])
        scale = max(1.0, float(np.abs(values[tensor]).max()))
        np.testing.assert_allclose(
            got[f"deviation/{measure}/{tensor}"], want, rtol=1e-5, atol=1e-5 * scale
        )


def test_arrays_by_name_need_no_file(tmp_path):
    name = "nodes, S10~20"
    case = CASES[name]
    data = data_of(case)
    path, _, options = saved(case, tmp_path, data)
    check(name, geed.measure(path, data, case.group, **options))


TOGETHER = ["latent-l2@y", "channel-cos@y", "output-l2@y", "unexplained@y", "softmax-kl@y"]


@pytest.mark.parametrize("mode", ["raw", "stats"])
@pytest.mark.parametrize("also", TOGETHER[1:])
def test_a_cache_serves_several_measures_of_a_tensor_as_the_model_does(tmp_path, also, mode):
    """To the last bit; whole tensors and their means over places are not taken for each other."""
    case = CASES["any dense scores, C4"]
    path, given, options = saved(case, tmp_path, data_of(case))
    for i, measures in enumerate([["latent-l2@y", also], [also, "latent-l2@y"]]):
        options["measures"] = measures
        live = geed.measure(path, given, case.group, **options)
        write_cache(path, given, case.group, tmp_path / f"{i}.geed", mode=mode, **options)
        assert measure_cache(tmp_path / f"{i}.geed")["measurements"] == live["measurements"]


@pytest.mark.parametrize("other", [*TOGETHER[1:], "flip-rate@y"])
def test_means_over_places_do_not_serve_what_takes_whole_tensors(tmp_path, other):
    case = CASES["any dense scores, C4"]
    path, given, options = saved(case, tmp_path, data_of(case))
    options["measures"] = ["latent-l2@y"]
    write_cache(path, given, case.group, tmp_path / "a.geed", mode="stats", **options)
    with pytest.raises(geed.GeedError, match="keeps only statistics of other measures"):
        measure_cache(tmp_path / "a.geed", measures=[other])


# letters followed from the inputs through the graph

# Two channels are not known to be a vector, nor numbers in the place of one to be scalars; and what
# the adjacency does to nodes is not told where its letters are not.
STATED = {"gradient", "centroid as scalars", "nodes fed"}


@pytest.mark.parametrize("name", CASES)
def test_layouts_follow_from_those_of_inputs(tmp_path, name):
    case = CASES[name]
    model = geed.load_model(models.save(case.model(), tmp_path / "model.onnx"))
    found = {t.name: t.layout for t in geed.tensors(model, "x", "y", layouts=moved(case))}
    of_case = {tensor: found[tensor] for tensor in case.tensors}
    kind = name.partition(",")[0]
    assert (of_case == case.tensors) is (kind not in STATED), of_case


@pytest.mark.parametrize("name", [n for n in SOME if n.partition(",")[0] not in STATED])
def test_only_inputs_need_a_layout(tmp_path, name):
    case = CASES[name]
    data = data_of(case)
    path, given, options = saved(case, tmp_path, data)
    check(name, geed.measure(path, given, case.group, **options | {"layout": {}}))


# the command line

LINES = {
    "circular conv, shift24": "--input-layout NCT --layout y=NCT --measure output-l2@y",
    "symmetric conv, reverse": "--input-layout NCT --layout y=NCT --measure output-l2@y",
    "centroid, O": "--input-layout NPX --layout y=NX --measure output-l2@y",
    "nodes, S10~20": (
        "--input-layout adj=NPP --input-layout x=NPC --layout y=NPC --measure output-l2@y"
    ),
    "gradient, D4": "--input-layout NCHW --layout y=NXHW --measure output-l2@y",
    "dna, revcomp": "--input-layout x=NBT --measure latent-l2@latent",
    "tokens, S12~20": "--input-layout NP --measure output-l2@y",
}


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def files(case, folder):
    """The model's path and that of DATA."""
    data = data_of(case)
    path, given, _ = saved(case, folder, data)
    if isinstance(given, np.ndarray):
        np.save(folder / "x.npy", given)
        given = folder / "x.npy"
    return path, given


@pytest.mark.parametrize("name", LINES)
def test_known_answers_on_the_command_line(tmp_path, name):
    case = CASES[name]
    path, given = files(case, tmp_path)
    out = tmp_path / "result.json"
    run = invoke(
        "measure", path, "--data", given, "--group", case.group, *LINES[name].split(), "--out", out
    )
    assert run.exit_code == 0, run.output
    (record,) = json.loads(out.read_text())["measurements"]
    assert abs(record["relative"]) < 1e-5


# Case, group, options, and words of the one line that is said.
BAD = {
    "no layout": ("circular conv, shift24", "shift24", "", "--input-layout"),
    "no layout of points": ("centroid, O", "O", "", "--input-layout"),
    "no layout of token ids": ("tokens, reverse", "reverse", "", "--input-layout"),
    "a letter that there is not": ("centroid, O", "O", "--input-layout NPQ", "NPQ"),
    "small letters": ("centroid, O", "O", "--input-layout npx", "NPX"),
    "no samples": ("centroid, O", "O", "--input-layout PNX", "N"),
    "too few letters": ("centroid, O", "O", "--input-layout NP", "3"),
    "a letter twice": ("centroid, O", "O", "--input-layout NXX", "X"),
    "components that do not fit": ("centroid, O", "C4", "--input-layout NPX", "2"),
    "a line that is not divided": (
        "circular conv, shift24", "shift5", "--input-layout NCT", "divide"
    ),
    "nothing that moves": ("circular conv, shift24", "C4", "--input-layout NCT", "C4"),
    "points of another number": ("centroid, O", "S11~4", "--input-layout NPX", "11"),
    "bases that are not four": ("centroid, O", "revcomp", "--input-layout NBT", "B"),
    "an input that there is not": ("centroid, O", "O", "--input-layout z=NPX", "z"),
    "one layout for two inputs": ("nodes, S10~20", "S10~20", "--input-layout NPC", "adj"),
    "a layout of a tensor, misspelt": (
        "centroid, O", "O", "--input-layout NPX --layout y=NZ", "NZ"
    ),
    "a layout of a tensor, too long": (
        "centroid, O", "O", "--input-layout NPX --layout y=NPX --measure output-l2@y", "y"
    ),
    "a vector of other components": (
        "distances, O", "O", "--input-layout NPX --layout y=NX --measure output-l2@y", "4"
    ),
    "a tensor that is not there": (
        "centroid, O", "O", "--input-layout NPX --layout z=NX --measure output-l2@y", "z"
    ),
    "a group that there is not": ("centroid, O", "Ohh", "--input-layout NPX", "Ohh"),
    "bases called channels": (
        "dna, revcomp", "revcomp", "--input-layout NCT", "NBT"
    ),
    "token ids with no bases": ("tokens, reverse", "revcomp", "--input-layout NT", "reverse"),
    "a layout given twice": (
        "centroid, O", "O", "--input-layout NPX --layout y=NX --layout y=NK", "twice"
    ),
    "a mask given twice": ("centroid, O", "O", "--input-layout NPX --mask x --mask x", "twice"),
    "a mask of no file": ("centroid, O", "O", "--input-layout NPX --mask x=", "x="),
    "factors on one axis": ("centroid, O", "O*C4-z", "--input-layout NPX", "X"),
}  # fmt: skip


@pytest.mark.parametrize("engine", ["kernels", "graph"])
def test_vectors_without_channels_have_a_cosine_of_one_channel(tmp_path, engine):
    case = CASES["centroid, O"]
    path, given = files(case, tmp_path)
    line = "--input-layout NPX --layout y=NX --measure channel-cos@y --format json --seed 0"
    run = invoke(
        "measure", path, "--data", given, "--group", "O", *line.split(), "--engine", engine
    )
    assert run.exit_code == 0, run.output
    (record,) = json.loads(run.stdout)["measurements"]
    np.testing.assert_allclose(record["deviations"], -1, atol=1e-6)
    wrong = invoke(
        "measure", path, "--data", given, "--group", "O",
        *line.replace("y=NX", "y=NP").split(), "--engine", engine,
    )  # fmt: skip
    assert wrong.exit_code == 0, wrong.output
    (record,) = json.loads(wrong.stdout)["measurements"]
    assert record["value"] > -0.9  # components that stay in place


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_said_in_one_line(tmp_path, what):
    name, group, line, words = BAD[what]
    path, given = files(CASES[name], tmp_path)
    out = tmp_path / "result.json"
    options = ["--data", given, "--group", group, "--samples", 6, *line.split(), "--out", out]
    run = invoke("measure", path, *options)
    assert run.exit_code == 2, run.output
    told = [text for text in run.stderr.splitlines() if text]
    assert len(told) == 1, run.stderr
    assert words in told[0]
    assert "Traceback" not in run.stderr
    assert not out.exists()


def test_arrays_that_do_not_match_are_said_in_one_line(tmp_path):
    case = CASES["nodes, S10~20"]
    data = data_of(case)
    path, given, _ = saved(case, tmp_path, data)
    wrong = {
        "missing": {"x": data["x"]},
        "other": {"x": data["x"], "adjacency": data["adj"]},
        "rows": {"x": data["x"][:4], "adj": data["adj"]},
        "nodes": {"x": data["x"], "adj": data["adj"][:, :9, :9]},
    }
    for what, arrays in wrong.items():
        np.savez(given, **arrays)
        line = LINES["nodes, S10~20"].split()
        run = invoke("measure", path, "--data", given, "--group", case.group, *line)
        assert run.exit_code == 2, (what, run.output)
        told = [text for text in run.stderr.splitlines() if text]
        assert len(told) == 1, (what, run.stderr)
        assert "adj" in told[0], what


# the tests above, tested


def test_a_planted_error_is_noticed(tmp_path):
    """A record of the wrong letters, group or network does not pass for the right one."""
    name = "gradient, D4"
    path, given, options = saved(CASES[name], tmp_path, data_of(CASES[name]))
    check(name, geed.measure(path, given, "D4", **options))
    scalars = options | {"layout": {"y": "NCHW"}}
    result = geed.measure(path, given, "D4", **scalars)
    for record in result["measurements"]:
        record["layout"] = "NXHW"
    with pytest.raises(AssertionError):
        check(name, result)
    # Down and right the other way round.
    model = letter_models.gradient_field()
    kernels = model.graph.initializer[0]
    values = np.frombuffer(kernels.raw_data, np.float32).reshape(2, 9)
    kernels.raw_data = values[::-1].tobytes()
    swapped = models.save(model, tmp_path / "swapped.onnx")
    with pytest.raises(AssertionError):
        check(name, geed.measure(swapped, given, "D4", **options))
