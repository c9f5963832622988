"""Fits multiply matrices in one thread, and leave the number of threads as it was."""

import numpy as np
import scipy.linalg.blas  # noqa: F401 - so that its library is loaded
from threadpoolctl import threadpool_info, threadpool_limits

from onnx_geed.groups import Trivial, parse_group
from onnx_geed.measures import FitSums
from onnx_geed.measures.one_thread import in_one_thread


def threads():
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


def test_a_block_takes_one_thread_and_gives_the_others_back():
    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        with in_one_thread():
            with in_one_thread():
                assert threads() <= {1}
            assert threads() <= {1}
        assert threads() == before


def test_a_fit_is_solved_in_one_thread():
    seen = []
    with threadpool_limits(limits=2, user_api="blas"):
        sums = FitSums(Trivial(parse_group("C4")), 6, "linear", 8)
        sums.add(0, np.random.default_rng(0).normal(size=(8, 4, 6)).astype(np.float32))
        sums.solve(lambda done, total: seen.append(threads()))
    assert seen
    assert all(count <= {1} for count in seen)
