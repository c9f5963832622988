"""A comparison as a dict that is shown as its table."""

from __future__ import annotations

import functools
import html
from typing import Any, Literal, cast, overload

from onnx_geed import results
from onnx_geed.arguments import checked
from onnx_geed.notebook.frames import Library, comparison_frame
from onnx_geed.report import compare_table
from onnx_geed.results import AnyResult, ComparedModel, ComparisonEntry
from onnx_geed.safe_names import html_text, line_of

__all__ = ["Comparison", "compare"]

# Measurements of a table that is still read.
_ROWS = 40


class Comparison(dict[str, Any]):
    """A comparison of schema ``onnx-geed/compare/1``, as :func:`onnx_geed.compare` returns it.

    It is a dict, equal to one and written as one.

    Examples
    --------
    >>> comparison = onnx_geed.compare(a, b)  # doctest: +SKIP
    >>> comparison["measurements"][0]["verdict"]  # doctest: +SKIP
    >>> comparison.to_dataframe()  # doctest: +SKIP
    """

    @overload
    def __getitem__(self, key: Literal["measurements"], /) -> list[ComparisonEntry]: ...
    @overload
    def __getitem__(self, key: Literal["a", "b"], /) -> ComparedModel: ...
    @overload
    def __getitem__(self, key: Literal["differ_in"], /) -> list[str]: ...
    @overload
    def __getitem__(self, key: Literal["schema"], /) -> str: ...
    @overload
    def __getitem__(self, key: str, /) -> Any: ...
    def __getitem__(self, key: str, /) -> Any:
        """Return a field."""
        return super().__getitem__(key)

    def __repr__(self) -> str:
        """Return the table that the command shows, or of many values one line."""
        count = len(self["measurements"])
        if count > _ROWS:
            return f"<Comparison of {count} values: see its field measurements>"
        return "\n".join(map(line_of, compare_table(self._content).splitlines()))

    def _repr_html_(self) -> str:
        """Return the same for notebooks."""
        lines = (html.escape(str(html_text(line))) for line in repr(self).split("\n"))
        return "\n".join(["<pre>", *lines, "</pre>"])

    @property
    def _content(self) -> results.Comparison:
        return cast(results.Comparison, self)

    def copy(self) -> Comparison:
        """Return a shallow copy."""
        return Comparison(self)

    @checked
    def to_dataframe(self, library: Library | None = None) -> Any:
        """Return a table with one row per pair of measurements.

        Parameters
        ----------
        library : {"pandas", "polars"}, optional
            The library; by default pandas, or polars if only that is installed.

        Returns
        -------
        pandas.DataFrame or polars.DataFrame
            Columns ``model_a``, ``model_b``, then the fields of ``measurements``: ``measure``,
            ``layer``, ``a``, ``b``, ``difference``, ``verdict`` and so on. The ends of an
            interval are two columns, such as ``ci95_low`` and ``ci95_high``.

        Raises
        ------
        GeedError
            If the library is unknown or not installed.
        """
        return comparison_frame(self._content, library)


@functools.wraps(results.compare)
def compare(a: AnyResult, b: AnyResult, *, force: bool = False) -> Comparison:
    """Compare two results, and return what shows itself."""
    return Comparison(results.compare(a, b, force=force))


compare.__module__ = __name__
