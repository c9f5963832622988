"""The loops of docs/how-to/training.md, run with their frameworks where these are installed."""

import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest

import onnx_geed

PAGE = Path(__file__).parents[2] / "docs/how-to/training.md"
pytestmark = pytest.mark.filterwarnings("default")


def blocks_of(heading):
    """The code under a heading, run; names that it defines."""
    section = re.split(r"^## ", PAGE.read_text(), flags=re.M)
    (text,) = (s for s in section if s.startswith(heading))
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        assert len(block.splitlines()) <= 22
        exec(compile(block, f"{PAGE.name}: {heading}", "exec"), names)
    return names


def needed(*names):
    for name in names:
        if not importlib.util.find_spec(name):
            pytest.skip(f"needs {name}")


def images(*shape, n=12):
    return np.random.default_rng(0).random((n, *shape)).astype(np.float32)


class Writer:
    def __init__(self):
        self.tags = {}

    def add_scalar(self, tag, value, step):
        self.tags[tag] = value, step


def network(torch):
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5))


def test_pytorch(tmp_path):
    needed("torch")
    import torch

    names, writer = blocks_of("PyTorch"), Writer()
    data = torch.utils.data.TensorDataset(torch.from_numpy(images(3, 8, 8)), torch.zeros(12))
    loader = torch.utils.data.DataLoader(data, batch_size=5)
    metric = names["validate"](network(torch), loader, writer, 3)
    assert set(writer.tags) == {f"equivariance/{m}/output" for m in ("softmax-kl", "flip-rate")}
    assert metric.samples == 12
    one = {"rank": 0, "world_size": 1, "init_method": f"file://{tmp_path}/store"}
    torch.distributed.init_process_group("gloo", **one)
    try:
        assert names["over_all_processes"](metric) == metric.compute()
    finally:
        torch.distributed.destroy_process_group()


def test_training_mode_is_told():
    needed("torch")
    import torch

    model = network(torch).train()
    metric = onnx_geed.EquivarianceMetric("C4", ["softmax-kl"], output_kind="logits")
    with pytest.raises(onnx_geed.GeedError, match=r"evaluation|random"):
        metric.update(model, torch.from_numpy(images(3, 8, 8)))


def test_lightning(tmp_path):
    needed("torch", "lightning")
    import lightning
    import torch

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network(torch)

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, _):
            return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch, _):
            self(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    labels = torch.zeros(12, dtype=torch.long)
    data = torch.utils.data.TensorDataset(torch.from_numpy(images(3, 8, 8)), labels)
    loader = torch.utils.data.DataLoader(data, batch_size=6)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[blocks_of("Lightning")["Equivariance"]()],
        **{"logger": False, "enable_checkpointing": False, "enable_progress_bar": False},
        **{"enable_model_summary": False, "default_root_dir": tmp_path},
    )
    trainer.fit(Module(), loader, loader)
    assert float(trainer.callback_metrics["softmax-kl@output"]) > 0


def test_keras(monkeypatch):
    needed("keras")
    if "KERAS_BACKEND" not in os.environ:
        backends = ("torch", "jax", "tensorflow")
        known = next((name for name in backends if importlib.util.find_spec(name)), None)
        if known is None:
            pytest.skip("needs a backend of keras")
        monkeypatch.setenv("KERAS_BACKEND", known)
    import keras

    layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()]
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), *layers, keras.layers.Dense(5, activation="softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = images(8, 8, 3)
    callback = blocks_of("Keras")["Equivariance"]([x[:6], x[6:]])
    history = model.fit(x, np.zeros(12), epochs=2, verbose=0, callbacks=[callback])
    assert len(history.history["softmax-kl@output"]) == 2


def test_jax():
    needed("jax")
    import jax.numpy as jnp

    weights = jnp.asarray(np.random.default_rng(1).standard_normal((8 * 8 * 3, 5)))

    def apply(params, x):
        return x.reshape(len(x), -1) @ params

    x = jnp.asarray(images(8, 8, 3))
    values = blocks_of("JAX")["validate"](apply, weights, [x[:6], x[6:]])
    assert values["softmax-kl@output"] > 0


def test_loggers(tmp_path, monkeypatch):
    needed("tensorboard", "wandb", "mlflow", "sqlalchemy")
    import mlflow
    import wandb

    wandb.teardown()  # it keeps the folder of the first run
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    names = blocks_of("Where it goes")

    def metric(epoch):
        own = onnx_geed.EquivarianceMetric("C4", ["flip-rate"], output_kind="logits")
        own.update(lambda x: x.reshape(len(x), -1)[:, :5], images(3, 8, 8))
        return own

    names["train"](metric, 2)
    (run,) = mlflow.search_runs(output_format="list")
    assert run.data.metrics == {
        "equivariance/flip-rate/output": metric(0).compute()["flip-rate@output"]
    }
    assert len(list((tmp_path / "runs" / "equivariance").iterdir())) == 2
    assert list((tmp_path / "wandb").glob("offline-run-*"))
