"""G-empirical equivariance deviation (Kvinge et al. 2022) of ONNX models.

The public names are attached when they are first used, so that importing the package loads neither
ONNX Runtime nor numba.
"""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.cache import (
        fit_cached_actions as fit_cached_actions,
        write_cache as write_cache,
    )
    from onnx_geed.data import (
        Preprocess as Preprocess,
        Samples as Samples,
        open_samples as open_samples,
        parse_preprocess as parse_preprocess,
    )
    from onnx_geed.errors import (
        GeedError as GeedError,
    )
    from onnx_geed.files import (
        write_json as write_json,
    )
    from onnx_geed.groups import (
        Action as Action,
        FunctionAction as FunctionAction,
        Group as Group,
        IndexAction as IndexAction,
        LayoutAction as LayoutAction,
        Matrices as Matrices,
        Permutation as Permutation,
        Table as Table,
        Trivial as Trivial,
        cyclic as cyclic,
        dihedral as dihedral,
        disk_mask as disk_mask,
        grid_action as grid_action,
        orbit as orbit,
        parse_group as parse_group,
        product as product,
        read_table as read_table,
        with_channels as with_channels,
        write_fits as write_fits,
    )
    from onnx_geed.measures import (
        Measure as Measure,
        channel_cos as channel_cos,
        channel_sums as channel_sums,
        flip_rate as flip_rate,
        latent_cos as latent_cos,
        latent_l2 as latent_l2,
        normaliser as normaliser,
        orbit_deviations as orbit_deviations,
        output_l2 as output_l2,
        sensitivity as sensitivity,
        softmax_kl as softmax_kl,
        unexplained as unexplained,
    )
    from onnx_geed.model import (
        Model as Model,
        Tensor as Tensor,
        list_tensors as tensors,
        load_model as load_model,
    )
    from onnx_geed.notebook import (
        Comparison as Comparison,
        Result as Result,
        compare as compare,
        load as load,
        log_mlflow as log_mlflow,
        log_tensorboard as log_tensorboard,
        log_wandb as log_wandb,
        measure as measure,
        measure_cache as measure_cache,
        measure_groups as measure_groups,
        merge as merge,
        read_result as read_result,
    )
    from onnx_geed.report import (
        write_report as write_report,
    )
    from onnx_geed.results import (
        aggregate as aggregate,
        diagnose as diagnose,
    )
    from onnx_geed.run import (
        EquivarianceMetric as EquivarianceMetric,
        Options as Options,
        benchmark as benchmark,
        compile_measurement as compile_measurement,
        fit_actions as fit_actions,
    )
    from onnx_geed.version import (
        __version__ as __version__,
    )

lazy(globals())
