"""Measures bound to a model that was tried out: its layers, what its outputs are, a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx_geed.groups import PlacedAction, Table
from onnx_geed.measures import Layer, Plan, make_plan
from onnx_geed.model import CLASSES, parse_classes
from onnx_geed.run.asked import Asked
from onnx_geed.run.output_kinds import find_output_kinds
from onnx_geed.run.place_labels import bind_background
from onnx_geed.run.selection import layers_of
from onnx_geed.run.setting import Setting
from onnx_geed.run.trial import Trial, further_rows
from onnx_geed.run.truths import with_truths

__all__ = ["Bound", "bind"]


@dataclass(frozen=True, eq=False)
class Bound:
    """What measures are of: everything a plan needs but the output actions.

    Parameters
    ----------
    setting : Setting
        The model and its data.
    asked : Asked
        The measures and their tensors.
    layers : mapping of str to Layer
        These tensors as the model returns them.
    kinds : mapping of str to str
        As what outputs they are read.
    notes : tuple of str
        On what was decided of outputs without being told.
    """

    setting: Setting
    asked: Asked
    layers: Mapping[str, Layer]
    kinds: Mapping[str, str]
    notes: tuple[str, ...]

    def plan(self, tables: Mapping[str, Table]) -> Plan:
        """Bind the measures under such output actions.

        Raises
        ------
        GeedError
            If a measure, an action, labels or targets do not go with their tensor.
        """
        setting, source, options = self.setting, self.setting.source, self.setting.options
        selection, layers = self.asked.selection, self.layers
        plan = make_plan(
            setting.group,
            [(request, layers[tensor.name]) for request, tensor in selection.requested],
            input_exact=[bool(kind) for kind in source.exact()],
            interpolation=options.interpolation,
            support=options.support,
            kinds=self.kinds,
            tables=tables,
            own=source.action if isinstance(source.action, PlacedAction) else None,
            kept=[layers[tensor.name] for tensor in selection.kept],
            targets=self.asked.targets,
        )
        of_samples, of_places = source.samples.labels, source.place_labels
        classes = parse_classes(setting.model.metadata.get(CLASSES))
        drawn = source.indices[: setting.count]
        plan = with_truths(
            plan,
            indices=drawn,
            available=len(source.samples),
            labels=None if of_samples is None else [of_samples[i] for i in drawn],
            names=classes,
            targets=self.asked.targets,
            mask=source.mask,
            allowed=options.allowed,
            placed=of_places is not None,
            tables=tables,
        )
        of_d = None if of_places is None else of_places[list(drawn)]
        plan = bind_background(plan, of_d, options.background, classes, source.mask, drawn)
        return plan.drawn(options.seed, source.indices)


def bind(setting: Setting, asked: Asked, trial: Trial) -> Bound:
    """Look at what a model returned, and what its outputs are.

    Parameters
    ----------
    setting : Setting
        The model and its data.
    asked : Asked
        The measures and their tensors.
    trial : Trial
        The rows that were run.

    Returns
    -------
    Bound

    Raises
    ------
    GeedError
        If a layout does not fit a tensor, or an output is not what it is stated to be.
    """
    source, options = setting.source, setting.options
    layers = layers_of(asked.selection, asked.listed, trial.rows, options)
    kinds, notes = find_output_kinds(
        setting.model,
        setting.output,
        asked.listed,
        trial.rows,
        options,
        lambda name: further_rows(trial, name, source),
        asked.scores,
        layers,
    )
    return Bound(setting, asked, layers, kinds, tuple(notes))
