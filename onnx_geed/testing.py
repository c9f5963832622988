"""Equivariance as a test: one call for pytest, and JUnit XML for continuous integration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from onnx_geed.errors import GeedError, shown
from onnx_geed.files import write_text
from onnx_geed.reading import Reading, angle, read_record
from onnx_geed.results import ranking_value

__all__ = ["assert_equivariant", "junit_xml", "write_junit"]


def assert_equivariant(
    model: Any,
    data: Any,
    group: Any,
    *,
    measure: str,
    limit: float,
    **options: Any,
) -> dict[str, Any]:
    """Measure a model, and fail where it is less equivariant than allowed.

    Parameters
    ----------
    model : str, Path or Model
        The ONNX file.
    data : str, Path or ndarray
        DATA, as :func:`onnx_geed.measure` takes it.
    group : str or Group
        The acting group.
    measure : str
        ``NAME`` or ``NAME@LAYER``, such as ``softmax-kl`` or ``channel-cos@layer1*``.
    limit : float
        The largest value that passes; −1 is perfect for ``channel-cos``, 0 for the others but
        ``latent-cos``. Where M is negative, zero or missing, the unnormalised value is held
        against it.
    **options
        Fields of :class:`onnx_geed.Options`.

    Returns
    -------
    dict
        The result, for further checks.

    Raises
    ------
    AssertionError
        If a value exceeds the limit, naming layer, element and sample; its attribute ``result`` is
        the result.
    GeedError
        If model, data or options cannot be used, or the limit is not a finite number.

    Examples
    --------
    >>> def test_rotating_a_digit_changes_nothing():  # doctest: +SKIP
    ...     assert_equivariant("net.onnx", "digits/", "C4", measure="softmax-kl", limit=0.01)
    """
    __tracebackhide__ = True
    from onnx_geed.pipeline import measure as run

    number = isinstance(limit, int | float | np.integer | np.floating)
    if not number or isinstance(limit, bool) or not np.isfinite(limit):
        raise GeedError(f"assert_equivariant: the limit is {shown(limit)}; give a finite number")
    if not isinstance(measure, str):
        raise GeedError(f"assert_equivariant: measure is one text, found {shown(measure)}")
    if "measures" in options:
        raise GeedError("assert_equivariant: name one measure with measure=, not measures=")
    made = run(model, data, group, measures=[measure], **options)
    failed = []
    for record in made["measurements"]:
        read = _read_for_limit(record)
        if read.value > limit:
            failed.append(_failure(made, read, limit))
    if failed:
        count = len(made["measurements"])
        head = f"{made['model']['path']} is not equivariant enough under {made['group']['name']}: "
        head += f"{len(failed)} of {count} value{'s' * (count > 1)} over the limit"
        failure = AssertionError("\n".join([head, *failed]))
        failure.result = made  # type: ignore[attr-defined]
        raise failure
    return made


def _read_for_limit(record: Mapping[str, Any]) -> Reading:
    """Read a record on the scale of the value that ``--fail-above`` holds against a limit."""
    read = read_record(record)
    value, what = ranking_value(record)
    return replace(read.as_normalised() if what == "value" else read, value=value)


def _failure(made: Mapping[str, Any], read: Reading, limit: float) -> str:
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
    from onnx_geed.comparison import check_limits, over_limits

    over_limits(made, limits)  # refuses limits that nothing was measured for
    parsed = check_limits(limits)
    suite = ElementTree.Element("testsuite", name=f"onnx-geed {made['group']['name']}")
    failures = 0
    cases = 0
    for text, (measure, layer, limit) in zip(limits, parsed, strict=True):
        for record in made["measurements"]:
            if not _is_for(record, measure, layer):
                continue
            read = _read_for_limit(record)
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
                failure.text = _clean(_failure(made, read, limit))
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
