"""Limits that results are held against, and JUnit files that tell the outcome."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError, nearest, shown
from onnx_geed.files import write_text
from onnx_geed.measures import descriptor_of, parse_request
from onnx_geed.results.families import element_words, is_family
from onnx_geed.results.reading import Reading, ranking_value, read_record
from onnx_geed.results.result_file import is_result, of_results
from onnx_geed.results.schema import Record, Result
from onnx_geed.safe_names import xml_text

__all__ = [
    "Limit",
    "check_measured",
    "check_sign",
    "failure_of",
    "junit_xml",
    "over_limits",
    "parse_limits",
    "read_for_limit",
    "write_junit",
]


@dataclass(frozen=True)
class Limit:
    """The largest value that passes.

    Parameters
    ----------
    text : str
        As it was given.
    measure : str
        Name of the measure.
    layer : str or None
        Name or glob of its layers; ``None`` for all of them.
    largest : float
        The value.
    """

    text: str
    measure: str
    layer: str | None
    largest: float

    def is_for(self, measure: str, layer: str) -> bool:
        """Tell whether a measure on a layer is held against it."""
        if measure != self.measure:
            return False
        return self.layer is None or layer == self.layer or fnmatch.fnmatchcase(layer, self.layer)

    def check_meets(self, measured: Sequence[tuple[str, str]]) -> None:
        """Refuse a limit that is for none of the values.

        Parameters
        ----------
        measured : sequence of (measure, layer)
            The values.

        Raises
        ------
        GeedError
            If there is none.
        """
        if any(self.is_for(*value) for value in measured):
            return
        wanted = f"{self.measure}@{self.layer}" if self.layer else self.measure
        names = [f"{measure}@{layer}" for measure, layer in measured]
        raise GeedError(
            f"--fail-above {wanted}: this is not measured; measured: "
            f"{', '.join(names[:5])}.{nearest(wanted, names)}"
        )


def parse_limits(limits: Sequence[str]) -> list[Limit]:
    """Read ``MEASURE[@LAYER]=LIMIT``.

    Parameters
    ----------
    limits : sequence of str
        As the command line gives them.

    Returns
    -------
    list of Limit

    Raises
    ------
    GeedError
        If one is not of that form, or names no measure, or is a cosine without its minus.
    """
    parsed = []
    for text in limits:
        name, equals, value = text.rpartition("=")
        try:
            largest = float(value)
        except ValueError:
            largest = float("nan")
        if not equals or not np.isfinite(largest):
            raise GeedError(
                f"--fail-above {text}: write MEASURE=LIMIT or MEASURE@LAYER=LIMIT, such as "
                "softmax-kl=0.05"
            )
        request = parse_request(name)
        check_sign(f"--fail-above {text}", request.measure, largest)
        parsed.append(Limit(text, request.measure, request.layer, largest))
    return parsed


def check_sign(asked: str, measure: str, limit: float) -> None:
    """Refuse the limit of a cosine as tables show it: of minus a cosine it nearly always passes.

    Parameters
    ----------
    asked : str
        What was asked for, to begin the error with.
    measure : str
        Name of the measure.
    limit : float
        The largest value that passes, in the sign of files.

    Raises
    ------
    GeedError
        If the measure is a cosine, and the limit positive.

    Notes
    -----
    Of an M that is not positive the unnormalised value is held against the limit, so that what is
    held is above zero only where the mean cosine is negative: for a mean over orbits, hardly ever.
    """
    if limit > 0 and descriptor_of(measure).similarity:
        raise GeedError(
            f"{asked}: limits are on minus the cosine, as files hold it, so this would pass nearly "
            f"everything; to fail below the cosine {limit:g} of tables, give {-limit:g}"
        )


def check_measured(limits: Sequence[str], measured: Sequence[tuple[str, str]]) -> None:
    """Refuse limits that name nothing that is going to be measured.

    Parameters
    ----------
    limits : sequence of str
        As :func:`parse_limits` takes them.
    measured : sequence of (measure, layer)
        What is measured.

    Raises
    ------
    GeedError
        If a limit is of another form, or for something that is not measured.
    """
    for limit in parse_limits(limits):
        limit.check_meets(measured)


def _records_by_limit(result: Result, limits: Sequence[str]) -> list[tuple[Limit, list[Record]]]:
    """Return each limit with the records that it is for; refuse one that is for none."""
    records = result["measurements"]
    parsed = parse_limits(limits)
    for limit in parsed:
        limit.check_meets([(r["measure"], r["layer"]) for r in records])
    return [
        (limit, [r for r in records if limit.is_for(r["measure"], r["layer"])]) for limit in parsed
    ]


def over_limits(result: Result, limits: Sequence[str]) -> list[str]:
    """Say which limits a result exceeds.

    Parameters
    ----------
    result : dict
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
    for limit, records in _records_by_limit(result, limits):
        for record in records:
            value, scale = ranking_value(record)
            if value > limit.largest:
                note = " (unnormalised)" if scale == "unnormalised" else ""
                where = f"{record['measure']}@{record['layer']}"
                violations.append(f"{where}: {value:.6g}{note} > {limit.largest:g}")
    return violations


def read_for_limit(record: Record) -> Reading:
    """Read a record on the scale of the value that ``--fail-above`` holds against a limit."""
    reading = read_record(record)
    value, scale = ranking_value(record)
    return replace(reading.as_normalised() if scale == "value" else reading, value=value)


def failure_of(result: Result, reading: Reading, limit: float) -> str:
    """Say by how much a value exceeds a limit, and where most.

    Parameters
    ----------
    result : dict
        The result.
    reading : Reading
        One of its records, from :func:`read_for_limit`.
    limit : float
        What it exceeds.

    Returns
    -------
    str
        Lines: the value, its worst element and its worst sample.
    """
    data, group = result["data"], result["group"]
    per_element = reading.per_element
    worst = int(per_element.argmax())
    sample = int(reading.per_sample.argmax())
    element = int(reading.deviations[sample].argmax())

    def named(g: int) -> str:
        return element_words(group, group["elements"][g])

    called = f"sample {data['indices'][sample]}"
    called += f" ({data['names'][sample]})" if data["names"] else ""
    ends = ""
    if reading.ci95:
        ends = f" (95 % interval {reading.ci95[0]:.6g} to {reading.ci95[1]:.6g})"
    scale = "" if reading.normalised else ", unnormalised"
    # Limits are on what files hold, of which tables show the cosine.
    sign = " (minus the cosine)" if reading.similarity else ""
    noun = "member" if is_family(group) else "element"
    lines = [
        f"  {reading.measure}@{reading.layer}{scale}: {reading.value:.6g} > {limit:g}{sign}{ends}",
        f"    worst {noun} {named(worst)}: {per_element[worst]:.6g}",
        f"    worst sample {called}: {reading.per_sample[sample]:.6g}, largest for "
        f"{named(element)}: {reading.deviations[sample, element]:.6g}",
    ]
    if reading.exact is not None and reading.exact <= limit:
        lines.append(
            f"    the exact elements alone pass ({reading.exact:.6g}): check the interpolation"
        )
    return "\n".join(lines)


@checked
@of_results
def junit_xml(result: Result, limits: Sequence[str]) -> str:
    """Return the outcome of a check of limits as JUnit XML.

    Parameters
    ----------
    result : dict
        A result.
    limits : sequence of str
        ``MEASURE[@LAYER]=LIMIT``, as for ``--fail-above``.

    Returns
    -------
    str
        One test suite, with one test case per value that has a limit.

    Raises
    ------
    GeedError
        If it is no result.
        If a limit is invalid, or is for something that was not measured.
    """
    if not is_result(result):
        raise GeedError(f"result {shown(result)}: is not a result; read one with onnx_geed.load")
    suite = ElementTree.Element("testsuite", name=xml_text(f"onnx-geed {result['group']['name']}"))
    cases = failures = 0
    for limit, records in _records_by_limit(result, limits):
        for record in records:
            reading = read_for_limit(record)
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"onnx-geed.{xml_text(result['model']['path'])}",
                name=xml_text(f"{reading.measure}@{reading.layer} <= {limit.largest:g}"),
            )
            cases += 1
            if reading.value > limit.largest:
                failures += 1
                failure = ElementTree.SubElement(
                    case,
                    "failure",
                    type="limit",
                    message=xml_text(f"{reading.value:.6g} > {limit.largest:g} ({limit.text})"),
                )
                failure.text = xml_text(failure_of(result, reading, limit.largest))
    suite.set("tests", str(cases))
    suite.set("failures", str(failures))
    suite.set("errors", "0")
    ElementTree.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        + ElementTree.tostring(suite, encoding="unicode")
        + "\n"
    )


@checked
def write_junit(result: Result, limits: Sequence[str], path: str | Path) -> None:
    """Write the outcome of a check of limits as a JUnit XML file.

    Parameters
    ----------
    result : dict
        A result.
    limits : sequence of str
        As for :func:`junit_xml`.
    path : str or Path
        Where.

    Raises
    ------
    GeedError
        If the file cannot be written, or :func:`junit_xml` fails.
    """
    write_text(path, junit_xml(result, limits), option="--junit")
