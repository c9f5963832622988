"""What people read: tables, words, pictures, the page."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.report.page import (
        write_report as write_report,
    )
    from onnx_geed.report.suite_figures import (
        draw_suite as draw_suite,
        write_summary as write_summary,
    )
    from onnx_geed.report.tables import (
        aggregate_table as aggregate_table,
        compare_table as compare_table,
        info_table as info_table,
        layer_table as layer_table,
        suite_csv as suite_csv,
        suite_table as suite_table,
        table as table,
    )

lazy(globals())
