"""The package against the slow twins, over random shapes, groups and options."""

import math

import models
import naive
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from recording import measurement
from running import images, orbits, run

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.groups import vector_action
from onnx_geed.measures import Measure, deviations_of_sums, orbit_deviations

ROTATIONS = ["C1", "C2", "C3", "C4", "C8", "C12", "D1", "D3", "D4", "D8", "flip-h", "flip-v"]
SHIFTS = ["shift1x1", "shift2x1", "shift2x3", "shift3x2", "shift1x4"]
INTERPOLATIONS = ["bilinear", "nearest", "bicubic"]
SLOW = settings(max_examples=40, deadline=None)

groups = st.sampled_from(ROTATIONS + SHIFTS)
interpolations = st.sampled_from(INTERPOLATIONS)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def actions(draw, smallest=1):
    """A group, a grid that it acts on, and an interpolation."""
    group = draw(groups)
    height, width = draw(st.integers(smallest, 7)), draw(st.integers(smallest, 7))
    if draw(st.booleans()):
        width = height
    if group.startswith("shift"):
        rows, columns = naive.parse(group).sizes
        height, width = height * rows, width * columns
    return group, height, width, draw(interpolations)


@st.composite
def maps(draw):
    """Activations (N, |G|, C, H, W): noise, rectified noise, or near-orbits; dead channels."""
    group, height, width, interpolation = draw(actions(smallest=2))
    rng = np.random.default_rng(draw(seeds))
    n, channels = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    order = len(naive.elements(group))
    values = rng.normal(size=(n, order, channels, height, width))
    kind = draw(st.sampled_from(["noise", "rectified", "orbit"]))
    if kind == "rectified":
        values = np.maximum(values, 0)
    elif kind == "orbit":
        values = naive.orbit(group, values[:, 0], interpolation) + 0.1 * values
    if draw(st.booleans()):
        values[:, :, 0] = 0
    if draw(st.booleans()):
        values[0, rng.integers(order), rng.integers(channels)] = 0
    scale = draw(st.sampled_from([1.0, 1e-12, 1e12]))
    values = (values * scale).astype(np.float32)
    return group, interpolation, values, draw(st.booleans())


def bound(group, height, width, interpolation):
    return geed.grid_action(geed.parse_group(group), height, width, interpolation)


# groups and actions


@pytest.mark.parametrize("name", [*ROTATIONS, *SHIFTS, "C5", "D5", "D6", "C24", "shift3x4"])
def test_groups_are_the_same(name):
    group = geed.parse_group(name)
    names = naive.elements(name)
    assert list(group.elements) == names
    for a, left in enumerate(names):
        assert names[group.inverse(a)] == naive.inverse(name, left)
        for b, right in enumerate(names):
            assert names[group.table[a, b]] == naive.multiply(name, left, right)


@SLOW
@given(actions(), seeds)
def test_orbits_are_the_same(action, seed):
    group, height, width, interpolation = action
    x = np.random.default_rng(seed).normal(size=(2, height, width)).astype(np.float32)
    ours = bound(group, height, width, interpolation)
    want = naive.orbit(group, x[None], interpolation)[0]
    np.testing.assert_allclose(geed.orbit(ours, x), want, rtol=1e-6, atol=1e-6)
    for g, exact in enumerate(ours.exact()):
        # In float64, and for exact elements to the bit.
        np.testing.assert_allclose(ours.apply(g, x), want[g], rtol=1e-9, atol=1e-12)
        if exact:
            np.testing.assert_array_equal(geed.orbit(ours, x)[g], want[g].astype(np.float32))


@SLOW
@given(actions())
def test_exactness_kernels_and_disks_are_the_same(action):
    group, height, width, interpolation = action
    names = naive.elements(group)
    ours = bound(group, height, width, interpolation)
    assert tuple(map(bool, ours.exact())) == tuple(
        naive.is_exact(group, g, height, width) for g in names
    )
    kernel = naive.kernel_of_action(group, (height, width), grid=True, interpolation=interpolation)
    assert [names[g] for g in ours.kernel_of_action()] == kernel
    mask = naive.disk_mask(height, width)
    np.testing.assert_array_equal(geed.disk_mask(height, width), mask)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 3), (2, 3), (5, 4), (9, 9), (16, 11)])
def test_finer_rotations_are_the_same(grid, interpolation):
    for group in ("C5", "C7", "C16", "C24", "D12"):
        ours = bound(group, *grid, interpolation)
        x = np.random.default_rng(0).normal(size=grid)
        for g, element in enumerate(naive.elements(group)):
            want = naive.act(group, element, x, interpolation)
            np.testing.assert_allclose(ours.apply(g, x), want, rtol=1e-9, atol=1e-11)


def test_nearest_on_tiny_grids_has_a_kernel_of_the_action():
    """Rounded to pixels, a small rotation of 2 x 2 moves nothing: in the kernel as in the twin."""
    ours = bound("C12", 2, 2, "nearest")
    kernel = naive.kernel_of_action("C12", (2, 2), grid=True, interpolation="nearest")
    assert kernel == ["e", "r1", "r11"]  # no subgroup: nearest is no exact action
    assert [naive.elements("C12")[g] for g in ours.kernel_of_action()] == kernel


@pytest.mark.parametrize("grid", [(5, 6), (6, 5), (3, 3)])
def test_a_shift_that_does_not_divide_is_refused_by_both(grid):
    with pytest.raises(ValueError, match="no action"):
        naive.act("shift2x2", "t1,1", np.zeros(grid))
    with pytest.raises(geed.GeedError, match="divide"):
        bound("shift2x2", *grid, "bilinear")


# channel-cos


@SLOW
@given(maps())
def test_channel_cos_is_the_same(case):
    group, interpolation, values, disk = case
    action = bound(group, *values.shape[-2:], interpolation)
    support = "disk" if disk else "full"
    got = geed.channel_cos(values, action, support=support)
    want = naive.channel_cos(values, group, interpolation=interpolation, disk=disk)
    # Elements that resample do so in float32, and so is a mean f_hat kept.
    exact = np.array(action.exact(), dtype=bool) & (len(action.kernel_of_action()) == 1)
    np.testing.assert_allclose(got[:, exact], want[:, exact], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    sums = geed.channel_sums(values, action, support=support)
    zeros = deviations_of_sums(Measure("channel-cos", "t", action), sums)[1].mean()
    share = naive.channel_zero_pairs(values, group, interpolation=interpolation, disk=disk)
    assert zeros == pytest.approx(share)


@SLOW
@given(maps(), seeds, st.booleans())
def test_channel_cos_with_a_channel_table_is_the_same(case, seed, through_quotient):
    group, interpolation, values, disk = case
    table = channel_table(group, values.shape[2], np.random.default_rng(seed), through_quotient)
    bare = bound(group, *values.shape[-2:], interpolation)
    action = geed.with_channels(bare, geed.Table(naive.elements(group), "channels", table, "t"))
    got = geed.channel_cos(values, action, support="disk" if disk else "full")
    options = {"interpolation": interpolation, "channels": table, "disk": disk}
    want = naive.channel_cos(values, group, **options)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    names = naive.elements(group)
    kernel = naive.kernel_of_action(
        group, values.shape[2:], grid=True, interpolation=interpolation, channels=table
    )
    assert [names[g] for g in action.kernel_of_action()] == kernel


def channel_table(group, size, rng, through_quotient=False):
    """A random action of a group on `size` things by permutation, made of cyclic fields.

    Every element has a rotation number k (mod n); a field of m things with m | n turns by k. For
    the dihedral group the mirror turns the field over. Shifts and flips: by their first number.
    """
    family, sizes = naive.parse(group)
    n = sizes[0] if sizes else 2
    divisors = [m for m in range(1, min(n, size) + 1) if n % m == 0]
    if through_quotient:
        divisors = [m for m in divisors if m < n or n == 1]
    fields, left = [], size
    while left:
        m = int(rng.choice([m for m in divisors if m <= left]))
        fields.append(m)
        left -= m
    relabel = rng.permutation(size)
    rows = []
    for code in naive.codes(group):
        mirrored, k = code if family == "D" else (0, code[0])
        row = np.empty(size, dtype=int)
        start = 0
        for m in fields:
            for j in range(m):
                # out[j] = in[source]: g = s^a r^k takes place i to (-1)^a (i + k).
                source = ((-j if mirrored else j) - k) % m
                row[relabel[start + j]] = relabel[start + source]
            start += m
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("group", ["C8", "D4", "flip-v", "shift4x2", "D3"])
def test_the_tables_of_this_file_are_actions(group):
    for seed in range(20):
        table = channel_table(group, 6, np.random.default_rng(seed))
        assert naive.is_representation(group, naive.table_to_matrices(table))


def test_the_quotient_of_c8_has_a_kernel_of_order_two():
    table = np.array([[(j - k) % 4 for j in range(4)] for k in range(8)])
    group = geed.parse_group("C8")
    action = vector_action(geed.Table(group.elements, "permutation", table, "t"), group)
    assert action.kernel_of_action() == (0, 4)
    values = np.random.default_rng(0).normal(size=(3, 8, 4))
    want = naive.output_l2(values, "C8", permutation=table)
    np.testing.assert_allclose(geed.output_l2(values, action), want, rtol=1e-9)
    # Not what either extreme of f_hat would give.
    assert np.abs(want - naive.output_l2(values, "C8")).max() > 0.1
    faithful = [[naive.l2(s[g], s[0][table[g]]) for g in range(8)] for s in values]
    assert np.abs(want - faithful).max() > 0.1


# vectors


@st.composite
def vectors(draw, smallest=1):
    group = draw(groups)
    n, k = draw(st.integers(1, 4)), draw(st.integers(smallest, 7))
    rng = np.random.default_rng(draw(seeds))
    order = len(naive.elements(group))
    values = rng.normal(size=(n, order, k)) + draw(st.sampled_from([0.0, 1.0, 100.0]))
    if draw(st.booleans()):
        values[0] = 0
    if draw(st.booleans()):
        values[-1, rng.integers(order)] = 0
    if draw(st.booleans()):
        values = np.maximum(values, 0)
    values *= draw(st.sampled_from([1.0, 1e-9, 1e9]))
    if draw(st.booleans()):
        values = values.astype(np.float32)
    return group, values


@SLOW
@given(vectors())
def test_latent_deviations_are_the_same(case):
    group, values = case
    acting = geed.parse_group(group)
    scale = np.abs(values).max() or 1
    got, want = geed.latent_l2(values, acting), naive.latent_l2(values, group)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-13 * scale)
    np.testing.assert_allclose(
        geed.latent_cos(values, acting), naive.latent_cos(values, group), rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(
        geed.output_l2(values, acting),
        naive.output_l2(values, group),
        rtol=1e-9,
        atol=1e-13 * scale,
    )
    for name in ("latent-l2", "latent-cos"):
        got, want = geed.normaliser(name, values[:, 0]), naive.normaliser(values[:, 0], name)
        assert got == (None if want is None else pytest.approx(want, rel=1e-9, abs=1e-12))


@SLOW
@given(vectors(), seeds, st.booleans())
def test_output_l2_under_permutations_and_matrices_is_the_same(case, seed, through_quotient):
    group, values = case
    acting, rng = geed.parse_group(group), np.random.default_rng(seed)
    size, scale = values.shape[-1], np.abs(values).max() or 1
    table = channel_table(group, size, rng, through_quotient)
    action = vector_action(geed.Table(acting.elements, "permutation", table, "t"), acting)
    tolerance = {"rtol": 1e-9, "atol": 1e-11 * scale}
    want = naive.output_l2(values, group, permutation=table)
    np.testing.assert_allclose(geed.output_l2(values, action), want, **tolerance)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    matrices = basis @ naive.table_to_matrices(table) @ basis.T
    action = vector_action(geed.Table(acting.elements, "matrices", matrices, "t"), acting)
    want = naive.output_l2(values, group, matrices=matrices)
    np.testing.assert_allclose(geed.output_l2(values, action), want, **tolerance)
    kernel = naive.kernel_of_action(group, (size,), matrices=matrices)
    assert [acting.elements[g] for g in action.kernel_of_action()] == kernel


@SLOW
@given(vectors(smallest=1), seeds, st.booleans(), st.booleans())
def test_softmax_kl_is_the_same(case, seed, permuted, as_probabilities):
    group, values = case
    assume(np.abs(values).max() < 1e6)
    acting = geed.parse_group(group)
    table = None
    action = acting
    classes = max(values.shape[-1], 2)
    if permuted:
        table = channel_table(group, classes, np.random.default_rng(seed))
        action = vector_action(geed.Table(acting.elements, "permutation", table, "t"), acting)
    kind = "logits"
    if as_probabilities:
        kind = "probabilities"
        if values.shape[-1] == 1:
            # Not so near 1 that its complement in float32 is 0, which permuted is refused.
            values = 1 / (1 + np.exp(-np.clip(values, -10, 10)))
        else:
            values = np.exp(naive.log_softmax(np.clip(values, -30, 30)))
    got = geed.softmax_kl(values, action, kind=kind)
    want = naive.softmax_kl(values, group, kind=kind, permutation=table)
    # One float32 Sigmoid and its complement do not sum to 1 exactly; nor does a float64 softmax.
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)
    assert (got >= 0).all()
    if not permuted:
        assert (got.mean(axis=1) <= math.log(acting.order) + 1e-9).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0, 1e4, 1e30])
def test_softmax_kl_stands_logits_of_any_size(scale):
    logits = (scale * np.random.default_rng(1).normal(size=(3, 8, 5))).astype(np.float32)
    got, want = geed.softmax_kl(logits, geed.parse_group("C8")), naive.softmax_kl(logits, "C8")
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_exact_zeros_of_probabilities_are_the_same_or_refused_by_both():
    group = geed.parse_group("C4")
    table = np.array([[(j - k) % 4 for j in range(4)] for k in range(4)])
    action = vector_action(geed.Table(group.elements, "permutation", table, "t"), group)
    right, wrong = np.eye(4)[[[0, 1, 2, 3]]], np.eye(4)[[[0, 3, 2, 1]]]
    for values in (right, wrong):
        got = geed.softmax_kl(values, group, kind="probabilities")
        want = naive.softmax_kl(values, "C4", kind="probabilities")
        np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_array_equal(geed.softmax_kl(right, action, kind="probabilities"), 0)
    with pytest.raises(ZeroDivisionError):
        naive.softmax_kl(wrong, "C4", kind="probabilities", permutation=table)
    with pytest.raises(geed.GeedError, match="r1"):
        geed.softmax_kl(wrong, action, kind="probabilities")


# subgroups and summaries


@SLOW
@given(seeds, st.sampled_from(["C8", "C12", "D8", "C6"]), st.sampled_from([(4, 4), (5, 5), (4, 6)]))
def test_exact_subgroups_are_the_same(seed, group, grid):
    acting = geed.parse_group(group)
    action = bound(group, *grid, "bilinear")
    members = naive.exact_subgroup(group, grid)
    assert members is not None
    chosen = [acting.index(g) for g in members]
    assert acting.is_subgroup(chosen)
    assert [g for g, exact in enumerate(action.exact()) if exact] == chosen
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(acting.order, 3, *grid)).astype(np.float32)
    got = orbit_deviations(Measure("channel-cos", "t", action), values, chosen)[0]
    want = naive.channel_cos(values[None], group, subgroup=members)[0]
    np.testing.assert_allclose(got, want, rtol=1e-9)
    points = rng.normal(size=(acting.order, 5))
    trivial = geed.Trivial(acting)
    for name, twin in [
        ("latent-l2", naive.latent_l2),
        ("latent-cos", naive.latent_cos),
        ("softmax-kl", naive.softmax_kl),
        ("output-l2", naive.output_l2),
    ]:
        got = orbit_deviations(Measure(name, "t", trivial), points, chosen)[0]
        np.testing.assert_allclose(got, twin(points[None], group, subgroup=members)[0], rtol=1e-9)
    table = channel_table(group, 5, rng)
    permutation = vector_action(geed.Table(acting.elements, "permutation", table, "t"), acting)
    got = orbit_deviations(Measure("output-l2", "t", permutation), points, chosen)[0]
    want = naive.output_l2(points[None], group, subgroup=members, permutation=table)[0]
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@SLOW
@given(seeds, st.integers(1, 60), st.integers(1, 8), st.sampled_from([None, 12.3, 0.4, -0.7]))
def test_records_summarise_the_same(seed, samples, order, m):
    deviations = np.random.default_rng(seed).normal(size=(samples, order))
    elements = [f"g{i}" for i in range(order)]
    record = measurement(
        measure="latent-l2" if m else "output-l2",
        layer="t",
        layout="NK",
        output_action="trivial",
        deviations=deviations,
        elements=elements,
        normaliser=m,
        norm_samples=200 if m else None,
    )
    want = naive.summarise(deviations, m or 1.0)
    close = {"rel": 1e-9, "abs": 1e-12}
    assert record["value"] == pytest.approx(want.value, **close)
    assert record["per_sample"] == pytest.approx(want.per_sample.tolist(), **close)
    assert list(record["per_element"]) == elements
    assert list(record["per_element"].values()) == pytest.approx(want.per_element.tolist(), **close)
    assert record["samples"] == samples
    assert record["normaliser"] == m
    if samples == 1:
        assert record["ci95"] is record["stderr"] is want.ci95 is want.stderr is None
    else:
        assert record["stderr"] == pytest.approx(want.stderr, **close)
        assert record["ci95"] == pytest.approx(list(want.ci95), **close)
    if m:
        plain = naive.summarise(deviations).value
        assert record["unnormalised"] == pytest.approx(plain, **close)


# whole measurements: model file in, record out

DATA = {1: images((1, 9, 9), 12, seed=4), 3: images((3, 8, 8), 12, seed=4)}


def check_record(record, deviations, members=None, part=None, m=None, atol=2e-5):
    scale = max(1.0, float(np.abs(deviations).max()))
    np.testing.assert_allclose(record["deviations"], deviations, rtol=1e-4, atol=atol * scale)
    want = naive.summarise(deviations, m or 1.0)
    close = {"rel": 1e-3, "abs": atol * scale / abs(m or 1.0)}
    assert record["value"] == pytest.approx(want.value, **close)
    assert record["ci95"] == pytest.approx(list(want.ci95), **close)
    if m is not None:
        assert record["normaliser"] == pytest.approx(m, rel=1e-4)
    if members is None:
        assert record["exact"] is None
        return
    inner = record["exact"]
    assert inner["elements"] == members
    np.testing.assert_allclose(inner["deviations"], part, rtol=1e-4, atol=atol * scale)
    assert inner["value"] == pytest.approx(naive.summarise(part, m or 1.0).value, **close)
    assert inner["normaliser"] == record["normaliser"]


def check_measurement(
    result,
    model,
    group,
    data,
    *,
    interpolation="bilinear",
    disk=False,
    kind="logits",
    batch=None,
    moved_only=(),
):
    """All default measures of a record against the twin's own run of the model.

    `moved_only`: tensors that merely hold another one transposed; they may be listed or not.
    """
    facts = models.known(model)
    chosen, for_m = naive.sample_indices(len(data), result["seed"], 5, 9)
    assert result["data"]["indices"] == for_m
    height, width = data.shape[-2:]
    x = data * naive.disk_mask(height, width) if disk else data
    names = [*facts["hidden"], facts["latent"], facts["logits"]]
    moved = naive.orbit(group, x[chosen], interpolation).astype(np.float32)
    flat = run(model, moved.reshape(-1, *x.shape[1:]), names, batch)
    values = {
        name: v.reshape(*moved.shape[:2], *v.shape[1:]) for name, v in zip(names, flat, strict=True)
    }
    (points,) = run(model, x[for_m], [facts["latent"]], batch)
    records = {(r["measure"], r["layer"]): r for r in result["measurements"]}
    expected = {("channel-cos", name) for name in facts["hidden"]}
    expected |= {("latent-l2", facts["latent"]), ("latent-cos", facts["latent"])}
    expected |= {("softmax-kl", facts["logits"])}
    assert expected <= set(records)
    assert set(records) <= expected | {("channel-cos", name) for name in moved_only}
    for name in facts["hidden"]:
        maps_ = values[name]
        options = {"interpolation": interpolation, "disk": disk}
        members = naive.exact_subgroup(group, (height, width), maps_.shape[-2:])
        part = members and naive.channel_cos(maps_, group, subgroup=members, **options)
        want = naive.channel_cos(maps_, group, **options)
        check_record(records["channel-cos", name], want, members, part)
        by_channel = naive.channel_means(maps_, group, **options)
        np.testing.assert_allclose(
            records["channel-cos", name]["per_channel"], by_channel, rtol=1e-4, atol=2e-5
        )
    members = naive.exact_subgroup(group, (height, width))
    latent = naive.flat_latent(values[facts["latent"]])
    points = naive.flat_latent(points[None])[0]
    for name, twin in [("latent-l2", naive.latent_l2), ("latent-cos", naive.latent_cos)]:
        part = members and twin(latent, group, subgroup=members)
        m = naive.normaliser(points, name)
        check_record(records[name, facts["latent"]], twin(latent, group), members, part, m)
        assert records[name, facts["latent"]]["norm_samples"] == 9
    logits = naive.flat_latent(values[facts["logits"]])
    part = members and naive.softmax_kl(logits, group, kind=kind, subgroup=members)
    want = naive.softmax_kl(logits, group, kind=kind)
    check_record(records["softmax-kl", facts["logits"]], want, members, part)


def measured(tmp_path, model, data, group, **options):
    path = models.save(model, tmp_path / "model.onnx")
    return geed.measure(
        path, data, group, samples=5, norm_samples=9, seed=3, provider="cpu", **options
    )


@pytest.mark.parametrize("group", ["C8", "C3", "D4", "flip-v"])
@pytest.mark.parametrize("size", [(8, 8), (9, 9), (7, 10)])
def test_a_random_network_measures_the_same(tmp_path, size, group):
    model, data = models.random_cnn(2, size), images((3, *size), 12)
    result = measured(tmp_path, model, data, group)
    check_measurement(result, model, group, data)
    exact = [naive.is_exact(group, g, *size) for g in naive.elements(group)]
    assert result["group"]["exact"] == exact


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("support", ["full", "disk"])
def test_options_of_the_action_measure_the_same(tmp_path, interpolation, support):
    model, data = models.random_cnn(5, (9, 9)), images((3, 9, 9), 12)
    result = measured(tmp_path, model, data, "C8", interpolation=interpolation, support=support)
    disk = support == "disk"
    check_measurement(result, model, "C8", data, interpolation=interpolation, disk=disk)


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_batches_measure_the_same(tmp_path, batch_size):
    model, data = models.random_cnn(6, (8, 8)), DATA[3]
    result = measured(tmp_path, model, data, "C8", batch_size=batch_size)
    check_measurement(result, model, "C8", data)


@pytest.mark.parametrize("group", ["C4", "C8", "D4"])
def test_a_map_of_another_shape_than_the_image_has_its_own_exact_subgroup(tmp_path, group):
    model, data = models.uneven_stride(), DATA[3]
    result = measured(tmp_path, model, data, group)
    check_measurement(result, model, group, data)
    half = ["e", "r4"] if group == "C8" else ["e", "r2"]
    exact = result["measurements"][0]["exact"]["elements"]
    assert exact == (half if group != "D4" else [*half, "s", "sr2"])


@pytest.mark.parametrize("build", [models.c4_lifting, models.c4_disturbed, models.c4_equivariant])
def test_models_with_known_answers_measure_the_same(tmp_path, build):
    model = build(9)
    result = measured(tmp_path, model, DATA[1], "C8")
    check_measurement(result, model, "C8", DATA[1])


def test_a_declared_batch_of_one_measures_as_its_free_twin(tmp_path):
    result = measured(tmp_path, models.static_batch(2), DATA[3], "C8")
    check_measurement(result, models.random_cnn(2, (8, 8)), "C8", DATA[3])
    model = models.merging_batch()
    data = images((1, 6, 6), 12)
    check_measurement(
        measured(tmp_path, model, data, "C4"), model, "C4", data, batch=1, moved_only=["last"]
    )


def test_a_coupled_model_is_run_one_by_one(tmp_path):
    model, data = models.batch_coupled(), images((1, 6, 6), 12)
    facts = models.known(model)
    with_head = measured(tmp_path, model, data, "C4", measures=[f"output-l2@{facts['logits']}"])
    (record,) = with_head["measurements"]
    np.testing.assert_allclose(record["deviations"], 0, atol=1e-5)
    np.testing.assert_array_equal(with_head["runtime"]["batch_size"], 1)


def test_nhwc_inputs_measure_as_their_nchw_twin(tmp_path):
    last = np.ascontiguousarray(np.moveaxis(DATA[3], 1, -1))
    result = measured(tmp_path, models.nhwc_input(2), last, "C8")
    plain = models.random_cnn(2, (8, 8))
    check_measurement(result, plain, "C8", DATA[3], moved_only=["x_nchw"])


def test_nhwc_maps_measure_the_same(tmp_path):
    model, data = models.nhwc_hidden(8), images((3, 8, 8), 12)
    options = {"measures": ["channel-cos@last", "channel-cos@map"], "layout": {"last": "NHWC"}}
    result = measured(tmp_path, model, data, "C8", **options)
    chosen, _ = naive.sample_indices(12, 3, 5, 9)
    last, plain = orbits(model, "C8", data[chosen], ["last", "map"], None)
    records = {r["layer"]: r for r in result["measurements"]}
    members = naive.exact_subgroup("C8", (8, 8))
    for name, maps_ in [("last", np.moveaxis(last, -1, 2)), ("map", plain)]:
        part = naive.channel_cos(maps_, "C8", subgroup=members)
        check_record(records[name], naive.channel_cos(maps_, "C8"), members, part)
    assert records["last"]["layout"] == "NHWC"


def test_tokens_measure_the_same(tmp_path):
    model, data = models.tokens(), DATA[3]
    layouts = models.known(model)["hidden_tokens"]
    requests = [f"channel-cos@{name}" for name in ("patches", *layouts)]
    result = measured(tmp_path, model, data, "C8", measures=requests, layout=layouts)
    chosen, _ = naive.sample_indices(12, 3, 5, 9)
    names = ["patches", "embedded", "mixed"]
    values = dict(zip(names, orbits(model, "C8", data[chosen], names, None), strict=True))
    for name in ("embedded", "mixed"):
        tokens = values[name][:, :, -16:]
        values[name] = np.moveaxis(tokens, -1, 2).reshape(5, 8, 6, 4, 4)
    records = {r["layer"]: r for r in result["measurements"]}
    assert set(records) == set(names)
    members = naive.exact_subgroup("C8", (8, 8))
    for name in names:
        part = naive.channel_cos(values[name], "C8", subgroup=members)
        check_record(records[name], naive.channel_cos(values[name], "C8"), members, part)
    np.testing.assert_allclose(
        records["embedded"]["deviations"], records["patches"]["deviations"], atol=1e-6
    )


@pytest.mark.parametrize(
    ("build", "name", "kind"),
    [
        (models.softmax_output, "probabilities", "probabilities"),
        (models.log_softmax_output, "log_probabilities", "logits"),
        (models.sigmoid_output, "probability", "probabilities"),
    ],
)
def test_other_endings_measure_the_same(tmp_path, build, name, kind):
    model = build()
    result = measured(tmp_path, model, DATA[3], "C8", measures=["softmax-kl"])
    chosen, _ = naive.sample_indices(12, 3, 5, 9)
    (values,) = orbits(model, "C8", DATA[3][chosen], [name], None)
    (record,) = result["measurements"]
    members = naive.exact_subgroup("C8", (8, 8))
    part = naive.softmax_kl(values, "C8", kind=kind, subgroup=members)
    check_record(record, naive.softmax_kl(values, "C8", kind=kind), members, part, atol=1e-6)


@pytest.mark.parametrize("build", [models.pooled_output, models.conv_classifier])
def test_pooled_latents_measure_the_same(tmp_path, build):
    model = build(2)
    latent = models.known(model)["latent"]
    result = measured(tmp_path, model, DATA[3], "C8", measures=["latent-l2", "latent-cos"])
    chosen, for_m = naive.sample_indices(12, 3, 5, 9)
    (values,) = orbits(model, "C8", DATA[3][chosen], [latent], None)
    (points,) = run(model, DATA[3][for_m], [latent])
    values, points = naive.flat_latent(values), naive.flat_latent(points[None])[0]
    members = naive.exact_subgroup("C8", (8, 8))
    for record in result["measurements"]:
        assert record["layer"] == latent
        twin = {"latent-l2": naive.latent_l2, "latent-cos": naive.latent_cos}[record["measure"]]
        part, m = twin(values, "C8", subgroup=members), naive.normaliser(points, record["measure"])
        check_record(record, twin(values, "C8"), members, part, m)


def test_given_actions_measure_the_same(tmp_path):
    model, data = models.c4_lifting(), DATA[1]
    facts = models.known(model)
    names = naive.elements("C4")
    table = geed.Table(names, "channels", facts["channels"], "given")
    result = measured(
        tmp_path,
        model,
        data,
        "C4",
        measures=["channel-cos@map1", "channel-cos@map2"],
        output_action={"map1": table, "map2": table},
    )
    for record in result["measurements"]:
        np.testing.assert_allclose(record["deviations"], -1, atol=1e-6)
        assert record["output_action"] == "grid+channels"
    model = models.cyclic_logits()
    permutation = geed.Table(names, "permutation", models.known(model)["permutation"], "given")
    result = measured(
        tmp_path,
        model,
        images((1, 5, 5), 12),
        "C4",
        measures=["softmax-kl", "output-l2"],
        output_action={"logits": permutation},
    )
    for record in result["measurements"]:
        np.testing.assert_allclose(record["deviations"], 0, atol=1e-5)
        assert record["output_action"] == "permutation"


def test_one_logit_swaps_its_classes(tmp_path):
    model = models.sign_logit()
    swap = geed.Table(["e", "r1"], "permutation", models.known(model)["permutation"], "given")
    result = measured(
        tmp_path,
        model,
        images((1, 5, 5), 12),
        "C2",
        measures=["softmax-kl"],
        output_kind="logits",
        output_action={"logit": swap},
    )
    np.testing.assert_allclose(result["measurements"][0]["deviations"], 0, atol=1e-6)


def test_the_constant_model_has_no_normalised_value(tmp_path):
    result = measured(tmp_path, models.constant(), images((1, 5, 5), 12), "C8")
    records = {r["measure"]: r for r in result["measurements"]}
    assert records["latent-l2"]["value"] is records["latent-l2"]["ci95"] is None
    assert records["latent-l2"]["unnormalised"] == 0
    assert records["latent-l2"]["warnings"]
    assert records["latent-cos"]["value"] == pytest.approx(-1)
    assert records["softmax-kl"]["value"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("width", [2, None])
def test_a_second_input_is_fed_by_sample(tmp_path, width):
    model, data = models.two_input(2), DATA[3]
    extra = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    if width is None:
        extra = extra[:1]
    result = measured(tmp_path, model, data, "C4", measures=["softmax-kl"], feed={"extra": extra})
    chosen, _ = naive.sample_indices(12, 3, 5, 9)
    rows = extra[chosen] if width else np.repeat(extra, 5, axis=0)
    moved = naive.orbit("C4", data[chosen]).astype(np.float32).reshape(-1, 3, 8, 8)
    (logits,) = run(model, moved, ["logits"], extra=np.repeat(rows, 4, axis=0))
    want = naive.softmax_kl(logits.reshape(5, 4, -1), "C4")
    check_record(result["measurements"][0], want)


@pytest.mark.parametrize("build", [models.fp16, models.qdq_int8])
def test_other_precisions_measure_the_same(tmp_path, build):
    model = build(2)
    result = measured(tmp_path, model, DATA[3], "C4", measures=["latent-l2", "softmax-kl"])
    chosen, for_m = naive.sample_indices(12, 3, 5, 9)
    dtype = np.float16 if build is models.fp16 else np.float32
    moved = naive.orbit("C4", DATA[3][chosen]).astype(dtype).reshape(-1, 3, 8, 8)
    latent, logits = run(model, moved, ["latent", "logits"], 4)
    (points,) = run(model, DATA[3][for_m].astype(dtype), ["latent"])
    records = {r["measure"]: r for r in result["measurements"]}
    # Other batches round otherwise: to a part of half precision, or by a quantisation step.
    np.testing.assert_allclose(
        records["softmax-kl"]["value"],
        naive.softmax_kl(logits.reshape(5, 4, -1), "C4").mean(),
        rtol=0.05,
    )
    m = naive.normaliser(points, "latent-l2")
    want = naive.latent_l2(latent.reshape(5, 4, -1), "C4").mean() / m
    assert records["latent-l2"]["value"] == pytest.approx(want, rel=0.05)
    assert records["latent-l2"]["normaliser"] == pytest.approx(m, rel=1e-2)


def test_unusual_files_measure_as_the_plain_one(tmp_path):
    plain = models.random_cnn(0, (8, 8))
    for build in (
        models.unsorted,
        models.local_function,
        models.initializer_as_input,
    ):
        model = build()
        result = measured(tmp_path, model, DATA[3], "C4")
        check_measurement(result, plain, "C4", DATA[3])
    path = models.save_external(tmp_path)
    result = geed.measure(path, DATA[3], "C4", samples=5, norm_samples=9, seed=3, provider="cpu")
    check_measurement(result, plain, "C4", DATA[3])


@pytest.mark.parametrize("support", ["full", "disk"])
def test_references_are_the_same(tmp_path, support):
    model, data = models.random_cnn(2, (8, 8)), DATA[3]
    disk = support == "disk"
    result = measured(tmp_path, model, data, "C8", support=support, references=True)
    x = (data * naive.disk_mask(8, 8) if disk else data)[naive.sample_indices(12, 3, 5, 9)[0]]
    names = [*models.known(model)["hidden"], "latent", "logits"]
    rows = naive.input_round_trips("C8", x).astype(np.float32).reshape(-1, 3, 8, 8)
    trips = {
        name: v.reshape(5, 8, *v.shape[1:])
        for name, v in zip(names, run(model, rows, names), strict=True)
    }
    still = dict(zip(names, run(model, x, names), strict=True))
    for record in result["measurements"]:
        y, references = trips[record["layer"]], record["references"]
        perfect = -1.0 if record["measure"].endswith("cos") else 0.0
        if record["measure"] == "channel-cos":
            trip = naive.channel_cos(y, "C8", trivial=True, disk=disk)
            maps_ = still[record["layer"]]
            back = naive.output_round_trip_channel_cos(maps_, "C8", disk=disk).mean()
        else:
            twin = getattr(naive, record["measure"].replace("-", "_"))
            trip, back = twin(y, "C8"), perfect
        m = record["normaliser"] or 1.0
        close = {"rel": 1e-4, "abs": 1e-6}
        assert references["input_round_trip"]["value"] == pytest.approx(trip.mean() / m, **close)
        assert references["output_round_trip"]["value"] == pytest.approx(back / m, **close)
        assert references["numeric"]["value"] == pytest.approx(perfect / m, abs=1e-4)


def cached(tmp_path, model, data, group, mode, **options):
    path = models.save(model, tmp_path / "model.onnx")
    options |= {"samples": 5, "norm_samples": 9, "seed": 3, "provider": "cpu"}
    write_cache(path, data, group, tmp_path / "acts.geed", mode=mode, **options)
    return measure_cache(tmp_path / "acts.geed")


@pytest.mark.parametrize("mode", ["raw", "stats"])
@pytest.mark.parametrize("support", ["full", "disk"])
def test_caches_measure_the_same(tmp_path, mode, support):
    model, data = models.random_cnn(4, (9, 9)), images((3, 9, 9), 12)
    result = cached(tmp_path, model, data, "C8", mode, support=support)
    check_measurement(result, model, "C8", data, disk=support == "disk")


@pytest.mark.parametrize("mode", [None, "raw", "stats"])
def test_a_kernel_that_is_no_subgroup_measures_the_same(tmp_path, mode):
    model, data = models.random_cnn(2, (6, 6), blocks=3), images((3, 6, 6), 12)
    options = {"interpolation": "nearest"}
    if mode is None:
        result = measured(tmp_path, model, data, "C12", **options)
    else:
        result = cached(tmp_path, model, data, "C12", mode, **options)
    check_measurement(result, model, "C12", data, **options)


def test_shifts_measure_the_same_and_leave_out_grids_they_do_not_divide(tmp_path):
    model, data = models.random_cnn(2, (6, 6), blocks=2), images((3, 6, 6), 12)
    result = measured(tmp_path, model, data, "shift2x3")
    facts = models.known(model)
    kept = [r["layer"] for r in result["measurements"] if r["measure"] == "channel-cos"]
    # block1 is 3 x 3, which 2 does not divide.
    assert kept == ["stem", "block0"]
    assert any("left out" in note and "3×3" in note for note in result["notes"])
    chosen, _ = naive.sample_indices(12, 3, 5, 9)
    values = orbits(model, "shift2x3", data[chosen], facts["hidden"][:2], None)
    for record, maps_ in zip(result["measurements"], values, strict=False):
        check_record(record, naive.channel_cos(maps_, "shift2x3"))


def test_a_sample_that_is_not_a_number_is_named(tmp_path):
    data = images((1, 6, 6), 12)
    data[7] *= 0.1
    path = models.save(models.nan_for_dark(), tmp_path / "model.onnx")
    with pytest.raises(geed.GeedError, match=r"7.*latent"):
        geed.measure(path, data, "C4", samples=12, provider="cpu")


@pytest.mark.parametrize("way", ["kernels", "graph", "cache", "parts"])
def test_a_disk_is_of_samples_and_of_no_maps_but_those_of_cosines(tmp_path, way):
    """Spec section 3: samples are masked, and eq. (5) alone compares inside the disk of a grid."""
    model = models.random_cnn(3, (8, 8))
    path, data = models.save(model, tmp_path / "net.onnx"), images((3, 8, 8), 9)
    few = {"samples": 6, "norm_samples": 9, "provider": "cpu"}
    asked = ["channel-cos@stem", "latent-l2@stem", "output-l2@stem", "unexplained@stem"]
    asked += ["latent-l2@latent"]
    options = {"support": "disk", "measures": asked, "output_kind": "logits", **few}
    if way == "cache":
        write_cache(path, data, "C4", tmp_path / "s.geed", **options)
        result = measure_cache(tmp_path / "s.geed")
    elif way == "parts":
        parts = [geed.measure(path, data, "C4", shard=f"{i}/2", **options) for i in (1, 2)]
        result = geed.merge(parts)
    else:
        result = geed.measure(path, data, "C4", engine=way, **options)
    masked = data[result["data"]["indices"]] * naive.disk_mask(8, 8).astype(np.float32)
    (maps,) = orbits(model, "C4", masked, ["stem"], 99)
    whole = naive.orbit("C4", maps[:, 0])
    gaps = ((maps - whole) ** 2).sum(axis=(2, 3, 4))
    spread = maps[:, 0].reshape(9, -1).astype(float).var(axis=0, ddof=1).sum()
    apart = [((maps[(i + 1) % 6] - whole[i]) ** 2).sum(axis=(1, 2, 3)) for i in range(6)]
    pooled = maps.mean(axis=(3, 4)).astype(float)
    by = {(r["measure"], r["layer"]): r for r in result["measurements"]}
    unexplained, distance = by["unexplained", "stem"], by["output-l2", "stem"]
    assert unexplained["normaliser"] == pytest.approx(spread, rel=1e-4)
    assert unexplained["value"] == pytest.approx(gaps[:6, 1:].mean() / spread, rel=1e-4)
    between = np.array(apart)[:, 1:].mean() / spread
    assert unexplained["between_samples"] == pytest.approx(between, rel=1e-4)
    assert distance["value"] == pytest.approx(np.sqrt(gaps[:6]).mean(), rel=1e-4)
    assert distance["between_samples"] == pytest.approx(np.sqrt(apart).mean(), rel=1e-4)
    cosines = naive.channel_cos(maps[:6], "C4", disk=True).mean()
    assert by["channel-cos", "stem"]["value"] == pytest.approx(cosines, abs=1e-5)
    from_mean = np.linalg.norm(pooled[:6] - pooled[:6].mean(axis=1, keepdims=True), axis=2)
    assert by["latent-l2", "stem"]["unnormalised"] == pytest.approx(from_mean.mean(), rel=1e-4)
    told = {key: any("its corners too" in n for n in r["notes"]) for key, r in by.items()}
    vectors = {("channel-cos", "stem"): False, ("latent-l2", "latent"): False}
    assert told == vectors | {
        (name, "stem"): True for name in ("latent-l2", "output-l2", "unexplained")
    }
    full = geed.measure(path, data, "C4", **options | {"support": "full"})
    assert not any("corners" in n for r in full["measurements"] for n in r["notes"])
