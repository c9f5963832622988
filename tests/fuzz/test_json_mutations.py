"""Any JSON in place of a result, a manifest or a suite's cell ends in an output or in one line."""

import json
import random

import models
import numpy as np
import pytest
from json_mutations import (
    fault_of,
    invoke,
    mutated,
    run_manifests,
    run_results,
    run_suites,
    written,
)

from onnx_geed import GeedError, read_result


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    models.save(models.random_cnn(0, (8, 8)), folder / "net.onnx")
    np.save(folder / "x.npy", np.random.default_rng(0).random((6, 3, 8, 8)).astype(np.float32))
    np.save(folder / "labels.npy", np.arange(6) % 3)
    given = [folder / "net.onnx", "--data", folder / "x.npy", "--samples", "4", "--provider", "cpu"]
    for name, group, more in (
        ("group", "C8", ["--references", "--labels", folder / "labels.npy"]),
        ("family", "rotate:-20..20/3", ["--measure", "latent-l2", "--measure", "flip-rate"]),
    ):
        run = invoke(["measure", *given, "--group", group, *more, "--out", folder / f"{name}.json"])
        assert run.exit_code == 0, run.output
    for mode in ("raw", "stats"):
        to = folder / f"{mode}.geed"
        more = ["--measure", "latent-l2", "--measure", "channel-cos", "--cache-mode", mode]
        assert invoke(["cache", *given, "--group", "C4", *more, "-o", to]).exit_code == 0
    (folder / "suite.toml").write_text(
        'groups = ["C4"]\nmeasures = ["latent-l2"]\n[options]\nsamples = 3\n'
        '[[models]]\nname = "net"\npath = "net.onnx"\n[[data]]\nname = "x"\npath = "x.npy"\n'
    )
    run = invoke(["benchmark", folder / "suite.toml", "-o", folder / "out"])
    assert run.exit_code == 0, run.output
    return folder


def faults(run, seeds, count, folder):
    found = []
    for i in range(count):
        own = folder / str(i)
        own.mkdir()
        arguments, fault = run(seeds, random.Random(i), own)
        found += [f"{i} {arguments}: {fault}"] if fault else []
    return found


def test_results(box, tmp_path):
    seeds = [json.loads((box / f"{name}.json").read_text()) for name in ("group", "family")]
    assert faults(run_results, seeds, 60, tmp_path) == []


def test_manifests(box, tmp_path):
    assert faults(run_manifests, [box / "raw.geed", box / "stats.geed"], 60, tmp_path) == []


def test_cells_of_suites(box, tmp_path):
    assert faults(run_suites, [box], 8, tmp_path) == []


def test_the_fault_finder_finds_faults(box):
    class Run:
        exit_code, stdout, stderr, exception = 0, "", "", None

    assert fault_of(Run) == ""
    for changes in (
        {"exit_code": 1},
        {"exception": KeyError("x")},
        {"exit_code": 2, "stderr": "onnx-geed: " + "x" * 400},
        {"exit_code": 2, "stderr": "onnx-geed: a\nonnx-geed: b"},
        {"exit_code": 2, "stderr": "onnx-geed: internal error, KeyError"},
        {"stdout": "a\x1bb"},
    ):
        assert fault_of(type("Broken", (Run,), changes)), changes


def test_mutations_change_something(box):
    content = json.loads((box / "group.json").read_text())
    made = {written(mutated(content, random.Random(i)), random.Random(i)) for i in range(50)}
    assert len(made) > 40
    assert content == json.loads((box / "group.json").read_text())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda c: c["measurements"][0].update(ci95=[1]),
            "measurements[0].ci95 is a list of 2, found one of 1",
        ),
        (lambda c: c["measurements"][0].update(ci95="x"), "measurements[0].ci95 is a list or null"),
        (lambda c: c["measurements"][0]["per_sample"].pop(), "measurements[0].per_sample has 3"),
        (
            lambda c: c["measurements"][0]["deviations"][1].pop(),
            "measurements[0].deviations[1] has",
        ),
        (lambda c: c["measurements"][0].update(value=0.125), "measurements[0].value is 0.125"),
        (
            lambda c: c["measurements"][0].update(zero_pairs=2),
            "measurements[0].zero_pairs is 0 to 1",
        ),
        (
            lambda c: c["measurements"].append(c["measurements"][0]),
            "names a measure and layer twice",
        ),
        (
            lambda c: c["data"]["indices"].__setitem__(0, -1),
            "data.indices[0] is at least 0, found -1",
        ),
        (lambda c: c["data"]["indices"].__delitem__(slice(2, None)), "and data.indices"),
        (lambda c: c["group"].update(order=10**30), "group.order is a whole number below 2^63"),
        (lambda c: c["group"]["elements"].reverse(), "does not name the elements in their order"),
        (
            lambda c: c["runtime"].update(seconds=1e308),
            "runtime.seconds is a number of at most 1e+150",
        ),
        (
            lambda c: c["group"].update(interpolation="cubic"),
            "is one of bilinear, nearest, bicubic",
        ),
        (lambda c: c.pop("software"), "lacks software"),
    ],
)
def test_the_field_and_what_was_found_are_named(box, tmp_path, change, says):
    content = json.loads((box / "group.json").read_text())
    change(content)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    with pytest.raises(GeedError) as error:
        read_result(path)
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)
    assert str(error.value).endswith("; measure again")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"schema": 1, "schema": 2}', "the key 'schema' occurs twice"),
        (b'{"schema": 1e999}', "of schema 'inf'"),
        (b'{"a": ' * 50_000 + b"1" + b"}" * 50_000, "nested too deep"),
        (b"\xff{}", "not UTF-8 text"),
        (b"\xef\xbb\xbf{}", "without a schema"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"[" + b"[]," * 20_000_000 + b"0]", "GiB in memory"),
    ],
)
def test_json_that_is_too_much_or_none(tmp_path, content, says):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(GeedError) as error:
        read_result(path)
    assert says in str(error.value)
    assert len(str(error.value)) < 400


def test_files_that_never_end_are_not_read(tmp_path):
    import os

    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    os.mkfifo(tmp_path / "pipe.json")
    for path, says in (
        (huge, "is larger than 768 MiB"),
        (tmp_path / "pipe.json", "is a pipe; give a file"),
        ("/dev/zero", "is larger than 768 MiB"),
    ):
        with pytest.raises(GeedError, match=says):
            read_result(path)
