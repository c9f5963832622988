"""Results → one self-contained HTML page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from onnx_geed.addresses import joined
from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError
from onnx_geed.files import make_folder, write_text
from onnx_geed.report.many_results import FEW, in_natural_order
from onnx_geed.report.page_tables import OPEN, class_tables, comparisons, value_row
from onnx_geed.report.render import render
from onnx_geed.report.samples import check_measured, most_and_least_affected
from onnx_geed.report.words import summary
from onnx_geed.results import (
    MOTION,
    AnyResult,
    Exploration,
    Finding,
    Reading,
    Result,
    diagnose,
    diagnose_corners,
    family_range,
    family_values,
    fits_together,
    is_family,
    model_of,
    of_results,
    order_words,
    read_record,
)
from onnx_geed.safe_names import file_name

__all__ = ["check_installed", "report", "write_report"]

_REFERENCES = ("input_round_trip", "output_round_trip", "numeric", "untrained")


@checked
@of_results
def write_report(
    results: Sequence[AnyResult],
    path: str | Path,
    *,
    data: str | Path | None = None,
    pictures: str | Path | None = None,
    explorations: Sequence[Exploration | None] = (),
    command: str | None = None,
) -> None:
    """Write a page about some results.

    Parameters
    ----------
    results : sequence of dict
        Results, for example from :func:`onnx_geed.read_result`.
    path : str or Path
        The HTML file.
    data : str or Path, optional
        The data that was measured, for thumbnails.
    pictures : str or Path, optional
        A folder for the pictures as SVG files.
    explorations : sequence of Exploration or None
        For each result, samples from ``onnx_geed.run.explore`` for the explorer on the page.
    command : str, optional
        The command that made the page, which the page shows.

    Raises
    ------
    GeedError
        If a file cannot be written.
        If there is no result, or one without measurements.
        If matplotlib or jinja2 are not installed.
        If the data are not the measured ones.
    """
    check_installed()
    content = _content(cast(Sequence[Result], results), data, command, explorations)
    page = render("report", content)
    if pictures is not None:  # what refuses it leaves no page behind
        make_folder(pictures, option="--pictures")
    write_text(path, page, option="page")
    if pictures is not None:
        first = {"measure": "glance", "pictures": content["glance"]["pictures"]}
        shown = [first, *content["families"], *content["fits"], *content["sections"]]
        _write_pictures(shown, pictures)


def _write_pictures(shown: Sequence[Mapping[str, Any]], folder: str | Path) -> None:
    from onnx_geed.report.svg import themed

    for section in shown:
        for i, picture in enumerate(section["pictures"], 1):
            name = file_name(f"{section['measure']}-{i}-{picture['subject']}")
            file = joined(folder, f"{name}.svg")
            write_text(file, themed(str(picture["svg"])), option="--pictures")


def report(
    results: Sequence[Result],
    *,
    data: str | Path | None = None,
    explorations: Sequence[Exploration | None] = (),
    called: Sequence[str] = (),
) -> str:
    """Return one self-contained HTML page of some results.

    Parameters
    ----------
    results : sequence of dict
        Results; several are drawn over one another and compared with the first.
    data : str or Path, optional
        The data that was measured, for thumbnails of the samples with the largest and smallest
        deviations.
    explorations : sequence of Exploration or None
        As :func:`write_report` takes them.
    called : sequence of str
        What the model of each result is called; by its file by default.

    Returns
    -------
    str
        HTML with its pictures and style inside.

    Raises
    ------
    GeedError
        If there is no result, or one without measurements.
        If matplotlib or jinja2 are not installed.
        If the data are not the measured ones.
    """
    check_installed()
    return render("report", _content(results, data, None, explorations, called))


def check_installed() -> None:
    """Refuse to draw without the libraries that pages need."""
    from onnx_geed.report.svg import load_matplotlib

    load_matplotlib()
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise GeedError(
            "report: needs matplotlib and jinja2; install them with pip install 'onnx-geed[report]'"
        ) from None


def _content(
    results: Sequence[Result],
    data: str | Path | None,
    command: str | None,
    explorations: Sequence[Exploration | None],
    called: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the variables of the template."""
    from onnx_geed.report.explorer import explorer
    from onnx_geed.report.family_overview import overview_sections
    from onnx_geed.report.fit_sections import fit_sections
    from onnx_geed.report.glance import glance
    from onnx_geed.report.sections import sections
    from onnx_geed.report.thinned import thinned
    from onnx_geed.report.verdicts import verdicts

    check_measured(results)
    names = _result_names(results, called)
    results = thinned(results, {x.layer for e in explorations if e for x in e.layers})
    if len(results) > FEW:
        order = in_natural_order(names)
        results, names = [results[i] for i in order], [names[i] for i in order]
        explorations = [explorations[i] for i in order] if explorations else explorations
        called = [called[i] for i in order] if called else called
    readings = [[read_record(m) for m in r["measurements"]] for r in results]
    families = overview_sections(family_values(results, called))
    compared = comparisons(results, names)
    # For several families, the line above the title names them.
    titles = list(dict.fromkeys(r["model"] for s in families for r in s["rows"])) or names
    return {
        "title": " · ".join(titles[:3]) + (f" and {len(titles) - 3} more" * (len(titles) > 3)),
        "group": " · ".join(dict.fromkeys(r["group"]["name"] for r in results)),
        "results": [
            _result_section(*args, others=results)
            for args in zip(results, names, readings, strict=True)
        ],
        "families": families,
        "glance": glance(results, names, readings),
        "explorer": explorer(results, names, readings, explorations, data),
        "fits": fit_sections(results, names),
        "sections": sections(results, names, readings),
        "verdicts": verdicts(results, names, compared[0]["entries"])
        if len(results) == 2 and compared
        else [],
        "comparisons": compared,
        "folded": len(results) > FEW,
        "samples": most_and_least_affected(results, names, readings, data),
        "again": _commands(results, data, command),
    }


def _result_names(results: Sequence[Result], called: Sequence[str]) -> list[str]:
    """Name the results, with the shortest names that differ."""
    acting = [r["group"]["name"] for r in results]
    paths = [Path(r["model"]["path"]) for r in results]
    files = [Path(r.get("file") or f"result {i}") for i, r in enumerate(results, 1)]
    groups = [f"{p.stem}, {group}" for p, group in zip(paths, acting, strict=True)]
    for names in (
        [*called],
        [f"{name}, {group}" for name, group in zip(called, acting, strict=False)],
        [p.stem for p in paths],
        groups,
        [r["model"]["path"] for r in results],
        [f.stem for f in files],
        [str(f) for f in files],
    ):
        if len(set(names)) == len(results):
            return names
    return [f"{f} ({i})" for i, f in enumerate(files, 1)]


def _result_section(
    result: Result,
    name: str,
    readings: Sequence[Reading],
    *,
    others: Sequence[Result],
) -> dict[str, Any]:
    rows = [value_row(m, result["group"]) for m in result["measurements"]]
    return {
        "name": name,
        "noun": "member" if is_family(result["group"]) else "element",
        "summary": summary(result, readings),
        "findings": [
            *(f for other in others for f in diagnose_corners(result, other)),
            *_own_findings(result, others),
        ],
        "rows": rows,
        "open": len(rows) <= OPEN,
        "references": [k for k in _REFERENCES if any(k in row["references"] for row in rows)],
        "classes": class_tables(result),
        "facts": _result_facts(result),
        "notes": list(result.get("notes", ())),
    }


def _own_findings(result: Result, others: Sequence[Result]) -> list[Finding]:
    """Return a result's findings, except those that several fits of the same layers share."""
    together = [own for own in fits_together(others) if any(other is result for other in own)]
    beside = any(len(own) > 1 for own in together)
    found = diagnose(result, model_of(result))
    return [f for f in found if not (beside and f.name == MOTION)]


def _result_facts(result: Result) -> list[tuple[str, str]]:
    group, data, runtime = result["group"], result["data"], result.get("runtime", {})
    exact, family = sum(group["exact"]), is_family(group)
    acts = f"{group['name']}, {order_words(group)}"
    if family:
        acts += f", {told}" if (told := family_range(group)) else ""
    elif exact < group["order"]:
        acts += f", {exact} of them exact; the others are resampled ({group['interpolation']})"
    acts += (
        ""
        if group["support"] == "full"
        else f", samples masked to the inscribed {group['support']}"
    )
    digest = result["model"]["sha256"]
    known = f"SHA-256 {digest[:16]}…" if digest else "a function, so it has no checksum"
    facts = [
        ("Model", f"{result['model']['path']} ({known})"),
        ("Family" if family else "Group", acts),
        (
            "Data",
            f"{data['source']}, {data.get('available', '?')} samples, fingerprint "
            f"{data['fingerprint'][:16]}…",
        ),
        (
            "Measured",
            f"{result.get('created', '')}; {runtime.get('device', '')}, "
            f"{runtime.get('precision', '')}; seed {result.get('seed', '?')}",
        ),
        ("Software", ", ".join(f"{k} {v}" for k, v in result.get("software", {}).items())),
        ("Command", result.get("command", "")),
    ]
    return [(k, v) for k, v in facts if v]


def _commands(results: Sequence[Result], data: str | Path | None, command: str | None) -> list[str]:
    """Return the commands that make this page."""
    commands = [r.get("command", "") for r in results]
    files = [r.get("file") for r in results]
    if command is None and all(files):
        words = ["onnx-geed", "report", *map(str, files), "-o", "report.html"]
        words += ["--data", str(data)] if data is not None else []
        command = shlex.join(words)
    return [c for c in (*commands, command) if c]
