"""How far fits are from representations, and the representations made of them."""

import naive_fits as twin
import naive_letters
import numpy as np
import pytest

from onnx_geed import GeedError
from onnx_geed.groups import Trivial, parse_group
from onnx_geed.measures import FitSums, as_representation
from onnx_geed.measures.fit_defect import defect_of_matrices, defect_of_permutations

RNG = np.random.default_rng(0)


def representation(group):
    """The regular one and the plane's, in another basis; orthogonal."""
    names, table = naive_letters.elements(group), twin.table(group)
    basis, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(len(names) + 2,) * 2))
    maps = []
    for g, name in enumerate(names):
        block = np.zeros(basis.shape)
        for h in range(len(names)):
            block[table[g][h], h] = 1
        block[-2:, -2:] = naive_letters.plane_matrix(group, name)[:2, :2]
        maps.append(basis @ block @ basis.T)
    return np.array(maps)


def near(maps, size):
    """Orthogonal matrices near some."""
    noisy = maps + size * np.random.default_rng(1).normal(size=maps.shape)
    return np.array([np.eye(maps.shape[1]), *map(twin.polar, noisy[1:])])


def gram_of(channels, rank):
    root = RNG.normal(size=(channels, rank))
    return root @ root.T


@pytest.mark.parametrize("rank", [3, 40])
@pytest.mark.parametrize("group", ["flip-h", "C4", "C8", "D4"])
def test_defect_is_that_of_the_twin(group, rank):
    maps = near(representation(group), 0.2)
    gram, table = gram_of(maps.shape[1], rank), parse_group(group).table
    expected = twin.defect(maps, gram, table)
    assert defect_of_matrices(maps, gram, table) == pytest.approx(expected, rel=1e-6)
    assert expected[1] > 0.1
    rows = np.array([np.roll(np.arange(len(gram)), g * g) for g in range(len(maps))])
    expected = twin.defect([twin.permutation_matrix(row) for row in rows], gram, table)
    assert defect_of_permutations(rows, gram, table) == pytest.approx(expected, rel=1e-6)
    assert expected[1] > 0.5


def test_defect_does_not_depend_on_how_much_is_multiplied_at_a_time(monkeypatch):
    maps, table = near(representation("C4"), 0.2), parse_group("C4").table
    gram = gram_of(6, 6)
    whole = defect_of_matrices(maps, gram, table)
    monkeypatch.setattr("onnx_geed.measures.fit_defect._NUMBERS", 50)
    assert defect_of_matrices(maps, gram, table) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("group", ["flip-h", "C4", "C8", "D4"])
def test_a_representation_has_no_defect(group):
    maps, table = representation(group), parse_group(group).table
    assert max(defect_of_matrices(maps, gram_of(maps.shape[1], 9), table)) < 1e-12
    # Of the transposes, which are a representation the other way round, it has one.
    backwards = defect_of_matrices(maps.transpose(0, 2, 1), np.eye(maps.shape[1]), table)
    assert (max(backwards) > 0.1) == (group == "D4")
    # Nor has anything where the data do not see it.
    assert defect_of_matrices(near(maps, 0.5), np.zeros_like(maps[0]), table) == (0.0, 0.0)


@pytest.mark.parametrize("planted", [True, False])
@pytest.mark.parametrize("kind", ["orthogonal", "linear"])
def test_the_defect_of_a_fit_tells_whether_a_representation_was_planted(kind, planted):
    group = parse_group("C4")
    maps = representation("C4") if planted else near(RNG.normal(size=(4, 6, 6)), 0.0)
    x = RNG.normal(size=(200, 6))
    fit = FitSums(Trivial(group), 6, kind, 200)
    fit.add(0, np.einsum("gij,nj->ngi", maps, x).astype(np.float32))
    _, _, defect = fit.solve()
    assert max(defect) < 1e-3 if planted else min(defect) > 0.3


@pytest.mark.parametrize("group", ["flip-h", "C3", "C4", "C5", "C8", "hue3"])
def test_fits_of_cyclic_groups_become_representations(group):
    maps = representation(group.replace("hue", "C"))
    fit, parsed = near(maps, 0.05), parse_group(group)
    gram = gram_of(maps.shape[1], 20)
    made, defect = as_representation(parsed, fit, gram)
    assert max(defect) < 1e-12
    assert max(twin.defect(fit, gram, parsed.table)) > 1e-3 or group == "flip-h"
    for g in range(len(made)):
        assert made[g] @ made[g].T == pytest.approx(np.eye(len(gram)), abs=1e-12)
        for h in range(len(made)):
            assert made[g] @ made[h] == pytest.approx(made[parsed.table[g, h]], abs=1e-12)
    # Near what was planted, and so not the trivial one.
    assert np.abs(made - maps).max() < 0.5
    assert np.abs(maps - np.eye(len(gram))).max() > 0.5


def test_angles_are_snapped_to_the_nearest_root():
    angle = np.radians(100)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    fit = np.array([np.eye(2), turn, turn, turn])
    made, _ = as_representation(parse_group("C4"), fit, np.eye(2))
    quarter = np.array([[0, -1], [1, 0]])
    powers = [np.eye(2), quarter, -np.eye(2), -quarter]
    assert made == pytest.approx(np.array(powers), abs=1e-12)


@pytest.mark.parametrize(("size", "turned"), [(2, 2), (3, 2)])
def test_minus_one_is_no_root_of_an_odd_order(size, turned):
    """Two of them turn by the nearest angle; one that is left stays as it is."""
    fit = np.array([np.eye(size), -np.eye(size), np.eye(size)])
    made, _ = as_representation(parse_group("C3"), fit, np.eye(size))
    angles = np.sort(np.abs(np.angle(np.linalg.eigvals(made[1]))))
    wanted = np.sort([*[2 * np.pi / 3] * turned, *[0.0] * (size - turned)])
    assert angles == pytest.approx(wanted, abs=1e-9)
    assert made[1] @ made[1] @ made[1] == pytest.approx(np.eye(size), abs=1e-12)


def test_an_involution_stays_as_it_was_fitted():
    vectors, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    mirror = vectors @ np.diag([1, 1, -1, -1, 1]) @ vectors.T
    made, defect = as_representation(
        parse_group("flip-h"), np.array([np.eye(5), mirror]), np.eye(5)
    )
    assert made[1] == pytest.approx(mirror, abs=1e-12)
    assert max(defect) < 1e-12


@pytest.mark.parametrize("group", ["D4", "S3", "shift2x2"])
def test_means_over_other_groups_lead_to_representations(group):
    parsed = parse_group(group)
    table = parsed.table
    regular = np.zeros((len(table),) * 3)
    for g, row in enumerate(table):
        regular[g, row, np.arange(len(table))] = 1
    fit = near(regular, 0.05)
    gram = gram_of(len(table), 20)
    before = twin.defect(fit, gram, table)
    made, defect = as_representation(parsed, fit, gram)
    assert max(defect) < 1e-9 < 1e-2 < before[1]
    assert np.abs(made - regular).max() < 0.3
    assert made[0] == pytest.approx(np.eye(len(gram)))


@pytest.mark.parametrize("rank", [1, 40])
@pytest.mark.parametrize("group", ["D3", "D4", "O", "S4", "shift3x3", "C4*hue4"])
def test_what_is_far_from_a_representation_becomes_one_all_the_same(group, rank):
    """Its products are right to rounding, also where data see nothing, and it is orthogonal."""
    parsed, draw = parse_group(group), np.random.default_rng(3)
    fit = near(draw.normal(size=(parsed.order, 5, 5)), 0.0)
    gram = gram_of(5, rank)
    made, defect = as_representation(parsed, fit, gram)
    assert max(defect) < 1e-6 < 0.3 < max(twin.defect(fit, np.eye(5), parsed.table))
    assert made[0] == pytest.approx(np.eye(5), abs=1e-12)
    for g, row in enumerate(parsed.table):
        assert made[g] @ made[g].T == pytest.approx(np.eye(5), abs=1e-9)
        np.testing.assert_allclose(made[g] @ made, made[row], atol=1e-9)


def turns_and_signs():
    """The turns and mirrors of D3, and signs on a channel beside them, in another basis."""
    basis, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    block = np.zeros((6, 3, 3))
    for g, name in enumerate(parse_group("D3").elements):
        block[g, :2, :2] = naive_letters.plane_matrix("D3", name)[:2, :2]
    # As of no character, and their own means: half the products with any of them are right.
    block[:, 2, 2] = [1, -1, -1, 1, 1, -1]
    return basis @ block @ basis.T, basis


def test_means_that_end_at_no_representation_become_the_one_that_overlaps_most():
    maps, basis = turns_and_signs()
    made, defect = as_representation(parse_group("D3"), maps, np.eye(3))
    assert max(defect) < 1e-9
    # The turns stay, and the signs become all ones or those of mirrors.
    inner, before = (basis.T @ matrices @ basis for matrices in (made, maps))
    np.testing.assert_allclose(inner[:, :2, :2], before[:, :2, :2], atol=1e-9)
    np.testing.assert_allclose(inner[:3, 2, 2], 1, atol=1e-9)
    np.testing.assert_allclose(inner[3:, 2, 2], inner[3, 2, 2], atol=1e-9)


def test_of_too_many_channels_the_means_are_left_with_their_defect(monkeypatch):
    monkeypatch.setattr("onnx_geed.measures.fit_defect._MOST_SIDE", 11)
    fit, table = turns_and_signs()[0], twin.table("D3")
    made, defect = as_representation(parse_group("D3"), fit, np.eye(3))
    assert defect == pytest.approx(twin.defect(made, np.eye(3), table), abs=1e-7)
    assert 0.1 < defect[1] <= twin.defect(fit, np.eye(3), table)[1] + 1e-9


def test_some_elements_of_a_group_make_no_representation():
    with pytest.raises(GeedError, match=r"S5~4.*take a complete group"):
        as_representation(parse_group("S5~4"), np.array([np.eye(2)] * 4), np.eye(2))
