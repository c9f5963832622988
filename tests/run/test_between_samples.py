"""What different samples are apart, beside what the members of an orbit are."""

import functools
import itertools
import math

import h5py
import models
import naive
import numpy as np
import pytest
from onnx import TensorProto
from recording import measurement
from running import images, orbits

import onnx_geed as geed
from onnx_geed.cache import shard_writer, write_cache
from onnx_geed.measures import Layer, Measure, Plan
from onnx_geed.results import to_csv
from onnx_geed.run import OrbitStatistics, gather, join, neighbours, reduce_orbits

FLOAT = TensorProto.FLOAT
ENGINES = ["kernels", "graph"]


def action_table(group, kind, values):
    return geed.Table(naive.elements(group), kind, np.asarray(values), "given")


def expected(model, group, data, result, layer, measure, **action):
    """The naive twin's number for a record, unnormalised, from bare runs of the model."""
    order = result["data"]["indices"][: result["measurements"][0]["samples"]]
    (values,) = orbits(model, group, data[order], [layer], None)
    disk = action.pop("disk", False)
    if measure == "softmax-kl":
        values = np.exp(naive.log_softmax(values))
    distance = {
        "channel-cos": functools.partial(naive.minus_channel_cos, disk=disk),
        "latent-l2": naive.l2,
        "latent-cos": naive.minus_cos,
        "softmax-kl": naive.divergence,
        "output-l2": naive.l2,
    }[measure]
    if measure == "channel-cos":
        action = {"grid": True} | action
    return naive.between_samples(values, group, distance, **action)


def perfect(record):
    return -1.0 if record["measure"].endswith("cos") else 0.0


def check(record, want, *, rel=1e-5):
    scaled = record["measure"] == "latent-l2" and record["value"] is not None
    want = want / record["normaliser"] if scaled else want
    assert record["between_samples"] == pytest.approx(want, rel=rel, abs=1e-6)
    value = record["value"]
    if value is None or record["measure"] == "latent-cos":
        value = record["unnormalised"]
    share = (value - perfect(record)) / (want - perfect(record))
    assert record["relative"] == pytest.approx(share, rel=10 * rel, abs=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("group", "samples"), [("C8", 2), ("C4", 9), ("flip-h", 16), ("C2", 20)])
def test_every_measure_against_a_naive_loop(tmp_path, engine, group, samples):
    model = models.random_cnn(5, (8, 8))
    facts = models.known(model)
    path = models.save(model, tmp_path / "m.onnx")
    data = images((3, 8, 8), 24)
    asked = ["channel-cos", "latent-l2", "latent-cos", "softmax-kl", "output-l2"]
    result = geed.measure(
        path, data, group, samples=samples, measures=asked, provider="cpu", engine=engine
    )
    measures = {m["measure"] for m in result["measurements"]}
    assert measures == set(asked)
    for record in result["measurements"]:
        want = expected(model, group, data, result, record["layer"], record["measure"])
        check(record, want)
    assert facts["latent"] in {m["layer"] for m in result["measurements"]}


@pytest.mark.parametrize("engine", ENGINES)
def test_inside_a_disk_and_under_a_channel_table(tmp_path, engine):
    model = models.c4_lifting(fields=2)
    path = models.save(model, tmp_path / "m.onnx")
    facts = models.known(model)
    (name,) = facts["hidden"][:1]
    table = models.c4_channel_table(2)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    data = images(tuple(shape), 7)
    result = geed.measure(
        path,
        data,
        "C4",
        measures=[f"channel-cos@{name}"],
        output_action={name: action_table("C4", "channels", table)},
        support="disk",
        provider="cpu",
        engine=engine,
    )
    (record,) = result["measurements"]
    masked = np.where(naive.disk_mask(*shape[-2:]), data, 0).astype(np.float32)
    want = expected(model, "C4", masked, result, name, "channel-cos", disk=True, channels=table)
    check(record, want)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["permutation", "matrices"])
def test_under_actions_on_vectors(tmp_path, engine, kind):
    model = models.cyclic_logits()
    path = models.save(model, tmp_path / "m.onnx")
    data = images((1, 5, 5), 6)
    rows = np.asarray(models.known(model)["permutation"])
    values = rows if kind == "permutation" else naive.table_to_matrices(rows)
    names = ["output-l2@logits"] + ["softmax-kl@logits"] * (kind == "permutation")
    result = geed.measure(
        path,
        data,
        "C4",
        measures=names,
        output_action={"logits": action_table("C4", kind, values)},
        provider="cpu",
        engine=engine,
    )
    for record in result["measurements"]:
        measure = record["measure"]
        want = expected(model, "C4", data, result, "logits", measure, **{kind: values})
        check(record, want)
        assert record["relative"] == pytest.approx(0, abs=1e-4)  # exactly equivariant


def test_orbits_over_jobs_workers_passes_and_engines_give_one_number(tmp_path, monkeypatch):
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    data = images((3, 8, 8), 30)
    for samples in (5, 16, 17, 30):
        plain = None
        for options in (
            {"batch_size": 4},
            {"batch_size": 12},
            {"batch_size": 64},
            {"memory": "200KB", "batch_size": 4},
            {"engine": "graph", "batch_size": 4},
            {"engine": "graph", "batch_size": 20},
        ):
            options = {"engine": "kernels"} | options
            result = geed.measure(path, data, "C4", samples=samples, provider="cpu", **options)
            numbers = [(m["between_samples"], m["relative"]) for m in result["measurements"]]
            plain = plain or numbers
            np.testing.assert_allclose(numbers, plain, rtol=1e-5, atol=1e-6)


def test_a_precision_run_has_the_pairs_of_its_samples(tmp_path):
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    data = images((3, 8, 8), 60)
    relatives = geed.measure(path, data, "C4", precision=0.05, provider="cpu")
    count = relatives["precision"]["samples"]
    whole = geed.measure(path, data, "C4", samples=count, provider="cpu")
    for one, other in zip(relatives["measurements"], whole["measurements"], strict=True):
        assert one["between_samples"] == pytest.approx(other["between_samples"], rel=1e-6)
        assert one["relative"] is not None


def test_known_answers(tmp_path):
    """0 for an invariant network; about 1 where an orbit is no closer than samples are."""
    path = models.save(models.c4_invariant(), tmp_path / "m.onnx")
    result = geed.measure(path, images((1, 6, 6), 20), "C4", provider="cpu")
    for record in result["measurements"]:
        assert record["relative"] == pytest.approx(0, abs=1e-5)
        assert record["between_samples"] > perfect(record) + 1e-4
    # Pixels of noise: a turned sample is as good as another one.
    weights = models.weights("w", np.eye(64))
    nodes = [models.node("Flatten", "x", "flat", axis=1), models.node("MatMul", "flat w", "y")]
    model = models.build(
        nodes, [weights], [("x", FLOAT, ["N", 1, 8, 8])], [("y", FLOAT, ["N", 64])]
    )
    path = models.save(model, tmp_path / "noise.onnx")
    noise = np.random.default_rng(0).normal(size=(40, 1, 8, 8)).astype(np.float32)
    result = geed.measure(
        path, noise, "flip-h", measures=["latent-cos@y", "output-l2@y"], provider="cpu"
    )
    for record in result["measurements"]:
        # Half of f̂ is f(gx) itself, so that an orbit of two noises lies at 1/√2 of the way.
        want = (1 - math.sqrt(0.5)) if record["measure"] == "latent-cos" else math.sqrt(1 / 3)
        assert record["relative"] == pytest.approx(want, rel=0.1)
    path = models.save(models.cyclic_logits(8), tmp_path / "moved.onnx")
    swapped = action_table(
        "C4", "permutation", [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]
    )
    right = action_table("C4", "permutation", models.c4_channel_table(1))
    relatives = []
    for table in (right, swapped):
        result = geed.measure(
            path,
            noise,
            "C4",
            measures=["output-l2@logits"],
            output_action={"logits": table},
            provider="cpu",
        )
        relatives.append(result["measurements"][0]["relative"])
    assert relatives[0] == pytest.approx(0, abs=1e-5)
    assert relatives[1] > 0.3  # the tester is tested: a wrong table is seen


def test_one_sample_has_neither(tmp_path):
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    for engine in ENGINES:
        result = geed.measure(
            path, images((3, 8, 8), 3), "C4", samples=1, provider="cpu", engine=engine
        )
        for record in result["measurements"]:
            assert record["between_samples"] is record["relative"] is None
            assert not any("react" in w for w in record["warnings"])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_tensor_that_does_not_react_has_no_relative_value_and_says_so(tmp_path, engine):
    path = models.save(models.constant(), tmp_path / "m.onnx")
    result = geed.measure(
        path,
        images((1, 5, 5), 5),
        "C4",
        latent="latent",
        measures=["latent-l2", "latent-cos", "softmax-kl", "output-l2"],
        provider="cpu",
        engine=engine,
    )
    for record in result["measurements"]:
        assert record["between_samples"] == pytest.approx(perfect(record), abs=1e-12)
        assert record["relative"] is None
        assert any("hardly reacts" in w for w in record["warnings"])


def test_a_class_that_is_ruled_out_leaves_no_number_and_no_error(tmp_path):
    model = models.build(
        [models.node("Flatten", "x", "p", axis=1), models.node("Softmax", "p", "scores", axis=1)],
        [],
        [("x", FLOAT, ["N", 1, 2, 2])],
        [("scores", FLOAT, ["N", 4])],
    )
    path = models.save(model, tmp_path / "m.onnx")
    data = np.zeros((3, 1, 2, 2), np.float32)
    data[0] = 500
    data[1, 0, 0, 0] = data[2, 0, 0, 1] = 500  # e^-500 is no float32
    for engine in ENGINES:
        result = geed.measure(
            path, data, "flip-v", measures=["softmax-kl"], provider="cpu", engine=engine
        )
        (record,) = result["measurements"]
        assert record["between_samples"] is record["relative"] is None
        assert any("has probability 0" in w for w in record["warnings"])


def test_csv_has_both(tmp_path):
    path = models.save(models.random_cnn(3, (8, 8)), tmp_path / "m.onnx")
    result = geed.measure(path, images((3, 8, 8), 5), "C4", provider="cpu")
    head, *lines = (line.split(",") for line in to_csv(result).splitlines())
    for line, record in zip(lines, result["measurements"], strict=True):
        assert float(line[head.index("between_samples")]) == record["between_samples"]
        assert float(line[head.index("relative")]) == record["relative"]


# caches

MODEL = models.random_cnn(3, (8, 8))
FEW = {"samples": 20, "norm_samples": 22, "batch_size": 8, "provider": "cpu"}


def fields(result):
    return [(m["layer"], m["between_samples"], m["relative"]) for m in result["measurements"]]


@pytest.mark.parametrize("mode", ["raw", "stats"])
@pytest.mark.parametrize("samples", [2, 9, 16, 20])
def test_a_cache_gives_the_live_bits_whole_and_cut(tmp_path, mode, samples):
    path, data = models.save(MODEL, tmp_path / "m.onnx"), images((3, 8, 8), 24)
    options = FEW | {"samples": samples}
    write_cache(path, data, "C4", tmp_path / "a.geed", mode=mode, **options)
    for count in {samples, 1, 2, 5, 16} - set(range(samples + 1, 99)):
        live = geed.measure(path, data, "C4", **options | {"samples": count})
        again = geed.measure_cache(tmp_path / "a.geed", samples=count)
        assert fields(again) == fields(live)


@pytest.mark.parametrize("lost", [[0], [1], [2], [0, 2], [1, 2]])
def test_statistics_of_a_broken_off_run_are_those_of_an_unbroken_one(tmp_path, lost):
    path, data = models.save(MODEL, tmp_path / "m.onnx"), images((3, 8, 8), 24)
    folder = tmp_path / "a.geed"
    write_cache(path, data, "C4", folder, mode="stats", **FEW)
    whole = geed.measure_cache(folder)["measurements"]
    shards = sorted(folder.glob("shard-*.h5"))
    assert len(shards) == 3
    for i in lost:
        shards[i].unlink()
    write_cache(path, data, "C4", folder, mode="stats", **FEW)
    assert geed.measure_cache(folder)["measurements"] == whole


def test_a_cache_without_pairs_is_measured_as_before(tmp_path, monkeypatch):
    path, data = models.save(MODEL, tmp_path / "m.onnx"), images((3, 8, 8), 24)
    # as earlier versions wrote
    monkeypatch.setattr(shard_writer.ShardWriter, "_complete", lambda *_: {})
    write_cache(path, data, "C4", tmp_path / "old.geed", mode="stats", **FEW)
    old = geed.measure_cache(tmp_path / "old.geed")
    live = geed.measure(path, data, "C4", **FEW)
    for one, other in zip(old["measurements"], live["measurements"], strict=True):
        assert one["deviations"] == other["deviations"]
        if one["measure"] == "channel-cos":
            assert one["between_samples"] is one["relative"] is None
            assert any("without them" in note for note in one["notes"])
        else:
            assert one["relative"] == other["relative"]


def test_a_flipped_byte_in_the_pairs_is_found(tmp_path):
    path, data = models.save(MODEL, tmp_path / "m.onnx"), images((3, 8, 8), 24)
    folder = tmp_path / "a.geed"
    write_cache(path, data, "C4", folder, mode="stats", **FEW)
    (first, *_) = sorted(folder.glob("shard-*.h5"))
    with h5py.File(first) as file:
        at = file["between/0"].id.get_chunk_info(0).byte_offset
    content = bytearray(first.read_bytes())
    content[at] ^= 1
    first.write_bytes(content)
    with pytest.raises(geed.GeedError, match=first.name):
        geed.measure_cache(folder)


def test_a_job_that_fails_releases_those_that_wait_for_it(tmp_path):
    path = models.save(models.nan_for_dark(), tmp_path / "m.onnx")
    data = images((1, 6, 6), 24) * 0.5 + 0.5
    data[3] *= 0.01
    for mode in ("raw", "stats"):
        with pytest.raises(geed.GeedError, match="sample 3"):
            write_cache(path, data, "C4", tmp_path / f"{mode}.geed", mode=mode, **FEW)
    for engine in ENGINES:
        with pytest.raises(geed.GeedError, match="sample 3"):
            geed.measure(path, data, "C4", **FEW | {"engine": engine, "batch_size": 4})


SPLITS = [[6], [1] * 6, [4, 2], [1, 5], [2, 2, 2]]


@pytest.fixture(scope="module")
def stretches():
    """Statistics of six orbits, divided in several ways."""
    c4 = geed.parse_group("C4")
    layers = {"y": Layer("y", (3,), "NK"), "a": Layer("a", (16, 4, 4), "NCHW")}
    measures = (
        Measure("channel-cos", "a", geed.grid_action(c4, 4, 4)),
        Measure("latent-l2", "y", geed.Trivial(c4)),
        Measure("output-l2", "y", geed.Trivial(c4)),
    )
    plan = Plan(c4, measures, layers, (True,) * 4)
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.normal(size=(6, 4, *layer.shape)).astype(np.float32)
        for name, layer in layers.items()
    }

    def divided(sizes):
        starts = np.cumsum([0, *sizes])
        return [
            reduce_orbits(
                plan,
                {name: a[first:stop] for name, a in arrays.items()},
                str,
                first=int(first),
                pairs=neighbours(6),
            )
            for first, stop in itertools.pairwise(starts)
        ]

    return plan, arrays, divided


def as_bits(statistics):
    """All that there is in a value, to be compared to the last bit."""
    entries = {
        key: (
            s.deviations.tolist(),
            s.zero_pairs.tolist(),
            None if s.exact is None else s.exact.tolist(),
            None if s.channels is None else s.channels.mean().tolist(),
            {w: (p.deviations.tolist(), p.square) for w, p in sorted(s.pairs.complete.items())},
            sorted(s.pairs.open),
        )
        for key, s in statistics.measures.items()
    }
    points = {name: rows.tolist() for name, rows in statistics.points.items()}
    return statistics.orbits, entries, statistics.pointed, points


def test_joined_orbits_are_the_same_bits_however_they_were_divided(stretches):
    plan, arrays, divided = stretches
    (whole,) = divided([6])
    (whole,) = [join(plan, [whole])]
    got = whole.measures["output-l2", "y"].pairs.complete
    assert sorted(got) == sorted(neighbours(6))
    want = naive.between_samples(arrays["y"], "C4", naive.l2)
    assert np.mean([pair.deviations for pair in got.values()]) == pytest.approx(want, rel=1e-6)
    for sizes in SPLITS:
        parts = divided(sizes)
        assert as_bits(join(plan, parts)) == as_bits(whole)
        assert as_bits(gather(plan, iter(parts), 6)) == as_bits(whole)


def test_it_does_not_matter_which_are_joined_first(stretches):
    plan, _, divided = stretches
    a, b, c, *rest = divided([1, 2, 1, 1, 1])
    left = join(plan, [join(plan, [join(plan, [a, b]), c]), *rest])
    right = join(plan, [a, join(plan, [b, join(plan, [c, join(plan, rest)])])])
    assert as_bits(left) == as_bits(right)
    assert as_bits(join(plan, [OrbitStatistics(), left])) == as_bits(left)


def test_the_sum_of_sums_would_be_other_bits(stretches):
    """The tester tested: channels that were added up in parts round otherwise."""
    _, _, divided = stretches
    parts = [s.measures["channel-cos", "a"].channels for s in divided([2, 2, 2])]
    rows = np.concatenate([values.rows for values in parts])
    in_parts = np.add.reduce([values.rows[0] + values.rows[1] for values in parts]) / 6
    by_orbit = functools.reduce(np.add, rows, np.zeros(rows.shape[1:])) / 6
    assert in_parts.tolist() != by_orbit.tolist()


def test_orbits_that_are_missing_or_doubled_are_refused(stretches):
    plan, _, divided = stretches
    a, b, c = divided([2, 2, 2])
    for parts in ([a, c], [a, a, b], [b, a]):
        with pytest.raises(ValueError, match="does not follow on"):
            join(plan, parts)
    lacking = OrbitStatistics(c.orbits, dict(list(c.measures.items())[1:]), c.pointed, c.points)
    with pytest.raises(ValueError, match="some orbits lack channel-cos@a"):
        join(plan, [a, b, lacking])


# M at rounding


def test_points_that_are_all_but_the_same_are_warned_of():
    rng = np.random.default_rng(0)
    for apart, told in ((1e-6, True), (1e-2, False)):
        base = np.ones(8) / math.sqrt(8)
        points = base + apart * rng.normal(size=(30, 8)) / math.sqrt(8)
        norm = float(np.linalg.norm(points, axis=1).mean())
        for measure in ("latent-l2", "latent-cos"):
            record = measurement(
                measure=measure,
                layer="z",
                layout="NK",
                output_action="trivial",
                deviations=np.full((3, 2), -1.0 if measure == "latent-cos" else apart),
                elements=("e", "r1"),
                normaliser=geed.normaliser(measure, points),
                norm_samples=30,
                latent_norm=norm,
            )
            assert any("nearly the same latent" in w for w in record["warnings"]) == told


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_with_m_at_rounding_is_warned_of(tmp_path, engine):
    model = models.build(
        [
            models.node("Flatten", "x", "flat", axis=1),
            models.node("MatMul", "flat w", "some"),
            models.node("Add", "some offset", "z"),
            models.node("Gemm", "z head", "logits"),
        ],
        [
            models.weights("w", np.random.default_rng(0).normal(size=(25, 4)) * 1e-7),
            models.weights("offset", [1.0, 0.5, 0.25, 2.0]),
            models.weights("head", np.eye(4)[:, :3]),
        ],
        [("x", FLOAT, ["N", 1, 5, 5])],
        [("logits", FLOAT, ["N", 3])],
    )
    path = models.save(model, tmp_path / "m.onnx")
    result = geed.measure(
        path,
        images((1, 5, 5), 6),
        "C4",
        measures=["latent-l2@z", "latent-cos@z"],
        provider="cpu",
        engine=engine,
    )
    for record in result["measurements"]:
        assert any("nearly the same latent" in w for w in record["warnings"])
        assert record["relative"] is None


# NaN and infinity beside zeros

BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("engine", [*ENGINES, "raw", "stats"])
@pytest.mark.parametrize("support", ["full", "disk"])
def test_what_is_not_finite_beside_zeros_is_refused(tmp_path, bad, engine, support):
    """x / (1 - x) is infinite at 1, and the unmoved map is zero where the moved one is not."""
    nodes = [
        models.node("Mul", "x mask", "a"),  # zero but in the upper left
        models.node("Sub", "one a", "rest"),
        models.node("Div", "a rest", "hot"),
        models.node("Mul", "hot sign", "map"),
    ]
    mask = np.zeros((1, 1, 6, 6))
    mask[..., :3, :3] = 1
    sign = {np.inf: 1.0, -np.inf: -1.0}.get(bad)
    if sign is None:
        nodes[3] = models.node("Sub", "hot hot", "map")
    model = models.build(
        nodes,
        [
            models.weights("mask", mask),
            models.weights("one", [1.0]),
            models.weights("sign", [sign or 1.0]),
        ],
        [("x", FLOAT, ["N", 1, 6, 6])],
        [("map", FLOAT, ["N", 1, 6, 6])],
    )
    path = models.save(model, tmp_path / "m.onnx")
    data = np.zeros((4, 1, 6, 6), np.float32)
    data[:, 0, 2, 2] = 0.5
    # The hot pixel is moved under the mask by one element alone; a corner is outside the disk.
    data[2, 0, 2, 2] = 0
    data[2, 0, 2, 3] = 1
    options = {
        "measures": ["channel-cos@map"],
        "support": support,
        "provider": "cpu",
        "samples": 4,
    }
    run = functools.partial(geed.measure, engine=engine)
    if engine not in ENGINES:
        run = functools.partial(write_cache, folder=tmp_path / "a.geed", mode=engine)
    with pytest.raises(geed.GeedError, match=r"sample 2, element flip, tensor 'map'"):
        run(path, data, "flip-h", **options)


@pytest.mark.parametrize("bad", BAD)
def test_no_kernel_swallows_what_is_not_finite(bad):
    from onnx_geed.measures import kernels

    zero, some = np.zeros(3), np.array([1.0, 2.0, 3.0])
    broken = np.array([1.0, bad, 2.0])
    out = np.empty(1)
    for other in (zero, some, broken):
        for pair in ((broken, other), (other, broken)):
            rows = [p[None] for p in pair]
            kernels.cosines(*rows, out)
            assert np.isnan(out[0])
            kernels.distances(*rows, out)
            assert not np.isfinite(out[0])
            assert np.isnan(kernels.mean_cosine(np.stack(pair)))
            assert not np.isfinite(kernels.mean_distance(np.stack(pair)))
        if np.isnan(bad):
            kernels.divergences(broken[None], other[None], out)
            assert np.isnan(out[0])
    for aa, bb in ((bad, 0.0), (0.0, bad), (bad, 1.0), (bad, bad)):
        sums = np.array([[math.nan, aa, bb]])
        kernels.cosines_of_sums(sums, out)
        assert np.isnan(out[0])
        means, zeros, by_channel = np.empty((1, 1)), np.empty((1, 1)), np.empty((1, 2, 1))
        of_channel = out.reshape(1, 1, 1), sums.reshape(1, 1, 1, 3)
        kernels.channel_means(*of_channel, np.ones(1, np.bool_), True, means, zeros, by_channel)
        assert np.isnan(means).all()
        assert np.isnan(by_channel).all()


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_functions_on_arrays_refuse_it(bad, dtype):
    c4 = geed.parse_group("C4")
    maps, points = np.zeros((2, 4, 2, 4, 4), dtype), np.zeros((2, 4, 3), dtype)
    maps[1, 2, 1, 0, 0] = points[1, 2, 1] = bad
    action = geed.grid_action(c4, 4, 4)
    for call in (
        lambda: geed.channel_cos(maps, action),
        lambda: geed.channel_cos(maps, action, support="disk"),
        lambda: geed.channel_sums(maps, action),
        lambda: geed.latent_l2(points, c4),
        lambda: geed.latent_cos(points, c4),
        lambda: geed.softmax_kl(points, c4, kind="logits"),
        lambda: geed.softmax_kl(points, c4, kind="probabilities"),
        lambda: geed.output_l2(points, c4),
    ):
        with pytest.raises(geed.GeedError, match="sample 1, element r2"):
            call()
    for name in ("latent-l2", "latent-cos", "output-l2", "softmax-kl"):
        with pytest.raises(geed.GeedError, match="element r2, tensor 'z'"):
            geed.orbit_deviations(Measure(name, "z", geed.Trivial(c4)), points[1])
    with pytest.raises(geed.GeedError, match="element r2, tensor 'z'"):
        geed.orbit_deviations(Measure("channel-cos", "z", action), maps[1])
    for name in ("latent-l2", "latent-cos"):
        with pytest.raises(geed.GeedError, match="point 2"):
            geed.normaliser(name, points[1])


def test_numbers_whose_squares_are_out_of_range_are_measured():
    c2 = geed.parse_group("C2")
    for scale in (1e200, 1e-200, 1.0):
        points = np.array([[[3.0, 4.0], [0.0, 0.0]]]) * scale
        np.testing.assert_allclose(geed.latent_l2(points, c2), 2.5 * scale, rtol=1e-12)
        m = geed.normaliser("latent-l2", points[0])
        assert m == pytest.approx(5 * scale if scale > 1e-200 else m, rel=1e-12)
    largest = np.full((1, 2, 1, 2, 2), np.finfo(np.float32).max, np.float32)
    largest[0, 1] *= np.array([[0.5, 1], [1, 1]], np.float32)
    got = geed.channel_cos(largest, geed.grid_action(geed.parse_group("flip-h"), 2, 2))
    want = naive.channel_cos(largest, "flip-h")
    np.testing.assert_allclose(got, want, rtol=1e-9)


# what softmax_kl is given


def test_values_unlike_logits_ask_for_their_kind():
    c4 = geed.parse_group("C4")
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 5))
    p = np.exp(naive.log_softmax(logits))
    for values, what in (
        (p, "sum to 1"),
        (p.astype(np.float16), "sum to 1"),
        (100 * p, "percentages"),
        (-np.log(p), "negative logarithms"),
        (p[..., :1], "single column"),
    ):
        with pytest.raises(geed.GeedError, match=what) as caught:
            geed.softmax_kl(values, c4)
        assert "kind=" in str(caught.value)
        measure = Measure("softmax-kl", "y", geed.Trivial(c4))
        if values.shape[-1] > 1:
            with pytest.raises(geed.GeedError, match=what):
                geed.orbit_deviations(measure, values[0])
        geed.softmax_kl(values, c4, kind="logits")  # stated, it is taken as it is said
    want = naive.softmax_kl(p, "C4", kind="probabilities")
    np.testing.assert_allclose(geed.softmax_kl(p, c4, kind="probabilities"), want, atol=1e-12)
    same = geed.softmax_kl(logits, c4)
    np.testing.assert_array_equal(same, geed.softmax_kl(logits, c4, kind="logits"))
    np.testing.assert_allclose(geed.softmax_kl(np.log(p), c4), want, atol=1e-12)
    with pytest.raises(geed.GeedError, match="Did you mean"):
        geed.softmax_kl(p, c4, kind="probability")
