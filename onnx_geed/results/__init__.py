"""What was found: records, intervals, comparisons, findings."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.results.classes import (
        add_classes as add_classes,
    )
    from onnx_geed.results.comparison import (
        WHAT_IS_RELATIVE as WHAT_IS_RELATIVE,
        Record as Record,
        aggregate as aggregate,
        compare as compare,
        compared as compared,
        perfect_notes as perfect_notes,
    )
    from onnx_geed.results.diagnosis import (
        diagnose as diagnose,
        diagnose_corners as diagnose_corners,
        diagnosis_line as diagnosis_line,
        model_of as model_of,
    )
    from onnx_geed.results.intervals import (
        Interval as Interval,
        mean_interval as mean_interval,
    )
    from onnx_geed.results.limits import (
        check_limits as check_limits,
        check_measured as check_measured,
        failure_of as failure_of,
        junit_xml as junit_xml,
        over_limits as over_limits,
        read_for_limit as read_for_limit,
        write_junit as write_junit,
    )
    from onnx_geed.results.reading import (
        HARDLY as HARDLY,
        Reading as Reading,
        on_one_scale as on_one_scale,
        read_record as read_record,
    )
    from onnx_geed.results.records import (
        measurement as measurement,
        ranking_value as ranking_value,
        read_result as read_result,
        result as result,
        to_csv as to_csv,
    )
    from onnx_geed.results.stopping import (
        check_precision as check_precision,
        ended as ended,
        looks as looks,
        precision_notes as precision_notes,
        verdict as verdict,
    )

lazy(globals())
