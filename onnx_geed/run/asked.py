"""What is asked of a model: which measures of which tensors, under which output actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnx_geed.groups import Table
from onnx_geed.measures import Request, descriptor_of
from onnx_geed.model import Tensor, list_as_stated
from onnx_geed.run.fit_requests import FitRequest, judged_tables, requested_fits
from onnx_geed.run.open_source import layouts_of_inputs
from onnx_geed.run.options import Options
from onnx_geed.run.selection import Selection, given_tables, select_tensors, without_rows
from onnx_geed.run.session import NotRowsError
from onnx_geed.run.setting import Setting
from onnx_geed.run.truths import Targets, targeted

__all__ = ["Asked", "ask"]


@dataclass(frozen=True, eq=False)
class Asked:
    """The tensors that are measured, and what is known of them before anything runs.

    Parameters
    ----------
    listed : tuple of Tensor
        The model's tensors.
    selection : Selection
        Which of them are measured, and how.
    names : tuple of str
        Those that are returned, and the main output.
    targets : mapping of str to str, Path or ndarray
        True values, by tensor.
    tables : mapping of str to Table
        Output actions that were given, by tensor.
    fits : mapping of str to FitRequest
        Output actions that are to be estimated, by tensor.
    notes : tuple of str
        On actions that are for another group.
    """

    listed: tuple[Tensor, ...]
    selection: Selection
    names: tuple[str, ...]
    targets: Targets
    tables: Mapping[str, Table]
    fits: Mapping[str, FitRequest]
    notes: tuple[str, ...]

    @property
    def errors(self) -> set[str]:
        """Tensors of which the share of an error is measured."""
        return {t.name for r, t in self.selection.requested if descriptor_of(r.measure).of_error}

    @property
    def scores(self) -> set[str]:
        """Tensors that are measured as scores of classes."""
        return {
            tensor.name
            for request, tensor in self.selection.requested
            if descriptor_of(request.measure).of_classes
            and not (descriptor_of(request.measure).of_error and tensor.name in self.targets)
        }

    def without(self, error: NotRowsError, options: Options) -> Asked:
        """Return the same without the tensors whose axis 0 is not the batch, which nobody named.

        Raises
        ------
        NotRowsError
            If one of them was named, or nothing is left.
        """
        selection = without_rows(self.selection, error, self.listed, options)
        names = tuple(name for name in self.names if name not in error.shapes)
        return replace(self, selection=selection, names=names)


def ask(setting: Setting, requests: Sequence[Request]) -> Asked:
    """Find the tensors that are asked for.

    Parameters
    ----------
    setting : Setting
        The model and its data.
    requests : sequence of Request
        The measures; none for the default ones.

    Returns
    -------
    Asked

    Raises
    ------
    GeedError
        If a tensor or an output action is not known, or no measure goes with what is asked.
    """
    model, source, options = setting.model, setting.source, setting.options
    listed = list_as_stated(
        model,
        setting.acted.name,
        setting.output,
        input_shape=setting.row_shape,
        input_layout=layouts_of_inputs(model, setting.acted, source, options),
        moved=setting.moved,
        latent=options.latent,
        layout=options.layout,
        kind=options.output_kind,
    )
    targets, fits = targeted(listed, options.target), requested_fits(listed, options)
    tables, notes = given_tables(model, listed, source.action, options)
    judged = [*fits, *judged_tables(listed, options, tables)]
    selection = select_tensors(requests, listed, options, setting.group, judged, targets)
    names = dict.fromkeys([*(tensor.name for tensor in selection.tensors), setting.output])
    return Asked(listed, selection, tuple(names), targets, tables, fits, tuple(notes))
