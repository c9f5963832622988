"""Samples, where they come from, and their preprocessing."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.data.intake import (
        Intake as Intake,
    )
    from onnx_geed.data.preprocess import (
        Preprocess as Preprocess,
        parse_preprocess as parse_preprocess,
        preprocess_from_json as preprocess_from_json,
        preprocess_to_json as preprocess_to_json,
    )
    from onnx_geed.data.samples import (
        Samples as Samples,
        mark_of as mark_of,
        open_samples as open_samples,
    )
    from onnx_geed.data.sources import (
        open_rows as open_rows,
        rows_of as rows_of,
    )

lazy(globals())
