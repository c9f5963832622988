"""Parts that are missing, doubled, foreign or damaged, and what is not divided into parts."""

import copy

import models
import pytest
import test_background_family
from running import images
from test_parts import EVERY, FEW, bits, data

import onnx_geed as geed
from onnx_geed.errors import GeedError

OPTIONS = {**FEW, "measures": EVERY, "output_kind": "logits", "batch_size": 16}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return models.save(models.random_cnn(1, (8, 8)), tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="module")
def three(net):
    return [geed.measure(net, data(), "C8", shard=f"{i}/3", **OPTIONS) for i in (1, 2, 3)]


def test_a_deviation_that_was_changed_changes_the_result(three):
    """Nothing is derived again in silence from what else a part carries."""
    for exact in (False, True):
        changed = copy.deepcopy(three)
        records = changed[1]["measurements"]
        k = [record["measure"] for record in records].index("channel-cos")
        held = records[k]["exact"] if exact else records[k]
        held["deviations"][2][3] += 1.0
        before, after = (geed.merge(parts)["measurements"] for parts in (three, changed))
        assert [one == other for one, other in zip(before, after, strict=True)] == [
            i != k for i in range(len(before))
        ]
        told = [r[k]["exact"] if exact else r[k] for r in (before, after)]
        assert told[1]["deviations"][6][3] == told[0]["deviations"][6][3] + 1.0
        assert told[1]["value"] > told[0]["value"]


def test_missing_and_doubled_parts(three, tmp_path):
    with pytest.raises(GeedError, match=r"merge: parts 1, 3 of 3 are missing; .*--shard 1/3"):
        geed.merge([three[1]])
    with pytest.raises(GeedError, match="merge: part 2 of 3 is missing"):
        geed.merge([three[2], three[0]])
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    for path in (a, b):
        geed.write_json(three[0], path)
    for given in ([a, b], [b, a]):
        with pytest.raises(GeedError, match=r"a.json and .*b.json are both part 1 of 3"):
            geed.merge([*given, three[1], three[2]])
    with pytest.raises(GeedError, match=r"a.json is given twice"):
        geed.merge([a, a, three[1]])
    with pytest.raises(GeedError, match="no part is given"):
        geed.merge([])


def test_what_is_no_part(net, three, tmp_path):
    whole = geed.merge(three)
    with pytest.raises(GeedError, match=r"result 2: is a whole result, not a part of one"):
        geed.merge([three[0], whole])
    path = tmp_path / "part.json"
    geed.write_json(three[0], path)
    path.write_text(path.read_text()[:-2000])
    with pytest.raises(GeedError, match=r"part.json: is not JSON"):
        geed.merge([path, *three[1:]])
    path.write_text('{"schema": "onnx-geed/aggregate/1"}')
    with pytest.raises(GeedError, match=r"part.json: is of schema"):
        geed.merge([path, *three[1:]])
    with pytest.raises(GeedError, match=r"none.json: no such file"):
        geed.merge([tmp_path / "none.json"])
    other = geed.measure(net, data(), "C8", shard="2/4", **{**FEW, "measures": ["output-l2"]})
    with pytest.raises(GeedError, match="is one of 3 parts, but result 2 is one of 4"):
        geed.merge([three[0], other])


def zero_pairs(result, **changes):
    result["part"]["evidence"]["measures"][0]["statistics"]["zero_pairs"].update(changes)


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r["part"].pop("evidence"),
        lambda r: r["part"].update(number=None),
        lambda r: r["part"].update(number=0),
        lambda r: r.update(part=[]),
        lambda r: r["part"].update(orbits=[4, 7]),
        lambda r: r["part"]["evidence"].update(orbits=[4, 7]),
        lambda r: r["part"]["evidence"]["measures"].pop(),
        lambda r: r["part"]["evidence"]["measures"][0]["told"].pop("elements"),
        lambda r: r["part"]["evidence"]["measures"][0]["statistics"].pop("pairs"),
        lambda r: r["part"]["evidence"]["measures"][0]["statistics"].update(zero_pairs=None),
        lambda r: r["part"]["evidence"]["measures"][0]["statistics"]["pairs"].pop(),
        lambda r: r["part"]["evidence"]["measures"][-1]["statistics"]["pairs"].pop(),
        lambda r: r["part"]["evidence"]["measures"][0]["statistics"]["channels"].update(rows=None),
        lambda r: zero_pairs(r, base64="AAAA"),
        lambda r: zero_pairs(r, base64="%"),
        lambda r: zero_pairs(r, dtype="|O"),
        lambda r: zero_pairs(r, shape=[4, 8, 0]),
        lambda r: r["part"]["evidence"]["points"].pop(),
        lambda r: r["part"]["evidence"]["points"][0].update(latents={}),
        lambda r: r["measurements"].pop(),
        lambda r: r["measurements"][0]["deviations"].pop(),
        lambda r: r["measurements"][0]["deviations"][0].pop(),
        lambda r: r["part"].update(marks={}),
        lambda r: r["part"].update(same=None),
        lambda r: r["part"].update(notes=None),
        lambda r: r["runtime"].pop("device"),
        lambda r: r["runtime"].pop("seconds"),
        lambda r: r["runtime"].pop("inferences"),
    ],
)
def test_damaged_parts_are_refused_in_a_line(three, damage):
    damaged = copy.deepcopy(three)
    damage(damaged[1])
    with pytest.raises(GeedError, match=r"^merge: .*(damaged|do not fit together|from other data)"):
        geed.merge(damaged)


@pytest.mark.parametrize(
    "damage",
    [
        lambda part: part.update(whole=None),
        lambda part: part.update(whole={}),
        lambda part: part["whole"].update(data={}),
        lambda part: part["whole"]["marks"][""].pop(),
    ],
)
def test_the_last_part_without_what_it_tells_of_all_data(three, damage):
    damaged = copy.deepcopy(three)
    damage(damaged[2]["part"])
    with pytest.raises(GeedError, match="result 3: is damaged"):
        geed.merge(damaged)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 4}, r"differ in seed, samples drawn.* \(seed: 3 there, 4 here\)"),
        ({"samples": 12}, r"samples .*11 of 17 there, 12 of 17 here"),
        ({"norm_samples": 14}, "points for M"),
        ({"measures": ["latent-l2"]}, "measures"),
        ({"interpolation": "nearest"}, "--interpolation"),
        ({"interval": "bootstrap"}, "--interval"),
        ({"references": True}, "--references"),
        ({"engine": "graph"}, "engine"),
        ({"batch_size": 24}, "rows of a batch .*give the same --batch-size to all parts"),
        ({"labels": [0, 1, 2] * 5 + [0, 1]}, "--labels"),
        ({"preprocess": geed.Preprocess(mean=(0.1, 0.2, 0.3), std=(1, 1, 1))}, "preprocess"),
    ],
)
def test_parts_of_another_run(net, three, changes, told):
    other = geed.measure(net, data(), "C8", shard="2/3", **OPTIONS | changes)
    head = "^merge: result 2 comes from another run than result 1: they "
    with pytest.raises(GeedError, match=f"{head}.*{told}"):
        geed.merge([three[0], other, three[2]])


def test_parts_that_were_fitted_to_other_samples(net):
    fitted = {"output_action": {"latent": "fit:linear"}, "fit_anyway": True, "samples": 6}
    own = {**FEW, "measures": ["unexplained@latent"], **fitted}
    parts = [
        geed.measure(net, data(), "C4", shard=f"{i}/2", fit_samples=3 + i, **own) for i in (1, 2)
    ]
    with pytest.raises(GeedError, match=r"differ in .*output actions, --fit-samples"):
        geed.merge(parts)


def test_parts_of_another_model_group_or_data(tmp_path, net, three):
    other = models.save(models.random_cnn(2, (8, 8)), tmp_path / "other.onnx")
    with pytest.raises(GeedError, match="differ in model"):
        geed.merge([three[0], geed.measure(other, data(), "C8", shard="2/3", **OPTIONS), three[2]])
    with pytest.raises(GeedError, match="differ in group"):
        geed.merge([three[0], geed.measure(net, data(), "D4", shard="2/3", **OPTIONS), three[2]])
    at = three[1]["data"]["indices"][-1]
    for number in (2, 3):
        x, parts = data(), list(three)
        # A sample of the second part, which the last one reads with all others.
        x[at] += 0.5
        parts[number - 1] = geed.measure(net, x, "C8", shard=f"{number}/3", **OPTIONS)
        with pytest.raises(GeedError, match=r"comes from other data than result 3: .*samples"):
            geed.merge(parts)


def test_parts_of_other_masks(tmp_path, net):
    scenes = test_background_family.draw_scenes(tmp_path / "scenes")
    masks = test_background_family.discs(9, (8, 8))
    own = {**FEW, "samples": 7, "norm_samples": 9, "measures": ["output-l2"], "batch_size": 8}

    def parts(*each):
        return [
            geed.measure(net, data(9), f"background:{scenes}/3", shard=f"{i}/2", masks=m, **own)
            for i, m in enumerate(each, 1)
        ]

    whole = geed.measure(net, data(9), f"background:{scenes}/3", masks=masks, **own)
    assert bits(geed.merge(parts(masks, masks))) == bits(whole)
    other = masks.copy()
    other[whole["data"]["indices"][2]] = False
    first, last = parts(masks, other)
    # As if a folder of masks had changed, whose files no option's digest is of.
    first["part"]["same"] = last["part"]["same"]
    with pytest.raises(GeedError, match=r"result 1 comes from other data than result 2: .*samples"):
        geed.merge([first, last])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two images that the group moves, of which one may be fed."""
    path = models.save(models.two_images(), tmp_path_factory.mktemp("two") / "two.onnx")
    return path, images((3, 8, 8), 9), images((2, 8, 8), 9)


OF_TWO = {**FEW, "samples": 7, "norm_samples": 9, "measures": ["output-l2"], "batch_size": 8}
OF_TWO |= {"input": "u", "input_layout": {"u": "NCHW", "v": "NCHW"}}


@pytest.mark.parametrize("changed", ["u", "v"])
def test_parts_of_other_data_in_one_of_two_moved_inputs(two, changed):
    """As if a file had changed whose digest no option has: also where the other input is fed."""
    path, u, v = two
    whole = geed.measure(path, {"u": u}, "C4", feed={"v": v}, **OF_TWO)
    other = {"u": u.copy(), "v": v.copy()}
    # The first sample is the same: what the group does to it is compared by itself.
    other[changed][whole["data"]["indices"][2]] += 1

    def part(i, u, v):
        return geed.measure(path, {"u": u}, "C4", feed={"v": v}, shard=f"{i}/2", **OF_TWO)

    last = part(2, u, v)
    assert bits(geed.merge([part(1, u, v), last])) == bits(whole)
    assert set(last["part"]["marks"]) == {"", "v"}
    first = part(1, **other)
    first["part"]["same"] = last["part"]["same"]
    with pytest.raises(GeedError, match=r"result 1 comes from other data than result 2: .*samples"):
        geed.merge([first, last])


def test_what_is_done_to_the_first_sample_of_each_input_is_held_against_other_parts(two):
    path, u, v = two
    parts = [
        geed.measure(path, {"u": u, "v": each}, "C4", shard=f"{i}/2", **OF_TWO)
        for i, each in enumerate((v, v + 1), 1)
    ]
    with pytest.raises(GeedError, match=r"differ in what it does to that of v \("):
        geed.merge(parts)


def test_parts_that_did_not_mark_every_input(two):
    """Earlier versions had one name for the marks of all inputs that were fed."""
    path, u, v = two
    parts = [
        geed.measure(path, {"u": u}, "C4", feed={"v": v}, shard=f"{i}/2", **OF_TWO) for i in (1, 2)
    ]
    for part in parts:
        for told in (part["part"], part["part"]["whole"] or {}):
            if "marks" in told:
                told["marks"] = {"": told["marks"]["v"]}
    with pytest.raises(GeedError, match=r"result 1: an earlier onnx-geed .* measure it again"):
        geed.merge(parts)


def test_parts_of_another_version(three):
    other = copy.deepcopy(three)
    other[1]["part"]["same"]["onnxruntime"] = "0.1"
    with pytest.raises(GeedError, match=r"differ in onnxruntime \(onnxruntime: .* there, 0.1 here"):
        geed.merge(other)
    other[1]["part"]["version"] = 99
    with pytest.raises(GeedError, match="written by a newer onnx-geed"):
        geed.merge(other)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"precision": 0.1}, "--precision: adds samples"),
        ({"limits": ["latent-l2=1"]}, "--fail-above latent-l2=1: .* give it to onnx-geed merge"),
    ],
)
def test_what_is_not_divided(net, options, told):
    own = {**FEW, "measures": ["unexplained@latent", "latent-l2"], **options}
    if "precision" in options:
        own["samples"] = None
    with pytest.raises(GeedError, match=told):
        geed.measure(net, data(), "C4", shard="1/2", **own)
