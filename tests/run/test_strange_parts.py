"""Parts from strangers: whatever is wrong in them ends in one line, or in a result."""

import base64
import copy
import random
import sys
import warnings
from pathlib import Path

import models
import numpy as np
import pytest
from test_parts import EVERY, FEW, data

import onnx_geed as geed
from onnx_geed.errors import GeedError

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))
from json_mutations import at, mutated, places

OPTIONS = {**FEW, "measures": [*EVERY, "unexplained@latent"], "output_kind": "logits"}
OPTIONS |= {"references": True, "output_action": {"latent": "fit:linear"}, "fit_anyway": True}
OPTIONS |= {"untrained": True, "batch_size": 16}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    net = models.save(models.random_cnn(1, (8, 8)), tmp_path_factory.mktemp("net") / "net.onnx")
    return [geed.measure(net, data(), "C8", shard=f"{i}/2", **OPTIONS) for i in (1, 2)]


def refused(parts):
    """Merge parts; say how they were refused, in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(GeedError) as error:
            geed.merge(parts)
    message = str(error.value)
    assert message.startswith("merge: ")
    assert "\n" not in message
    assert len(message) < 400
    return message


def array(values):
    little = np.ascontiguousarray(values)
    content = base64.b64encode(little.tobytes()).decode()
    return {"dtype": little.dtype.str, "shape": list(little.shape), "base64": content}


WRONG = {
    "evidence.fits.latent.indices": ["a"],
    "evidence.fits.latent.kind": "guess",
    "evidence.fits.latent.defect": [1.0],
    "evidence.measures.0.told.elements": [1] * 8,
    "evidence.measures.0.told.exact": ["e"],
    "evidence.measures.0.told.skipped": "one",
    "evidence.measures.0.told.table": 1,
    "evidence.measures.0.statistics.pairs.0.of": [0],
    "evidence.measures.0.statistics.pairs.0.square": "1",
    "evidence.measures.0.statistics.channels.added": 1.5,
    "evidence.measures.0.statistics.channels.total": array(np.zeros((3, 4))),
    "evidence.measures.0.statistics.zero_pairs": array(np.zeros((6, 8, 1))),
    "evidence.measures.0.statistics.zero_pairs.shape": [[6], 8],
    "evidence.measures.0.statistics.pairs.0.deviations": array(np.zeros(7)),
    "evidence.points.0.latents.latent": array(np.zeros(6)),
    "evidence.points.0.tensors.0.total": [],
    "evidence.points.0.positions": [0, 1, 2],
    "evidence.trips.0.numeric": array(np.zeros((6, 2))),
    "evidence.trips.0.output_round_trip": array(np.full(6, 1e308)),
    "evidence.fit_scales.0.scales.shuffled": array(np.zeros((5, 8))),
    "evidence.moved_classes.logits": array(np.zeros((2, 2), np.int64)),
    "evidence.interval": "none",
    "evidence.seed": None,
    "untrained.measures.0.statistics": {},
    "untrained": [],
    "moved_inputs": {"dtype": "<f8"},
    "classes": [3],
    "notes": [3],
    "marks": {"": [3]},
    "same": {"model": 3},
    "points": [0, 2**62],
    "of": 2**62,
    "number": 1.0,
}

# Of the right types, but nothing that could have been measured.
IMPOSSIBLE = {
    "samples": 10**12,
    "orbits": [6, 0],
    "evidence.count": 10**12,
    "evidence.norm_samples": 2**62,
    "evidence.pointed": 2**62,
    "evidence.elements": ["e"] * 100_000,
    "evidence.interval": "bootstrap",
    "evidence.seed": 4,
    "evidence.group": "C4",
    "evidence.on_untrained": ["latent-l2@latent"],
    "evidence.measures.0.told.elements": ["e"] * 100_000,
    "evidence.measures.0.told.exact": [0, 8],
    "evidence.measures.0.told.skipped": 8,
    "evidence.measures.0.told.trials": True,
    "evidence.measures.0.statistics.zero_pairs": array(np.full((6, 8), 2.0)),
    "evidence.measures.0.statistics.channels.added": 10**12,
    "evidence.measures.3.statistics.pairs.0.square": -1.0,
    "evidence.measures.10.statistics.predicted": array(np.full((6, 8), -1)),
    "evidence.points.0.tensors.0.added": 2**60,
    "evidence.points.0.tensors.0.total": -1.0,
    "evidence.points.0.tensors.0.mean": None,
    "untrained.count": 12,
    "untrained.points.0.tensors.0.total": -1.0,
}


@pytest.mark.parametrize(("where", "value"), [*WRONG.items(), *IMPOSSIBLE.items()])
def test_a_value_that_is_wrong_deep_inside_is_refused_in_a_line(two, where, value):
    *path, last = (int(s) if s.isdigit() else s for s in where.split("."))
    parts = copy.deepcopy(two)
    at(parts[0]["part"], path)[last] = value
    assert any(
        word in refused(parts) for word in ("damaged", "fit together", "the parts of one run")
    )


@pytest.mark.parametrize("field", ["samples", "norm_samples", "interval", "elements", "skipped"])
def test_what_all_parts_say_alike_is_what_was_measured(two, field):
    """A field is held against others of the part, not only against those of other parts."""
    parts = copy.deepcopy(two)
    for each in parts:
        part, evidence = each["part"], each["part"]["evidence"]
        told = [measure["told"] for measure in evidence["measures"]]
        {
            "samples": lambda part=part: part.update(samples=10**12),
            "norm_samples": lambda evidence=evidence: evidence.update(norm_samples=2**62),
            "interval": lambda evidence=evidence: evidence.update(interval="bootstrap"),
            "elements": lambda evidence=evidence: evidence.update(elements=["e"] * 100_000),
            "skipped": lambda told=told: [one.update(skipped=8) for one in told],
        }[field]()
    assert "damaged" in refused(parts)


def test_points_that_nobody_could_count_are_refused(two):
    parts = copy.deepcopy(two)
    for part in (parts[0]["part"], parts[0]["part"]["evidence"]):
        part["marks"] = {}
    parts[0]["part"]["points"] = [0, 2**62]
    parts[0]["part"]["evidence"]["points"][1]["positions"] = [0, 2**62]
    refused(parts)


def test_an_array_of_nothing_does_not_become_one_of_much(two):
    parts = copy.deepcopy(two)
    rows = parts[0]["part"]["evidence"]["measures"][0]["statistics"]["channels"]["rows"]
    rows["shape"], rows["base64"] = [0, 2, 10**9], ""
    assert "no array of shape [0, 2, 1000000000]" in refused(parts)


@pytest.mark.parametrize("seed", range(40))
def test_parts_that_were_changed_anywhere_are_joined_or_refused_in_a_line(two, seed):
    dice = random.Random(seed)
    parts = copy.deepcopy(two)
    parts[dice.randrange(2)]["part"] = mutated(parts[dice.randrange(2)]["part"], dice)
    assert list(places(parts[0]["part"]))
    try:
        geed.merge(parts)
    except GeedError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 400, message


@pytest.mark.parametrize("name", ["--norm-samples", "--interval", "--seed"])
def test_what_a_part_does_not_say_of_its_options_is_no_contradiction_of_them(two, name):
    parts = copy.deepcopy(two)
    for part in parts:
        part["part"]["same"].pop(name, None)
    assert geed.merge(parts)["measurements"]
    parts[0]["part"]["same"][name] = "7"
    refused(parts)
