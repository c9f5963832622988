"""Which of two models is better, as a page says it first; values whose order is known."""

import re

import numpy as np
import pytest
from test_page import page, record, result_of, spread

from onnx_geed.notebook.html_table import html_table
from onnx_geed.report import page_numbers
from onnx_geed.report.page_tables import value_row
from onnx_geed.report.verdicts import verdicts
from onnx_geed.report.words import largest_loss, meaning, percent
from onnx_geed.results import compare, far_off, read_record
from onnx_geed.text import interval, number


def between(value):
    return np.full((4, 8), value)


def verdict(first, second):
    results = [result_of([one], path=f"{name}.onnx") for one, name in ((first, "a"), (second, "b"))]
    (found,) = verdicts(results, ["a", "b"], compare(*results)["measurements"])
    return found["text"]


def test_the_better_of_two_models_is_named_with_both_shares():
    a, b = spread(0.2), spread(0.2) + 0.1 + spread(0, noise=1e-3)
    options = {"normaliser": 1.0, "norm_samples": 9, "between": between(1.0)}
    good, bad = record("latent-l2", a, **options), record("latent-l2", b, **options)
    told = [f"{100 * read_record(one).relative:.0f} %" for one in (good, bad)]
    assert verdict(good, bad) == f"a is more invariant: {told[0]} off against {told[1]}."
    assert verdict(bad, good) == f"b is more invariant: {told[0]} off against {told[1]}."


def test_equal_models_have_no_clear_difference():
    one = record("latent-l2", spread(0.2), normaliser=1.0, norm_samples=9)
    assert verdict(one, one) == "no clear difference."


def test_a_model_that_hardly_reacts_decides_nothing():
    still = record("softmax-kl", spread(1e-9, noise=0), between=between(1e-9))
    assert "no conclusion: b hardly reacts to the input." in verdict(
        record("softmax-kl", spread(0.1)), still
    )


def test_orders_that_depend_on_the_scale_are_both_told():
    # b has the higher cosine, but its different samples are alike as well.
    a = record("channel-cos", spread(-0.4), between=between(0.0))
    b = record("channel-cos", spread(-0.5), between=between(-0.45))
    text = verdict(a, b)
    assert "By cosine, b is more equivariant (0.499 against 0.399)" in text
    assert "relative to different samples, a is (60 % off against 91 % off)" in text


def test_the_largest_loss_may_be_that_of_the_first_layer():
    maps = [record("channel-cos", spread(v), f"conv{i}") for i, v in enumerate((-0.4, -0.5, -0.3))]
    told = largest_loss([read_record(one) for one in maps])
    assert told == "between the input and conv0 (cosine 1.00 to 0.399)"
    # Of a layer that hardly reacts no share is known, so all are told by their cosines.
    known = [
        record("channel-cos", spread(v), f"conv{i}", between=between(b))
        for i, (v, b) in enumerate(((-0.7, -0.6), (-0.999, -1 + 1e-9), (-0.6, -0.1)))
    ]
    assert known[1]["relative"] is None
    told = largest_loss([read_record(one) for one in known])
    assert told == f"between conv1 and conv2 (cosine {-known[1]['value']:.3g} to 0.599)"
    perfect = record("channel-cos", np.full((3, 8), -1.0))
    assert largest_loss([read_record(perfect)] * 2) is None


def test_cosines_of_latents_are_cosines_in_every_table():
    one = record("latent-cos", spread(-0.9), "z", normaliser=0.5, norm_samples=9)
    text = page(result_of([one])).text
    cosine = -read_record(one).value
    assert f"{cosine:.4f}" in text
    assert f"divided by M {cosine / 0.5:.4f}" in text


@pytest.mark.parametrize(
    ("between_them", "far"), [(13.8, 0.00933 / np.log(8)), (0.5, 0.00933 / 0.5)]
)
def test_predictions_are_one_share_off_everywhere(between_them, far):
    """Of what an orbit can be at most, or of different samples: the larger share, by one name."""
    one = record("softmax-kl", np.full((4, 8), 0.00933), between=between(between_them))
    other = record("softmax-kl", np.full((4, 8), 0.2), between=between(between_them))
    reading = read_record(one)
    assert far_off(reading, reading.value) == pytest.approx(far)
    told = percent(far)
    text = page(result_of([one])).text
    assert told in text
    assert verdict(one, other).startswith(f"a is more invariant: {told} off against")
    many = [result_of([one], path=f"{i}.onnx") for i in range(5)]
    assert re.search(rf"{re.escape(told)} off\W+all 5\b", page(*many).text)
    notebook = html_table({**result_of([one]), "model": {"path": "a.onnx"}})
    assert f"{100 * far:.3g} %" in notebook
    sentence = meaning(one, 8)
    assert "%" not in sentence
    if between_them > np.log(8):
        assert "Predictions change by 0.00933 nats (at most ln 8 = 2.08, perfect 0)" in sentence
        assert "13.8" not in sentence
    else:
        assert "(different samples 0.500, perfect 0)" in sentence


@pytest.mark.parametrize(("action", "how"), [("permutation", "permuted"), ("grid", "moved along")])
def test_predictions_that_should_move_are_told_how(action, how):
    one = record("softmax-kl", np.full((4, 8), 0.1), between=np.full((4, 8), 0.5))
    one["output_action"] = action
    assert f"0.100 nats from those of the unmoved sample, {how} (different" in meaning(one, 8)


def test_a_map_that_was_made_a_vector_is_told():
    latent = record("latent-l2", spread(0.3), "relu_4", normaliser=1.0, norm_samples=9)
    latent["notes"] = ["average-pooled over its grid by onnx-geed"]
    assert "(relu_4, average-pooled over its grid): A sample" in page(result_of([latent])).text


def test_intervals_keep_to_the_range_of_a_measure():
    skewed = record("softmax-kl", np.full((4, 8), [[1e-6], [2e-6], [1e-3], [3e-3]]))
    ends = read_record(skewed).ci95
    assert ends[0] < 0
    row = value_row(skewed, result_of([skewed])["group"])
    assert row["ci"] == f"[0.0000, {number(ends[1])}]"
    cosines = record("channel-cos", np.full((4, 8), [[-1.0], [-1.0], [-0.999], [-0.9]]))
    low, high = read_record(cosines).ci95
    assert low < -1
    row = value_row(cosines, result_of([cosines])["group"])
    assert row["ci"] == f"[{number(-high)}, 1.0000]"
    assert interval((-0.01, 0.5)) == "[−0.01000, 0.5000]"


def test_a_minus_is_one_on_pages_and_no_zero_has_one():
    assert interval((-0.0, 0.0)) == "[0.0000, 0.0000]"
    assert page_numbers.interval((-0.01, -2e-7)) == "[−0.01000, −2.00e-07]"
    assert page_numbers.interval(None) == page_numbers.number(None) == "—"
    a, b = (record("channel-cos", spread(v)) for v in (-0.5, -0.9))
    assert "−0.4" in page(result_of([a], path="a.onnx"), result_of([b], path="b.onnx")).text


def test_networks_of_two_designs_are_judged_by_their_last_layers():
    """A name that both have may be deep in one network and the end of the other."""

    def maps(layer, value):
        return record("channel-cos", spread(value), layer, between=between(0.0))

    long = result_of([maps("r1", -0.9), maps("r2", -0.8), maps("r3", -0.5)], path="a.onnx")
    short = result_of([maps("r1", -0.9), maps("r2", -0.7)], path="b.onnx")
    (found,) = verdicts([long, short], ["a", "b"], compare(long, short)["measurements"])
    last = read_record(long["measurements"][-1]), read_record(short["measurements"][-1])
    told = [percent(r.relative) for r in last]
    assert found == {
        "what": "Feature maps (r3 | r2)",
        "text": f"b is more equivariant: {told[1]} off against {told[0]}.",
    }
    (found,) = verdicts([short, long], ["b", "a"], compare(short, long)["measurements"])
    assert found["text"] == f"b is more equivariant: {told[1]} off against {told[0]}."


def test_one_sample_is_too_few():
    one = record("latent-l2", spread(0.2)[:1], normaliser=1.0, norm_samples=9)
    assert verdict(one, one) == "one sample is too few for a conclusion."


@pytest.mark.parametrize("action", ["grid", "grid+channels"])
def test_last_maps_of_other_output_actions_decide_nothing(action):
    maps = [
        [record("channel-cos", spread(v), f"{name}{i}") for i in range(2)]
        for name, v in (("conv", -0.4), ("block", -0.8))
    ]
    for one in maps[1]:
        one["output_action"] = action
    for one in maps[0]:
        one["output_action"] = "grid"
    results = [
        result_of([*own, record("softmax-kl", spread(0.2))], path=f"{name}.onnx")
        for name, own in zip("ab", maps, strict=True)
    ]
    found = verdicts(results, ["a", "b"], compare(*results)["measurements"])
    assert any("conv1 | block1" in one["what"] for one in found) == (action == "grid")
