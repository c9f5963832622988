"""A cache is gone on with, or refused: other labels, layouts or kinds are another run."""

from __future__ import annotations

import models
import numpy as np
import pytest
from click.testing import CliRunner

import onnx_geed as geed
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError

IMAGES = np.random.default_rng(0).random((24, 3, 8, 8)).astype(np.float32)
OPTIONS = {"samples": 6, "norm_samples": 10, "provider": "cpu"}
LABELS = np.random.default_rng(1).integers(0, 5, 24)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return models.save(models.random_cnn(0, (8, 8)), tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="module")
def soft(tmp_path_factory):
    path = tmp_path_factory.mktemp("soft") / "soft.onnx"
    return models.save(models.softmax_output(), path)


CASES = {
    "labels": (
        {"labels": LABELS, "measures": ["symmetry-share"]},
        {"labels": LABELS[::-1].copy(), "measures": ["symmetry-share"]},
    ),
    "labels at all": ({"measures": ["softmax-kl"]}, {"labels": LABELS, "measures": ["softmax-kl"]}),
    "layouts": (
        {"measures": ["channel-cos@block0"]},
        {"measures": ["channel-cos@block0"], "layout": {"block0": "NCWH"}},
    ),
}


@pytest.mark.parametrize("mode", ["raw", "stats"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("half", [False, True])
def test_other_settings_are_another_cache(net, tmp_path, case, mode, half):
    first, other = CASES[case]
    cache = tmp_path / "c.geed"
    geed.write_cache(net, IMAGES, "C4", cache, mode=mode, batch_size=4, **first, **OPTIONS)
    if half:
        shards = sorted(cache.glob("shard-*.h5"))
        for gone in [*shards[len(shards) // 2 :], cache / "cache.h5"]:
            gone.unlink()
    name = case.split()[0]
    with pytest.raises(GeedError, match=f"differs from this run in {name}"):
        geed.write_cache(net, IMAGES, "C4", cache, mode=mode, batch_size=4, **other, **OPTIONS)
    # The same command goes on.
    geed.write_cache(net, IMAGES, "C4", cache, mode=mode, batch_size=4, **first, **OPTIONS)
    live = geed.measure(net, IMAGES, "C4", batch_size=4, **first, **OPTIONS)
    assert geed.measure_cache(cache)["measurements"] == live["measurements"]


def test_another_kind_of_output_is_another_cache(soft, tmp_path):
    shape = next(i.shape for i in geed.model.inputs(geed.model.load_model(soft)))
    data = np.random.default_rng(2).random((12, *shape[1:])).astype(np.float32)
    asked = {"measures": ["softmax-kl"], **OPTIONS}
    geed.write_cache(soft, data, "C4", tmp_path / "c.geed", **asked)
    with pytest.raises(GeedError, match="differs from this run in output kinds"):
        geed.write_cache(soft, data, "C4", tmp_path / "c.geed", output_kind="logits", **asked)


def test_a_folder_of_other_things_is_no_cache(net, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("mine")
    with pytest.raises(GeedError, match=r"holds other files \(a\.txt\) and no cache"):
        geed.write_cache(net, IMAGES, "C4", tmp_path / "photos", **OPTIONS)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.txt"]
    (tmp_path / "empty").mkdir()
    geed.write_cache(net, IMAGES, "C4", tmp_path / "empty", **OPTIONS)
    (tmp_path / "empty" / "README").write_text("beside a cache")
    geed.write_cache(net, IMAGES, "C4", tmp_path / "empty", **OPTIONS)


def refused(*arguments):
    outcome = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert outcome.exit_code == 2, outcome.output
    return outcome.stderr


def test_what_is_no_cache_is_called_what_it_is(net, tmp_path):
    assert "is a file; a cache is a folder" in refused("cache", "--info", net)
    assert " -o " not in refused("cache", "--info", net)
    (tmp_path / "bg").mkdir()
    (tmp_path / "bg" / "a.png").write_bytes(b"")
    assert "run the command that writes it" in refused("cache", "--verify", tmp_path / "bg")
    cache = tmp_path / "c.geed"
    geed.write_cache(net, IMAGES, "C4", cache, **OPTIONS)
    for command in (["aggregate", cache], ["merge", cache, "-o", tmp_path / "m.json"]):
        assert f"is a cache: onnx-geed measure {cache}" in refused(*command)
    assert f"onnx-geed measure {cache} --out" in refused("report", cache, "-o", tmp_path / "r.html")
    (cache / "reference.h5").unlink()
    outcome = CliRunner().invoke(cli, ["cache", "--info", str(cache)])
    assert "incomplete, a file beside the shards is missing" in outcome.stdout


def test_options_that_a_cache_settles_are_named_as_they_were_typed(net, tmp_path):
    cache = tmp_path / "c.geed"
    geed.write_cache(net, IMAGES, "C4", cache, **OPTIONS)
    assert "--cache-mode: is fixed by the cache" in refused("measure", cache, "--cache-mode", "raw")
    said = refused("measure", cache, "--cache-dtype", "float32")
    assert "--cache-dtype: is fixed by the cache" in said
    assert "--seed: is fixed by the cache" in refused("measure", cache, "--seed", "3")
    said = refused("measure", cache, "--measure", "channel-cos@block9")
    assert "the cache keeps no such layer, only" in said
    assert "Did you mean 'block" in said


def test_a_cache_can_be_measured_without_points_as_a_model_can(net, tmp_path):
    cache = tmp_path / "c.geed"
    geed.write_cache(net, IMAGES, "C4", cache, **OPTIONS)
    (first, *_) = geed.measure_cache(cache, measures=["latent-l2"], norm_samples=0)["measurements"]
    live = geed.measure(
        net, IMAGES, "C4", measures=["latent-l2"], **{**OPTIONS, "norm_samples": 0}
    )["measurements"][0]
    assert first["value"] is live["value"] is None
    assert first["unnormalised"] == live["unnormalised"]


@pytest.mark.parametrize("layout", [None, {"block0": "NHWC"}])
def test_a_cache_resumed_after_a_loss_has_one_layout(net, tmp_path, layout):
    asked = {"measures": ["channel-cos@block0"], "layout": layout or {}, **OPTIONS}
    cache = tmp_path / "c.geed"
    geed.write_cache(net, IMAGES, "C4", cache, mode="stats", batch_size=4, **asked)
    whole = geed.measure_cache(cache)["measurements"]
    next(iter(sorted(cache.glob("shard-*.h5")))).unlink()
    geed.write_cache(net, IMAGES, "C4", cache, mode="stats", batch_size=4, **asked)
    assert geed.measure_cache(cache)["measurements"] == whole


def test_a_cache_of_an_earlier_version_is_held_to_its_description(net, tmp_path, monkeypatch):
    cache = tmp_path / "c.geed"
    asked = {"measures": ["channel-cos@block0"], "labels": LABELS, "batch_size": 4, **OPTIONS}
    with monkeypatch.context() as earlier:
        earlier.setattr("onnx_geed.cache.contents.fingerprints_of", lambda description: {})
        geed.write_cache(net, IMAGES, "C4", cache, **asked)
    next(iter(sorted(cache.glob("shard-*.h5")))).unlink()
    with pytest.raises(GeedError, match="differs from this run in layouts"):
        geed.write_cache(net, IMAGES, "C4", cache, **{**asked, "layout": {"block0": "NCWH"}})
    with pytest.raises(GeedError, match="differs from this run in labels"):
        geed.write_cache(net, IMAGES, "C4", cache, **{**asked, "labels": LABELS[::-1].copy()})
    geed.write_cache(net, IMAGES, "C4", cache, **asked)
    assert geed.measure_cache(cache)["measurements"]


def test_a_folder_of_a_caches_name_may_hold_a_log(net, tmp_path):
    folder = tmp_path / "c.geed"
    folder.mkdir()
    (folder / "slurm-123.out").write_text("")
    geed.write_cache(net, IMAGES, "C4", folder, **OPTIONS)
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    geed.write_cache(net, IMAGES, "C4", tmp_path / "disk", **OPTIONS)
