"""How to measure, as the user chose it: every field checked by its own annotation."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from numpy.typing import NDArray

from onnx_geed.data import Preprocess
from onnx_geed.errors import GeedError, refuse_unknown
from onnx_geed.groups import Components, Interpolation, Table, check_layout
from onnx_geed.held import allowed_by
from onnx_geed.measures import Support
from onnx_geed.model import StatedKind
from onnx_geed.results import Interval, check_precision
from onnx_geed.run.session import Provider
from onnx_geed.text import counted, parse_bytes
from onnx_geed.typed import check_value, parts_of

__all__ = ["EngineChoice", "Options", "check_option", "drawn_notes", "make_options", "names_files"]

EngineChoice = Literal["auto", "kernels", "graph"]


# Size of D in the paper.
_SAMPLES = 50


@dataclass(frozen=True)
class Options:
    """How to measure; every field has a command-line option of the same name.

    Values are converted to one form: NumPy numbers to Python numbers, lists to tuples, a single
    string to a sequence of one.

    Parameters
    ----------
    measures : sequence of str
        ``NAME`` or ``NAME@LAYER``; empty for all that fit the model.
    samples : int, optional
        Size of D, eq. (4); 50 by default. With ``precision`` the largest allowed size, by default
        all.
    norm_samples : int
        Number of points for M, eq. (6).
    seed : int
        Seed of the permutation that chooses them.
    provider : {"auto", "cuda", "cpu"}
        Where to run.
    batch_size : int, optional
        Largest number of rows in one run; by default computed from the sizes of activations and
        ``memory``.
    memory : str or int
        Budget for weights, activations, orbits and what moves them, such as ``2GiB``, or a number
        of bytes.
    time_per_sample : float, optional
        Most seconds of one core that the shapes of a model may ask for, for a sample; by default
        2.5, and more for many weights and for large samples.
    interval : {"t", "bootstrap"}
        Interval over samples.
    precision : float, optional
        Add samples until half of every interval's width is at most this share of the value's
        distance from perfect equivariance.
    references : bool
        Whether to measure the round trips, as references for the values.
    untrained : bool
        Whether to measure the same network with new random weights, as a reference.
    interpolation : {"bilinear", "nearest", "bicubic"}
        Resampling of rotations.
    support : {"full", "disk"}
        Whether samples are masked to a disk; the maps of ``channel-cos``, and class scores at
        places, are then compared inside it too, and other measures take whole maps.
    clip : bool
        Whether a family that changes values, such as ``brightness``, clips images and rounds them
        to 8 bits.
    components : {"right-down", "right-up", "down-right"}
        The components of vectors (axis X); a third one is forward.
    output_action : mapping of str to str, Path or Table
        Output actions by layer: given ones, or ``fit:permutation``, ``fit:orthogonal`` or
        ``fit:linear`` for one that is estimated from data.
    fit_samples : int
        Number of samples for fitting actions: the next ones of the permutation after D.
    fit_anyway : bool
        Whether to fit vectors that are too long, or have too few samples, for a reliable fit.
    input, output, latent : str, optional
        Names of the acted-on input, the output and the latent.
    input_layout : str or mapping of str to str, optional
        Layout of the acted-on input, one letter per axis, such as ``NCHW``, ``NCDHW``, ``NCT`` or
        ``NPX``; or layouts of several inputs by name, which the group moves together.
    output_kind : {"logits", "probabilities", "embedding"}, optional
        The kind of the output.
    layout : mapping of str to str
        Layouts of hidden tensors by layer.
    feed : mapping of str to str, Path or ndarray
        Values of the other inputs.
    mask : mapping of str to str, Path or ndarray
        Which entries of sets of different sizes are real, by the input that they belong to or that
        takes the mask; an empty string for the lengths in the data. Padding is left out of every
        measure.
    preprocess : str, Path or Preprocess, optional
        Preset, file or ``key=value`` list; by default from the model's metadata.
    labels : str, Path or sequence, optional
        Labels of the samples, one each, or one for each place of class scores, such as (N, H, W).
    masks : str, Path or ndarray, optional
        The foreground of each sample, (N, H, W) of 1 and 0, for a family of backgrounds.
    background : int or str, optional
        For class scores at places: the background class, by its number or its name in the model's
        metadata. A second mean leaves out its places.
    target : mapping of str to str, Path or ndarray
        Correct values of tensors, by layer: one row per sample of the data, with the tensor's
        shape.
    layers : sequence of str
        Layers to store in a cache; without ``measures``, only these.
    engine : {"auto", "kernels", "graph"}
        Where deviations are computed: by compiled loops on the host, or by nodes in the model's own
        graph. ``auto`` takes the graph on CUDA.

    Raises
    ------
    GeedError
        If a value is not of its field's type, or none of its choices.
        If a number is out of range.
        If there is no such layout or size.
    """

    measures: Sequence[str] = ()
    samples: int | None = None
    norm_samples: int = 200
    seed: int = 0
    provider: Provider = "auto"
    batch_size: int | None = None
    memory: str | int = "2GiB"
    time_per_sample: float | None = None
    interval: Interval = "t"
    precision: float | None = None
    references: bool = False
    untrained: bool = False
    interpolation: Interpolation = "bilinear"
    support: Support = "full"
    clip: bool = False
    components: Components = "right-down"
    output_action: Mapping[str, str | Path | Table] = field(default_factory=dict)
    fit_samples: int = 50
    fit_anyway: bool = False
    input: str | None = None
    input_layout: str | Mapping[str, str] | None = None
    output: str | None = None
    output_kind: StatedKind | None = None
    latent: str | None = None
    layout: Mapping[str, str] = field(default_factory=dict)
    feed: Mapping[str, str | Path | NDArray[Any]] = field(default_factory=dict)
    mask: Mapping[str, str | Path | NDArray[Any]] = field(default_factory=dict)
    preprocess: str | Path | Preprocess | None = None
    labels: str | Path | NDArray[Any] | Sequence[Any] | None = None
    masks: str | Path | NDArray[Any] | None = None
    background: int | str | None = None
    target: Mapping[str, str | Path | NDArray[Any]] = field(default_factory=dict)
    layers: Sequence[str] = ()
    engine: EngineChoice = "auto"

    def __post_init__(self) -> None:
        for name in _hints():
            object.__setattr__(self, name, check_option(name, getattr(self, name)))
        for name in ("input", "output", "latent", "labels", "masks", "preprocess"):
            if isinstance(given := getattr(self, name), str) and not given:
                raise GeedError(f"--{name}: is empty; give a name, or leave it out")
        if self.samples is not None and self.samples < 1:
            raise GeedError(f"--samples {self.samples}: measure at least one sample")
        for name, value in (("norm-samples", self.norm_samples), ("seed", self.seed)):
            if value < 0:
                raise GeedError(f"--{name} {value}: must not be negative")
        if self.fit_samples < 2:
            raise GeedError(f"--fit-samples {self.fit_samples}: fit to at least two samples")
        if self.batch_size is not None and self.batch_size < 1:
            raise GeedError(f"--batch-size {self.batch_size}: a batch needs at least one row")
        if self.time_per_sample is not None and not 0 < self.time_per_sample < math.inf:
            raise GeedError(
                f"--time-per-sample {self.time_per_sample:g}: give a number of seconds above 0"
            )
        for layout in self.layout.values():
            check_layout(layout)
        parse_bytes(self.memory)
        check_precision(self.precision, self.samples)

    @property
    def allowed(self) -> int:
        """Bytes that one file may use in memory."""
        return allowed_by(self.memory)

    @property
    def wanted(self) -> int | None:
        """The requested or largest size of D; ``None`` for all samples."""
        return _SAMPLES if self.samples is None and self.precision is None else self.samples


def drawn_notes(available: int, wanted: int | None, norm_samples: int) -> list[str]:
    """Say where there are fewer samples than are asked for.

    Parameters
    ----------
    available : int
        Samples of the data.
    wanted : int or None
        Size of D that is asked for; ``None`` for all.
    norm_samples : int
        Points for M that are asked for.

    Returns
    -------
    list of str
        Notes on the run as a whole.
    """
    notes = []
    if wanted is not None and available < wanted:
        notes.append(f"only {available} of the {counted(wanted, 'sample')} asked for exist")
    if available < norm_samples:
        notes.append(f"only {available} of the {norm_samples} samples wanted for M exist")
    return notes


@functools.cache
def _hints() -> dict[str, Any]:
    """Types of the fields, from their annotations."""
    return get_type_hints(Options)


def names_files(name: str) -> bool:
    """Say whether an option's value may be the path of a file."""
    return Path in parts_of(_hints()[name])


def make_options(values: Mapping[str, Any], idle: Iterable[str] = (), why: str = "") -> Options:
    """Return options from keyword arguments.

    Parameters
    ----------
    values : mapping of str to object
        Fields of :class:`Options`.
    idle : iterable of str
        Fields that would have no effect here.
    why : str
        Why, and what to do instead.

    Returns
    -------
    Options

    Raises
    ------
    GeedError
        If there is no such field, with the nearest.
        If one that has no effect is given another value than its default.
        If :class:`Options` refuses a value.
    """
    if "action" in values:
        raise GeedError(
            "an action of your own works only in onnx_geed.measure: a cache and a compiled "
            "measurement cannot store a function"
        )
    names = [f.name for f in fields(Options)]
    refuse_unknown({name: values[name] for name in values if name not in names}, names)
    options = Options(**values)
    for name in idle:
        if _is_given(options, name):
            raise GeedError(f"--{name.replace('_', '-')}: {why}")
    return options


def _is_given(options: Options, name: str) -> bool:
    """Tell whether an option has another value than its default; arrays are never compared."""
    given, default = getattr(options, name), getattr(Options(), name)
    if default is None:
        return given is not None
    return given != default if isinstance(default, str | int | float) else len(given) > 0


def check_option(name: str, value: object) -> Any:
    """Return the value of one option, in the form that :class:`Options` keeps it in.

    Parameters
    ----------
    name : str
        A field of :class:`Options`.
    value : object
        As the user gave it.

    Returns
    -------
    object

    Raises
    ------
    GeedError
        If it is not of the field's type, or none of its choices.
    """
    return check_value(f"--{name.replace('_', '-')}", value, _hints()[name])
