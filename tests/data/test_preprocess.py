import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from onnx_geed import GeedError
from onnx_geed.data import Preprocess, parse_preprocess, preprocess_from_json, preprocess_to_json
from onnx_geed.data.preprocess import PRESETS

SIZES = st.one_of(st.none(), st.integers(1, 999), st.tuples(st.integers(1, 999), st.integers(1, 9)))
NUMBERS = st.floats(-1e3, 1e3, width=32)
POSITIVE = st.floats(0.0625, 1e3, width=32)
PREPROCESSES = st.builds(
    Preprocess,
    resize=SIZES,
    crop=SIZES,
    channels=st.sampled_from([None, "RGB", "BGR", "grey"]),
    scale=POSITIVE,
    mean=st.lists(NUMBERS, max_size=3).map(tuple),
    std=st.lists(POSITIVE, max_size=3).map(tuple),
    interpolation=st.sampled_from(["bilinear", "bicubic", "nearest"]),
)


@given(PREPROCESSES)
def test_json_gives_back_what_it_was_written_from(preprocess):
    assert preprocess_from_json(preprocess_to_json(preprocess)) == preprocess


@given(PREPROCESSES)
def test_key_value_pairs_give_back_what_they_spell(preprocess):
    words = []
    for key in ("resize", "crop", "mean", "std"):
        value = getattr(preprocess, key)
        if isinstance(value, tuple) and value:
            words.append(
                f"{key}=" + ("x" if key in ("resize", "crop") else ",").join(map(repr, value))
            )
        elif isinstance(value, int):
            words.append(f"{key}={value}")
    words += [f"scale={preprocess.scale!r}", f"interpolation={preprocess.interpolation}"]
    words += [f"channels={preprocess.channels or 'none'}"]
    assert parse_preprocess(" ".join(words)) == preprocess


def test_json_holds_only_what_differs_from_the_defaults():
    assert preprocess_to_json(Preprocess()) == "{}"
    assert json.loads(preprocess_to_json(Preprocess(scale=255, crop=(3, 4)))) == {
        "scale": 255.0,
        "crop": [3, 4],
    }


def test_equal_preprocessings_have_one_spelling():
    spelled = [
        Preprocess(scale=255, mean=(1,), resize=(8, 9)),
        Preprocess(scale=255.0, mean=1, resize=[8, 9]),
        Preprocess(scale=np.float32(255), mean=np.array([1.0]), resize=(np.int64(8), 9)),
        preprocess_from_json('{"resize": [8, 9], "mean": 1, "scale": 255, "std": null}'),
        parse_preprocess("bytes mean=1 resize=8x9"),
    ]
    assert len(set(spelled)) == len({preprocess_to_json(p) for p in spelled}) == 1


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_read_by_its_name(name):
    assert parse_preprocess(name) == PRESETS[name]


def test_a_preset_can_be_changed():
    changed = parse_preprocess("imagenet resize=232 crop=224x320 mean=0.5,0.4,0.3 std=none")
    assert (changed.resize, changed.crop, changed.channels) == (232, (224, 320), "RGB")
    assert (changed.mean, changed.std) == ((0.5, 0.4, 0.3), ())


def test_a_file_is_read_even_where_its_name_has_spaces_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "my preprocessing.json"
    path.write_bytes(b"\xef\xbb\xbf" + preprocess_to_json(PRESETS["caffe"]).encode())
    assert parse_preprocess(str(path)) == PRESETS["caffe"]


def test_the_imagenet_preset_feeds_what_torchvision_documents():
    x = np.full((1, 3, 1, 1), 0.5, dtype=np.float32)
    expected = (0.5 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(PRESETS["imagenet"].finish(x, 1).ravel(), expected, rtol=1e-6)


def test_the_caffe_preset_feeds_blue_first_in_0_to_255_less_the_mean():
    x = np.array([1.0, 0.5, 0.0], dtype=np.float32).reshape(1, 3, 1, 1)
    expected = [0 - 103.939, 127.5 - 116.779, 255 - 123.68]
    np.testing.assert_allclose(PRESETS["caffe"].finish(x, 1).ravel(), expected, rtol=1e-5)


def test_minus1to1_and_bytes_map_the_ends_of_the_scale():
    x = np.array([0.0, 1.0], dtype=np.float32)
    np.testing.assert_array_equal(PRESETS["minus1to1"].finish(x, None), [-1, 1])
    np.testing.assert_array_equal(PRESETS["bytes"].finish(x, None), [0, 255])
    np.testing.assert_array_equal(PRESETS["unit"].finish(x, None), x)


def test_finish_leaves_its_argument_alone():
    x = np.ones((2, 3, 4, 4), dtype=np.float32)
    out = PRESETS["caffe"].finish(x, 1)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert (x == 1).all()


def test_as_many_means_as_channels_are_asked_for():
    with pytest.raises(GeedError, match=r"mean: 3 values, but the model takes 4 channels.*or 4"):
        Preprocess(mean=(1, 2, 3)).finish(np.zeros((1, 4, 2, 2), np.float32), 1)
    with pytest.raises(GeedError, match="std: 2 values, but the model takes 1 channel: give one"):
        Preprocess(std=(1, 2)).finish(np.zeros((1, 2, 2), np.float32), None)


BAD_TEXT = {
    "": "empty",
    "   ": "empty",
    "imagnet": "Did you mean 'imagenet'",
    "preprocess.json": "neither a preset .* nor a file",
    "mean": "nor key=value",
    "resize=256 imagenet": "'imagenet' comes first",
    "imagenet caffe": "'caffe' comes first",
    "sacle=255": "Did you mean 'scale'",
    "crop=224 crop=225": "crop is given twice",
    "crop=big": "crop=big",
    "crop=": "crop=:",
    "crop=0": "positive whole number",
    "crop=-3": "positive whole number",
    "crop=1x2x3": "height, width",
    "resize=2.5": "256, or 224x320",
    "mean=a,b": "numbers, as in",
    "mean=0.5,": "numbers, as in",
    "mean=nan": "not a finite number",
    "scale=inf": "not a finite number",
    "scale=0": "must not be zero",
    "std=1,0,1": "must not be zero",
    "std=1e-60": "must not be zero",
    "channels=rgb": "RGB, BGR, grey",
    "interpolation=linear": "Did you mean 'bilinear'",
    "mean=" + "0.5," * 200: "numbers, as in",
}


@pytest.mark.parametrize("text", BAD_TEXT)
def test_what_cannot_be_read_is_told_in_one_line(text):
    with pytest.raises(GeedError, match=BAD_TEXT[text]) as caught:
        parse_preprocess(text)
    assert "\n" not in str(caught.value)
    assert "--preprocess" in str(caught.value)


BAD_JSON = {
    "": "not JSON",
    "{": "not JSON",
    "[]": "not a JSON object",
    "3": "not a JSON object",
    '{"sclae": 2}': "Did you mean 'scale'",
    '{"scale": "2"}': "not a finite number",
    '{"scale": true}': "not a finite number",
    '{"scale": NaN}': "NaN is not a number that JSON knows",
    '{"scale": 1' + 400 * "0" + "}": "not a finite number",
    '{"mean": {"a": 1}}': "not a finite number",
    '{"mean": [[1]]}': "not a finite number",
    '{"crop": "224"}': "positive whole number",
    '{"crop": []}': "positive whole number",
    '{"crop": [224]}': "positive whole number",
    '{"crop": true}': "positive whole number",
    '{"crop": 224.5}': "positive whole number",
    '{"channels": ["RGB"]}': "RGB, BGR, grey",
    '{"interpolation": 3}': "bilinear, bicubic, nearest",
}


@pytest.mark.parametrize("text", BAD_JSON, ids=lambda t: t[:24])
def test_bad_metadata_are_told_with_their_key(text):
    with pytest.raises(GeedError, match=BAD_JSON[text]) as caught:
        preprocess_from_json(text)
    assert str(caught.value).startswith("metadata onnx_geed.preprocess: ")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "p.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(GeedError, match="cannot be read as text"):
        parse_preprocess(str(tmp_path / "p.json"))


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"channels": "BGR", "scale": 255.0, "mean": (103.9, 116.8, 123.7)},
        {"mean": 0.5, "std": 0.25},
        {"channels": "BGR", "mean": (0.2, 0.5, 0.7), "std": (0.3, 0.2, 0.6)},
    ],
)
def test_what_follows_the_action_is_a_matrix_and_an_offset(stated):
    pixels = np.random.default_rng(0).random((3, 20), dtype=np.float32)
    preprocess = Preprocess(**stated)
    matrix, offset = preprocess.on_colours(3)
    expected = matrix @ pixels + offset[:, None]
    np.testing.assert_allclose(preprocess.finish(pixels, 0), expected, rtol=1e-5, atol=1e-6)
