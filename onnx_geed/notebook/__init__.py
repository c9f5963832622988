"""What people hold in Python: results that show, draw and save themselves."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.notebook.comparing import (
        Comparison as Comparison,
        compare as compare,
    )
    from onnx_geed.notebook.loading import (
        load as load,
        read_result as read_result,
    )
    from onnx_geed.notebook.loggers import (
        log_mlflow as log_mlflow,
        log_tensorboard as log_tensorboard,
        log_wandb as log_wandb,
    )
    from onnx_geed.notebook.measuring import (
        measure as measure,
        measure_cache as measure_cache,
        measure_groups as measure_groups,
        merge as merge,
    )
    from onnx_geed.notebook.result import (
        Result as Result,
    )

lazy(globals())
