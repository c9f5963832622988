"""What layers are said to do follows from intervals, on values that are known."""

import json
import re

import numpy as np
import pytest
from fitted import DEPTH, fitted_record, fitted_result, result_with

from onnx_geed.errors import GeedError
from onnx_geed.files import write_json
from onnx_geed.report.page import report
from onnx_geed.results import (
    diagnose,
    diagnosis_line,
    fits_together,
    layer_motions,
    motion_sentence,
    read_result,
)
from onnx_geed.results.motions import _below
from onnx_geed.text import span

KINDS = ("permutation", "orthogonal", "linear")


def motion(kind="linear", **values):
    options = {k: values.pop(k) for k in ("n", "noise", "measure") if k in values}
    return layer_motions([result_with([fitted_record("h", kind, values, **options)])])[0]


def told(results):
    return {m.layer: m.motion for m in layer_motions(results)}


def test_each_layer_of_a_made_up_network_is_told_for_what_it_does():
    assert told([fitted_result(kind) for kind in KINDS]) == {
        "conv1": "moves along",
        "conv2": "channels are permuted",
        "conv3": "mixes along",
        "conv4": "does not move along",
    }


def test_the_order_of_results_changes_nothing():
    forward = [fitted_result(kind) for kind in KINDS]
    assert told(forward) == told(forward[::-1])


def test_one_kind_of_fit_tells_what_it_can():
    assert told([fitted_result("permutation")]) == {
        "conv1": "moves along",
        "conv2": "channels are permuted",
        "conv3": "hardly moves along",
        "conv4": "does not move along",
    }


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("permutation", "channels are permuted"),
        ("orthogonal", "mixes along"),
        ("linear", "mixes along"),
    ],
)
def test_a_better_fit_names_what_channels_do(kind, word):
    assert motion(kind, identity=0.9, **{kind: 0.2}).motion == word


def test_a_fit_that_is_better_by_less_than_its_interval_does_not_count():
    assert motion(identity=0.300, linear=0.299).motion == "moves along"
    assert motion(identity=0.300, linear=0.240).motion == "mixes along"


def test_a_fit_that_is_surely_better_by_next_to_nothing_is_no_news():
    assert motion(identity=0.300, linear=0.270).motion == "moves along"


def test_what_is_no_better_than_the_next_samples_prediction_is_no_fit():
    assert motion(identity=0.8, linear=0.5, shuffled=0.5).motion == "does not move along"
    assert motion(identity=0.8, linear=0.5, shuffled=1.5).motion == "mixes along"


def test_what_leaves_nearly_as_much_as_the_mean_tensor_is_hardly():
    far = motion(identity=1.4, linear=1.2)
    assert (far.motion, far.blind, far.mean_tensor) == ("hardly moves along", 1.0, 1.0)
    assert motion(identity=1.1, linear=0.9).motion == "hardly moves along"
    assert motion(identity=1.1, linear=0.7).motion == "mixes along"
    assert motion(identity=1.1, linear=0.7, shuffled=0.8).motion == "hardly moves along"


def test_where_the_identity_is_no_better_and_the_fit_by_too_little_nothing_is_told():
    # The fit is below its null by the interval, the identity is not, and the two are alike.
    some = motion(identity=0.5, linear=0.495, shuffled=0.505, noise=0.1)
    assert some.motion == "cannot be told"


def test_one_sample_tells_nothing():
    assert motion(identity=0.9, linear=0.2, n=1).motion == "cannot be told"


def test_cosines_are_told_by_the_way_to_the_null():
    found = motion("permutation", measure="channel-cos", identity=-0.83, permutation=-0.83,
                   shuffled=-0.81)  # fmt: skip
    assert found.motion == "hardly moves along"
    assert found.mean_tensor is None
    found = motion("permutation", measure="channel-cos", identity=-0.83, permutation=-0.99,
                   shuffled=-0.81)  # fmt: skip
    assert found.motion == "channels are permuted"


def test_what_is_told_in_shares_of_the_mean_tensor_comes_first():
    values = {"identity": -0.9, "linear": -0.8, "shuffled": -0.5}
    cosine = fitted_record("h", "linear", values, measure="channel-cos")
    share = fitted_record("h", "linear", DEPTH["conv3"])
    motions = layer_motions([result_with([cosine, share])])
    assert [m.measure for m in motions] == ["unexplained", "channel-cos"]


def test_the_sentence_names_layers_and_what_was_tried():
    text = motion_sentence(layer_motions([fitted_result(kind) for kind in KINDS]))
    assert text == (
        "conv1 moves along, each channel in its place; conv2 moves along with channels permuted; "
        "conv3 mixes along: linear maps of channels predict best; conv4 does not move along by any "
        "linear map of channels fitted to 50 samples."
    )


def test_the_diagnosis_says_it_and_how_far_it_can_be_trusted():
    found = diagnose(fitted_result("permutation"))
    assert found[0].name == "motion of channels"
    assert "conv2 moves along with channels permuted" in found[0].text
    assert "by any permutation of channels fitted to 50 samples" in found[0].text
    assert "shuffled null" in found[0].advice
    assert diagnosis_line(fitted_result("permutation")).startswith("diagnosis: conv1 moves along")


def test_without_fits_nothing_is_said():
    plain = fitted_result("linear")
    for record in plain["measurements"]:
        del record["fit"]
    assert layer_motions([plain]) == ()
    assert all(f.name != "motion of channels" for f in diagnose(plain))


@pytest.mark.parametrize("broken", [{"kind": "linear"}, [1], "linear"])
def test_a_fit_in_a_file_that_lacks_something_is_refused(tmp_path, broken):
    made = fitted_result("linear")
    write_json(made, tmp_path / "r.json")
    assert read_result(tmp_path / "r.json")["measurements"] == made["measurements"]
    content = json.loads((tmp_path / "r.json").read_text())
    content["measurements"][1]["fit"] = broken
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(GeedError, match=r"measurements\[1\]\.fit lacks .*shuffled.*measure again"):
        read_result(tmp_path / "r.json")


def test_fits_measured_otherwise_are_not_held_against_each_other():
    first = fitted_result("permutation")
    alike, fewer = fitted_result("orthogonal"), fitted_result("orthogonal")
    for record in fewer["measurements"]:
        record["norm_samples"] = 2
    fed = fitted_result("orthogonal")
    fed["data"]["preprocess"] = "unit"
    for other, together in ((alike, True), (fewer, False), (fed, False)):
        expected = [[first, other]] if together else [[first], [other]]
        assert fits_together([first, other]) == expected


def test_each_of_two_fits_of_a_kind_is_told():
    few, many = fitted_result("linear"), fitted_result("linear")
    other = fitted_result("permutation")
    assert fits_together([few, many, other]) == [[few, other], [many]]
    text = report([few | {"file": "few.json"}, many | {"file": "many.json"}])
    assert text.count("conv3 mixes along") == 2


def test_what_is_said_of_cosines_has_no_minus():
    values = {"identity": -0.5, "linear": -0.8, "shuffled": -0.1}
    made = result_with([fitted_record("h", "linear", values, measure="channel-cos")])
    (evidence,) = [f.evidence for f in diagnose(made) if f.name == "motion of channels"]
    told = layer_motions([made])[0]
    assert f"linear {span(told.told(told.predictions[-1].value))}" in evidence
    assert not re.search(r"[-−]\d", evidence)


@pytest.mark.parametrize(("samples", "sure"), [(2, False), (3, False), (4, True), (12, True)])
def test_a_few_samples_that_all_flip_do_not_tell_a_fit_from_blindness(samples, sure):
    """McNemar's z of n pairs that all differ in one direction is √n."""
    assert _below(np.full(samples, -1.0), True, 0) is sure
    assert not _below(np.full(samples, 1.0), True, 0)
    assert not _below(np.array([-1.0, 1.0] * samples), True, 0)


@pytest.mark.parametrize(("samples", "word"), [(3, "does not move along"), (4, "mixes along")])
def test_motions_of_classes_go_by_the_interval_of_shares(samples, word):
    flips = {"identity": 1.0, "linear": 0.0, "shuffled": 1.0}
    assert motion(n=samples, noise=0.0, measure="flip-rate", **flips).motion == word
    # Where it surely sees its sample, the identity is still as good by the interval.
    record = fitted_record("h", "linear", flips, n=samples, noise=0.0, measure="flip-rate")
    shuffled = record["fit"]["per_sample"]["shuffled"]
    shuffled[:] = 0.9 + 0.01 * np.arange(samples)
    (told_of,) = layer_motions([result_with([record])])
    assert (told_of.best.kind == "linear") is (samples == 4)
