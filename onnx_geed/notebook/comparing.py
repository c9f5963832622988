"""A comparison as a dict that is shown as its table."""

from __future__ import annotations

import functools
import html
from typing import Any, cast

from onnx_geed import results
from onnx_geed.report import compare_table
from onnx_geed.results import AnyResult, Comparison
from onnx_geed.safe_names import html_text, line_of

__all__ = ["compare"]

# Measurements of a table that is still read.
_ROWS = 40


class _ShownComparison(dict[str, Any]):
    """A comparison of schema ``onnx-geed/compare/1``: a dict, equal to one and written as one."""

    def __repr__(self) -> str:
        """Return the table that the command shows, or of many values one line."""
        count = len(self["measurements"])
        if count > _ROWS:
            return f"<Comparison of {count} values: see its field measurements>"
        return "\n".join(map(line_of, compare_table(cast(Comparison, self)).splitlines()))

    def _repr_html_(self) -> str:
        """Return the same for notebooks."""
        lines = (html.escape(str(html_text(line))) for line in repr(self).split("\n"))
        return "\n".join(["<pre>", *lines, "</pre>"])


@functools.wraps(results.compare)
def compare(a: AnyResult, b: AnyResult, *, force: bool = False) -> Comparison:
    """Compare two results, and return what shows itself."""
    return cast(Comparison, _ShownComparison(results.compare(a, b, force=force)))


compare.__module__ = __name__
