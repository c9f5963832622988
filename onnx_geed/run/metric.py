"""The measurement as a metric of a training loop, over batches as they come by."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, reason_of, refuse_unknown, shown
from onnx_geed.groups import Group, parse_group
from onnx_geed.measures import Plan, descriptor_of, parse_request
from onnx_geed.model import Model, find_input
from onnx_geed.results import Record, add_class_values, add_gain, add_predictions, has_gain
from onnx_geed.run.between_samples import MOST_PAIRS, Centres, Pairs, around, neighbours
from onnx_geed.run.called import Function, to_host
from onnx_geed.run.how_far import SeenInputs, gain_is_taken, gain_notes
from onnx_geed.run.job import Job, Task, job_orbits
from onnx_geed.run.kernel_engine import KernelEngine
from onnx_geed.run.measured_as import measured_as
from onnx_geed.run.measurements import predictions_of, records_of
from onnx_geed.run.on_group import as_asked
from onnx_geed.run.open_source import make_source
from onnx_geed.run.options import Options, make_options
from onnx_geed.run.orbit_statistics import (
    ChannelValues,
    MeasureStatistics,
    OrbitStatistics,
    gather,
    join,
    join_measure,
)
from onnx_geed.run.prepare import prepare_run
from onnx_geed.run.row_check import FirstRunCheck, RowCheck
from onnx_geed.run.source import Source
from onnx_geed.run.truths import with_truths
from onnx_geed.text import counted

__all__ = ["EquivarianceMetric"]

# Options that have a meaning where samples come by; the others are of data, files and engines.
_OPTIONS = (
    *("norm_samples", "interval", "seed", "interpolation", "support", "components", "clip"),
    *("batch_size", "memory", "input_layout", "output", "output_kind", "latent", "layout"),
)

# Pairs of neighbours among samples whose number is not known yet.
_PAIRS = (*neighbours(MOST_PAIRS + 1), *around(MOST_PAIRS + 1))

_CURE = "set the model to evaluation; if it is, give batch_size=1"


@dataclass(frozen=True, eq=False)
class _Setting:
    """What is the same for all batches: found out on the first one."""

    model: Model
    task: Task
    #: By tensor, how far apart rows were.
    spreads: Mapping[str, float]


class EquivarianceMetric:
    """How far a function is from equivariant, added up over batches.

    Parameters
    ----------
    group : str or Group
        A group, a family or a sampled group.
    measures : sequence of str
        ``NAME`` or ``NAME@OUTPUT``; by default all measures that fit the function's outputs.
    **options
        Of :class:`onnx_geed.Options`: ``norm_samples``, ``interval``, ``seed``, ``interpolation``,
        ``support``, ``components``, ``clip``, ``batch_size``, ``memory``, ``input_layout``,
        ``output``, ``output_kind``, ``latent`` and ``layout``.

    Raises
    ------
    GeedError
        If there is no such group, measure or option.
        If the group is a family of backgrounds.

    Notes
    -----
    Between batches it keeps one number per sample, element and measure, the latents of the first
    ``norm_samples`` samples for M, and sums. Its values are those of :func:`onnx_geed.measure` on
    the same samples in the same order, bit for bit if the function's values do not depend on the
    batch size. Noise, and the elements of sampled groups, are drawn from ``seed`` and the number of
    the sample, counted from 0. Two metrics can be added; the sums are then equal up to rounding. M
    is computed from the first ``norm_samples`` latents of both, M₂ from the points of both, and
    ``between_samples`` from neighbours in the first metric.

    For the ``gain`` of ``latent-l2`` under a family the inputs of the first ``norm_samples``
    samples are kept too, up to 512 MiB of them; no others are. It can be pickled: functions are not
    part of it.

    Examples
    --------
    >>> metric = onnx_geed.EquivarianceMetric("C4", ["softmax-kl"])  # doctest: +SKIP
    >>> for batch in batches:  # doctest: +SKIP
    ...     metric.update(predict, batch)
    >>> metric.compute()  # doctest: +SKIP
    """

    def __init__(self, group: str | Group, measures: Sequence[str] = (), **options: Any) -> None:
        refuse_unknown([name for name in options if name not in _OPTIONS], _OPTIONS)
        self._group = group if isinstance(group, Group) else parse_group(group)
        if self._group.family is not None and self._group.family.folder:
            raise GeedError(
                f"group {self._group.name}: needs masks of all samples, which batches do not come "
                "with; take onnx_geed.measure"
            )
        self._options: Options = make_options({"measures": measures, **options})
        for text in self._options.measures:
            parse_request(text)
        self.reset()

    def reset(self) -> None:
        """Forget all samples and outputs."""
        self._setting: _Setting | None = None
        self._statistics = OrbitStatistics()
        self._labels: tuple[int, ...] | None = None
        self._inputs: SeenInputs | None = None
        # f̂ of the last sample, as long as the next one is compared with it.
        self._centre: Mapping[tuple[str, str], NDArray[Any]] = {}
        # Of added metrics the number of samples whose neighbours are compared.
        self._compared: int | None = None

    @property
    def samples(self) -> int:
        """Number of samples so far."""
        return len(self._statistics.orbits)

    def __repr__(self) -> str:
        """Return one line: the group, and how many samples there were."""
        return f"<EquivarianceMetric under {self._group.name}: {counted(self.samples, 'sample')}>"

    def update(self, f: Callable[[Any], Any], batch: Any, labels: Any = None) -> None:
        """Measure a function on a batch.

        Parameters
        ----------
        f : callable
            Takes a batch and returns an array (B, ...), a tuple of arrays, or a dict of arrays by
            name, as for :func:`onnx_geed.measure`. Its input has the type of ``batch``: a NumPy
            array, or a tensor of the same framework, device and floating dtype.
        batch : ndarray or tensor, shape (B, ...)
            Unmoved samples.
        labels : array, tensor or sequence of int, shape (B,), optional
            The class of each sample: its position among the scores, from 0. Then :meth:`records`
            says how often predictions are correct under each element, and ``symmetry-share`` can be
            measured. Either all batches have labels or none.

        Raises
        ------
        GeedError
            If the function fails, returns NaN, or its outputs do not fit the measures.
            If there is not one label per sample, or only some batches have labels.
            If its rows depend on each other, as in training mode: a few are run again alone.
            If samples or outputs are of another shape than before.
        """
        if not callable(f):
            raise GeedError(f"update: f is a function, found {shown(f)}")
        try:
            array = to_host(batch)
        except GeedError:
            raise
        except Exception as error:
            raise GeedError(
                f"update: the batch is no array: {reason_of(error)}; give an array of NumPy, or a "
                "tensor that is on the host or can be copied there"
            ) from None
        if array.dtype.kind not in "fiub" or array.ndim < 2 or not len(array):
            raise GeedError(
                f"update: a batch is numbers (B, ...) of at least one sample, found {array.dtype} "
                f"of shape {array.shape}"
            )
        own = None if labels is None else _classes(labels, len(array))
        self._check_labels(own)
        function = Function(lambda given: f(_as_given(given, batch, array)), Function(f).name)
        setting = self._setting or self._found_out(function, array, own)
        model, task, start = setting.model, setting.task, self.samples
        if own is not None:
            _check_range(task.plan, own)
        seen = None if own is None else (*(self._labels or ()), *own)
        brief = "float16" in str(getattr(batch, "dtype", ""))  # bfloat16 too
        check = FirstRunCheck(
            *(setting.spreads, len(array), self._options.seed),
            cure=_CURE,
            half=frozenset(task.plan.layers if brief else ()),
        )
        source = replace(self._source(model, array, start), check=check)
        task = replace(
            task,
            network=replace(task.network, graph=replace(task.network.graph, function=function)),
            source=source,
            plan=self._plan(task.plan, source, seen),
        )
        centres = Centres(start - 1, self._centre)
        engine = KernelEngine(task.network.open(tuple(task.plan.layers)), centres)
        parts = [engine.run(job) for job in self._jobs(task, start, len(array))]
        count, most = start + len(array), self._options.norm_samples
        joined = gather(task.plan, [self._statistics, *parts], count)
        self._statistics, self._centre = joined.with_points_of(most), centres.left(count - 1)
        if gain_is_taken(task.plan):
            came = SeenInputs.of(source, range(start, count), most)
            self._inputs = came if self._inputs is None else self._inputs.plus(came, most)
        self._setting, self._labels = setting, seen

    def _check_labels(self, labels: Sequence[int] | None) -> None:
        """Refuse labels of some batches alone."""
        if self.samples and (self._labels is None) != (labels is None):
            had, has = ("had none", "has some") if labels else ("had labels", "has none")
            raise GeedError(
                f"update: batches before {had}, and this one {has}: give labels with every batch, "
                "or with none"
            )

    def _found_out(
        self, function: Function, array: NDArray[Any], labels: Sequence[int] | None
    ) -> _Setting:
        """Bind the measures to the outputs that a function has on a batch."""
        for text in self._options.measures:
            if labels is None and descriptor_of(parse_request(text).measure).of_error:
                raise GeedError(f"{text}: takes what is right: give update(f, batch, labels)")
        options = replace(self._options, samples=len(array), engine="kernels", labels=labels)
        prepared = prepare_run(function, array, self._group, options)
        task = prepared.task
        if task.network.one_by_one:
            raise GeedError(
                f"update: rows of a batch depend on each other in {prepared.model.called}, as they "
                "do in training mode: set the model to evaluation"
            )
        # Nothing of functions and samples stays.
        network = replace(task.network, graph=replace(task.network.graph, function=None))
        model = replace(prepared.model, function=None)
        plan = replace(task.plan, truths={})
        bare = replace(task, network=network, source=None, plan=plan)  # type: ignore[arg-type]
        check = task.source.check
        return _Setting(model, bare, check.spreads if isinstance(check, RowCheck) else {})

    def _source(self, model: Model, array: NDArray[Any], start: int) -> Source:
        """Return a batch as the samples that follow on those before."""
        options = replace(self._options, samples=len(array))
        acted = find_input(model, None, options.input_layout)
        acting = as_asked(self._group, options)
        source, _, _ = make_source(model, acted, array, acting, options)
        # Numbers go on from batch to batch, whatever is drawn by them; those before are not here.
        numbers, samples = tuple(range(start + len(array))), source.main.samples.after(start)
        main = replace(source.main, indices=numbers, samples=samples, intake=None)
        return replace(source, main=main)

    def _plan(self, plan: Plan, source: Source, labels: Sequence[int] | None) -> Plan:
        """Return the plan for the samples of a batch, and those before it."""
        plan = plan.drawn(self._options.seed, source.indices)
        count = len(source.indices)
        told: dict[str, Any] = {"names": None, "targets": {}, "labels": labels}
        return with_truths(plan, indices=source.indices, available=count, **told)

    def _jobs(self, task: Task, start: int, count: int) -> list[Job]:
        size, layers = job_orbits(task.plan.group.order, task.batch), tuple(task.plan.layers)
        jobs = []
        for first in range(start, start + count, size):
            at = range(first, min(first + size, start + count))
            touched = [p for p in _PAIRS if p[0] in at or p[1] in at]
            pairs = tuple(touched) if self._compared is None else ()
            jobs.append(Job(task, layers, at, pairs=pairs))
        return jobs

    def records(self) -> list[Record]:
        """Return the measurements so far, each with its interval and its parts.

        Returns
        -------
        list of dict
            Entries of a result's ``measurements``. Those of class scores have ``predictions``: how
            often the class stays the same after moving and, with labels, how often it is correct.

        Raises
        ------
        GeedError
            If there was no batch.
        """
        if self._setting is None:
            raise GeedError("compute: no sample was measured: call update first")
        plan, options = self._setting.task.plan, self._options
        records = records_of(
            measured_as(plan),
            self._statistics,
            norm_samples=options.norm_samples,
            interval=options.interval,
            seed=options.seed,
            count=self._compared,
        )
        add_class_values(records, self._labels, seed=options.seed)
        add_predictions(records, self._labels, predictions_of(plan, self._statistics), None)
        if self._inputs is not None:
            inputs = self._inputs.distances()
            add_gain(records, inputs, plan.group.elements)
            for record in filter(has_gain, records):
                record["notes"] += gain_notes(inputs, min(options.norm_samples, self.samples))
        return records

    def compute(self) -> dict[str, float]:
        """Return the values so far.

        Returns
        -------
        dict of str to float
            By ``MEASURE@OUTPUT``; NaN if division by M is impossible, and :meth:`records` says why.

        Raises
        ------
        GeedError
            If there was no batch.
        """
        return {
            f"{r['measure']}@{r['layer']}": math.nan if r["value"] is None else r["value"]
            for r in self.records()
        }

    def __add__(self, other: EquivarianceMetric) -> EquivarianceMetric:
        """Return the metric over the samples of both, such as those of two processes."""
        if not isinstance(other, EquivarianceMetric):
            return NotImplemented
        if self._asked() != other._asked():
            raise GeedError(
                "two metrics measure differently, so they cannot be added: make both with the "
                "same group, measures and options"
            )
        if self.samples and other.samples and (self._labels is None) != (other._labels is None):
            raise GeedError(
                "only one of the two metrics to add has labels: give labels to both, or to neither"
            )
        first, second = (self, other) if self._setting is not None else (other, self)
        total = EquivarianceMetric.__new__(EquivarianceMetric)
        total.__dict__.update(first.__dict__)
        if first._setting is None or second._setting is None:
            return total
        a, b = first._setting.task.plan, second._setting.task.plan
        shapes = [{name: layer.shape for name, layer in plan.layers.items()} for plan in (a, b)]
        if (told := measured_as(a)) != measured_as(b) or shapes[0] != shapes[1]:
            raise GeedError(
                "two metrics have functions with different outputs, so they cannot be added: "
                "measure the same in both"
            )
        if first._labels is not None:
            total._labels = (*first._labels, *(second._labels or ()))
        ours, theirs = first._compared or first.samples, second._compared or second.samples
        alone = ours < 2 <= theirs
        total._compared = theirs if alone else ours
        total._statistics = _added(
            a, first._statistics, second._statistics, [one.key for one in told], second_pairs=alone
        )
        most, total._centre = self._options.norm_samples, {}
        total._statistics = total._statistics.with_points_of(most)
        if first._inputs is not None and second._inputs is not None:
            total._inputs = first._inputs.plus(second._inputs, most)
        return total

    def __radd__(self, other: object) -> EquivarianceMetric:
        """Let ``sum`` begin with nothing."""
        return self if other == 0 else NotImplemented

    def _asked(self) -> tuple[str, Options]:
        return self._group.name, self._options


def _classes(given: Any, count: int) -> tuple[int, ...]:
    """Return the labels of a batch, a class a sample."""
    try:
        array = np.asarray(given) if isinstance(given, list | tuple) else to_host(given)
    except Exception as error:
        raise GeedError(f"update: labels are not an array: {reason_of(error)}") from None
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise GeedError(
            f"update: labels are one class a sample, whole numbers of shape ({count},), found "
            f"{array.dtype} of shape {array.shape}: give positions among the class scores, from 0; "
            "classes of places take onnx_geed.measure"
        )
    return tuple(array.tolist())


def _check_range(plan: Plan, labels: Sequence[int]) -> None:
    """Refuse labels that are none of the scores' classes."""
    scores = {m.layer for m in plan.measures if m.descriptor.of_classes or m.descriptor.of_error}
    for layer in (plan.layers[name] for name in scores):
        if odd := [label for label in labels if not 0 <= label < layer.classes]:
            raise GeedError(
                f"update: {layer.name} has {counted(layer.classes, 'class', 'classes')}, found "
                f"the label {odd[0]}: give "
                f"whole numbers from 0 to {layer.classes - 1}"
            )


def _added(
    plan: Plan,
    first: OrbitStatistics,
    second: OrbitStatistics,
    keys: Sequence[tuple[str, str]],
    *,
    second_pairs: bool,
) -> OrbitStatistics:
    """Add statistics that were each summed from a first sample on."""
    count = len(first.orbits)
    shifted, pointed = range(count, count + len(second.orbits)), len(first.pointed)
    # Of each, M has the first samples alone.
    latents = range(pointed, pointed + len(second.pointed))
    follows = replace(second, orbits=shifted, pointed=latents, measures={}, spreads={})
    joined = join(plan, [replace(first, measures={}, spreads={}), follows])
    measures = {}
    for key in keys:
        a, b = first.measures[key], second.measures[key]
        # Of neighbours only the numbers stay: they are of one of the two.
        parts = [replace(part, pairs=Pairs()) for part in (a, b)]
        measures[key] = replace(
            join_measure(None, parts, from_first=False),
            channels=_channels(a, b),
            pairs=Pairs((b if second_pairs else a).pairs.complete),
            inverse=a.inverse,
        )
    spreads = {key: spread.plus(second.spreads[key]) for key, spread in first.spreads.items()}
    return replace(joined, measures=measures, spreads=spreads)


def _channels(a: MeasureStatistics, b: MeasureStatistics) -> ChannelValues | None:
    """Add values channel by channel of two stretches of orbits."""
    if a.channels is None or b.channels is None:
        return None
    ours, theirs = a.channels.summed(), b.channels.summed()
    assert ours.total is not None and theirs.total is not None  # noqa: PT018
    return replace(ours, total=ours.total + theirs.total, added=ours.added + theirs.added)


def _as_given(array: NDArray[Any], batch: Any, host: NDArray[Any]) -> Any:
    """Return an array as the kind of tensor that a batch is.

    Parameters
    ----------
    array : ndarray
        Rows that the group has moved.
    batch : ndarray or tensor
        Whose framework, device and floating dtype the tensor is to have.
    host : ndarray
        The same batch as an array.
    """
    if isinstance(batch, np.ndarray):
        return array.astype(batch.dtype) if batch.dtype.kind == "f" else array
    # Whoever made the batch has loaded its framework.
    root: Any = sys.modules.get(type(batch).__module__.partition(".")[0])
    if hasattr(batch, "__array_namespace__"):  # JAX, CuPy and others of the array API
        space = batch.__array_namespace__()
        tensor = space.asarray(array, dtype=batch.dtype if _floats(host) else None)
        return tensor.to_device(batch.device) if hasattr(tensor, "to_device") else tensor
    if hasattr(root, "from_dlpack"):  # PyTorch
        tensor = root.from_dlpack(array)
        return tensor.to(batch) if _floats(host) else tensor.to(batch.device)
    if hasattr(root, "convert_to_tensor"):  # TensorFlow
        return root.convert_to_tensor(array, dtype=batch.dtype if _floats(host) else None)
    raise GeedError(
        f"update: a batch of {type(batch).__module__}.{type(batch).__qualname__} cannot be made "
        "an array: give arrays of NumPy, or tensors of PyTorch, JAX or TensorFlow"
    )


def _floats(host: NDArray[Any]) -> bool:
    # Pixels that were whole numbers are shares of 255 now.
    return host.dtype.kind not in "iub"
