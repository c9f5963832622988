import numpy as np
import pytest

import onnx_geed as geed
from onnx_geed import GeedError
from onnx_geed.groups import Matrices, Permutation, Trivial
from onnx_geed.measures import (
    Measure,
    ProbabilityError,
    deviations_of_orbits,
    log_probabilities,
    normaliser,
    orbit_deviations,
)

C4, C8 = geed.parse_group("C4"), geed.parse_group("C8")
RNG = np.random.default_rng(0)


def maps(group, n=3, c=4, h=9, w=9):
    x = RNG.standard_normal((n, c, h, w)).astype(np.float32)
    action = geed.grid_action(group, h, w)
    return action, np.stack([geed.orbit(action, one) for one in x])


def test_an_equivariant_map_scores_exactly_minus_one_dead_channels_or_not():
    action, y = maps(C8)
    y[:, :, 2] = 0
    assert (geed.channel_cos(y, action) == -1).all()
    zeros = orbit_deviations(Measure("channel-cos", "t", action), y[0])[1]
    np.testing.assert_array_equal(zeros, 0.25)


def test_a_sign_flipped_in_one_channel_of_one_element_costs_two_over_c():
    action, y = maps(C4)
    y[:, 3, 1] *= -1
    deviations = geed.channel_cos(y, action)
    np.testing.assert_allclose(deviations[:, 3], -1 + 2 / 4, atol=1e-12)
    np.testing.assert_array_equal(deviations[:, :3], -1)


def test_one_zero_vector_counts_as_orthogonal():
    action, y = maps(C4)
    y[:, 1, 0] = 0
    np.testing.assert_allclose(geed.channel_cos(y, action)[:, 1], -3 / 4, atol=1e-12)


def test_the_disk_leaves_out_what_happens_in_the_corners():
    action, y = maps(C4)
    y[:, 1:, :, ~geed.disk_mask(9, 9)] += 5
    assert geed.channel_cos(y, action).max() > -0.9
    assert (geed.channel_cos(y, action, support="disk") == -1).all()


def test_a_permuted_channel_needs_its_table():
    x = RNG.standard_normal((4, 7, 7)).astype(np.float32)
    table = np.array([np.roll(np.arange(4), -k) for k in range(4)])
    y = np.stack([np.rot90(x[table[k]], k, axes=(1, 2)) for k in range(4)])[None]
    bare = geed.grid_action(C4, 7, 7)
    matched = geed.with_channels(bare, geed.Table(C4.elements, "channels", table, "t"))
    np.testing.assert_allclose(geed.channel_cos(y, matched), -1, atol=1e-12)
    assert geed.channel_cos(y, bare)[0, 1:].min() > -0.6


def test_latent_deviations_are_those_computed_by_hand():
    y = np.array([[[1.0, 0], [0, 1], [-1, 0], [0, -1]], [[3, 4], [3, 4], [3, 4], [3, 4]]])
    np.testing.assert_allclose(geed.latent_l2(y, C4), [[1, 1, 1, 1], [0, 0, 0, 0]])
    # The mean of the first orbit is zero, and a vector against zero has cosine 0.
    np.testing.assert_allclose(geed.latent_cos(y, C4), [[0, 0, 0, 0], [-1] * 4])


def test_softmax_of_two_certain_answers_is_ln_two():
    logits = np.zeros((1, 4, 2))
    logits[0, ::2, 0] = logits[0, 1::2, 1] = 800
    np.testing.assert_allclose(geed.softmax_kl(logits, C4), np.log(2), rtol=1e-12)


def test_softmax_lies_between_zero_and_ln_of_the_order():
    logits = RNG.standard_normal((50, 8, 8)) * 30
    value = geed.softmax_kl(logits, C8).mean(axis=1)
    assert (value >= 0).all()
    assert (value <= np.log(8) + 1e-12).all()
    certain = np.full((1, 8, 8), -1e4)
    certain[0, np.arange(8), np.arange(8)] = 1e4
    np.testing.assert_allclose(geed.softmax_kl(certain, C8), np.log(8), rtol=1e-12)


def test_softmax_is_entropy_of_the_mean_less_the_mean_entropy():
    p = RNG.dirichlet(np.ones(5), size=(6, 8))
    mean = p.mean(axis=1)
    entropy = -(mean * np.log(mean)).sum(1) + (p * np.log(p)).sum(2).mean(1)
    np.testing.assert_allclose(
        geed.softmax_kl(p, C8, kind="probabilities").mean(axis=1), entropy, rtol=1e-10
    )
    np.testing.assert_allclose(geed.softmax_kl(np.log(p), C8).mean(axis=1), entropy, rtol=1e-10)


def test_one_logit_is_the_two_class_case():
    z = RNG.standard_normal((3, 4, 1)) * 3
    two = np.concatenate([np.zeros_like(z), z], axis=-1)
    np.testing.assert_allclose(geed.softmax_kl(z, C4), geed.softmax_kl(two, C4), rtol=1e-12)
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(
        geed.softmax_kl(p, C4, kind="probabilities"), geed.softmax_kl(z, C4), rtol=1e-9
    )


def test_a_certainty_against_an_impossibility_is_an_error():
    swap = Permutation(geed.parse_group("flip-h"), np.array([[0, 1], [1, 0]]))
    p = np.array([[[1.0, 0.0], [1.0, 0.0]]])
    with pytest.raises(GeedError, match="element flip"):
        geed.softmax_kl(p, swap, kind="probabilities")
    right = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    np.testing.assert_array_equal(geed.softmax_kl(right, swap, kind="probabilities"), 0)


def test_an_action_through_a_quotient_averages_over_its_kernel():
    # C8 acts on two entries by its quotient of order 2; even elements are the kernel.
    swap = Permutation(C8, np.array([[0, 1], [1, 0]] * 4))
    y = RNG.standard_normal((2, 8, 2))
    centre = y[:, ::2].mean(axis=1)
    expected = [
        [np.linalg.norm(y[i, g] - (centre[i] if g % 2 == 0 else centre[i][::-1])) for g in range(8)]
        for i in range(2)
    ]
    np.testing.assert_allclose(geed.output_l2(y, swap), expected, rtol=1e-12)


def test_the_normaliser_is_the_mean_over_distinct_pairs():
    points = np.array([[0.0, 0], [3, 4], [0, 0]])
    assert normaliser("latent-l2", points) == pytest.approx(10 / 3)
    assert normaliser("latent-cos", points) == pytest.approx(1 / 3)  # only the two zeros agree
    assert normaliser("latent-l2", points[:1]) is None


def test_an_exact_subgroup_has_a_mean_of_its_own():
    measure = Measure("latent-l2", "t", Trivial(C4))
    y = RNG.standard_normal((4, 3))
    members = [0, 2]
    centre = y[members].mean(axis=0)
    np.testing.assert_allclose(
        orbit_deviations(measure, y, members)[0], np.linalg.norm(y[members] - centre, axis=1)
    )


def test_neither_batch_nor_order_of_samples_matters():
    action, y = maps(C8, n=5)
    y += RNG.standard_normal(y.shape).astype(np.float32)
    together = geed.channel_cos(y, action)
    for i in range(5):
        np.testing.assert_array_equal(geed.channel_cos(y[i : i + 1], action)[0], together[i])
    np.testing.assert_array_equal(geed.channel_cos(y[::-1], action), together[::-1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geed.latent_l2(np.zeros((2, 3, 4)), C4), r"\|G\| = 4"),
        (lambda: geed.latent_l2(np.full((2, 4, 4), np.nan), C4), "sample 0, element e"),
        (lambda: geed.latent_l2(np.zeros((2, 4, 4), int), C4), "floating point"),
        (lambda: geed.channel_cos(np.zeros((1, 4, 2, 3, 3)), geed.grid_action(C4, 5, 5)), "grid"),
        (lambda: Measure("latent-l3", "t", Trivial(C4)), "Did you mean 'latent-l2'"),
        (lambda: Measure("channel-cos", "t", Trivial(C4)), "does not work with"),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(GeedError, match=message):
        call()


def test_log_probabilities_survive_large_logits():
    logs = log_probabilities(np.array([[1e4, 0.0, -1e4]]), "logits")
    np.testing.assert_allclose(logs, [[0, -1e4, -2e4]])


def representations(group, k, rng):
    """A permutation and matrices of C8 on k entries, neither of them faithful for k < 8."""
    shift = np.stack([np.roll(np.arange(k), g if k == 8 else 0) for g in range(group.order)])
    basis = np.linalg.qr(rng.normal(size=(k, k)))[0]
    return Permutation(group, shift), Matrices(group, np.stack([basis[p].T @ basis for p in shift]))


@pytest.mark.parametrize("k", [1, 2, 7, 8, 33, 257])
@pytest.mark.parametrize("members", [None, (0, 4), (0, 2, 4, 6)])
def test_vectors_of_many_orbits_are_measured_bit_for_bit_as_one_by_one(k, members):
    rng = np.random.default_rng(k)
    y = rng.normal(size=(5, 8, k)).astype(np.float32)
    y[2] = 0
    permutation, matrices = representations(C8, k, rng)
    measures = [Measure(n, "t", Trivial(C8)) for n in ("latent-l2", "latent-cos", "softmax-kl")]
    measures += [Measure("output-l2", "t", a) for a in (permutation, matrices)]
    measures += [Measure("softmax-kl", "t", permutation)] if k > 1 else []
    for measure in measures:
        together, zeros = deviations_of_orbits(measure, y, members)
        alone = [orbit_deviations(measure, orbit, members) for orbit in y]
        np.testing.assert_array_equal(together, [a for a, _ in alone])
        assert together.flags.c_contiguous  # sums over it have one order
        np.testing.assert_array_equal(zeros, [z for _, z in alone])
        assert together.std() > 0


@pytest.mark.parametrize("support", ["full", "disk"])
def test_maps_of_many_orbits_are_measured_bit_for_bit_as_one_by_one(support):
    action, y = maps(C8, n=4, c=5, h=7, w=7)
    y += RNG.normal(size=y.shape).astype(np.float32) / 9
    measure = Measure("channel-cos", "t", action, support)
    for members in (None, (0, 4)):
        together = deviations_of_orbits(measure, y, members)[0]
        assert together.std() > 0
        alone = [orbit_deviations(measure, orbit, members)[0] for orbit in y]
        np.testing.assert_array_equal(together, alone)


def test_one_impossible_probability_among_many_orbits_is_found():
    y = np.full((4, 8, 8), 1 / 8)
    y[2, 0] = np.eye(8)[0]
    action = Permutation(C8, np.stack([np.roll(np.arange(8), g) for g in range(8)]))
    measure = Measure("softmax-kl", "t", action, kind="probabilities")
    with pytest.raises(ProbabilityError, match="r1"):
        deviations_of_orbits(measure, y)
