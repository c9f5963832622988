"""Equivariance as a test: one call for pytest, and JUnit XML for continuous integration."""

from __future__ import annotations

import math
from typing import Any

from onnx_geed.errors import GeedError
from onnx_geed.measures import parse_request
from onnx_geed.notebook import Result
from onnx_geed.results import check_sign, failure_of, junit_xml, read_for_limit, write_junit
from onnx_geed.typed import check_value

__all__ = ["assert_equivariant", "junit_xml", "write_junit"]


def assert_equivariant(
    model: Any,
    data: Any,
    group: Any,
    *,
    measure: str,
    limit: float,
    **options: Any,
) -> Result:
    """Measure a model, and fail if it is less equivariant than allowed.

    Parameters
    ----------
    model : str, Path or Model
        The ONNX file.
    data : str, Path or ndarray
        As for :func:`onnx_geed.measure`.
    group : str or Group
        The acting group.
    measure : str
        ``NAME`` or ``NAME@LAYER``, such as ``softmax-kl`` or ``channel-cos@layer1*``.
    limit : float
        The largest value that passes. −1 is perfect for ``channel-cos``, 0 for all others except
        ``latent-cos``. If M is negative, zero or missing, the unnormalised value is checked.
    **options
        Fields of :class:`onnx_geed.Options`.

    Returns
    -------
    Result
        The result, for further checks.

    Raises
    ------
    AssertionError
        If a value exceeds the limit. The message names layer, element and sample; the attribute
        ``result`` is the result.
    GeedError
        If model, data or options are invalid, or the limit is not a finite number, or that of a
        cosine without its minus.

    Examples
    --------
    >>> def test_rotating_a_digit_changes_nothing():  # doctest: +SKIP
    ...     assert_equivariant("net.onnx", "digits/", "C4", measure="softmax-kl", limit=0.01)
    """
    __tracebackhide__ = True
    from onnx_geed.run import measure as run

    limit = check_value("assert_equivariant: limit", limit, float)
    if not math.isfinite(limit):
        raise GeedError(f"assert_equivariant: limit is a finite number, found {limit}")
    measure = check_value("assert_equivariant: measure", measure, str)
    if "measures" in options:
        raise GeedError("assert_equivariant: name one measure with measure=, not measures=")
    asked = f"assert_equivariant: limit={limit:g} of {measure}"
    check_sign(asked, parse_request(measure).measure, limit)
    result = run(model, data, group, measures=[measure], **options)
    failed = []
    for record in result["measurements"]:
        reading = read_for_limit(record)
        if reading.value > limit:
            failed.append(failure_of(result, reading, limit))
    if failed:
        count = len(result["measurements"])
        head = (
            f"{result['model']['path']} is not equivariant enough under {result['group']['name']}: "
        )
        head += f"{len(failed)} of {count} value{'s' * (count > 1)} over the limit"
        failure = AssertionError("\n".join([head, *failed]))
        failure.result = Result(result)  # type: ignore[attr-defined]
        raise failure
    return Result(result)
