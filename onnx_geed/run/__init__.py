"""From options to records: prepare, run orbits, reduce, collect."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.run.accumulator import (
        Tally as Tally,
    )
    from onnx_geed.run.between_samples import (
        Between as Between,
        Pair as Pair,
        Pairs as Pairs,
        around as around,
        neighbours as neighbours,
    )
    from onnx_geed.run.compile import (
        compile_measurement as compile_measurement,
    )
    from onnx_geed.run.executor import (
        cores as cores,
        in_order as in_order,
    )
    from onnx_geed.run.job import (
        Prepared as Prepared,
    )
    from onnx_geed.run.kernel_engine import (
        Reduced as Reduced,
        reduce_orbits as reduce_orbits,
    )
    from onnx_geed.run.options import (
        Options as Options,
        check_option as check_option,
        make_options as make_options,
    )
    from onnx_geed.run.orbits import (
        activations as activations,
        identities as identities,
        job_orbits as job_orbits,
    )
    from onnx_geed.run.pipeline import (
        measure as measure,
    )
    from onnx_geed.run.prepare import (
        check_inputs as check_inputs,
        prepare_run as prepare_run,
    )
    from onnx_geed.run.provenance import (
        describe_data as describe_data,
        describe_group as describe_group,
        describe_model as describe_model,
        describe_runtime as describe_runtime,
        software_versions as software_versions,
    )
    from onnx_geed.run.suite import (
        benchmark as benchmark,
    )
    from onnx_geed.run.unmoved import (
        unmoved_notes as unmoved_notes,
        unmoving as unmoving,
    )

lazy(globals())
