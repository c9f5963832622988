"""Several models as text: their mean, and the difference of two."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed.measures import (
    Descriptor,
    Scale,
    descriptor_of,
    sign_words,
    told,
    told_ends,
    told_gap,
)
from onnx_geed.results import (
    WHAT_IS_RELATIVE,
    Aggregate,
    Comparison,
    compared,
    perfect_notes,
)
from onnx_geed.text import (
    columns,
    counted,
    head_lines,
    interval,
    line_width,
    marked,
    noted,
    number,
    path_end,
    wrapped,
)

__all__ = ["aggregate_table", "compare_table"]


def aggregate_table(aggregate: Aggregate) -> str:
    """Return an aggregate as text, 100 columns wide at most but for long numbers."""
    rows: list[Sequence[str]] = [
        (
            *("measure", "layer", "mean", "95 % (models)", "unnormalised", "relative"),
            *("95 % (models)", "n", ""),
        )
    ]
    notes: dict[str, int] = {}
    marked(notes, aggregate["warnings"])
    for entry in aggregate["measurements"]:
        plain, relative = entry["unnormalised_mean"], entry["relative_mean"]
        measure, mean = descriptor_of(entry["measure"]), entry["mean"]
        rows.append(
            (
                entry["measure"],
                entry["layer"],
                _told(measure, mean) or number(None),
                interval(told_ends(measure, entry["ci95_over_models"])),
                _told(measure, plain, "unnormalised"),
                _told(measure, relative, "relative"),
                ""
                if relative is None
                else interval(told_ends(measure, entry["relative_ci95_over_models"], "relative")),
                str(entry["models"]),
                marked(notes, entry["warnings"]),
            )
        )
    group, data = aggregate["group"]["name"], aggregate["data"]["source"]
    models = f"{counted(len(aggregate['models']), 'model')}"
    head = head_lines(("over", models), ("group", group), ("data", data))
    legend = []
    if any(entry["relative_mean"] is not None for entry in aggregate["measurements"]):
        legend += wrapped(f"relative: {WHAT_IS_RELATIVE}")
    for note in perfect_notes(entry["measure"] for entry in aggregate["measurements"]):
        legend += wrapped(note)
    return "\n".join(
        (
            *(*head, *columns(rows, flexible=1, right=(2, 4, 5, 7))),
            *(*noted(notes), *legend, *_fits(aggregate)),
        )
    )


def _told(measure: Descriptor, value: float | None, scale: Scale = "value") -> str:
    return "" if value is None else number(told(measure, value, scale))


def _fits(aggregate: Aggregate) -> list[str]:
    """Return a second table of the values that fitted ones must be compared with."""
    rows: list[Sequence[str]] = [
        ("fits, means", "layer", "kind", "value", "shuffled", "identity", "other g", "defect")
    ]
    for entry in aggregate["measurements"]:
        if fit := entry["fit"]:
            measure, defect = descriptor_of(entry["measure"]), fit["defect"]["mean"]
            values = (entry, fit["shuffled"], fit["identity"], fit["other_element"])
            cells = [_told(measure, part["mean"]) for part in values]
            head = (entry["measure"], entry["layer"], fit["kind"])
            rows.append((*head, *cells, "" if defect is None else number(defect)))
    if len(rows) == 1:
        return []
    return ["", *columns(rows, flexible=1, right=(3, 4, 5, 6, 7))]


def compare_table(comparison: Comparison) -> str:
    """Return a comparison as text, 100 columns wide at most but for long numbers."""
    rows: list[Sequence[str]] = [("measure", "layer", "A", "B", "A − B", "95 % paired", "A better")]
    verdicts = []
    for entry in comparison["measurements"]:
        share = entry["share_a_lower"]
        measure, scale = descriptor_of(entry["measure"]), entry["compared"]
        rows.append(
            (
                compared(entry),
                entry["layer"],
                *(_told(measure, value, scale) for value in (entry["a"], entry["b"])),
                _told(measure, entry["difference"], scale),
                interval(told_gap(measure, entry["verdict_ci95"], scale)),
                "-" if share is None else f"{100 * share:.0f} %",
            )
        )
        doubts = "".join(f" ({warning})" for warning in entry["warnings"])
        verdicts += wrapped(f"{entry['measure']}@{entry['layer']}: {entry['verdict']}{doubts}")
    head = [
        f"{letter}  {path_end(model['file'] or model['path'], line_width() - 3)}"
        for letter, model in (("A", comparison["a"]), ("B", comparison["b"]))
    ]
    for reason in comparison["differ_in"]:
        head += wrapped(f"compared although they differ in {reason}")
    plain = [
        (e["measure"], e["compared"])
        for e in comparison["measurements"]
        if e["compared"] != "relative"
    ]
    if plain:
        verdicts += wrapped(sign_words(plain))
    if any(entry["compared"] == "relative" for entry in comparison["measurements"]):
        verdicts += wrapped(f"relative: {WHAT_IS_RELATIVE}")
    if any(entry["verdict_ci95"] for entry in comparison["measurements"]):
        verdicts += wrapped(
            "95 % paired: over samples, for these two models only. How much other trainings would "
            "differ is shown by onnx-geed aggregate"
        )
    return "\n".join((*head, *columns(rows, flexible=1, right=(2, 3, 4, 6)), "", *verdicts))
