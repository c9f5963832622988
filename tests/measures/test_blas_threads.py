"""Fits multiply matrices in one thread, and leave the number of threads as it was."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg.blas  # noqa: F401 - so that its library is loaded

from onnx_geed.groups import Trivial, parse_group
from onnx_geed.measures import FitSums
from onnx_geed.measures.blas_threads import in_one_thread

SITE = Path(np.__file__).parent.parent
GETTERS = {"numpy": "scipy_openblas_get_num_threads64_", "scipy": "scipy_openblas_get_num_threads"}


def threads():
    """Of numpy's and scipy's library, where the wheels have them."""
    counts = []
    for package, getter in GETTERS.items():
        paths = (SITE / f"{package}.libs").glob("*openblas*")
        counts += [getattr(ctypes.CDLL(str(path)), getter)() for path in paths]
    if not counts:
        pytest.skip("numpy and scipy are not those of Linux wheels")
    return counts


def test_a_block_takes_one_thread_and_gives_the_others_back():
    before = threads()
    with in_one_thread():
        with in_one_thread():
            assert set(threads()) == {1}
        assert set(threads()) == {1}
    assert threads() == before
    with pytest.raises(KeyError), in_one_thread():
        raise KeyError
    assert threads() == before


def test_a_fit_is_solved_in_one_thread():
    before, seen = threads(), []
    fit = FitSums(Trivial(parse_group("C4")), 3, "linear", 6)
    fit.add(0, np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32))
    assert threads() == before
    fit.solve(lambda done, total: seen.append(threads()))
    assert {count for counts in seen for count in counts} == {1}
    assert threads() == before
