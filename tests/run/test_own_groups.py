"""Actions of groups that nobody named: the same numbers as the named ones they are."""

from __future__ import annotations

import models
import numpy as np
import pytest

import onnx_geed as geed
from onnx_geed.errors import GeedError

IMAGES = np.random.default_rng(0).random((12, 3, 8, 8)).astype(np.float32)
OPTIONS = {"samples": 6, "norm_samples": 10, "provider": "cpu"}
PIXELS = np.arange(64).reshape(8, 8)


def quarters():
    return geed.Group("quarters", ("stay", "left", "half", "right"), geed.cyclic(4).table)


def turn(g, x):
    return np.rot90(x, g, axes=(-2, -1))


class Turned:
    """A class of one's own that says how it acts on maps of any size."""

    name, layout = "turned", "NCHW"

    def __init__(self):
        self.group = quarters()

    def exact(self):
        return ("index",) * 4

    def kernel_of_action(self):
        return (0,)

    def apply(self, g, x):
        return turn(g, x).copy()

    def at(self, layout, shape):
        return self


class Numbers:
    """The same on numbered pixels, which acts on grids of this size alone."""

    def __new__(cls):
        return geed.IndexAction(quarters(), "HW", [turn(g, PIXELS).ravel() for g in range(4)])


ACTIONS = {
    "function": lambda: geed.FunctionAction(quarters(), turn, any_size=True),
    "class": Turned,
    "index": Numbers,
    "product": lambda: geed.FunctionAction(
        geed.product(geed.cyclic(2), geed.cyclic(2)),
        lambda g, x: x[..., :: 1 - 2 * (g // 2), :: 1 - 2 * (g % 2)],
        any_size=True,
    ),
}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return models.save(models.random_cnn(0, (8, 8)), tmp_path_factory.mktemp("net") / "net.onnx")


def test_two_actions_of_one_group_are_no_comparison(net):
    def measured(move, name):
        action = geed.FunctionAction(quarters(), move, any_size=True, name=name)
        return geed.measure(net, IMAGES, action=action, measures=["unexplained@stem"], **OPTIONS)

    turned = measured(turn, "turn")
    assert turned["group"]["action"] == "turn"
    rolled = measured(lambda g, x: np.roll(x, 2 * g, axis=-1), "roll")
    for judged in (geed.compare, lambda a, b: geed.aggregate([a, b])):
        with pytest.raises(GeedError, match=r"differ in what its elements do \("):
            judged(turned, rolled)
        judged(turned, measured(turn, "quarter turns"))
        # An earlier version's result does not say.
        earlier = {key: value for key, value in rolled["group"].items() if key != "members"}
        judged(turned, rolled | {"group": earlier})


@pytest.mark.parametrize("made", ["function", "class", "index"])
@pytest.mark.parametrize("measures", [(), ("unexplained@stem",), ("output-l2@stem",)])
def test_a_group_of_ones_own_measures_what_the_named_one_does(net, made, measures):
    named = geed.measure(net, IMAGES, "C4", measures=measures, **OPTIONS)
    own = geed.measure(net, IMAGES, action=ACTIONS[made](), measures=measures, **OPTIONS)
    values = {(r["measure"], r["layer"]): r["value"] for r in own["measurements"]}
    assert any("stem" in layer for _, layer in values)
    for record in named["measurements"]:
        key = record["measure"], record["layer"]
        if key in values:  # an index is of its own grid alone
            assert values[key] == pytest.approx(record["value"], rel=1e-6, abs=1e-9)
        else:
            assert made == "index"


def test_what_should_be_a_method_is_asked_for(net):
    action = Turned()
    action.exact = ("index",) * 4
    with pytest.raises(geed.GeedError, match="'turned': exact is a method of an action, found"):
        geed.measure(net, IMAGES, action=action, **OPTIONS)


def test_a_product_of_groups_moves_feature_maps(net):
    own = geed.measure(net, IMAGES, action=ACTIONS["product"](), **OPTIONS)
    assert [r["measure"] for r in own["measurements"]].count("channel-cos") > 1
    both = {r["layer"]: r for r in own["measurements"] if r["measure"] == "channel-cos"}
    for group, element in (("flip-h", "(e,r1)"), ("flip-v", "(r1,e)")):
        named = geed.measure(net, IMAGES, group, measures=["channel-cos"], **OPTIONS)
        for record in named["measurements"]:
            alone = record["per_element"]["flip"]
            per_element = both[record["layer"]]["per_element"]
            assert per_element[element] == pytest.approx(alone, rel=1e-6)


def flipped(axis):
    return lambda g, x: np.ascontiguousarray(np.flip(x, axis)) if g else x


ORDERS = {
    "NCT": ("reverse", (3, 6), flipped(2)),
    "NTC": ("reverse", (6, 3), flipped(1)),
    "NCHW": ("C4", (3, 6, 6), lambda g, x: np.rot90(x, g, axes=(2, 3)).copy()),
    "NHWC": ("C4", (6, 6, 3), lambda g, x: np.rot90(x, g, axes=(1, 2)).copy()),
}
TENSORS = ["channel-cos", "unexplained", "output-l2", "softmax-kl", "flip-rate"]


@pytest.mark.parametrize("layout", ORDERS)
@pytest.mark.parametrize("measure", TENSORS)
def test_a_function_moves_maps_of_its_letters_in_any_order(layout, measure):
    group, shape, move = ORDERS[layout]
    x = np.random.default_rng(3).normal(size=(8, *shape)).astype(np.float32)

    def net(z):
        bent = np.tanh(z)
        for axis in (1, -1):
            along = np.swapaxes(z, axis, -1) * np.arange(z.shape[axis])
            bent = bent + 0.3 * np.roll(np.swapaxes(along, axis, -1), 1, axis)
        return bent.astype(np.float32)

    own = geed.FunctionAction(geed.parse_group(group), move, layout=layout, any_size=True)
    options = {
        "measures": [f"{measure}@output"],
        "input_layout": layout,
        "layout": {"output": layout},
        "output_kind": "logits" if measure in ("softmax-kl", "flip-rate") else "embedding",
    }
    results = [
        geed.measure(net, x, **options, **given) for given in ({"group": group}, {"action": own})
    ]
    named, other = (result["measurements"][0] for result in results)
    assert named["value"] > -0.9  # of no symmetry
    for name in ("value", "between_samples"):
        assert other[name] == pytest.approx(named[name], rel=1e-6)
