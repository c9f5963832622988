"""What is a model sensitive to? Several families side by side, as a picture and as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from onnx_geed.report.axes import legend, legend_name, short_name
from onnx_geed.report.many_results import SAID
from onnx_geed.report.svg import (
    MARKERS,
    MOST_SERIES,
    PAPER,
    SERIES,
    SOFT,
    TIP,
    drawing,
    panels_across,
)
from onnx_geed.results import ACCURACY, WHAT_IS_RELATIVE, FamilyValue
from onnx_geed.text import columns, interval, number, span, wrapped

__all__ = ["TITLE", "families_picture", "overview_lines", "overview_sections"]

TITLE = "What is it sensitive to?"


def _order(values: Sequence[FamilyValue]) -> tuple[list[str], list[str], list[str]]:
    """Return models, quantities and families; of these the one that changes most is first."""
    models = list(dict.fromkeys(v.model for v in values))
    quantities = list(dict.fromkeys(v.quantity for v in values))
    # The accuracy is last, whichever measure told it.
    quantities.sort(key=lambda quantity: quantity == ACCURACY)

    chief = _chief(quantities)

    def size(family: str) -> float:
        own = [v.value for v in values if v.family == family and v.quantity == chief]
        return sum(own) / len(own) if own else float("-inf")

    families = sorted(dict.fromkeys(v.family for v in values), key=size, reverse=True)
    return models, quantities, families


def _chief(quantities: Sequence[str]) -> str:
    """Return the quantity that families are ranked by; a gain has no interval."""
    return next((q for q in quantities if q not in ("gain", ACCURACY)), quantities[0])


def families_picture(values: Sequence[FamilyValue]) -> str:
    """Draw families down, and of each what it changes, a panel a quantity.

    Parameters
    ----------
    values : sequence of FamilyValue
        From :func:`onnx_geed.results.family_values`.

    Returns
    -------
    str
        SVG: a mark a model with its interval; hollow, the accuracy on unmoved samples. More models
        than there are colours have one: those at the ends are named, the others a pointer tells.
    """
    models, quantities, families = _order(values)
    wide = panels_across(len(quantities))
    lines = -(-len(quantities) // wide)
    height = lines * (0.75 + (0.16 + 0.1 * min(len(models), MOST_SERIES)) * len(families)) + 0.4
    with drawing(2.6 * wide + 1.6, height) as (figure, only, picture):
        only.remove()
        for k, quantity in enumerate(quantities):
            axes = figure.add_subplot(lines, wide, k + 1)
            axes.set_facecolor("none")
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
            _panel(axes, [v for v in values if v.quantity == quantity], models, families)
            axes.set_yticks(
                range(len(families)),
                [short_name(f, 28) for f in families] if k % wide == 0 else [],
            )
            axes.set_ylim(len(families) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.set_xlabel(quantity)
            axes.grid(axis="x", lw=0.5)
            axes.set_axisbelow(True)
        if len(models) <= MOST_SERIES:
            legend(figure.axes[0], len(models))
    return picture[0]


def _panel(
    axes: Any, values: Sequence[FamilyValue], models: Sequence[str], families: Sequence[str]
) -> None:
    if any(v.quantity != ACCURACY for v in values):
        axes.axvline(0.0, color=SOFT, lw=1, ls=(0, (4, 3)))
    many = len(models) > MOST_SERIES
    if many:
        _name_ends(axes, values, families)
    for i, model in enumerate(models):
        colour, marker = (SERIES[0], MARKERS[0]) if many else (SERIES[i], MARKERS[i])
        axes.plot([], [], marker, color=colour, ms=4, label=legend_name(model, 30))
        for v in (v for v in values if v.model == model):
            y = families.index(v.family) + (i - (len(models) - 1) / 2) * 0.7 / len(models)
            low, high = v.ci95 or (v.value, v.value)
            ends = [[max(0.0, v.value - low)], [max(0.0, high - v.value)]]
            if many:  # intervals behind marks, which they would hide
                axes.plot([low, high], [y, y], color=colour, lw=0.7, alpha=0.35)
                axes.plot([v.value], [y], marker, ms=3, color=colour)
            else:
                axes.errorbar([v.value], [y], xerr=ends, fmt=marker, ms=4, lw=1.4, color=colour)
            if v.unmoved is not None:
                axes.plot([v.value, v.unmoved], [y, y], color=colour, lw=0.8, alpha=0.5)
                axes.plot([v.unmoved], [y], marker, ms=4, color=colour, mfc=PAPER)
            tip = f"{TIP}{v.model}, {v.family}, {v.quantity}: {_told(v)}"
            axes.plot([v.value], [y], "s", ms=9, alpha=0, gid=tip)


def _name_ends(axes: Any, values: Sequence[FamilyValue], families: Sequence[str]) -> None:
    """Name the models at both ends of each family's marks, above these."""
    words = (
        "lowest {}, highest {}"
        if any(v.quantity == ACCURACY for v in values)
        else "least {}, most {}"
    )
    behind = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}
    for y, family in enumerate(families):
        own = sorted((v for v in values if v.family == family), key=lambda v: v.value)
        if own and span(own[0].value) != span(own[-1].value):
            text = words.format(*(short_name(v.model, 16) for v in (own[0], own[-1])))
            place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "top"}
            axes.text(0.01, y - 0.48, text, fontsize=7, color=SOFT, bbox=behind, **place)


def _told(v: FamilyValue) -> str:
    text = span(v.value)
    if v.ci95:
        text += f" ({span(v.ci95[0])} to {span(v.ci95[1])})"
    return text if v.unmoved is None else f"{text}, unmoved {span(v.unmoved)}"


def overview_sections(values: Sequence[FamilyValue]) -> list[dict[str, Any]]:
    """Return the section of a page on several families.

    Parameters
    ----------
    values : sequence of FamilyValue
        From :func:`onnx_geed.results.family_values`.

    Returns
    -------
    list of dict
        One section with ``title``, ``measure``, ``pictures``, ``families``, ``words`` a model and
        of more than two a ``summary``, and ``rows`` a model and quantity; none without values.
    """
    if not values:
        return []
    models, quantities, families = _order(values)
    by_cell = {(v.model, v.quantity, v.family): v for v in values}
    rows: list[dict[str, Any]] = []
    ranked: list[_Ranked] = []
    for quantity in quantities:
        largest = max((v.value for v in values if v.quantity == quantity), default=0.0)
        for model in models:
            own = [by_cell.get((model, quantity, family)) for family in families]
            rows.append(
                {"model": model, "quantity": quantity, "cells": [_cell(v, largest) for v in own]}
            )
    chief = _chief(quantities)
    for model in models:
        first = [v for v in values if v.model == model and v.quantity == chief]
        # A group's values are measured from another point, and so are none to rank among these.
        first = [v for v in first if not v.of_group]
        if len(first) > 1:
            ranked.append(_ranked(model, first))
    alt = "Values by family. " + " ".join(
        f"{v.model} under {v.family}, {v.quantity}: {_told(v)}." for v in values
    )
    caption = "Means over members, with 95\u00a0% intervals where known. Relative: "
    caption += f"{WHAT_IS_RELATIVE}."
    if any(v.of_group for v in values):
        caption += " Of groups, invariance is measured from the mean over all elements, of families"
        caption += " from the unmoved sample."
    if any(v.unmoved is not None for v in values):
        caption += " Hollow: accuracy on unmoved samples."
    if len(models) > MOST_SERIES:
        caption += (
            " Each mark is a model, in the order of the table below; point at it for its name."
        )
    picture = {
        "svg": Markup(families_picture(values)),
        "caption": caption,
        "alt": alt,
        "kind": "whole",
        "subject": "families",
    }
    return [
        {
            "title": TITLE,
            "measure": "families",
            "pictures": [picture],
            "words": [_sentence(r, chief) for r in ranked],
            "summary": _summary(ranked, chief) if len(ranked) > SAID else "",
            "families": families,
            "rows": rows,
        }
    ]


class _Ranked(NamedTuple):
    """The families that change a model most and least, and whether intervals tell them apart."""

    model: str
    most: FamilyValue
    least: FamilyValue
    clear: bool


def _ranked(model: str, values: Sequence[FamilyValue]) -> _Ranked:
    ordered = sorted(values, key=lambda v: v.value)
    least, most = ordered[0], ordered[-1]
    clear = most.ci95 is not None and least.ci95 is not None and most.ci95[0] > least.ci95[1]
    return _Ranked(model, most, least, clear)


def _sentence(ranked: _Ranked, quantity: str) -> str:
    """Say which families change a model most and least."""
    model, most, least, clear = ranked
    ends = f"({quantity}: {span(most.value)} and {span(least.value)})"
    if most.value == least.value:
        return f"{model}: no difference between families ({quantity}: {span(most.value)})."
    if not (most.ci95 and least.ci95):
        return (
            f"{model}: largest under {most.family}, smallest under {least.family} {ends}; without "
            "intervals, this may be chance."
        )
    if not clear:
        return (
            f"{model}: no clear difference between {most.family} and {least.family}, the largest "
            f"and the smallest {ends}."
        )
    return f"{model} is most sensitive to {most.family} and least to {least.family} {ends}."


def _summary(ranked: Sequence[_Ranked], quantity: str) -> str:
    """Say how many models are most sensitive to each family."""
    counts = Counter(r.most.family for r in ranked if r.clear)
    whole, said = len(ranked), []
    if counts:
        parts = [f"{family} ({n} of {whole} models)" for family, n in counts.most_common()]
        said.append(f"Most sensitive, by {quantity}, to {', '.join(parts)}.")
    if unclear := sum(not r.clear for r in ranked):
        said.append(f"No clear difference between families: {unclear} of {whole} models.")
    return " ".join(said)


def _cell(v: FamilyValue | None, largest: float) -> dict[str, Any]:
    """Return the number of a cell and how dark it is, in per cent."""
    if v is None:
        return {"value": "", "more": "", "shade": 0}
    more = interval(v.ci95) if v.ci95 else ""
    if v.unmoved is not None:
        more += f"{', ' if more else ''}unmoved {number(v.unmoved)}"
    if v.quantity == ACCURACY:
        share = 0.0 if v.unmoved is None else v.unmoved - v.value
    else:
        share = v.value / largest if largest > 0 else 0.0
    return {"value": number(v.value), "more": more, "shade": round(45 * min(1.0, max(0.0, share)))}


def overview_lines(values: Sequence[FamilyValue]) -> list[str]:
    """Return the same as text: a table a quantity, families down, models across.

    Parameters
    ----------
    values : sequence of FamilyValue
        From :func:`onnx_geed.results.suite_family_values`.

    Returns
    -------
    list of str
        Empty without values.
    """
    if not values:
        return []
    models, quantities, families = _order(values)
    by_cell = {(v.model, v.quantity, v.family): v for v in values}
    lines = [TITLE]
    for quantity in quantities:
        rows: list[Sequence[str]] = [(quantity, *models)]
        for family in families:
            own = [by_cell.get((model, quantity, family)) for model in models]
            rows.append((family, *(_text(v) for v in own)))
        lines += ["", *columns(rows, flexible=0, right=range(1, 1 + len(models)))]
    return [*lines, *wrapped(f"relative: {WHAT_IS_RELATIVE}; means over members")]


def _text(v: FamilyValue | None) -> str:
    if v is None:
        return ""
    return number(v.value) + ("" if v.unmoved is None else f" (unmoved {number(v.unmoved)})")
