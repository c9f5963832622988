"""Parts of a run, joined: the bits of the whole, however it is divided."""

import hashlib
import itertools
import json
import random
from dataclasses import fields, replace

import models
import numpy as np
import pytest
import test_mask
from hypothesis import given, settings, strategies as st
from letter_cases import CASES, data_of
from running import images
from test_dense_scores import labels_for
from test_letters import SOME, saved

import onnx_geed as geed
from onnx_geed.errors import GeedError
from onnx_geed.measures import PlaceCounts, Spread
from onnx_geed.report import table
from onnx_geed.run import make_options, prepare_run
from onnx_geed.run.between_samples import Pair
from onnx_geed.run.job import orbit_jobs, point_jobs
from onnx_geed.run.measured_as import measured_as
from onnx_geed.run.orbit_statistics import ChannelValues, MeasureStatistics, OrbitStatistics
from onnx_geed.run.part_content import _ARRAYS, _PLACES, array_from, array_to
from onnx_geed.run.references import TRIPS, Trips
from onnx_geed.run.shard import Shard, jobs_of, parse_shard

FEW = {"samples": 11, "norm_samples": 15, "seed": 3, "provider": "cpu", "batch_size": 17}
EVERY = [
    *("channel-cos", "latent-l2", "latent-cos", "softmax-kl", "unexplained", "flip-rate"),
    *("unexplained@stem", "output-l2"),
]
# What a run has for itself: when, how and how fast it was made.
_OWN = ("created", "command", "runtime")


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return models.save(models.random_cnn(1, (8, 8)), tmp_path_factory.mktemp("net") / "net.onnx")


def data(n=17):
    return images((3, 8, 8), n)


def bits(result):
    """All that two results of one run share, every float in full."""
    return json.dumps({k: v for k, v in result.items() if k not in _OWN})


def same_bits(n, *args, **options):
    """Measure as a whole and in parts; return both, which are the same to the last bit."""
    whole = geed.measure(*args, **options)
    parts = [geed.measure(*args, shard=f"{i}/{n}", **options) for i in range(1, n + 1)]
    joined = geed.merge(random.Random(n).sample(parts, n))
    assert bits(joined) == bits(whole)
    stays = set(whole["runtime"]) - {"seconds", "inferences"}
    assert {k: joined["runtime"][k] for k in stays} == {k: whole["runtime"][k] for k in stays}
    return whole, parts


# ------------------------------------------------------------------------------------------------
# The whole one's bits
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["kernels", "graph"])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_parts_join_to_the_bits_of_the_whole(net, n, engine):
    labels = [i % 3 for i in range(17)]
    options = {**FEW, "measures": EVERY, "engine": engine, "output_kind": "logits"}
    same_bits(n, net, data(), "C8", labels=labels, **options)


@pytest.mark.parametrize(
    ("group", "options"),
    [
        ("D4", {"references": True, "untrained": True}),
        ("C8", {"support": "disk", "interval": "bootstrap"}),
        ("C8", {"references": True, "batch_size": 3}),
        ("C4", {"memory": "40KiB", "batch_size": None, "untrained": True}),
        ("C8", {"samples": 17, "norm_samples": 5}),
        ("C8", {"samples": 2, "norm_samples": 0, "batch_size": 8}),
        ("C8", {"samples": 1}),
        ("C2", {"samples": None, "batch_size": 4}),
        ("rotate:-15..15/7", {"untrained": True}),
        ("noise:4..32/6", {}),
        ("jpeg:90..10/6", {"clip": True}),
        ("zoom:0.8..1.25/9", {"labels": ["b", "a"] * 8 + ["b"]}),
        ("small-rotation", {"measures": ["sensitivity"]}),
        ("SO2~8", {}),
        ("C4", {"measures": ["symmetry-share"], "labels": [0, 1, 2] * 5 + [0, 1]}),
    ],
)
@pytest.mark.parametrize("n", [2, 5])
def test_groups_and_options(net, group, options, n):
    options = {**FEW, "measures": EVERY, "output_kind": "logits", **options}
    same_bits(n, net, data(), group, **options)


@pytest.mark.parametrize(
    "given", [{}, {"output_action": {"scores": "fit:permutation"}, "fit_anyway": True}]
)
def test_a_class_of_probability_zero_in_one_sample_alone(tmp_path, given):
    weights = np.random.default_rng(4).normal(size=(192, 3)) * 40
    weights -= weights.mean(axis=0)
    # An image and its mirror have the same scores, but for little.
    grid = weights.reshape(3, 8, 8, 3)
    weights = (grid + 0.999 * grid[:, :, ::-1]).reshape(192, 3)
    nodes = [
        models.node("Flatten", "x", "flat"),
        models.node("MatMul", "flat w", "z"),
        models.node("Softmax", "z", "scores"),
    ]
    model = models.build(
        nodes,
        [models.weights("w", weights)],
        [("x", models.FLOAT, ["N", 3, 8, 8])],
        [("scores", models.FLOAT, ["N", 3])],
    )
    net = models.save(model, tmp_path / "net.onnx")
    options = {**FEW, "measures": ["softmax-kl"], "output_kind": "probabilities", **given}
    whole, _ = same_bits(2, net, data(), "flip-h", **options)
    (record,) = whole["measurements"]
    assert record["between_samples"] is None
    assert "probability 0" in " ".join(record["warnings"])


@pytest.mark.parametrize("name", SOME)
def test_every_kind_of_data(tmp_path, name):
    case = CASES[name]
    path, x, options = saved(case, tmp_path, data_of(case, count=9))
    own = {"samples": 7, "norm_samples": 9, "batch_size": 2 * geed.parse_group(case.group).order}
    same_bits(3, path, x, case.group, **options, **own)


@pytest.mark.parametrize("background", [None, 1])
@pytest.mark.parametrize("engine", ["kernels", "graph"])
def test_class_scores_at_places(tmp_path, engine, background):
    path = models.save(models.dense_scores(symmetric=False), tmp_path / "dense.onnx")
    x = images((1, 8, 8), 9)
    options = {"measures": ["softmax-kl", "flip-rate", "unexplained"], "output_kind": "logits"}
    options |= {"labels": labels_for(x, 3), "background": background, "engine": engine}
    own = {"samples": 7, "norm_samples": 9, "batch_size": 16, "provider": "cpu"}
    same_bits(4, path, x, "C8", **options, **own)


def test_padding_and_actions_of_ones_own(tmp_path, net):
    sets, x = test_mask.network(tmp_path / "sets.onnx"), {"x": test_mask.POINTS}
    options = {**test_mask.OPTIONS, "samples": 5, "batch_size": 5, "mask": {"m": test_mask.REAL}}
    same_bits(3, sets, x, "C5", **options)
    flip, pixels = geed.parse_group("flip-h"), np.arange(64).reshape(8, 8)
    rows = np.stack([pixels.ravel(), pixels[:, ::-1].ravel()])
    own = geed.IndexAction(flip, "HW", rows)
    same_bits(3, net, data(), None, action=own, **{**FEW, "batch_size": 2})


def test_a_given_table_and_its_doubted_inverse(tmp_path):
    path = models.save(models.c4_lifting(), tmp_path / "lift.onnx")
    rows = np.array(models.c4_channel_table(3))[[0, 3, 2, 1]]
    wrong = geed.Table(tuple(geed.parse_group("C4").elements), "channels", rows, "t")
    options = {"measures": ["channel-cos@map1"], "output_action": {"map1": wrong}}
    options |= {"samples": 9, "norm_samples": 9, "batch_size": 4, "provider": "cpu"}
    whole, _ = same_bits(4, path, images((1, 9, 9), 9), "C4", **options)
    assert "the inverse of the given table" in whole["measurements"][0]["warnings"][0]


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("count", [7, 1])
@pytest.mark.parametrize("untrained", [False, True])
def test_fitted_actions(net, n, count, untrained):
    options = {"output_action": {"latent": "fit:orthogonal", "block1": "fit:permutation"}}
    options |= {"fit_anyway": True}
    options["measures"] = ["unexplained@latent", "unexplained@block1", "channel-cos@block1"]
    options |= {"samples": count, "fit_samples": 4, "batch_size": 9, "untrained": untrained}
    # The data hold two samples of D and of the fit once more.
    x = data()
    x[9:] = x[8::-1][:8]
    whole, _ = same_bits(n, net, x, "C4", **{**FEW, **options}, output_kind="logits")
    assert ("the data contain duplicates" in " ".join(whole["notes"])) == (count == 7)


def test_actions_that_a_file_holds(net, tmp_path):
    how = {"samples": 5, "fit_samples": 6, "seed": 3, "fit_anyway": True, "provider": "cpu"}
    tables = geed.fit_actions(net, data(), "C4", ["latent"], kind="linear", **how)
    geed.write_fits(tmp_path / "fit.npz", tables)
    options = {**FEW, "samples": 5, "measures": ["unexplained@latent"], "batch_size": 8}
    options["output_action"] = {"latent": str(tmp_path / "fit.npz")}
    whole, _ = same_bits(3, net, data(), "C4", **options)
    assert whole["measurements"][0]["fit"]["shuffled"] is not None


def test_elements_that_leave_some_samples_as_they_are(net):
    """All of some parts' samples, and none of others': the note is of the whole."""
    x = data()
    order = geed.measure(net, x, "flip-h", **FEW)["data"]["indices"]
    x[order[:8]] = x[order[:8]] + x[order[:8], ..., ::-1]
    options = {**FEW, "batch_size": 4, "measures": ["output-l2"]}
    for symmetric in (8, 11):
        x[order[:symmetric]] = x[order[:symmetric]] + x[order[:symmetric], ..., ::-1]
        whole, parts = same_bits(3, net, x, "flip-h", **options)
        told = ["leaves each of" in " ".join(r["notes"]) for r in (whole, *parts)]
        assert told == [symmetric == 11, True, True, symmetric == 11]


def test_several_groups_at_once(net):
    groups = ["C8", "rotate:-15..15/7", "flip-h"]
    options = {**FEW, "measures": EVERY, "output_kind": "logits"}
    wholes = geed.measure_groups(net, data(), groups, **options)
    parts = [geed.measure_groups(net, data(), groups, shard=f"{i}/3", **options) for i in (1, 2, 3)]
    for whole, of_group in zip(wholes, zip(*parts, strict=True), strict=True):
        assert bits(geed.merge(of_group)) == bits(whole)


def test_what_the_neighbour_of_a_sample_costs(net):
    """Cut after each orbit: a job more a part, where there are neighbours, and none of the rest."""
    options = {**FEW, "samples": 17, "norm_samples": 0, "batch_size": 8, "measures": ["output-l2"]}
    whole, parts = same_bits(17, net, data(), "C8", **options)
    ran = [part["runtime"]["inferences"] for part in parts]
    # The sixteenth is held against the seventeenth, which is held against none.
    assert ran == [16] * 16 + [8]
    assert whole["runtime"]["inferences"] == 8 * 17
    assert geed.merge(parts)["runtime"]["inferences"] == sum(ran)
    # A ring of few is closed by running the first once more.
    _, parts = same_bits(2, net, data(), "C8", **{**options, "samples": 4})
    assert [part["runtime"]["inferences"] for part in parts] == [24, 24]


# ------------------------------------------------------------------------------------------------
# The division
# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(net):
    return prepare_run(net, data(), "C4", make_options({**FEW, "measures": ["latent-l2"]}))


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 40),
    further=st.integers(0, 30),
    batch=st.integers(1, 40),
    n=st.integers(1, 50),
)
def test_each_orbit_is_in_one_part_in_order_and_jobs_are_whole(prepared, count, further, batch, n):
    indices = tuple(range(count + further))
    source = prepared.task.source.over(indices, None)
    task, layers = replace(prepared.task, batch=batch, source=source), prepared.passes[0]
    shares = [jobs_of(Shard(i, n), task, layers, count) for i in range(1, n + 1)]
    whole, points = orbit_jobs(task, layers, count), point_jobs(task, layers, count)
    assert [j.positions for s in shares for j in s.own] == [j.positions for j in whole]
    assert [j.positions for s in shares for j in s.points] == [j.positions for j in points]
    sizes = [len(s.own) for s in shares], [len(s.points) for s in shares]
    assert all(max(size) - min(size) <= 1 for size in sizes)
    # Each pair belongs to the part of its first sample, which runs at most one job more for it.
    pairs = [pair for s in shares for pair in sorted({p for j in s.own for p in j.pairs})]
    assert sorted(pairs) == sorted({p for j in whole for p in j.pairs})
    for s in shares:
        assert len(s.beside) <= 1
        assert all(j.positions in [w.positions for w in whole] for j in s.beside)
        for p, q in {pair for j in s.own for pair in j.pairs}:
            assert p in s.orbits
            here = q in s.orbits
            assert here or any(q in j.positions and (p, q) in j.pairs for j in s.beside)


def test_more_parts_than_jobs_are_parts_without_orbits(net, tmp_path):
    options = {**FEW, "samples": 3, "batch_size": 16, "measures": EVERY, "output_kind": "logits"}
    _, parts = same_bits(6, net, data(), "C8", **options)
    assert [len(p["measurements"]) > 0 for p in parts] == [
        *(True, False, False, True, False, False)
    ]
    assert "part 3 of 6, with no samples of D: onnx-geed merge joins it" in parts[2]["notes"][0]
    assert "part 3 of 6, with no samples of D" in table(parts[2])
    geed.write_json(parts[2], tmp_path / "part.json")
    assert geed.read_result(tmp_path / "part.json")["measurements"] == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0/3", "numbered from 1 to n, as in 1/3; add one if an array job counts from 0"),
        ("4/3", "numbered from 1 to n"),
        ("3", "give i/n, such as 2/5"),
        ("a/3", "give i/n"),
        ("-1/3", "give i/n"),
        ("1/0", "numbered from 1"),
        ("1/2/3", "give i/n"),
    ],
)
def test_what_is_no_share(text, told):
    with pytest.raises(GeedError, match=told):
        parse_shard(text)


# ------------------------------------------------------------------------------------------------
# A part is a result
# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(net):
    options = {**FEW, "measures": EVERY, "output_kind": "logits", "batch_size": 16}
    return [geed.measure(net, data(), "C8", shard=f"{i}/3", **options) for i in (1, 2, 3)]


def test_all_that_is_known_of_an_orbit_is_carried():
    """A field that is new has to go into parts, or these are less than the whole."""
    carried = {*_ARRAYS, "deviations", "exact", "channels", "pairs", "places"}
    assert {f.name for f in fields(MeasureStatistics)} == carried
    assert {f.name for f in fields(PlaceCounts)} == {*_PLACES}
    assert {f.name for f in fields(OrbitStatistics)} == {
        *("orbits", "measures", "pointed", "points", "spreads")
    }
    assert {f.name for f in fields(Spread)} == {"rows", "mean", "total", "added"}
    assert {f.name for f in fields(ChannelValues)} == {"rows", "total", "added"}
    assert {f.name for f in fields(Pair)} == {"deviations", "square"}
    assert {f.name for f in fields(Trips)} == {*TRIPS}


#: What parts told before labels could tell nothing, and fits knew samples by all of their inputs.
_MEASURE_BEFORE = {
    *("measure", "layer", "layout", "output_action", "elements", "target", "exact", "half"),
    *("skipped", "correction", "half_correction", "exact_channels", "table", "trials"),
    *("background", "notes", "on_independence", "without_table", "averaged", "reads", "digest"),
    "starts_anywhere",
}
_FIT_BEFORE = {
    *("kind", "layer", "samples", "lambda_", "defect", "indices", "marks", "fingerprint"),
}


def test_parts_of_an_ordinary_run_tell_no_more_than_those_of_earlier_versions(net):
    """Else the parts of one run that two versions made would not be joined."""
    asked = {**FEW, "measures": EVERY, "output_kind": "logits"}
    (one, *_) = plan = measured_as(prepare_run(net, data(), "C8", make_options(asked)).task.plan)
    told = [{name: getattr(one, name) for name in _MEASURE_BEFORE} for one in plan]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    asked |= {"labels": [i % 3 for i in range(17)], "shard": "1/2"}
    part = geed.measure(net, data(), "C8", **asked)["part"]
    assert part["same"]["how measures are taken"] == digest[:16]
    assert replace(one, no_labels="of other classes").told()["no_labels"] == "of other classes"

    asked |= {"output_action": {"stem": "fit:linear"}, "samples": 7, "fit_samples": 4}
    part = geed.measure(net, data(), "C8", **asked)["part"]
    for one in part["evidence"]["measures"]:
        assert {*one["told"]} == _MEASURE_BEFORE - {"correction"}
    assert [{*fit} for fit in part["evidence"]["fits"].values()] == [_FIT_BEFORE]


def test_a_part_is_a_result_of_its_own_samples_that_says_it_is_a_part(prepared, three, tmp_path):
    indices = [i for p in three for i in p["data"]["indices"]]
    assert len(indices) == len(set(indices)) == 15
    assert [p["part"]["orbits"] for p in three] == [[0, 4], [4, 8], [8, 11]]
    for part in three:
        own = part["measurements"][0]
        says = f"part {part['part']['number']} of 3, with {own['samples']} of the 11 samples of D"
        assert says in part["notes"][0]
        assert says in " ".join(table(part).split())
        assert own["samples"] == len(own["deviations"]) == len(own["per_sample"])
        assert own["value"] == pytest.approx(np.mean(own["per_sample"]))
        held = prepared.task.source.samples.fingerprint(part["data"]["indices"])
        assert part["data"]["fingerprint"] == held
    np.save(tmp_path / "x.npy", data())
    geed.write_report([three[1]], tmp_path / "page.html", data=str(tmp_path / "x.npy"))
    assert "part 2 of 3" in (tmp_path / "page.html").read_text()
    compared = geed.compare(three[0], three[0])
    assert "A: part 1 of 3" in compared["measurements"][0]["warnings"][0]
    assert "part 1 of 3" in geed.aggregate([three[0]])["warnings"][0]
    with pytest.raises(GeedError, match=r"part of a run \(1 of 3, 2 of 3\)"):
        geed.compare(three[0], three[1])
    with pytest.raises(GeedError, match=r"part of a run \(whole, 1 of 3\)"):
        geed.compare(geed.merge(three), three[0])


def test_parts_may_come_in_any_order_as_files_or_as_results(three, tmp_path):
    files = []
    for part in three:
        files.append(tmp_path / f"part-{part['part']['number']}.json")
        geed.write_json(part, files[-1])
    texts = {bits(geed.merge(given)) for given in itertools.permutations(files)}
    assert texts == {bits(geed.merge(three))}


def test_arrays_come_back_to_the_last_bit():
    rng = np.random.default_rng(0)
    for array in (rng.normal(size=(3, 0, 2)), rng.normal(size=5).astype("f4"), np.arange(4)[None]):
        back = array_from(json.loads(json.dumps(array_to(array))))
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.tobytes() == array.tobytes()
    odd = np.array([np.nan, np.inf, -0.0, 5e-324])
    assert array_from(array_to(odd)).tobytes() == odd.tobytes()
