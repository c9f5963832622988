"""The metric of a training loop against its slow twin, with labels, and under sampled groups."""

import pickle

import naive
import naive_families
import naive_letters
import naive_shares
import numpy as np
import pytest
import running
from test_called import LAYERS, SHAPE, Tensor, net

import onnx_geed
from onnx_geed import EquivarianceMetric, GeedError, measure

MEASURES = [
    *(("channel-cos", "map"), ("unexplained", "map"), ("latent-l2", "z"), ("latent-cos", "z")),
    *(("unexplained", "z"), ("softmax-kl", "logits"), ("flip-rate", "logits")),
    ("output-l2", "logits"),
]
NAMES = ["@".join(pair) for pair in MEASURES]


def slow_net(orbit):
    return net(orbit.astype(np.float32))


def equivariant(batch):
    maps = np.maximum(batch, 0)
    pooled = maps.mean((2, 3))
    return {"map": maps, "z": pooled, "logits": 9 * pooled}


def lopsided(batch):
    half = batch.shape[-1] // 2
    sides = [side.mean((1, 2, 3)) for side in (batch[..., :half], batch[..., half:])]
    return {**net(batch), "logits": 20 * np.stack(sides, axis=1)}


def pair(group="C8", **options):
    own = EquivarianceMetric(group, NAMES, **LAYERS, **options)
    return own, naive.Metric(group, MEASURES, **options)


def images(n):
    return running.images(SHAPE, n)


def agree(own, twin):
    found, expected = own.compute(), twin.compute()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=2e-5, abs=2e-6), name


@pytest.mark.parametrize("group", ["C8", "D4", "flip-h"])
@pytest.mark.parametrize("options", [{}, {"norm_samples": 5}])
def test_it_is_its_slow_twin_over_uneven_batches(group, options):
    own, twin = pair(group, **options)
    rows, at = images(13), 0
    for size in (1, 5, 2, 4, 1):
        for one, f in ((own, net), (twin, slow_net)):
            one.update(f, rows[at : at + size])
        at += size
        if at > 1:  # of one sample there is no M
            agree(own, twin)
    assert at == len(rows)
    # And after it forgot.
    own.reset()
    twin.reset()
    for part in (rows[4:7], rows[9:]):
        own.update(net, part)
        twin.update(slow_net, part)
    agree(own, twin)


@pytest.mark.parametrize("swapped", [False, True])
def test_two_halves_in_either_order_are_their_slow_twin(swapped):
    rows, halves = images(11), []
    for part in (rows[:4], rows[4:]):
        own, twin = pair("C4")
        own.update(net, part[:1])
        own.update(net, part[1:])
        twin.update(slow_net, part)
        halves.append((own, twin))
    (own, twin), (other, of_other) = reversed(halves) if swapped else halves
    agree(own + other, twin.merged(of_other))


@pytest.mark.parametrize("sizes", [[8, 3, 4], [3, 8, 4], [2, 2, 5], [6, 1, 6], [1, 1, 9]])
@pytest.mark.parametrize("goes_on", [False, True])
def test_sums_take_m_from_the_first_samples_of_all(sizes, goes_on):
    measures = [pair for pair in MEASURES if pair[0] != "unexplained"]  # M₂ is over more
    rows, at, parts = images(sum(sizes)), 0, []
    twin = naive.Metric("C4", measures, norm_samples=5)
    twin.update(slow_net, rows)
    for size in sizes:
        own = EquivarianceMetric("C4", ["@".join(m) for m in measures], norm_samples=5, **LAYERS)
        if goes_on and len(parts) == 2:
            own = sum(parts)
            parts = []
        own.update(net, rows[at : at + size])
        parts.append(pickle.loads(pickle.dumps(own)))
        at += size
    total = sum(parts)
    assert total.samples == sum(sizes)
    assert {record["norm_samples"] for record in total.records() if record["normaliser"]} == {5}
    agree(total, twin)


def test_what_is_not_equivariant_scores_worse():
    rows, values = images(8), []
    for f in (equivariant, lopsided):
        own = EquivarianceMetric("C4", NAMES, **LAYERS)
        own.update(f, rows)
        values.append(own.compute())
    perfect, worse = values
    for name in NAMES:
        if not name.startswith("latent-cos"):  # which is read by its scale
            assert worse[name] > perfect[name] + 1e-3, name
    assert perfect["channel-cos@map"] == pytest.approx(-1, abs=1e-6)
    assert perfect["softmax-kl@logits"] == pytest.approx(0, abs=1e-6)


def with_labels(rows, labels, sizes, measures=("softmax-kl@logits",)):
    own, at = EquivarianceMetric("C4", measures, **LAYERS), 0
    for size in sizes:
        own.update(net, rows[at : at + size], labels[at : at + size])
        at += size
    return own


def test_labels_say_how_often_predictions_are_right():
    rows, labels = images(12), np.random.default_rng(3).integers(0, 4, 12)
    own = with_labels(rows, labels, [5, 1, 6])
    twin = naive.Metric("C4", [])
    twin.update(slow_net, rows, labels.tolist())
    stay, right = twin.predictions("logits")
    (record,) = own.records()
    assert record["predictions"]["stay"]["per_element"] == pytest.approx(stay)
    assert record["predictions"]["right"]["per_element"] == pytest.approx(right)
    assert record["predictions"]["samples"] == 12
    assert set(record["per_class"]) == {str(label) for label in labels}
    # Of two halves the same; and without labels the class stays as often.
    halves = with_labels(rows[:7], labels[:7], [7]) + with_labels(rows[7:], labels[7:], [2, 3])
    assert halves.records()[0]["predictions"] == record["predictions"]
    bare = EquivarianceMetric("C4", ["softmax-kl@logits"], **LAYERS)
    bare.update(net, rows)
    (plain,) = bare.records()
    assert plain["predictions"]["stay"] == record["predictions"]["stay"]
    assert plain["predictions"]["right"] is None
    assert plain["per_class"] is None


def test_predictions_are_those_of_measure():
    data, labels = images(9), np.random.default_rng(3).integers(0, 4, 9)
    order = np.random.default_rng(0).permutation(9)
    measures = ["softmax-kl@logits", "flip-rate@logits", "symmetry-share@logits"]
    told = {"measures": measures, "samples": 9, "labels": labels}
    whole = measure(net, data, "C4", **told, **LAYERS)["measurements"]
    own = with_labels(data[order], labels[order], [4, 5], measures).records()
    for one, other in zip(own, whole, strict=True):
        assert one["predictions"] == other["predictions"], one["measure"]
        assert one["per_class"] == other["per_class"], one["measure"]
        assert one["value"] == other["value"], one["measure"]


def test_a_share_of_the_error_is_its_slow_twin():
    rows, labels = images(9), np.random.default_rng(3).integers(0, 4, 9)
    own = with_labels(rows, labels, [2, 7], ["symmetry-share@logits"])
    orbits = np.stack([net(naive.orbit("C4", x[None])[0].astype("f4"))["logits"] for x in rows])
    deviations, errors = naive_shares.of_classes(orbits.astype(float), labels)
    expected = naive_shares.share(deviations, errors)
    assert own.compute()["symmetry-share@logits"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [list, tuple, np.uint8, Tensor])
def test_labels_come_as_whatever_holds_whole_numbers(kind):
    rows, labels = images(4), [0, 3, 1, 1]
    given = kind(labels) if kind in (list, tuple) else np.array(labels)
    given = given.astype(kind) if kind is np.uint8 else given
    given = Tensor(given) if kind is Tensor else given
    own = EquivarianceMetric("C4", ["softmax-kl@logits"], **LAYERS)
    own.update(net, rows, given)
    same = with_labels(rows, labels, [4]).records()
    assert own.records()[0]["predictions"] == same[0]["predictions"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 1], r"one class a sample.*\(4,\)"),
        ([0.5, 1, 1, 1], "whole numbers"),
        (np.zeros((4, 8, 8), int), "classes of places take onnx_geed.measure"),
        (["a", "b", "c", "d"], "whole numbers"),
        ([0, 1, 2, 4], "logits has 4 classes, found the label 4: give whole numbers from 0 to 3"),
        ([0, 1, -1, 2], "found the label -1"),
        ([[0], [1, 2], 3, 4], "labels are not an array"),
    ],
)
def test_labels_that_are_none_are_one_line(labels, said):
    own = EquivarianceMetric("C4", ["softmax-kl@logits"], **LAYERS)
    with pytest.raises(GeedError, match=said) as caught:
        own.update(net, images(4), labels)
    assert "\n" not in str(caught.value)
    assert own.samples == 0
    own.update(net, images(4))  # and it can be used still


def test_labels_of_some_batches_alone_are_refused():
    rows = images(4)
    own = with_labels(rows, [0, 1, 2, 3], [4])
    with pytest.raises(GeedError, match="batches before had labels, and this one has none"):
        own.update(net, rows)
    bare = EquivarianceMetric("C4", ["softmax-kl@logits"], **LAYERS)
    bare.update(net, rows)
    with pytest.raises(GeedError, match="batches before had none, and this one has some"):
        bare.update(net, rows, [0, 1, 2, 3])
    with pytest.raises(GeedError, match="only one of the two metrics"):
        _ = own + bare
    share = EquivarianceMetric("C4", ["symmetry-share@logits"], **LAYERS)
    with pytest.raises(GeedError, match=r"symmetry-share.*update\(f, batch, labels\)"):
        share.update(net, rows)


@pytest.mark.parametrize("sizes", [[7], [1, 4, 2]])
@pytest.mark.parametrize("group", ["SO2~8", "O2~8"])
def test_sampled_groups_draw_by_the_number_of_a_sample(group, sizes):
    rows, at = images(7), 0
    names = ["channel-cos@map", "latent-l2@z", "output-l2@logits"]
    own = EquivarianceMetric(group, names, seed=3, **LAYERS)
    for size in sizes:
        own.update(net, rows[at : at + size])
        at += size
    moved = naive_letters.orbit(group, "CHW", rows, seed=3)
    orbits = {}
    for orbit in moved:
        for name, value in net(orbit.astype(np.float32)).items():
            orbits.setdefault(name, []).append(value)
    maps, z, logits = (np.array(orbits[name], dtype=float) for name in ("map", "z", "logits"))
    found = own.compute()
    cosines = naive_letters.channel_cos(maps, group, "CHW")
    assert found["channel-cos@map"] == pytest.approx(cosines.mean(), abs=2e-5)
    far = [np.linalg.norm(z[i] - z[i].mean(axis=0), axis=1).mean() for i in range(7)]
    m = naive.normaliser(z[:, 0], "latent-l2")
    assert found["latent-l2@z"] == pytest.approx(np.mean(far) / m, rel=2e-5)
    assert own.records()[1]["half"] is not None
    away = logits - logits.mean(axis=1, keepdims=True)
    assert found["output-l2@logits"] == pytest.approx(np.linalg.norm(away, axis=2).mean(), rel=2e-5)


def test_elements_drawn_one_by_one_do_not_depend_on_batches():
    points = np.random.default_rng(0).normal(size=(7, 5, 3)).astype(np.float32)

    def turned(batch):
        return {"y": batch[..., 0] ** 2}

    found = []
    for sizes in ([7], [2, 5]):
        own = EquivarianceMetric("SO3~5", ["output-l2@y"], input_layout="NPX", layout={"y": "NK"})
        at = 0
        for size in sizes:
            own.update(turned, points[at : at + size])
            at += size
        found.append(own.records()[0])
    assert found[0]["deviations"] == found[1]["deviations"]
    assert found[0]["between_samples"] == found[1]["between_samples"]
    assert len(np.unique(np.round(found[0]["deviations"], 9))) > 30


def test_noise_does_not_depend_on_batches():
    rows, found = np.random.default_rng(0).random((6, *SHAPE)).astype(np.float32), []
    for parts in ([rows], [rows[:1], rows[1:]]):
        own = EquivarianceMetric("noise:4..32/3", ["output-l2@logits"], **LAYERS)
        for part in parts:
            own.update(net, part)
        found.append(own.records()[0]["deviations"])
    assert found[0] == found[1]


FAMILY = "brightness:-30..30/3"


def bright(n):
    return np.random.default_rng(0).random((n, *SHAPE)).astype(np.float32)


def of_family(rows, sizes, **options):
    own, at = EquivarianceMetric(FAMILY, ["latent-l2@z"], **LAYERS, **options), 0
    for size in sizes:
        own.update(net, rows[at : at + size])
        at += size
    return own


@pytest.mark.parametrize("norm_samples", [200, 4])
@pytest.mark.parametrize("sizes", [[9], [1] * 9, [2, 6, 1]])
def test_a_familys_gain_is_that_of_measure_and_its_slow_twin(sizes, norm_samples):
    data = bright(9)
    rows = data[np.random.default_rng(0).permutation(9)]
    options = {"samples": 9, "norm_samples": norm_samples}
    whole = measure(net, data, FAMILY, measures=["latent-l2@z"], **options, **LAYERS)
    (record,) = of_family(rows, sizes, norm_samples=norm_samples).records()
    assert record["gain"] == whole["measurements"][0]["gain"]
    inputs = [[x, *(naive_families.change("brightness", x, v) for v in (-30, 30))] for x in rows]
    inputs = [np.asarray(orbit, dtype=np.float64) for orbit in inputs]
    latents = [slow_net(orbit)["z"].astype(np.float64) for orbit in inputs]
    known = naive_families.gain(latents, inputs, 9, min(9, norm_samples))
    assert record["gain"]["value"] == pytest.approx(known, rel=1e-4)


def test_the_gain_of_added_metrics_is_that_over_all_samples():
    rows = bright(9)
    (whole,) = of_family(rows, [9], norm_samples=6).records()
    parts = [of_family(part, [len(part)], norm_samples=6) for part in (rows[:4], rows[4:])]
    (added,) = (pickle.loads(pickle.dumps(parts[0])) + parts[1]).records()
    assert added["gain"]["value"] == pytest.approx(whole["gain"]["value"], rel=1e-9)
    (twice,) = (
        EquivarianceMetric(FAMILY, ["latent-l2@z"], norm_samples=6, **LAYERS) + parts[0]
    ).records()
    assert twice["gain"] == parts[0].records()[0]["gain"]


def test_inputs_are_kept_for_a_gain_alone():
    own = of_family(bright(5), [5], norm_samples=3)
    assert own._inputs.points.shape == (3, np.prod(SHAPE))
    own.reset()
    assert own._inputs is None
    other = EquivarianceMetric("C4", ["latent-l2@z"], **LAYERS)
    other.update(net, bright(2))
    assert other._inputs is None


def test_update_takes_labels_in_public():
    assert "labels" in onnx_geed.EquivarianceMetric.update.__annotations__
