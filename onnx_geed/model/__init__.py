"""An ONNX file: read, understand, rewrite."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.model.annotate import (
        annotate_model as annotate_model,
    )
    from onnx_geed.model.builder import (
        LEAST_OPSET as LEAST_OPSET,
        Nodes as Nodes,
    )
    from onnx_geed.model.chosen_input import (
        Input as Input,
        StatedLayouts as StatedLayouts,
        find_input as find_input,
        further_inputs as further_inputs,
        input_layout as input_layout,
        inputs as inputs,
        stored_input as stored_input,
    )
    from onnx_geed.model.chosen_output import (
        StatedKind as StatedKind,
        find_output as find_output,
        output_kind as output_kind,
        stored_kind as stored_kind,
    )
    from onnx_geed.model.dataflow import (
        Between as Between,
        between as between,
    )
    from onnx_geed.model.expose import (
        expose_tensors as expose_tensors,
    )
    from onnx_geed.model.fingerprint import (
        known_fingerprint as known_fingerprint,
    )
    from onnx_geed.model.free_batch import (
        free_batch_axis as free_batch_axis,
    )
    from onnx_geed.model.holes import (
        is_hollow as is_hollow,
    )
    from onnx_geed.model.independence import (
        rows_apart as rows_apart,
    )
    from onnx_geed.model.io import (
        Model as Model,
        check_weights as check_weights,
        load_model as load_model,
        write_model as write_model,
    )
    from onnx_geed.model.joined import (
        Joined as Joined,
        joined_tensors as joined_tensors,
    )
    from onnx_geed.model.layout_inference import (
        kinds_apart as kinds_apart,
    )
    from onnx_geed.model.lettered_axes import (
        LOST as LOST,
    )
    from onnx_geed.model.listing import (
        Listing as Listing,
        list_as_stated as list_as_stated,
        list_layers as list_layers,
    )
    from onnx_geed.model.metadata import (
        CLASSES as CLASSES,
        MEASUREMENT as MEASUREMENT,
        PREPROCESS as PREPROCESS,
        action_key as action_key,
        actions_in_metadata as actions_in_metadata,
        layout_key as layout_key,
        parse_classes as parse_classes,
    )
    from onnx_geed.model.nodes import (
        FLOATS as FLOATS,
        constants as constants,
        data_reads as data_reads,
        reads as reads,
    )
    from onnx_geed.model.output_ends import (
        last_operator as last_operator,
        plain_ends as plain_ends,
        rescaled_end as rescaled_end,
    )
    from onnx_geed.model.reinitialise import (
        redraw as redraw,
    )
    from onnx_geed.model.restated import (
        NO_LAYOUT as NO_LAYOUT,
        ROWS_ELSEWHERE as ROWS_ELSEWHERE,
    )
    from onnx_geed.model.row_state import (
        Apart as Apart,
        Lost as Lost,
        Mixed as Mixed,
    )
    from onnx_geed.model.soundness import (
        has_loops as has_loops,
        of_a_model as of_a_model,
    )
    from onnx_geed.model.stored_tensors import (
        stored as stored,
        stored_bytes as stored_bytes,
    )
    from onnx_geed.model.symmetry_faults import (
        off_centre as off_centre,
        zero_padded as zero_padded,
    )
    from onnx_geed.model.tensor_names import (
        patterns_first as patterns_first,
        resolve as resolve,
    )
    from onnx_geed.model.tensors import (
        Tensor as Tensor,
        computed_in_half as computed_in_half,
        list_tensors as list_tensors,
        with_told as with_told,
    )

lazy(globals())
