"""How to measure, as the user chose it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from onnx_geed.actions import Interpolation
from onnx_geed.eed import Support
from onnx_geed.errors import GeedError
from onnx_geed.layouts import check_layout
from onnx_geed.preprocess import Preprocess
from onnx_geed.sequential import check_precision
from onnx_geed.session import Provider
from onnx_geed.sizes import parse_bytes
from onnx_geed.tables import Table

__all__ = ["Engine", "Options"]

Engine = Literal["auto", "kernels", "graph"]

# Size of D in the paper.
_SAMPLES = 50


@dataclass(frozen=True)
class Options:
    """How to measure; every field has a command-line option of the same name.

    Parameters
    ----------
    measures : sequence of str
        ``NAME`` or ``NAME@LAYER``; empty for all that make sense for the model.
    samples : int, optional
        Size of D, eq. (4): 50 by default. With ``precision`` the most to take, by default all.
    norm_samples : int
        Points for M, eq. (6).
    seed : int
        Seed of the permutation that picks them.
    provider : {"auto", "cuda", "cpu"}
        Where to run.
    batch_size : int, optional
        Most rows in one run; by default from ``memory``.
    memory : str
        Budget for activations, such as ``2GiB``.
    interval : {"t", "bootstrap"}
        Interval over samples.
    precision : float, optional
        Add samples until half of every interval's width is at most this share of the value's
        distance from perfect equivariance.
    references : bool
        Whether to run the round trips that values are read by.
    untrained : bool
        Whether to measure the same network with its weights drawn anew, as a scale too.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling of rotations.
    support : {"full", "disk"}
        Whether samples are masked, and maps compared, inside a disk.
    output_action : mapping of str to str, Path or Table
        Given output actions by layer.
    input, output, latent : str, optional
        Names of the acted-on input, the output and the latent.
    input_layout : str, optional
        Layout of the acted-on input, one letter an axis: ``NCHW``, ``NHWC``, ``NHW``, ``NCDHW``,
        ``NDHWC``, ``NTHWC`` (T for the frames of a video), or these letters in another order.
    output_kind : {"logits", "probabilities", "embedding"}, optional
        What the output is.
    layout : mapping of str to str
        Layouts of hidden tensors by layer.
    feed : mapping of str to str, Path or ndarray
        Values of the other inputs.
    preprocess : str or Preprocess, optional
        Preset, file or ``key=value`` list; by default from the model's metadata.
    labels : str, Path or sequence, optional
        Labels of the samples.
    layers : sequence of str
        Layers that a cache is to keep; without ``measures``, only these.
    engine : {"auto", "kernels", "graph"}
        Where deviations are computed: by compiled loops on the host, or by nodes in the model's own
        graph. ``auto`` takes the graph on CUDA.
    """

    measures: Sequence[str] = ()
    samples: int | None = None
    norm_samples: int = 200
    seed: int = 0
    provider: Provider = "auto"
    batch_size: int | None = None
    memory: str = "2GiB"
    interval: str = "t"
    precision: float | None = None
    references: bool = False
    untrained: bool = False
    interpolation: Interpolation = "bilinear"
    support: Support = "full"
    output_action: Mapping[str, str | Path | Table] = field(default_factory=dict)
    input: str | None = None
    input_layout: str | None = None
    output: str | None = None
    output_kind: str | None = None
    latent: str | None = None
    layout: Mapping[str, str] = field(default_factory=dict)
    feed: Mapping[str, str | Path | NDArray[Any]] = field(default_factory=dict)
    preprocess: str | Preprocess | None = None
    labels: str | Path | Sequence[int | str] | None = None
    layers: Sequence[str] = ()
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise GeedError(f"--samples {self.samples}: measure at least one sample")
        for name, value in (("norm-samples", self.norm_samples), ("seed", self.seed)):
            if value < 0:
                raise GeedError(f"--{name} {value}: must not be negative")
        if self.batch_size is not None and self.batch_size < 1:
            raise GeedError(f"--batch-size {self.batch_size}: a batch has at least one row")
        for layout in self.layout.values():
            check_layout(layout)
        parse_bytes(self.memory)
        check_precision(self.precision, self.samples)

    @property
    def wanted(self) -> int | None:
        """Samples that D is to have, or at most; ``None`` for all there are."""
        return _SAMPLES if self.samples is None and self.precision is None else self.samples
