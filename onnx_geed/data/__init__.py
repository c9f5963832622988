"""Samples, where they come from, and their preprocessing."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.data.backgrounds import (
        read_backgrounds as read_backgrounds,
        read_masks as read_masks,
    )
    from onnx_geed.data.fetched import (
        is_folder as is_folder,
    )
    from onnx_geed.data.input_arrays import (
        array_by_layout as array_by_layout,
        array_named as array_named,
        check_counts as check_counts,
        named_inputs as named_inputs,
    )
    from onnx_geed.data.intake import (
        Intake as Intake,
    )
    from onnx_geed.data.labels import (
        place_labels_of as place_labels_of,
    )
    from onnx_geed.data.mask import (
        mask_of as mask_of,
        read_mask as read_mask,
    )
    from onnx_geed.data.preprocess import (
        Preprocess as Preprocess,
        parse_preprocess as parse_preprocess,
        preprocess_from_json as preprocess_from_json,
        preprocess_to_json as preprocess_to_json,
    )
    from onnx_geed.data.ragged import (
        ragged_axes as ragged_axes,
    )
    from onnx_geed.data.rows import (
        reading as reading,
        rows_of as rows_of,
    )
    from onnx_geed.data.samples import (
        Samples as Samples,
        fingerprint_of as fingerprint_of,
        mark_of as mark_of,
        open_samples as open_samples,
    )
    from onnx_geed.data.small_pictures import (
        shrunk as shrunk,
    )
    from onnx_geed.data.sources import (
        open_rows as open_rows,
    )

lazy(globals())
