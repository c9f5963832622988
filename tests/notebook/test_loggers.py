"""Values in TensorBoard, Weights & Biases and MLflow: by the real packages, offline."""

import math
import sys
import time

import numpy as np
import pytest

from onnx_geed import GeedError, log_mlflow, log_tensorboard, log_wandb

VALUES = {"channel-cos@map": -0.75, "latent-l2@/net/z:0": 0.5, "latent-cos@z": math.nan}
TAGS = {"equivariance/channel-cos/map": -0.75, "equivariance/latent-l2/net/z_0": 0.5}


class Writer:
    def __init__(self):
        self.written = []

    def add_scalar(self, tag, value, step):
        self.written.append((tag, value, step))


def written(values):
    writer = Writer()
    log_tensorboard(values, writer, 3)
    return {tag: value for tag, value, step in writer.written if step == 3}


def test_a_writer_gets_a_scalar_a_value():
    assert written(VALUES) == TAGS


def test_a_writer_that_is_none_is_one_line():
    with pytest.raises(GeedError, match="give a SummaryWriter, which has add_scalar, or a folder"):
        log_tensorboard(VALUES, None, 0)


def test_results_are_logged_as_they_are():
    records = [{"measure": "a", "layer": "x", "value": 1.0}, {"measure": "b", "layer": "x"}]
    records[1]["value"] = None
    assert written({"measurements": records}) == {"equivariance/a/x": 1.0}


def test_no_value_takes_the_place_of_another():
    values = {"a@x?": 1.0, "a@x*": 2.0, "a@x:": 3.0}
    assert sorted(written(values).values()) == [1.0, 2.0, 3.0]


def test_a_missing_value_leaves_the_others_their_curves():
    first = written({"a@a:b": 1.0, "a@a_b": 2.0})
    second = written({"a@a:b": math.nan, "a@a_b": 3.0})
    assert {tag: v for tag, v in first.items() if v == 2.0}.keys() == second.keys()


def test_names_without_number_that_are_cut_alike_are_told_apart_at_once():
    values = {f"{'x' * 300}{i}{'y' * 300}": 1.0 for i in range(30_000)}
    begun = time.perf_counter()
    assert len(written(values)) == len(values)
    assert time.perf_counter() - begun < 20  # it took a minute


def test_records_that_lack_something_are_one_line():
    with pytest.raises(GeedError, match=r"^log_tensorboard: .*measure is missing"):
        written({"measurements": [{"layer": "x"}]})


HOSTILE = {
    "\x1b[2J\x00b@c\nd\r": "equivariance/__2J_b/c_d_",
    "\ud800x@\udfff": "equivariance/_x/_",
    "../../etc@/../passwd": "equivariance/etc/passwd",
    "": "equivariance",
    "a /b / c": "equivariance/a/b/c",
    "\u202eabc": "equivariance/_abc",
}


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_becomes_a_plain_tag(name):
    assert written({name: 1.0}) == {HOSTILE[name]: 1.0}


def test_long_names_are_cut_in_the_middle_and_stay_apart():
    names = ["l" * 5000, "l" * 4999 + "m", "m@" + "/x" * 2500, "\U00020000" * 5000]
    names += ["l" * k for k in range(225, 260)]
    tags = written({name: float(i) for i, name in enumerate(names)})
    assert sorted(tags.values()) == sorted(map(float, range(len(names))))
    assert max(map(len, tags)) <= 250
    assert not any("//" in tag or tag.strip("/ ") != tag for tag in tags)


def test_numbers_without_end_are_refused():
    assert written({"a": math.inf, "b": 10**300}) == {
        "equivariance/a": math.inf,
        "equivariance/b": 1e300,
    }
    with pytest.raises(GeedError, match="the value of a has too many digits"):
        written({"a": 10**400})
    with pytest.raises(GeedError, match=r"step 1000.* is too large"):
        log_tensorboard(VALUES, Writer(), 10**30)


def test_numbers_of_numpy_are_numbers():
    given = {"a": np.float32(0.5), "b": np.int64(3), "c": np.float64(0.25)}
    assert sorted(written(given).values()) == [0.25, 0.5, 3.0]


def test_what_is_no_value_is_refused():
    with pytest.raises(GeedError, match="values is a mapping"):
        log_tensorboard([1.0], Writer(), 1)
    with pytest.raises(GeedError, match="the value of a is not a number"):
        log_tensorboard({"a": "1"}, Writer(), 1)


def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_tensorboard(VALUES, tmp_path / "runs", 7)
    read = EventAccumulator(str(tmp_path / "runs"), size_guidance={"tensors": 0})
    read.Reload()
    assert set(read.Tags()["tensors"]) == set(TAGS)
    for tag, value in TAGS.items():
        (event,) = read.Tensors(tag)
        assert (event.step, event.tensor_proto.float_val[0]) == (7, value)


@pytest.mark.filterwarnings("default")
def test_wandb_has_what_was_logged(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with pytest.raises(GeedError, match=r"no run is active; call wandb.init first"):
        log_wandb(VALUES)
    with wandb.init(mode="offline", dir=str(tmp_path), project="p") as run:
        log_wandb(VALUES, 2)
        run.log({"loss": 1.0}, step=3)  # with which those of step 2 are told
        assert {tag: run.summary[tag] for tag in TAGS} == TAGS
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.filterwarnings("default")
def test_mlflow_has_what_was_logged(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with mlflow.start_run() as run:
        log_mlflow(VALUES, 4)
    assert mlflow.get_run(run.info.run_id).data.metrics == TAGS


@pytest.mark.parametrize(
    ("name", "package", "log"),
    [
        ("tensorboard", "tensorboard.summary", lambda p: log_tensorboard(VALUES, p / "runs", 1)),
        ("wandb", "wandb", lambda p: log_wandb(VALUES)),
        ("mlflow", "mlflow", lambda p: log_mlflow(VALUES)),
    ],
)
def test_without_the_package_it_is_one_line(name, package, log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(GeedError, match=rf"log_{name}: .*pip install 'onnx-geed\[{name}\]'"):
        log(tmp_path)
