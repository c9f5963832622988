"""A result as a dict with the fields of its file, with methods to show, draw and save it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast, overload

from onnx_geed import results
from onnx_geed.arguments import checked
from onnx_geed.files import write_json
from onnx_geed.notebook.comparing import Comparison, compare
from onnx_geed.notebook.frames import Library, frame_of
from onnx_geed.notebook.html_table import html_table
from onnx_geed.report import PlotKind, draw_result
from onnx_geed.results import (
    DataPart,
    GroupPart,
    ModelPart,
    Record,
    RuntimePart,
)
from onnx_geed.safe_names import plain
from onnx_geed.text import shorten

__all__ = ["Result"]

# Letters of a model's path in the short form.
_NAME = 48


class Result(dict[str, Any]):
    """A measurement of schema ``onnx-geed/result/1``, as :func:`onnx_geed.measure` returns it.

    It is a dict with the fields of its file. It can be compared, written as JSON and pickled like
    any dict.

    Examples
    --------
    >>> result = onnx_geed.measure("model.onnx", "images/", "C8")  # doctest: +SKIP
    >>> result["measurements"][0]["value"]  # doctest: +SKIP
    >>> result.plot("profile")  # doctest: +SKIP
    """

    @overload
    def __getitem__(self, key: Literal["measurements"], /) -> list[Record]: ...
    @overload
    def __getitem__(self, key: Literal["model"], /) -> ModelPart: ...
    @overload
    def __getitem__(self, key: Literal["data"], /) -> DataPart: ...
    @overload
    def __getitem__(self, key: Literal["group"], /) -> GroupPart: ...
    @overload
    def __getitem__(self, key: Literal["runtime"], /) -> RuntimePart: ...
    @overload
    def __getitem__(self, key: Literal["software"], /) -> dict[str, str]: ...
    @overload
    def __getitem__(self, key: Literal["seed"], /) -> int: ...
    @overload
    def __getitem__(self, key: Literal["schema", "created", "command", "file"], /) -> str: ...
    @overload
    def __getitem__(self, key: Literal["notes"], /) -> list[str]: ...
    @overload
    def __getitem__(self, key: str, /) -> Any: ...
    def __getitem__(self, key: str, /) -> Any:
        """Return a field."""
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> Any:
        """Say how a field is read."""
        hint = f"; a result is a dict: write result[{name!r}]" if name in self else ""
        raise AttributeError(f"'Result' object has no attribute {name!r}{hint}", name=name)

    def __repr__(self) -> str:
        """Return one line: what was measured, and how much of it."""
        try:
            return self._told()
        except (KeyError, TypeError, AttributeError):  # whoever holds it may have changed it
            return f"<Result of {len(self)} fields>"

    def _told(self) -> str:
        count = len(self["measurements"])
        name = shorten(plain(self["model"]["path"]), _NAME)
        samples = max((record["samples"] for record in self["measurements"]), default=0)
        return (
            f"<Result of {name} under {plain(self['group']['name'])}: {count} "
            f"value{'s' * (count != 1)} over {samples} sample{'s' * (samples != 1)}>"
        )

    @results.of_results
    def _repr_html_(self) -> str:
        """Return a small table, which notebooks show."""
        return html_table(self._content)

    @property
    def _content(self) -> results.Result:
        return cast(results.Result, self)

    def copy(self) -> Result:
        """Return a shallow copy."""
        return Result(self)

    @checked
    @results.of_results
    def to_dataframe(self, library: Library | None = None) -> Any:
        """Return a table with one row per measurement.

        Parameters
        ----------
        library : {"pandas", "polars"}, optional
            The library; by default pandas, or polars if only that is installed.

        Returns
        -------
        pandas.DataFrame or polars.DataFrame
            Columns ``model``, ``group``, ``measure``, ``layer`` and so on: those of CSV, without
            the values by element.

        Raises
        ------
        GeedError
            If the library is unknown or not installed.
        """
        return frame_of(self._content, library)

    @checked
    @results.of_results
    def plot(self, kind: PlotKind = "profile", measure: str | None = None) -> Any:
        """Draw one measure; needs the extra ``report``.

        Parameters
        ----------
        kind : {"profile", "angles", "samples"}
            Values by layer; deviations by element, at their angles or over a family's parameter; or
            the distribution over samples.
        measure : str, optional
            The measure; by default the one with the most layers.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        GeedError
            If there is no such kind, or the result does not have the measure.
            If matplotlib is not installed.
        """
        return draw_result(self._content, kind, measure)

    def compare(self, other: Mapping[str, Any] | str | Path, *, force: bool = False) -> Comparison:
        """Compare with another result, paired over the same samples.

        Parameters
        ----------
        other : Result, dict, str or Path
            B, where this one is A; or its file.
        force : bool
            Compare even if the results are not comparable.

        Returns
        -------
        Comparison
            As returned by :func:`onnx_geed.compare`.

        Raises
        ------
        GeedError
            As :func:`onnx_geed.compare`.
            If the file cannot be read.
        """
        if isinstance(other, str | Path):
            other = results.read_result(other)
        return compare(self, other, force=force)

    def save(self, path: str | Path) -> None:
        """Write a file for :func:`onnx_geed.load`, completely or not at all.

        Parameters
        ----------
        path : str or Path
            The file, or its address.

        Raises
        ------
        GeedError
            If it cannot be written.
        """
        # Where it was read from is no part of it.
        write_json({name: part for name, part in self.items() if name != "file"}, path)
