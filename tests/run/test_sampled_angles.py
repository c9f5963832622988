"""SO2~n against all angles on the demo's network: bias, coverage of intervals, a check by hand.

Slow, and so left out unless asked for with ``-m slow``. The angles are scipy's own rotations, and
the network is run by ONNX Runtime without the package.
"""

import functools
import importlib.resources

import numpy as np
import onnx
import pytest
import running
from scipy import ndimage

import onnx_geed as geed

pytestmark = pytest.mark.slow

DEMO = importlib.resources.files("onnx_geed") / "demo"
MODEL, DATA = str(DEMO / "digits_cnn.onnx"), str(DEMO / "digits.npz")
MEASURES = ["channel-cos@block5", "latent-l2", "latent-cos", "softmax-kl"]
SEEDS = range(6)


def turned(image, degrees):
    """An image turned counter-clockwise about its centre, black outside, resampled once."""
    quarters, rest = divmod(degrees, 90)
    t = np.radians(rest)
    # Rows run down: what lands at (down, right) comes from there turned back.
    back = np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])
    centre = (np.array(image.shape) - 1) / 2
    moved = ndimage.affine_transform(
        image, back, centre - back @ centre, order=1, mode="grid-constant", cval=0.0
    )
    return np.rot90(moved, int(quarters))


@functools.cache
def pixels():
    return np.load(DATA)["images"].astype(np.float64) / 255


@functools.cache
def live(names):
    return running.session(running.exposed(onnx.load(MODEL), names))


def activations(numbers, angles, names):
    """Tensors (samples, angles, ...) of turned digits."""
    orbits = []
    for number in numbers:
        rows = np.stack([turned(pixels()[number], a) for a in angles])[:, None]
        orbits.append(live(names).run(None, {"image": rows.astype(np.float32)}))
    return [np.stack(column).astype(np.float64) for column in zip(*orbits, strict=True)]


def invariance(latents, logits):
    """The three measures of invariance, unnormalised: one number a sample each."""
    mean = latents.mean(axis=1, keepdims=True)
    length = np.linalg.norm(latents, axis=2) * np.linalg.norm(mean, axis=2)
    logs = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    p = np.exp(logs)
    return {
        "latent-l2": np.linalg.norm(latents - mean, axis=2).mean(axis=1),
        "latent-cos": -((latents * mean).sum(axis=2) / length).mean(axis=1),
        "softmax-kl": (p * (logs - np.log(p.mean(axis=1, keepdims=True)))).sum(axis=2).mean(axis=1),
    }


def measured(seed, samples, group="SO2~32"):
    options = {"measures": MEASURES, "samples": samples, "norm_samples": 200, "provider": "cpu"}
    return geed.measure(MODEL, DATA, group, seed=seed, **options)


@functools.cache
def whole():
    """Every digit under 120 angles, by the twin's own hand."""
    latents, logits = activations(range(300), np.arange(0, 360, 3.0), ("latent", "logits"))
    return latents, invariance(latents, logits)


@functools.cache
def sampled():
    """Every digit under SO2~32, with six offsets of its own: (6, 300) by measure."""
    found = {}
    for seed in SEEDS:
        result = measured(seed, 300)
        for record in result["measurements"]:
            row = np.empty(300)
            row[result["data"]["indices"]] = np.mean(record["deviations"], axis=1)
            found.setdefault(record["measure"], []).append(row)
    return {name: np.array(rows) for name, rows in found.items()}


# Student's 97.5 % quantile of 49 degrees of freedom.
T49 = 2.0096


def coverage(rows, truth, runs=20_000):
    """How often an interval over 50 samples, drawn anew with their offsets, holds the truth."""
    draw = np.random.default_rng(0)
    sample, offset = (draw.integers(0, n, (runs, 50)) for n in rows.shape[::-1])
    x = rows[offset, sample]
    within = T49 * x.std(axis=1, ddof=1) / np.sqrt(50)
    return float((np.abs(x.mean(axis=1) - truth) <= within).mean())


@pytest.mark.parametrize("measure", ["latent-l2", "latent-cos", "softmax-kl"])
def test_32_angles_are_all_angles(measure):
    """Bias against 120 angles, over all digits: seen -0.06, 0.002 and -0.03 %."""
    ours, truth = sampled()[measure].mean(), whole()[1][measure].mean()
    assert ours == pytest.approx(truth, rel=0.003)


@pytest.mark.parametrize("measure", ["channel-cos", "latent-l2", "latent-cos"])
def test_intervals_hold_what_they_say(measure):
    """Seen 94.8, 94.6 and 94.8 %."""
    rows = sampled()[measure]
    # Of maps, which move along, the truth is that of all offsets.
    truth = whole()[1][measure].mean() if measure in whole()[1] else rows.mean()
    assert 0.93 <= coverage(rows, truth) <= 0.97


def test_of_a_skewed_measure_they_hold_less():
    """Student t knows no skewness: seen 85 %, of divergences whose skewness is 4."""
    rows = sampled()["softmax-kl"]
    assert 0.8 < coverage(rows, whole()[1]["softmax-kl"].mean()) < 0.92


def test_independent_angles_need_the_correction():
    """What SO3~n does to distances: eight angles drawn one by one, and the mean of all is known.

    Seen: bias -7.8 %, and 69 % of intervals hold the truth; corrected -1.5 % and 93 %.
    """
    latents, truth = whole()[0], whole()[1]["latent-l2"].mean()
    draw = np.random.default_rng(1)
    rows = []
    for _ in SEEDS:
        some = draw.integers(0, latents.shape[1], (len(latents), 8))
        few = np.take_along_axis(latents, some[..., None], axis=1)
        away = few - few.mean(axis=1, keepdims=True)
        rows.append(np.linalg.norm(away, axis=2).mean(axis=1))
    plain = np.array(rows)
    assert plain.mean() < 0.95 * truth
    assert coverage(plain, truth) < 0.75
    corrected = plain * np.sqrt(8 / 7)
    assert corrected.mean() == pytest.approx(truth, rel=0.025)
    assert coverage(corrected, truth) > 0.91


def test_360_angles_by_hand_lie_within_the_interval():
    result = measured(0, 50)
    numbers = result["data"]["indices"][:50]
    by_hand = invariance(*activations(numbers, np.arange(360.0), ("latent", "logits")))
    for record in result["measurements"][1:]:
        value = by_hand[record["measure"]].mean() / (record["normaliser"] or 1)
        low, high = record["ci95"]
        assert low < value < high
        # Far nearer than that, on the very same samples.
        assert record["value"] == pytest.approx(value, abs=(high - low) / 20)
        assert record["half"]["value"] == pytest.approx(value, abs=(high - low) / 20)


def test_eight_angles_are_too_few_for_maps():
    few, many = (
        {r["measure"]: r for r in measured(0, 50, group)["measurements"]}
        for group in ("SO2~8", "SO2~32")
    )
    assert any("too few elements" in w for w in few["channel-cos"]["warnings"])
    assert not any(r["warnings"] for r in many.values())
