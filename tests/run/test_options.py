"""A wrong option is refused where it is given, in one line, and never recorded."""

import typing
from pathlib import Path

import models
import numpy as np
import pytest
from recording import measurement

import onnx_geed
from onnx_geed import GeedError, Options, grid_action, measure, parse_group, write_cache
from onnx_geed.cache import measure_cache
from onnx_geed.cli import cli
from onnx_geed.model import annotate_model as annotate, list_layers
from onnx_geed.run import check_option, compile_measurement, prepare_run as prepare
from onnx_geed.testing import assert_equivariant
from onnx_geed.wording import bare

IMAGES = np.random.default_rng(0).random((6, 3, 8, 8)).astype(np.float32)
HINTS = typing.get_type_hints(Options)


def literals(hint):
    """Choices of a field, found independently of the package."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    return next(filter(None, map(literals, typing.get_args(hint))), ())


CHOSEN = {name: literals(hint) for name, hint in HINTS.items() if literals(hint)}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("options") / "net.onnx"
    models.save(models.random_cnn(0, (8, 8)), path)
    return path


@pytest.fixture(scope="module")
def kept(net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "a.geed"
    write_cache(net, IMAGES, "C4", folder, samples=3, norm_samples=4)
    return folder


def test_the_fields_with_choices_are_those_of_the_contract():
    assert CHOSEN == {
        "provider": ("auto", "cuda", "cpu"),
        "interval": ("t", "bootstrap"),
        "interpolation": ("bilinear", "nearest", "bicubic"),
        "components": ("right-down", "right-up", "down-right"),
        "support": ("full", "disk"),
        "output_kind": ("logits", "probabilities", "embedding"),
        "engine": ("auto", "kernels", "graph"),
    }


@pytest.mark.parametrize("name", CHOSEN)
def test_every_choice_is_taken_and_no_other(name):
    for choice in CHOSEN[name]:
        assert getattr(Options(**{name: choice}), name) == choice
        assert getattr(Options(**{name: np.str_(choice)}), name) == choice
    option = f"--{name.replace('_', '-')}"
    for wrong in (CHOSEN[name][0] + "x", CHOSEN[name][-1].upper(), "", 3, [CHOSEN[name][0]], True):
        with pytest.raises(GeedError, match=f"^{option} .*choose {CHOSEN[name][0]}") as caught:
            Options(**{name: wrong})
        assert "\n" not in str(caught.value)
    with pytest.raises(
        GeedError,
        match=f"Did you mean '{CHOSEN[name][0]}'"
        if name != "interval"
        else "Did you mean 'bootstrap'",
    ):
        Options(**{name: "bootstrp" if name == "interval" else CHOSEN[name][0] + "s"})


def test_the_message_is_as_one_would_say_it():
    with pytest.raises(GeedError) as caught:
        Options(support="disc")
    message = "--support disc: choose full or disk. Did you mean 'disk'?"
    assert bare(str(caught.value)) == message


def test_the_command_line_offers_the_same_choices():
    for command in cli.commands.values():
        for parameter in command.params:
            if parameter.name in CHOSEN and hasattr(parameter.type, "choices"):
                assert sorted(parameter.type.choices) == sorted(CHOSEN[parameter.name])


@pytest.mark.parametrize("name", HINTS)
def test_no_field_takes_anything(name):
    messages = []
    for wrong in (object(), 1j, b"x", 3.5, {"a": object()}):
        try:
            Options(**{name: wrong})
        except GeedError as error:
            messages.append(str(error))
    option = f"--{name.replace('_', '-')} "
    assert all(text.startswith(option) and "\n" not in text for text in messages)
    assert len(messages) >= 4, (
        "a number with a fraction may be a precision, and nothing else is taken"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": "50"}, "--samples is a whole number, found a text, '50'"),
        ({"samples": True}, "--samples is a whole number, found True"),
        ({"samples": 5.0}, "--samples is a whole number, found the number 5.0"),
        ({"samples": np.bool_(True)}, "--samples is a whole number"),
        ({"norm_samples": None}, "--norm-samples is a whole number, found None"),
        ({"seed": "0"}, "--seed is a whole number"),
        ({"batch_size": np.float32(4)}, "--batch-size is a whole number"),
        ({"precision": "0.1"}, "precision is a number, found a text, '0.1'"),
        ({"precision": True}, "precision is a number, found True"),
        ({"precision": float("nan")}, "--precision nan: must be a share"),
        ({"precision": 10**400}, "--precision inf: must be a share"),
        ({"references": 1}, "--references is true or false, found the number 1"),
        ({"untrained": "true"}, "--untrained is true or false"),
        ({"memory": 2.5e9}, "--memory is a text or a whole number"),
        ({"memory": 0}, "'0' is not a size of memory|0 is not a size of memory"),
        ({"memory": "0.1B"}, "is not a size of memory"),
        ({"memory": "9" * 400}, "is not a size of memory"),
        ({"measures": ["latent-l2", 3]}, "--measures is a list of texts"),
        ({"measures": {"latent-l2": 1}}, "--measures is a list of texts, found the dict"),
        ({"layers": None}, "--layers is a list of texts, found None"),
        ({"layout": [("a", "NCHW")]}, "--layout is a mapping of texts to texts, found the list"),
        ({"layout": {"a": 3}}, "--layout is a mapping of texts to texts"),
        ({"layout": {"a": "NCQH"}}, "no layout is called 'NCQH'"),
        ({"output_action": ["a.npz"]}, "--output-action is a mapping of texts to texts, paths or"),
        ({"feed": {"a": [1, 2]}}, "--feed is a mapping of texts to texts, paths or arrays"),
        ({"input": Path("x")}, "--input is a text"),
        (
            {"input_layout": 4},
            "--input-layout is a text or a mapping of texts to texts, found the number 4",
        ),
        ({"preprocess": {"mean": 0}}, "--preprocess is a text, a path or a Preprocess"),
        ({"labels": 3}, "--labels is a text, a path, an array or a list"),
        ({"labels": {1: 2}}, "--labels is a text, a path, an array or a list"),
    ],
)
def test_a_wrong_type_is_named_with_what_was_found(options, message):
    with pytest.raises(GeedError, match=message) as caught:
        Options(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"samples": np.int64(3)}, {"samples": 3}),
        ({"seed": np.uint8(3)}, {"seed": 3}),
        ({"precision": np.float64(0.5)}, {"precision": 0.5}),
        ({"precision": 1}, {"precision": 1.0}),
        ({"references": np.bool_(True)}, {"references": True}),
        ({"measures": "latent-l2"}, {"measures": ("latent-l2",)}),
        ({"measures": np.array(["latent-l2"])}, {"measures": ("latent-l2",)}),
        (
            {"measures": (m for m in ["latent-l2", "latent-cos"])},
            {"measures": ("latent-l2", "latent-cos")},
        ),
        ({"layers": "a"}, {"layers": ("a",)}),
    ],
)
def test_what_means_the_same_is_the_same(options, same):
    assert Options(**options) == Options(**same)
    (name,) = options
    assert type(getattr(Options(**options), name)) is type(getattr(Options(**same), name))


def test_a_budget_may_be_a_number_of_bytes(net):
    by_number = prepare(net, IMAGES, "C4", Options(memory=np.int64(12_000)))
    by_text = prepare(net, IMAGES, "C4", Options(memory="12 kB"))
    whole = prepare(net, IMAGES, "C4", Options())
    assert by_number.passes == by_text.passes != whole.passes
    assert by_number.task.batch == by_text.task.batch


def test_one_measure_as_a_text_is_that_measure(net):
    one = measure(net, IMAGES, "C4", measures="latent-l2", samples=3)
    assert [m["measure"] for m in one["measurements"]] == ["latent-l2"]


def test_a_file_as_a_path_is_that_file(net, tmp_path):
    file = tmp_path / "p.json"
    file.write_text('{"mean": 0.5, "std": 0.25}')
    options = {"samples": 3, "measures": "latent-l2"}
    by_path = measure(net, IMAGES, "C4", preprocess=file, **options)
    assert (
        by_path["measurements"]
        == measure(net, IMAGES, "C4", preprocess=str(file), **options)["measurements"]
    )


@pytest.mark.parametrize("name", ["seed", "samples", "norm_samples", "batch_size"])
def test_a_huge_number_is_as_good_as_any(net, name):
    run = {"measures": "latent-l2", "interval": "bootstrap", "samples": 4}
    result = measure(net, IMAGES, "C4", **run | {name: 2**70})
    assert np.isfinite(result["measurements"][0]["value"])


def calls(net, folder, kept):
    """Every function that takes options, and a name in it."""
    return {
        "measure": lambda **o: measure(net, IMAGES, "C4", **o),
        "write_cache": lambda **o: write_cache(net, IMAGES, "C4", folder / "b.geed", **o),
        "compile": lambda **o: compile_measurement(net, "C4", folder / "c.onnx", **o),
        "list_layers": lambda **o: list_layers(net, **o),
        "measure_cache": lambda **o: measure_cache(kept, **o),
        "assert": lambda **o: assert_equivariant(
            net, IMAGES, "C4", measure="latent-l2", limit=9, **o
        ),
    }


@pytest.mark.parametrize(
    ("function", "wrong", "near"),
    [
        ("measure", {"sample": 3}, "samples"),
        ("measure", {"interpolaton": "nearest"}, "interpolation"),
        ("write_cache", {"norm_sample": 3}, "norm_samples"),
        ("compile", {"mesures": ["latent-l2"]}, "measures"),
        ("list_layers", {"latnt": "x"}, "latent"),
        ("measure_cache", {"sample": 3}, "samples"),
        ("assert", {"sampels": 3}, "samples"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest(net, kept, tmp_path, function, wrong, near):
    (name,) = wrong
    message = f"no option is called '{name}'; choose from .*Did you mean '{near}'"
    with pytest.raises(GeedError, match=message):
        calls(net, tmp_path, kept)[function](**wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("function", "wrong", "message"),
    [
        ("measure", {"support": "disc"}, "--support disc: choose full or disk"),
        ("measure", {"interval": "x"}, "--interval x: choose t or bootstrap"),
        ("write_cache", {"interpolation": "cubic"}, "Did you mean 'bicubic'"),
        ("write_cache", {"mode": "rw"}, "mode rw: choose raw or stats"),
        ("write_cache", {"dtype": "float46"}, "dtype float46: .*Did you mean 'float16'"),
        ("write_cache", {"mode": None}, "mode None: choose"),
        ("write_cache", {"engine": "grahp"}, "--engine grahp: .*Did you mean 'graph'"),
        ("write_cache", {"references": True}, "--references: needs further runs of the model"),
        ("write_cache", {"untrained": True}, "--untrained: needs further runs of the model"),
        ("write_cache", {"background": 0}, "--background: is given where the cache is measured"),
        ("write_cache", {"fit_samples": 9}, "--fit-samples: is given where the cache is measured"),
        ("write_cache", {"fit_anyway": True}, "--fit-anyway: is given where the cache is measured"),
        ("compile", {"background": 0}, "--background: has no effect on a compiled measurement"),
        ("compile", {"fit_samples": 3}, "--fit-samples: has no effect on a compiled measurement"),
        ("compile", {"fit_anyway": True}, "--fit-anyway: has no effect on a compiled"),
        ("measure", {"fit_samples": 7}, "--fit-samples: nothing is fitted; add --output-action"),
        ("measure", {"fit_anyway": True}, "--fit-anyway: nothing is fitted; add --output-action"),
        ("measure_cache", {"fit_samples": 7}, "--fit-samples: nothing is fitted"),
        ("measure_cache", {"fit_anyway": True}, "--fit-anyway: nothing is fitted"),
        ("compile", {"provider": "gpu"}, "--provider gpu: choose"),
        ("compile", {"samples": "x"}, "--samples is a whole number"),
        ("list_layers", {"layout_of_input": "nhwc"}, "--input-layout 'nhwc': is not a layout"),
        ("list_layers", {"kind": "logit"}, "Did you mean 'logits'"),
        ("list_layers", {"layout": ["a"]}, "--layout is a mapping"),
        ("measure_cache", {"interval": "x"}, "interval x: choose t or bootstrap"),
        ("measure_cache", {"samples": "3"}, "samples is a whole number"),
        ("measure_cache", {"norm_samples": 2.0}, "norm_samples is a whole number"),
        ("measure_cache", {"precision": "0.1"}, "precision is a number"),
        ("assert", {"seed": None}, "--seed is a whole number"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_runs(
    net, kept, tmp_path, function, wrong, message, monkeypatch
):
    monkeypatch.setattr("onnx_geed.run.session.Session.run", None)
    with pytest.raises(GeedError, match=message):
        calls(net, tmp_path, kept)[function](**wrong)
    assert list(tmp_path.iterdir()) == []


def test_what_fits_nothing_may_state_the_defaults_of_fits(net, kept):
    plain = {"samples": 2, "fit_samples": 50, "fit_anyway": False, "measures": "latent-l2"}
    live = measure(net, IMAGES, "C4", provider="cpu", norm_samples=4, **plain)
    for a, b in zip(
        live["measurements"], measure_cache(kept, **plain)["measurements"], strict=True
    ):
        assert a["value"] == pytest.approx(b["value"])


def test_a_cache_takes_one_measure_as_a_text(kept):
    result = measure_cache(kept, measures="latent-l2", samples=np.int64(2))
    assert [m["measure"] for m in result["measurements"]] == ["latent-l2"]
    assert result["measurements"][0]["samples"] == 2


def test_compile_leaves_out_what_says_how_to_run(net, tmp_path):
    result = compile_measurement(net, "C4", tmp_path / "c.onnx", precision=0.1, samples=30)
    assert result["group"]["name"] == "C4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_kind": "logit"}, "Did you mean 'logits'"),
        ({"input_layout": "nchw"}, "--input-layout 'nchw': is not a layout"),
        ({"layout": ["NCHW"]}, "--layout is a mapping"),
        ({"latent": 3}, "--latent is a text"),
    ],
)
def test_metadata_hold_no_wrong_choice(net, tmp_path, options, message):
    with pytest.raises(GeedError, match=message):
        annotate(net, tmp_path / "out.onnx", **options)
    assert not (tmp_path / "out.onnx").exists()


MAPS = np.ones((2, 4, 3, 5, 5), np.float32)
ROWS = np.ones((2, 4, 3), np.float32)
C4 = parse_group("C4")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid_action(C4, 5, 5, "cubic"), "interpolation cubic: .*Did you mean 'bicubic'"),
        (lambda: grid_action(C4, 5, 5, ["nearest"]), "interpolation .*choose bilinear"),
        (lambda: grid_action(C4, 5, 5, None), "interpolation None: choose"),
        (
            lambda: grid_action("C4", 5, 5),
            r"group is a Group, found a text, 'C4': give .*parse_group\('C4'",
        ),
        (lambda: grid_action(C4, 5.0, 5), "height is a whole number, found the number 5.0"),
        (lambda: grid_action(C4, 5, True), "width is a whole number, found True"),
        (lambda: grid_action(C4, 0, 5), "height 0"),
        (lambda: onnx_geed.disk_mask("5", 5), "height is a whole number, found a text, '5'"),
        (lambda: onnx_geed.disk_mask(10**9, 1), "height 1000000000: give .* from 1 to"),
        (lambda: grid_action(C4, 8193, 8192), "8193×8192: give at most"),
        (lambda: onnx_geed.disk_mask(5, -1), "width -1"),
        (
            lambda: onnx_geed.orbit(C4, MAPS[0, 0]),
            r"action is a LayoutAction .*: give .*grid_action\(",
        ),
        (
            lambda: onnx_geed.orbit(grid_action(C4, 5, 5), [["a"] * 5] * 5),
            "x is one array of numbers",
        ),
        (lambda: onnx_geed.orbit(grid_action(C4, 5, 5), [[1], [1, 2]]), "rows differ in length"),
        (lambda: onnx_geed.orbit(grid_action(C4, 5, 5), 3), r"\(5, 5\)"),
        (
            lambda: onnx_geed.orbit(grid_action(C4, 5, 5), MAPS[0, 0], np.empty((4, 3, 5, 5))),
            "out is a contiguous float32 array",
        ),
        (
            lambda: onnx_geed.channel_cos(MAPS, grid_action(C4, 5, 5), support="disc"),
            "support disc: choose full or disk. Did you mean 'disk'",
        ),
        (
            lambda: onnx_geed.channel_cos(MAPS, C4),
            r"action is a LayoutAction.*: give .*grid_action\(",
        ),
        (lambda: onnx_geed.channel_cos([[1], [1, 2]], grid_action(C4, 5, 5)), "differ in length"),
        (lambda: onnx_geed.latent_l2(ROWS, "C4"), "group is a Group"),
        (lambda: onnx_geed.latent_cos(ROWS, None), "group is a Group"),
        (lambda: onnx_geed.softmax_kl(ROWS, C4, kind="logit"), "kind logit: .*'logits'"),
        (lambda: onnx_geed.output_l2(ROWS, "C4"), "is not an action"),
        (lambda: onnx_geed.output_l2("x", C4), "activations is one array of numbers"),
        (
            lambda: onnx_geed.Permutation(C4, [[0, 1], [0, 1], [0, 1], [0, 0]]),
            "every row must hold",
        ),
        (lambda: onnx_geed.Permutation(C4, [[0.0, 1.0]] * 4), "table of whole numbers"),
        (lambda: onnx_geed.Matrices(C4, np.eye(2)), "one matrix per element"),
        (lambda: onnx_geed.Trivial("C4"), "group is a Group"),
        (lambda: onnx_geed.load_model(5), "a model is the path of an ONNX file, found 5"),
        (lambda: check_option("support", "ful"), "Did you mean 'full'"),
        (
            lambda: measurement(
                measure="latent-l2",
                layer="z",
                layout="NK",
                output_action="trivial",
                deviations=[[0.0]],
                elements=["e"],
                interval="boot",
            ),
            "no interval is called 'boot'; choose t or bootstrap. Did you mean 'bootstrap'",
        ),
    ],
)
def test_functions_on_arrays_refuse_in_one_line_too(call, message):
    with pytest.raises(GeedError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_measure_with_a_wrong_support_is_none():
    with pytest.raises(GeedError, match="support disc: choose full"):
        onnx_geed.Measure("channel-cos", "a", grid_action(C4, 5, 5), "disc")


def test_numpy_lengths_are_lengths():
    assert grid_action(C4, np.int32(5), np.int64(5)) == grid_action(C4, 5, 5)
