"""Functions that return a dict of a result, made to return a :class:`Result`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from onnx_geed import results
from onnx_geed.notebook.result import Result

__all__ = ["giving_result", "giving_results"]

Given = ParamSpec("Given")


def giving_result(function: Callable[Given, results.Result], room: str) -> Callable[Given, Result]:
    """Return the same function, of another module, whose result is a :class:`Result`."""

    @functools.wraps(function)
    def given(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        return Result(function(*args, **kwargs))

    given.__module__ = room
    return given


def giving_results(
    function: Callable[Given, list[results.Result]], room: str
) -> Callable[Given, list[Result]]:
    """Return the same function, of another module, whose results are each a :class:`Result`."""

    @functools.wraps(function)
    def given(*args: Given.args, **kwargs: Given.kwargs) -> list[Result]:
        return [Result(outcome) for outcome in function(*args, **kwargs)]

    given.__module__ = room
    return given
