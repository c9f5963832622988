"""The tensors that a cache keeps, and what a user calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx_geed.cache.manifest import Manifest
from onnx_geed.cache.manifest_content import StoredTensor
from onnx_geed.errors import GeedError, known_names, nearest
from onnx_geed.measures import Request
from onnx_geed.model import Tensor, resolve

__all__ = ["named_tensors", "stored_tensors"]


def stored_tensors(manifest: Manifest) -> list[Tensor]:
    """Return the tensors of a cache, as the model listed them."""
    return [_stored_tensor(stored) for stored in manifest.description["tensors"]]


def named_tensors(tensors: Sequence[Tensor], request: Request) -> Sequence[Tensor]:
    """Return the tensors of a cache that a request names.

    Raises
    ------
    GeedError
        If the cache keeps none of that name.
    """
    name = request.layer or ""
    try:
        return resolve(tensors, name)
    except GeedError:
        kept = [tensor.name for tensor in tensors]
        raise GeedError(
            f"--measure {request.measure}@{name}: the cache keeps no such layer, only "
            f"{known_names(kept)}; write it again with this measure.{nearest(name, kept)}"
        ) from None


def _stored_tensor(stored: StoredTensor) -> Tensor:
    # What another version keeps besides is nothing that this one knows.
    known = {k: v for k, v in stored.items() if k in StoredTensor.__annotations__}
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}
    return Tensor(**fields)
