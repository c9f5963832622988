"""Activations on disk: write, read, measure without the model."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.cache.fit import (
        fit_cached_actions as fit_cached_actions,
    )
    from onnx_geed.cache.info import (
        CacheInfo as CacheInfo,
        cache_info as cache_info,
        verify_cache as verify_cache,
    )
    from onnx_geed.cache.measure import (
        STILL_OPEN as STILL_OPEN,
        measure_cache as measure_cache,
    )
    from onnx_geed.cache.remote import (
        is_cache as is_cache,
    )
    from onnx_geed.cache.write import (
        write_cache as write_cache,
    )
    from onnx_geed.cache.write_and_measure import (
        measure_through_cache as measure_through_cache,
    )

lazy(globals())
