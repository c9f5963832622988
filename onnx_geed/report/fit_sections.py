"""The part of a page on fitted actions: do layers move along if their channels may be mixed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from onnx_geed.report.fit_figure import motions_picture
from onnx_geed.report.page_numbers import interval, number
from onnx_geed.report.page_tables import OPEN
from onnx_geed.results import (
    HONEST,
    LayerMotion,
    Result,
    fits_together,
    layer_motions,
    motion_sentence,
)
from onnx_geed.text import counted, span

__all__ = ["fit_sections"]

TITLE = "Does the layer move along, mix along, or not at all?"


_CAPTION = (
    "How far off each prediction of f(gx) from f(x) is, as a share of the layer's shuffled null: 0 "
    "is perfect; at the right end, a prediction from another sample is as good. Bars are 95\u00a0% "
    "intervals over samples. Ticks: the null of each fit; a useful fit lies left of its tick."
)


def fit_sections(results: Sequence[Result], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return one section a measure on layers whose output action was fitted.

    Parameters
    ----------
    results : sequence of dict
        Results; those of one model, group and the same samples are drawn together.
    names : sequence of str
        What to call them.

    Returns
    -------
    list of dict
        As of :func:`onnx_geed.report.sections.sections`, with ``words``, ``honest`` and ``tables``.
        Empty where nothing was fitted.
    """
    told = [(name, layer_motions(own)) for name, own in _together(results, names)]
    measures = dict.fromkeys(m.measure for _, motions in told for m in motions)
    shown = []
    for measure in measures:
        parts = [
            (name if len(told) > 1 else "", [m for m in motions if m.measure == measure])
            for name, motions in told
        ]
        parts = [(name, motions) for name, motions in parts if motions]
        shown.append(
            {
                "title": TITLE,
                "measure": measure,
                "words": [
                    f"{name}: {motion_sentence(motions)}" if name else motion_sentence(motions)
                    for name, motions in parts
                ],
                "honest": HONEST,
                "pictures": [p for name, motions in parts for p in _pictures(name, motions)],
                "tables": [_table(name, motions) for name, motions in parts],
            }
        )
    return shown


def _together(results: Sequence[Result], names: Sequence[str]) -> list[tuple[str, list[Result]]]:
    """Group results with fits that hold the same f(gx)."""
    called = {id(result): name for result, name in zip(results, names, strict=True)}
    parts = [(called[id(own[0])], own) for own in fits_together(results)]
    models = [Path(own[0]["model"]["path"]).stem for _, own in parts]
    if len(set(models)) == len(parts):  # several fits of one model keep their own names
        return [(model, own) for model, (_, own) in zip(models, parts, strict=True)]
    return parts


def _pictures(name: str, motions: Sequence[LayerMotion]) -> list[dict[str, str]]:
    drawn = [m for m in motions if m.null is not None]
    if not drawn:
        return []
    caption = f"{name}: {_CAPTION}" if name else _CAPTION
    if any(m.mean_tensor is not None for m in drawn):
        caption += " Dotted: predicting the mean tensor for every sample."
    alt = f"Predictions by layer, {counted(len(drawn), 'layer')}. " + " ".join(
        f"{m.layer} {m.motion}: "
        + ", ".join(f"{p.kind} {span(m.told(p.value))}" for p in m.predictions)
        + f", shuffled {span(m.told(m.null or 0.0))}."
        for m in drawn
    )
    return [
        {
            "svg": Markup(motions_picture(drawn)),
            "caption": caption,
            "alt": alt,
            "kind": "wide",
            "subject": "fits",
        }
    ]


def _table(name: str, motions: Sequence[LayerMotion]) -> dict[str, Any]:
    rows = []
    for m in motions:
        for p in m.predictions:
            defect = p.fit["defect"] if p.fit else None
            other = p.fit["other_element"] if p.fit else None
            null = None if p.null is None else m.told(p.null)
            rows.append(
                {
                    "layer": m.layer,
                    "motion": m.motion,
                    "kind": p.kind,
                    "value": number(m.told(p.value)),
                    "ci": interval(m.told_ends(p.ci95)),
                    "shuffled": number(null) if p.fit else "",
                    "other": "" if other is None else number(m.told(other)),
                    "defect": number(defect["median"]) if defect else "",
                    "worst": number(defect["worst"]) if defect else "",
                    "lam": f"{p.fit['lambda']:g}" if p.fit and p.fit["lambda"] is not None else "",
                    "samples": p.fit["samples"] if p.fit else "",
                }
            )
    return {"name": name, "rows": rows, "open": len(rows) <= OPEN}
