"""Tables, words, pictures and the page that people read."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.report.explorer import (
        samples_to_show as samples_to_show,
    )
    from onnx_geed.report.listings import (
        info_table as info_table,
        layer_table as layer_table,
    )
    from onnx_geed.report.model_tables import (
        aggregate_table as aggregate_table,
        compare_table as compare_table,
    )
    from onnx_geed.report.page import (
        check_installed as check_installed,
        write_report as write_report,
    )
    from onnx_geed.report.plots import (
        PlotKind as PlotKind,
        draw_result as draw_result,
    )
    from onnx_geed.report.result_table import (
        table as table,
    )
    from onnx_geed.report.suite_figures import (
        draw_suite as draw_suite,
        write_suite_report as write_suite_report,
        write_summary as write_summary,
    )
    from onnx_geed.report.suite_tables import (
        suite_csv as suite_csv,
        suite_table as suite_table,
    )

lazy(globals())
