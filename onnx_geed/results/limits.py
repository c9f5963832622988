"""Limits that results are held against, and JUnit files that tell the outcome."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from onnx_geed.errors import GeedError, nearest
from onnx_geed.files import write_text
from onnx_geed.groups import angle
from onnx_geed.results.reading import Reading, read_record
from onnx_geed.results.records import ranking_value

__all__ = [
    "check_limits",
    "check_measured",
    "failure_of",
    "junit_xml",
    "limited",
    "over_limits",
    "read_for_limit",
    "write_junit",
]


def check_limits(limits: Sequence[str]) -> list[tuple[str, str | None, float]]:
    """Read ``MEASURE[@LAYER]=LIMIT``.

    Parameters
    ----------
    limits : sequence of str
        As the command line gives them.

    Returns
    -------
    list of (measure, layer or None, limit)

    Raises
    ------
    GeedError
        If one is not of that form, or names no measure.
    """
    if not limits:
        return []
    from onnx_geed.measures import parse_request

    parsed = []
    for text in limits:
        what, equals, value = text.rpartition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = float("nan")
        if not equals or not np.isfinite(limit):
            raise GeedError(
                f"--fail-above {text}: write MEASURE=LIMIT or MEASURE@LAYER=LIMIT, such as "
                "softmax-kl=0.05"
            )
        request = parse_request(what)
        parsed.append((request.measure, request.layer, limit))
    return parsed


def check_measured(limits: Sequence[str], measured: Sequence[tuple[str, str]]) -> None:
    """Refuse limits that name nothing that is going to be measured.

    Parameters
    ----------
    limits : sequence of str
        As :func:`check_limits` takes them.
    measured : sequence of (measure, layer)
        What is measured.

    Raises
    ------
    GeedError
        If a limit is of another form, or for something that is not measured.
    """
    entries = [{"measure": measure, "layer": layer} for measure, layer in measured]
    for name, layer, _ in check_limits(limits):
        limited(entries, name, layer)


def limited(
    measured: Sequence[Mapping[str, Any]], measure: str, layer: str | None
) -> list[Mapping[str, Any]]:
    """Return the records that a limit is for.

    Parameters
    ----------
    measured : sequence of mapping
        Entries with ``measure`` and ``layer``.
    measure : str
        The limit's measure.
    layer : str or None
        Its layer, a name or glob.

    Returns
    -------
    list of mapping

    Raises
    ------
    GeedError
        If there are none.
    """
    chosen = [
        m
        for m in measured
        if m["measure"] == measure
        and (layer is None or m["layer"] == layer or fnmatch.fnmatchcase(m["layer"], layer))
    ]
    if not chosen:
        wanted = f"{measure}@{layer}" if layer else measure
        there = [f"{m['measure']}@{m['layer']}" for m in measured]
        raise GeedError(
            f"--fail-above {wanted}: this is not measured; measured are {', '.join(there[:5])}."
            f"{nearest(wanted, there)}"
        )
    return chosen


def over_limits(made: Mapping[str, Any], limits: Sequence[str]) -> list[str]:
    """Say which limits a result exceeds.

    Parameters
    ----------
    made : mapping
        A result.
    limits : sequence of str
        ``MEASURE[@LAYER]=LIMIT``; layers may be globs. Where M is negative, zero or missing, the
        unnormalised value is held against the limit.

    Returns
    -------
    list of str
        One line a violation, naming measure, layer, value and limit.

    Raises
    ------
    GeedError
        If a limit is for something that was not measured.
    """
    violations = []
    for measure, layer, limit in check_limits(limits):
        for m in limited(made["measurements"], measure, layer):
            value, name = ranking_value(m)
            if value > limit:
                of = " (unnormalised)" if name == "unnormalised" else ""
                violations.append(f"{measure}@{m['layer']}: {value:.6g}{of} > {limit:g}")
    return violations


def read_for_limit(record: Mapping[str, Any]) -> Reading:
    """Read a record on the scale of the value that ``--fail-above`` holds against a limit."""
    read = read_record(record)
    value, what = ranking_value(record)
    return replace(read.as_normalised() if what == "value" else read, value=value)


def failure_of(made: Mapping[str, Any], read: Reading, limit: float) -> str:
    """Say by how much, and where most."""
    group, data = made["group"], made["data"]
    per_element = read.per_element
    worst = int(per_element.argmax())
    sample = int(read.per_sample.argmax())
    there = int(read.deviations[sample].argmax())
    index = data["indices"][sample]
    called = f"sample {index}" + (f" ({data['names'][sample]})" if data["names"] else "")
    ends = ""
    if read.ci95:
        ends = f" (95 % interval {read.ci95[0]:.6g} to {read.ci95[1]:.6g})"
    what = "" if read.normalised else ", unnormalised"
    lines = [
        f"  {read.measure}@{read.layer}{what}: {read.value:.6g} > {limit:g}{ends}",
        f"    worst element {angle(group['name'], group['elements'][worst])}: "
        f"{per_element[worst]:.6g}",
        f"    worst sample {called}: {read.per_sample[sample]:.6g}, most under "
        f"{angle(group['name'], group['elements'][there])}: {read.deviations[sample, there]:.6g}",
    ]
    if read.exact is not None and read.exact <= limit:
        lines.append(
            f"    the exact elements alone pass ({read.exact:.6g}): look at the interpolation"
        )
    return "\n".join(lines)


def junit_xml(made: Mapping[str, Any], limits: Sequence[str]) -> str:
    """Return the outcome of limits as JUnit XML.

    Parameters
    ----------
    made : mapping
        A result.
    limits : sequence of str
        ``MEASURE[@LAYER]=LIMIT``, as ``--fail-above`` takes them.

    Returns
    -------
    str
        One test suite; one test case a value that a limit is for.

    Raises
    ------
    GeedError
        If a limit cannot be read, or is for something that was not measured.
    """
    pass

    over_limits(made, limits)  # refuses limits that nothing was measured for
    parsed = check_limits(limits)
    suite = ElementTree.Element("testsuite", name=f"onnx-geed {made['group']['name']}")
    failures = 0
    cases = 0
    for text, (measure, layer, limit) in zip(limits, parsed, strict=True):
        for record in made["measurements"]:
            if not _is_for(record, measure, layer):
                continue
            read = read_for_limit(record)
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"onnx-geed.{_clean(made['model']['path'])}",
                name=_clean(f"{read.measure}@{read.layer} <= {limit:g}"),
            )
            cases += 1
            if read.value > limit:
                failures += 1
                failure = ElementTree.SubElement(
                    case,
                    "failure",
                    type="limit",
                    message=_clean(f"{read.value:.6g} > {limit:g} ({text})"),
                )
                failure.text = _clean(failure_of(made, read, limit))
    suite.set("tests", str(cases))
    suite.set("failures", str(failures))
    suite.set("errors", "0")
    ElementTree.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        + ElementTree.tostring(suite, encoding="unicode")
        + "\n"
    )


def _is_for(record: Mapping[str, Any], measure: str, layer: str | None) -> bool:
    import fnmatch

    if record["measure"] != measure:
        return False
    return layer is None or record["layer"] == layer or fnmatch.fnmatchcase(record["layer"], layer)


def _clean(text: str) -> str:
    """Leave out what XML 1.0 cannot hold."""
    return "".join(c if c in "\t\n" or ord(c) >= 32 else "?" for c in text)


def write_junit(made: Mapping[str, Any], limits: Sequence[str], path: str | Path) -> None:
    """Write the outcome of limits as a JUnit XML file.

    Parameters
    ----------
    made : mapping
        A result.
    limits : sequence of str
        As :func:`junit_xml` takes them.
    path : str or Path
        Where.

    Raises
    ------
    GeedError
        If the file cannot be written, or :func:`junit_xml` fails.
    """
    write_text(path, junit_xml(made, limits), option="--junit")
