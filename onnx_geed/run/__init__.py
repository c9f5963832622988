"""From options to records: prepare, run orbits, reduce, join."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.run.between_samples import (
        Pair as Pair,
        Pairs as Pairs,
        Side as Side,
        around as around,
        join_pairs as join_pairs,
        neighbours as neighbours,
        pairs_within as pairs_within,
    )
    from onnx_geed.run.compile import (
        compile_measurement as compile_measurement,
    )
    from onnx_geed.run.engine import (
        Engine as Engine,
    )
    from onnx_geed.run.executor import (
        Executor as Executor,
        ExecutorName as ExecutorName,
        cores as cores,
        in_order as in_order,
    )
    from onnx_geed.run.executors import (
        open_executor as open_executor,
    )
    from onnx_geed.run.exploring import (
        explore as explore,
    )
    from onnx_geed.run.fit import (
        check_closed as check_closed,
        check_representation as check_representation,
        check_taken as check_taken,
        fit_actions as fit_actions,
        fits_asked as fits_asked,
        tell_defects as tell_defects,
    )
    from onnx_geed.run.fit_orbits import (
        Notify as Notify,
        fit_tables as fit_tables,
        with_samples as with_samples,
    )
    from onnx_geed.run.fit_overlap import (
        SampleMarks as SampleMarks,
        copies_notes as copies_notes,
        marks_in_data as marks_in_data,
        refuse_overlap as refuse_overlap,
    )
    from onnx_geed.run.fit_requests import (
        FIT_OPTIONS as FIT_OPTIONS,
        FitRequest as FitRequest,
        check_fits_measured as check_fits_measured,
        check_given_measured as check_given_measured,
        fits_to_make as fits_to_make,
        judged_tables as judged_tables,
        refuse_fits as refuse_fits,
        refuse_idle_fit_options as refuse_idle_fit_options,
        requested_fits as requested_fits,
    )
    from onnx_geed.run.fit_scales import (
        enter_fits as enter_fits,
        fitted_measures as fitted_measures,
        scales_of_fits as scales_of_fits,
        with_fits_of as with_fits_of,
    )
    from onnx_geed.run.fitting import (
        Fitting as Fitting,
    )
    from onnx_geed.run.how_far import (
        gain_is_taken as gain_is_taken,
        gain_notes as gain_notes,
        input_distances as input_distances,
    )
    from onnx_geed.run.job import (
        Job as Job,
        Network as Network,
        Task as Task,
        job_orbits as job_orbits,
        orbit_jobs as orbit_jobs,
        point_jobs as point_jobs,
    )
    from onnx_geed.run.kernel_engine import (
        KernelEngine as KernelEngine,
    )
    from onnx_geed.run.measurements import (
        measurements_of as measurements_of,
        predictions_of as predictions_of,
    )
    from onnx_geed.run.merging import (
        merge as merge,
    )
    from onnx_geed.run.metric import (
        EquivarianceMetric as EquivarianceMetric,
    )
    from onnx_geed.run.moving import (
        check_tables as check_tables,
    )
    from onnx_geed.run.on_machine import (
        machine_notes as machine_notes,
        without_machine_notes as without_machine_notes,
    )
    from onnx_geed.run.options import (
        Options as Options,
        check_option as check_option,
        drawn_notes as drawn_notes,
        make_options as make_options,
    )
    from onnx_geed.run.orbit_reduction import (
        check_orbits as check_orbits,
        reduce_orbits as reduce_orbits,
        spreads_of as spreads_of,
    )
    from onnx_geed.run.orbit_statistics import (
        MeasureStatistics as MeasureStatistics,
        OrbitStatistics as OrbitStatistics,
        gather as gather,
        join as join,
    )
    from onnx_geed.run.orbits import (
        identities as identities,
    )
    from onnx_geed.run.pipeline import (
        measure as measure,
        measure_each as measure_each,
        measure_groups as measure_groups,
    )
    from onnx_geed.run.place_labels import (
        bind_background as bind_background,
        known_places as known_places,
    )
    from onnx_geed.run.prepare import (
        Prepared as Prepared,
        check_inputs as check_inputs,
        prepare_run as prepare_run,
    )
    from onnx_geed.run.progress import (
        Meter as Meter,
        Progress as Progress,
        begin_run as begin_run,
    )
    from onnx_geed.run.provenance import (
        describe_data as describe_data,
        describe_group as describe_group,
        describe_model as describe_model,
        describe_runtime as describe_runtime,
        describe_targets as describe_targets,
        software_versions as software_versions,
    )
    from onnx_geed.run.ray_executor import (
        RayExecutor as RayExecutor,
    )
    from onnx_geed.run.ray_worker import (
        packed as packed,
    )
    from onnx_geed.run.selection import (
        stated_tables as stated_tables,
    )
    from onnx_geed.run.sequential import (
        measure_until as measure_until,
    )
    from onnx_geed.run.session import (
        Runner as Runner,
    )
    from onnx_geed.run.source import (
        Source as Source,
    )
    from onnx_geed.run.stretch import (
        alone as alone,
        run_stretch as run_stretch,
        stretches as stretches,
    )
    from onnx_geed.run.suite import (
        benchmark as benchmark,
    )
    from onnx_geed.run.suite_file import (
        read_suite as read_suite,
    )
    from onnx_geed.run.truths import (
        Targets as Targets,
        targeted as targeted,
        with_truths as with_truths,
    )
    from onnx_geed.run.unmoved import (
        first_moved as first_moved,
        unmoved_notes as unmoved_notes,
        unmoved_of_fewer as unmoved_of_fewer,
    )
    from onnx_geed.run.worker import (
        Worker as Worker,
    )

lazy(globals())
