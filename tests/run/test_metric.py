"""The metric of a training loop: what it says of batches is what `measure` says of the samples."""

import copy
import importlib.util
import pickle

import numpy as np
import pytest
import running
from test_called import LAYERS, SHAPE, Tensor, net

import onnx_geed
from onnx_geed import EquivarianceMetric, GeedError, measure

MEASURES = [
    *("channel-cos@map", "unexplained@map", "latent-l2@z", "latent-cos@z", "unexplained@z"),
    *("softmax-kl@logits", "flip-rate@logits", "output-l2@logits"),
]
#: What a record has of its own, the rest being words.
NUMBERS = (
    *("value", "ci95", "stderr", "samples", "normaliser", "unnormalised", "norm_samples"),
    *("per_element", "per_sample", "deviations", "exact", "between_samples", "relative"),
    *("per_channel", "zero_pairs", "half", "most_common", "predictions", "per_class"),
)


def drawn(n, seed=0):
    """Samples, in the order in which `measure` takes them."""
    data = running.images(SHAPE, n)
    return data, data[np.random.default_rng(0).permutation(n)]


def metric_of(group="C8", measures=MEASURES, **options):
    return EquivarianceMetric(group, measures, **LAYERS, **options)


def fed(metric, rows, sizes, function=net):
    at = 0
    for size in sizes:
        metric.update(function, rows[at : at + size])
        at += size
    assert at == len(rows)
    return metric


def numbers(record):
    return {name: record.get(name) for name in NUMBERS}


@pytest.mark.parametrize("sizes", [[21], [1] * 21, [5] * 4 + [1], [17, 4], [2, 19]])
@pytest.mark.parametrize("norm_samples", [200, 7])
def test_batches_of_any_size_give_the_bits_of_measure(sizes, norm_samples):
    data, rows = drawn(21)
    options = {"norm_samples": norm_samples}
    whole = measure(net, data, "C8", measures=MEASURES, samples=21, **options, **LAYERS)
    metric = fed(metric_of(**options), rows, sizes)
    assert metric.samples == 21
    for own, other in zip(metric.records(), whole["measurements"], strict=True):
        assert numbers(own) == numbers(other), own["measure"]


@pytest.mark.parametrize("group", ["flip-h", "rotate:-30..30/3", "D4"])
@pytest.mark.parametrize("n", [1, 2, 5, 9])
@pytest.mark.parametrize("beside", [["unexplained@map"], []])  # alone, maps are summed as they come
def test_so_do_few_samples_under_any_group(group, n, beside):
    data, rows = drawn(n)
    measures = ["channel-cos@map", "latent-l2@z", "softmax-kl@logits", *beside]
    whole = measure(net, data, group, measures=measures, samples=n, **LAYERS)
    metric = fed(metric_of(group, measures), rows, [1] * n)
    for own, other in zip(metric.records(), whole["measurements"], strict=True):
        assert numbers(own) == numbers(other), own["measure"]
    named = {f"{r['measure']}@{r['layer']}": r["value"] for r in whole["measurements"]}
    for name, value in metric.compute().items():
        assert np.isnan(value) if named[name] is None else value == named[name]


def test_added_metrics_are_one_over_all_samples_to_rounding():
    data, rows = drawn(30)
    whole = measure(net, data, "C8", measures=MEASURES, samples=30, **LAYERS)
    parts = []
    for part in (rows[:18], rows[18:19], rows[19:]):
        one = fed(metric_of(), part, [len(part)])
        parts.append(pickle.loads(pickle.dumps(one)))
    total = sum([metric_of(), *parts, metric_of()])
    assert total.samples == 30
    assert [one.samples for one in parts] == [18, 1, 11]
    for own, other in zip(total.records(), whole["measurements"], strict=True):
        assert own["deviations"] == other["deviations"]
        for name in ("value", "normaliser", "between_samples", "relative"):
            assert np.isclose(own[name] or 0, other[name] or 0, rtol=1e-12), (own["measure"], name)
        assert np.allclose(own["per_channel"] or 0, other["per_channel"] or 0, rtol=1e-12)


def between(metric):
    """What different samples are apart, of measures that are not divided by M."""
    return [r["between_samples"] for r in metric.records() if r["normaliser"] is None]


def test_neighbours_are_those_of_the_first_that_has_some():
    _, rows = drawn(9)
    one, few = fed(metric_of(), rows[:1], [1]), fed(metric_of(), rows[1:], [3, 5])
    scales = between(few)
    assert None not in scales
    assert between(one + few) == scales
    assert between(few + one) == scales


def turned(f, x):
    """A map on an orbit of quarter turns, and the first one turned along."""
    maps = f(np.stack([np.rot90(x, k, (1, 2)) for k in range(4)]))["map"].astype(float)
    return maps, np.stack([np.rot90(maps[0], k, (1, 2)) for k in range(4)])


@pytest.mark.parametrize(
    "batch_size", [1, 2, 3, 4, 9]
)  # of fewer than 4 rows, an orbit is in parts
@pytest.mark.parametrize("sizes", [[6], [3, 3], [1] * 6, [2, 4]])
def test_neighbours_are_held_against_each_other_across_batches(sizes, batch_size):
    rows, found = drawn(6)[1], []
    for some in (sizes, [6]):
        metric, at = metric_of("C4", ["channel-cos@map"], batch_size=batch_size), 0
        for size in some:
            metric.update(net, rows[at : at + size])
            metric, at = pickle.loads(pickle.dumps(metric)), at + size
        found.append(numbers(metric.records()[0]))
    assert found[0] == found[1]
    orbits = [turned(net, x) for x in rows]
    apart = []
    for i in range(6):
        y, expected = orbits[(i + 1) % 6][0], orbits[i][1]
        norms = np.sqrt((y**2).sum((2, 3)) * (expected**2).sum((2, 3)))
        apart.append(-((y * expected).sum((2, 3)) / norms).mean())
    assert found[0]["between_samples"] == pytest.approx(np.mean(apart), rel=1e-5)


def test_a_sum_goes_on():
    data, rows = drawn(20)
    total = fed(metric_of(), rows[:10], [10]) + fed(metric_of(), rows[10:15], [5])
    before = between(total)
    total.update(net, rows[15:])
    whole = measure(net, data, "C8", measures=MEASURES, samples=20, **LAYERS)
    for own, other in zip(total.records(), whole["measurements"], strict=True):
        assert np.isclose(own["value"], other["value"], rtol=1e-12)
    assert between(total) == before


def test_it_forgets():
    _, rows = drawn(6)
    metric = fed(metric_of(), rows, [6])
    first = metric.compute()
    metric.reset()
    assert metric.samples == 0
    with pytest.raises(GeedError, match="call update first"):
        metric.compute()
    assert fed(metric, rows, [2, 4]).compute() == first


def test_what_it_keeps_does_not_grow_by_maps():
    _, rows = drawn(40)
    metric = fed(metric_of(measures=["channel-cos@map", "unexplained@map"]), rows[:20], [20])
    before = len(pickle.dumps(metric))
    fed(metric, rows[20:], [20])
    # A number a sample, element and part; a map of one orbit alone is 5 × 8 × 8 × 8 × 4 bytes.
    assert len(pickle.dumps(metric)) - before < 20 * 8 * 8 * 8


def test_it_holds_no_function():
    _, rows = drawn(4)
    metric = metric_of()
    metric.update(lambda batch: net(batch), rows)
    assert pickle.loads(pickle.dumps(metric)).compute() == metric.compute()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda r: EquivarianceMetric("C9x"), "C9x"),
        (lambda r: EquivarianceMetric("C4", ["chanel-cos"]).update(net, r), "channel-cos"),
        (lambda r: EquivarianceMetric("C4", ["nope"]), "no measure is called 'nope'"),
        (lambda r: EquivarianceMetric("C4", ["softmax-kl@"]), "write a layer after the @"),
        (lambda r: EquivarianceMetric("C4", sample=3), "sample"),
        (lambda r: EquivarianceMetric("C4", untrained=True), "untrained"),
        (lambda r: metric_of().compute(), "call update first"),
        (lambda r: metric_of().update(r, net), "f is a function"),
        (lambda r: metric_of().update(net, r[:0]), "at least one sample"),
        (lambda r: metric_of().update(net, "text"), "a batch is numbers"),
        (lambda r: metric_of().update(lambda b: 1 / 0, r), "ZeroDivisionError"),
        (lambda r: metric_of().update(net, r * np.nan), "NaN"),
        (lambda r: metric_of() + metric_of("C4"), "measure differently"),
        (lambda r: metric_of() + 3, None),
    ],
)
def test_what_cannot_be_is_one_line(call, said):
    rows = drawn(4)[1]
    with pytest.raises(TypeError if said is None else GeedError, match=said) as caught:
        call(rows)
    assert "\n" not in str(caught.value)


def test_batches_of_another_shape_are_refused():
    metric = fed(metric_of(), drawn(4)[1], [4])
    with pytest.raises(GeedError, match="shape"):
        metric.update(net, running.images((3, 10, 10)))
    with pytest.raises(GeedError, match=r"left out|shape"):
        metric.update(lambda b: net(b)["z"], drawn(4)[1])
    assert metric.samples == 4


def test_training_mode_is_refused():
    def normalised(batch):
        out = net(batch)
        return {**out, "z": out["z"] - out["z"].mean(0), "logits": out["logits"]}

    with pytest.raises(GeedError, match=r"rows of a batch depend on each other.*evaluation"):
        metric_of().update(normalised, drawn(6)[1])


def mixed(batch):
    out = net(batch)
    return {**out, "logits": out["logits"] * (1 + 10 * out["logits"].std(0))}


def dropped(batch):
    factors = np.random.default_rng(len(batch)).random((len(batch), 1))  # other ones in a batch
    return {**net(batch), "logits": net(batch)["logits"] * factors}


@pytest.mark.parametrize("function", [mixed, dropped])
@pytest.mark.parametrize("batch_size", [3, 8, None])
def test_training_mode_is_refused_in_later_batches_too(function, batch_size):
    rows = drawn(12)[1]
    metric = metric_of("C4", batch_size=batch_size)
    metric.update(net, rows[:6])
    before = metric.records()
    with pytest.raises(GeedError, match=r"^sample \d+.*changes with its batch.*to evaluation"):
        metric.update(function, rows[6:])
    assert metric.records() == before
    # And after it was refused.
    metric.update(net, rows[6:])
    assert metric.compute() == fed(metric_of("C4", batch_size=batch_size), rows, [12]).compute()


def test_rows_that_mix_in_large_batches_alone_are_refused():
    def in_large(batch):
        return mixed(batch) if len(batch) > 32 else net(batch)

    rows = drawn(12)[1]
    with pytest.raises(GeedError, match=r"not independent.*give batch_size=1"):
        metric_of("C4").update(in_large, rows)
    alone = fed(metric_of("C4", batch_size=1), rows, [12], in_large)
    assert alone.compute() == fed(metric_of("C4", batch_size=1), rows, [12]).compute()


def test_batches_of_half_precision_may_round_otherwise_in_other_sizes():
    rows = drawn(12)[1].astype(np.float16)

    def rounded(batch):
        moved = 1 + 1e-3 * (len(batch) > 5)
        arrays = net(batch.astype(np.float32))
        return {name: (a * moved).astype(batch.dtype) for name, a in arrays.items()}

    fed(metric_of("C4"), rows, [8, 4], rounded)
    with pytest.raises(GeedError, match="not independent"):
        metric_of("C4").update(rounded, rows.astype(np.float32))


def test_samples_that_no_element_moves_do_not_hide_it():
    rows = np.concatenate([np.ones((2, *SHAPE), np.float32), drawn(4)[1]])
    metric = fed(metric_of("C4", batch_size=4), drawn(4)[1], [4])
    metric.update(net, rows[:2])  # all rows of a batch are the same
    with pytest.raises(GeedError, match=r"^sample 8, .*not independent"):
        metric.update(mixed, rows)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 8, 64])
def test_few_rows_of_a_batch_are_run_again(batch_size):
    rows, sizes = drawn(12)[1], []

    def counted(batch):
        sizes.append(len(batch))
        return net(batch)

    metric = fed(metric_of("C4", batch_size=batch_size), rows[:4], [4])
    fed(metric, rows, [12], counted)
    assert 0 <= sum(sizes) - 4 * 12 <= 5 * (batch_size > 1)


def test_other_outputs_are_not_added():
    _, rows = drawn(4)
    other = EquivarianceMetric("C8", MEASURES[:1], layout={"map": "NCHW"})
    same = EquivarianceMetric("C8", MEASURES[:1], layout={"map": "NCHW"})
    other.update(lambda b: {"map": net(b)["map"][:, :2], "logits": net(b)["logits"]}, rows)
    same.update(net, rows)
    with pytest.raises(GeedError, match="different outputs"):
        _ = same + other


class Fake(Tensor):
    """A tensor of an array API."""

    dtype, device = np.dtype(np.float64), "device"

    def __array_namespace__(self):
        return FakeNamespace


class FakeNamespace:
    @staticmethod
    def asarray(array, dtype=None):
        given = Fake(np.asarray(array, dtype=dtype))
        given.to_device = lambda device: given
        return given


def test_a_function_of_tensors_gets_tensors_as_its_batch_is():
    rows, seen = drawn(6)[1], set()

    def of_tensors(batch):
        assert type(batch) is Fake
        seen.add(batch.array.dtype)
        return {name: Tensor(value) for name, value in net(batch.array.astype("f4")).items()}

    metric = metric_of()
    metric.update(of_tensors, Fake(rows))
    assert seen == {np.dtype(np.float64)} or seen == {np.dtype(np.float32)}
    assert metric.compute() == fed(metric_of(), rows, [6]).compute()


def test_torch_tensors_go_in_and_come_out():
    torch = pytest.importorskip("torch", reason="needs torch")
    rows = drawn(6)[1]
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 4, 3).eval()

    def of_tensors(batch):
        assert batch.dtype == kind
        maps = copy.deepcopy(layer).to(kind)(batch)
        return {"map": maps, "logits": maps.mean((2, 3))}

    found = []
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        metric = EquivarianceMetric("C4", ["channel-cos@map"], layout={"map": "NCHW"})
        metric.update(of_tensors, torch.from_numpy(rows).to(kind))
        found.append(metric.compute()["channel-cos@map"])
    kind = torch.float32

    def of_arrays(batch):
        return {k: v.detach().numpy() for k, v in of_tensors(torch.from_numpy(batch)).items()}

    plain = EquivarianceMetric("C4", ["channel-cos@map"], layout={"map": "NCHW"})
    plain.update(of_arrays, rows)
    assert np.allclose(found, plain.compute()["channel-cos@map"], atol=1e-2)
    assert found[0] == pytest.approx(plain.compute()["channel-cos@map"], abs=1e-4)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("framework", ["jax", "tensorflow"])
def test_tensors_of_other_frameworks_go_in_and_come_out(framework):
    if not importlib.util.find_spec(framework):
        pytest.skip(f"needs {framework}")
    rows = drawn(6)[1]
    if framework == "jax":
        import jax.numpy as space

        batch, kind = space.asarray(rows), type(space.asarray(rows))
        mean = space.mean
    else:
        import tensorflow as space

        batch, kind = space.constant(rows), type(space.constant(rows))
        mean = space.reduce_mean

    def of_tensors(given):
        assert isinstance(given, kind)
        return {"logits": mean(given * given, (2, 3))}

    own = EquivarianceMetric("C4", ["output-l2@logits"], input_layout="NCHW")
    own.update(of_tensors, batch)
    plain = EquivarianceMetric("C4", ["output-l2@logits"], input_layout="NCHW")
    plain.update(lambda b: {"logits": (b * b).mean((2, 3))}, rows)
    assert own.compute() == pytest.approx(plain.compute(), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("kind", ["meta", "sparse", "pair", "list"])
def test_a_batch_that_is_nowhere_or_no_array_is_one_line(kind):
    torch = pytest.importorskip("torch", reason="needs torch")
    rows = torch.rand(4, 3, 8, 8)
    batch = {
        "meta": rows.to("meta"),  # a device without data: nothing copies it to the host
        "sparse": rows.to_sparse(),
        "pair": (rows, torch.zeros(4)),
        "list": [rows[0], rows[1, :2]],
    }[kind]
    metric = EquivarianceMetric("C4", ["output-l2@output"])
    with pytest.raises(GeedError, match=r"^update: ") as error:
        metric.update(lambda x: x.mean((2, 3)), batch)
    assert "\n" not in str(error.value)
    assert metric.samples == 0


def test_an_interrupted_cell_leaves_the_metric_as_it_was():
    rows = drawn(6)[1]
    metric = fed(metric_of(), rows[:4], [4])
    before = metric.compute()

    def interrupted(batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        metric.update(interrupted, rows[4:])
    assert (metric.samples, metric.compute()) == (4, before)
    metric.update(net, rows[4:])
    assert metric.compute() == fed(metric_of(), rows, [6]).compute()


def test_it_is_public():
    assert onnx_geed.EquivarianceMetric is EquivarianceMetric
    assert repr(EquivarianceMetric("C4")) == "<EquivarianceMetric under C4: 0 samples>"


def summed(batch):
    """A vector that tells the axes and values of a batch apart."""
    flat = np.asarray(batch).reshape(len(batch), -1)
    return np.sin(flat @ np.random.default_rng(5).normal(size=(flat.shape[1], 4)).astype("f"))


@pytest.mark.parametrize("components", ["right-down", "right-up", "down-right"])
@pytest.mark.parametrize(("group", "layout"), [("flip-h", "NXHW"), ("C4", "NXHW"), ("C4", "NPX")])
def test_components_of_vectors_are_those_that_are_asked_for(components, group, layout):
    shape = (2, 5, 5) if layout == "NXHW" else (5, 2)
    data = np.random.default_rng(6).normal(size=(9, *shape)).astype(np.float32)
    rows = data[np.random.default_rng(0).permutation(9)]
    options = {"components": components, "input_layout": layout, "norm_samples": 9}
    asked = {"measures": ["output-l2"], "output_kind": "embedding", **options}
    (whole,) = measure(summed, data, group, samples=9, **asked)["measurements"]
    metric = EquivarianceMetric(group, **asked)
    for at in range(0, 9, 4):
        metric.update(summed, rows[at : at + 4])
    assert numbers(metric.records()[0]) == numbers(whole)


def test_the_readings_of_components_differ():
    values = set()
    data = np.random.default_rng(6).normal(size=(9, 2, 5, 5)).astype(np.float32)
    for components in ("right-down", "down-right"):
        metric = EquivarianceMetric(
            "flip-h", ["output-l2"], components=components, input_layout="NXHW",
            output_kind="embedding",
        )  # fmt: skip
        metric.update(summed, data)
        values.add(round(metric.records()[0]["value"], 6))
    assert len(values) == 2


@pytest.mark.parametrize("family", ["brightness:-60..60/4", "contrast:0.5..1.5/3"])
def test_families_clip_where_that_is_asked(family):
    data = np.random.default_rng(7).random((9, 3, 6, 6)).astype(np.float32)
    rows = data[np.random.default_rng(0).permutation(9)]
    values = []
    for clip in (False, True):
        asked = {"measures": ["output-l2"], "output_kind": "embedding", "clip": clip}
        asked["norm_samples"] = 9
        (whole,) = measure(summed, data, family, samples=9, **asked)["measurements"]
        metric = EquivarianceMetric(family, **asked)
        metric.update(summed, rows[:5])
        metric.update(summed, rows[5:])
        assert numbers(metric.records()[0]) == numbers(whole)
        values.append(whole["value"])
    assert abs(values[0] - values[1]) > 1e-3


@pytest.mark.parametrize("measured", ["latent-l2", "output-l2", "unexplained"])
def test_functions_on_arrays_correct_for_independent_elements_too(measured):
    group = onnx_geed.parse_group("SO3~5")
    y = np.random.default_rng(8).normal(size=(6, 5, 4))
    power = 2 if measured == "unexplained" else 1
    function = getattr(onnx_geed, measured.replace("-", "_"))
    given = group if measured == "latent-l2" else onnx_geed.Trivial(group)
    away = np.linalg.norm(y - y.mean(axis=1, keepdims=True), axis=2) ** power
    np.testing.assert_allclose(function(y, given), away * (5 / 4) ** (power / 2), rtol=1e-12)
    even = onnx_geed.parse_group("SO3~24")
    y = np.random.default_rng(9).normal(size=(3, 24, 4))
    given = even if measured == "latent-l2" else onnx_geed.Trivial(even)
    away = np.linalg.norm(y - y.mean(axis=1, keepdims=True), axis=2) ** power
    np.testing.assert_allclose(function(y, given), away, rtol=1e-12)


def test_backgrounds_are_refused_at_once_without_advice_that_cannot_be_followed():
    with pytest.raises(GeedError, match=r"^group background:x/3: needs masks of all samples"):
        EquivarianceMetric("background:x/3")
