"""Parts of a run, joined: the bits of the whole, however it is divided, and what is refused."""

import json
import random

import models
import pytest
from running import images

import onnx_geed as geed

FEW = {"samples": 11, "norm_samples": 15, "seed": 3, "provider": "cpu", "batch_size": 17}
EVERY = [
    *("channel-cos", "latent-l2", "latent-cos", "softmax-kl", "unexplained", "flip-rate"),
    *("unexplained@stem", "output-l2"),
]
# What the parts of a run share with the whole, all but when, how and how fast they were made.
_OWN = ("created", "command", "runtime")


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return models.save(models.random_cnn(1, (8, 8)), tmp_path_factory.mktemp("net") / "net.onnx")


def data(n=17):
    return images((3, 8, 8), n)


def bits(result):
    """All that two results of one run share, every float in full."""
    return json.dumps({k: v for k, v in result.items() if k not in _OWN})


def parts_of(n, *args, **options):
    return [geed.measure(*args, shard=f"{i}/{n}", **options) for i in range(1, n + 1)]


def same_bits(n, *args, **options):
    """Measure in parts and as a whole; return both, which are the same to the last bit."""
    whole = geed.measure(*args, **options)
    parts = parts_of(n, *args, **options)
    assert not any(
        "no between_samples" in p for r in parts for m in r["measurements"] for p in m["notes"]
    )
    joined = geed.merge(random.Random(n).sample(parts, n))
    assert bits(joined) == bits(whole)
    stays = set(whole["runtime"]) - {"seconds", "inferences"}
    assert {k: joined["runtime"][k] for k in stays} == {k: whole["runtime"][k] for k in stays}
    return whole, parts


# ------------------------------------------------------------------------------------------------
# The whole one's bits
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["kernels", "graph"])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_parts_join_to_the_bits_of_the_whole(net, n, engine):
    labels = [i % 3 for i in range(17)]
    options = {**FEW, "measures": EVERY, "engine": engine, "output_kind": "logits"}
    same_bits(n, net, data(), "C8", labels=labels, **options)


@pytest.mark.parametrize(
    ("group", "options"),
    [
        ("D4", {"references": True, "untrained": True}),
        ("C8", {"support": "disk", "interval": "bootstrap"}),
        ("C8", {"references": True, "batch_size": 3}),
        ("C4", {"memory": "40KiB", "batch_size": None, "untrained": True}),
        ("C8", {"samples": 17, "norm_samples": 5}),
        ("C8", {"samples": 2, "norm_samples": 0, "batch_size": 8}),
        ("C8", {"samples": 1}),
        ("C2", {"samples": None, "batch_size": 4}),
        ("rotate:-15..15/7", {"untrained": True}),
        ("noise:4..32/6", {}),
        ("jpeg:90..10/6", {"clip": True}),
        ("zoom:0.8..1.25/9", {"labels": ["b", "a"] * 9}),
        ("small-rotate", {"measures": ["sensitivity"]}),
        ("SO2~8", {}),
        ("C4", {"measures": ["symmetry-share"], "labels": [0, 1, 2] * 6}),
    ],
)
@pytest.mark.parametrize("n", [2, 5])
def test_groups_and_options(net, group, options, n):
    if "labels" in options:
        options = {**options, "labels": options["labels"][:17]}
    options = {**FEW, "measures": EVERY, "output_kind": "logits", **options}
    if (
        group.startswith(("SO2", "small", "rotate", "zoom", "noise", "jpeg"))
        and "measures" not in options
    ):
        options["measures"] = EVERY
    same_bits(n, net, data(), group, **options)
