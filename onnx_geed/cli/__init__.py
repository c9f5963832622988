"""The command line: parse, one call, print."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.cli.commands import (
        cli as cli,
    )
    from onnx_geed.cli.signals import (
        finish as finish,
        install as install,
        leave_at_the_end as leave_at_the_end,
        open_streams as open_streams,
    )

lazy(globals())
