"""Results of runs: records, intervals, comparisons, findings, and their files."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.results.classes import (
        add_class_values as add_class_values,
    )
    from onnx_geed.results.comparability import (
        action_name as action_name,
        records_of as records_of,
        same_samples as same_samples,
    )
    from onnx_geed.results.comparison import (
        WHAT_IS_RELATIVE as WHAT_IS_RELATIVE,
        compare as compare,
        compared as compared,
    )
    from onnx_geed.results.diagnosis import (
        diagnose as diagnose,
        diagnose_corners as diagnose_corners,
        diagnosis_line as diagnosis_line,
        model_of as model_of,
    )
    from onnx_geed.results.exploration import (
        Exploration as Exploration,
        ExploredLayer as ExploredLayer,
    )
    from onnx_geed.results.families import (
        along as along,
        element_words as element_words,
        family_range as family_range,
        is_family as is_family,
        is_sampled as is_sampled,
        order_words as order_words,
        parameter_words as parameter_words,
        parameters_of as parameters_of,
    )
    from onnx_geed.results.findings import (
        ROUNDED as ROUNDED,
        Finding as Finding,
    )
    from onnx_geed.results.fits import (
        FIT_REFERENCES as FIT_REFERENCES,
        fit_notes as fit_notes,
        fit_part as fit_part,
    )
    from onnx_geed.results.gain import (
        InputDistances as InputDistances,
        add_gain as add_gain,
        has_gain as has_gain,
    )
    from onnx_geed.results.intervals import (
        Interval as Interval,
        gap_interval as gap_interval,
        mean_interval as mean_interval,
        side_of_zero as side_of_zero,
    )
    from onnx_geed.results.kinds_of_data import (
        is_map as is_map,
    )
    from onnx_geed.results.limits import (
        check_measured as check_measured,
        check_sign as check_sign,
        failure_of as failure_of,
        junit_xml as junit_xml,
        over_limits as over_limits,
        parse_limits as parse_limits,
        read_for_limit as read_for_limit,
        write_junit as write_junit,
    )
    from onnx_geed.results.motions import (
        HONEST as HONEST,
        MOTION as MOTION,
        LayerMotion as LayerMotion,
        fits_together as fits_together,
        layer_motions as layer_motions,
        motion_sentence as motion_sentence,
    )
    from onnx_geed.results.origin import (
        DataPart as DataPart,
        GroupPart as GroupPart,
        InputPart as InputPart,
        MasksPart as MasksPart,
        ModelPart as ModelPart,
        RuntimePart as RuntimePart,
    )
    from onnx_geed.results.over_families import (
        ACCURACY as ACCURACY,
        FamilyValue as FamilyValue,
        family_values as family_values,
        moved_accuracy as moved_accuracy,
        suite_family_values as suite_family_values,
    )
    from onnx_geed.results.over_models import (
        aggregate as aggregate,
        perfect_notes as perfect_notes,
    )
    from onnx_geed.results.paired_differences import (
        no_conclusion as no_conclusion,
    )
    from onnx_geed.results.parts import (
        PartPart as PartPart,
        part_words as part_words,
    )
    from onnx_geed.results.place_parts import (
        foreground_part as foreground_part,
        overlap_part as overlap_part,
    )
    from onnx_geed.results.predictions import (
        Predicted as Predicted,
        add_predictions as add_predictions,
        places_of_labels as places_of_labels,
    )
    from onnx_geed.results.reading import (
        HARDLY as HARDLY,
        Reading as Reading,
        far_off as far_off,
        most_of_orbit as most_of_orbit,
        on_one_scale as on_one_scale,
        ranking_value as ranking_value,
        read_record as read_record,
    )
    from onnx_geed.results.records import (
        BetweenSamples as BetweenSamples,
        Normaliser as Normaliser,
        OrbitDeviations as OrbitDeviations,
        make_record as make_record,
    )
    from onnx_geed.results.result_file import (
        check_result as check_result,
        of_results as of_results,
        read_result as read_result,
        result as result,
        rows_of as rows_of,
        to_csv as to_csv,
    )
    from onnx_geed.results.schema import (
        Aggregate as Aggregate,
        AggregateEntry as AggregateEntry,
        AnyResult as AnyResult,
        ClassValue as ClassValue,
        ComparedModel as ComparedModel,
        Comparison as Comparison,
        ComparisonEntry as ComparisonEntry,
        FitPart as FitPart,
        Foreground as Foreground,
        Gain as Gain,
        Overlap as Overlap,
        PrecisionPart as PrecisionPart,
        Predictions as Predictions,
        Record as Record,
        Reference as Reference,
        Result as Result,
        Statistics as Statistics,
        SuiteSettings as SuiteSettings,
    )
    from onnx_geed.results.stopping import (
        check_precision as check_precision,
        ended as ended,
        judge_precision as judge_precision,
        looks as looks,
        precision_notes as precision_notes,
    )
    from onnx_geed.results.suite_schema import (
        SuiteFailure as SuiteFailure,
        SuiteRow as SuiteRow,
        SuiteSummary as SuiteSummary,
    )
    from onnx_geed.results.suite_summary import (
        SUITE_SCHEMA as SUITE_SCHEMA,
        is_suite as is_suite,
        read_summary as read_summary,
    )

lazy(globals())
