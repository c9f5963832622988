"""What is looked at before a run, of the model and its outputs."""

from types import SimpleNamespace

import numpy as np

from onnx_geed.run import trial


def test_of_large_maps_fewer_further_samples_are_looked_at(monkeypatch):
    def looked_at(size):
        session = SimpleNamespace(run=lambda row, feeds: {"y": np.zeros((1, size), np.float32)})
        source = SimpleNamespace(
            indices=range(50), rows=lambda at, orbits: at, other_inputs=lambda at, rows: {}
        )
        return len(trial.further_rows(SimpleNamespace(session=session), "y", source))

    monkeypatch.setattr(trial, "_FURTHER_BYTES", 4000)
    assert [looked_at(size) for size in (10, 100, 300, 5000)] == [16, 10, 4, 1]
