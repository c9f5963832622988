"""Values held against the types of their options."""

import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from onnx_geed.errors import GeedError
from onnx_geed.typed import check_value


class Alias:
    """What ``numpy.typing.NDArray`` is from NumPy 2.5 on: an alias with a value, and no class."""

    __name__ = "NDArray"
    __value__ = np.ndarray[Any, np.dtype[Any]]


ARRAYS = types.GenericAlias(Alias(), (Any,))


def test_an_array_fits_an_alias_of_arrays():
    array = np.arange(3)
    assert check_value("--labels", array, str | ARRAYS | Sequence[Any]) is array
    assert check_value("--labels", "a.npy", str | ARRAYS) == "a.npy"


def test_an_alias_of_arrays_is_told_as_arrays_are():
    told = r"^--labels is a text or an array, found the number 3\b"
    with pytest.raises(GeedError, match=told):
        check_value("--labels", 3, str | ARRAYS)
    with pytest.raises(GeedError, match="found the dict"):
        check_value("--labels", {1: 2}, ARRAYS)
