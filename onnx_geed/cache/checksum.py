"""The Fletcher-32 checksum that HDF5 keeps of each chunk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.jit import compiled

__all__ = ["fletcher32"]


@compiled("contract")
def fletcher32(words: NDArray[np.uint16]) -> int:
    """Return the Fletcher-32 of big-endian 16-bit words, as HDF5 has it, of words in memory order.

    HDF5 folds its two sums into 16 bits as it goes, which is arithmetic modulo 65535 in which a sum
    other than nothing at all never becomes zero. Exact sums reduced once give the same.
    """
    first = np.uint64(0)
    second = np.uint64(0)
    modulus = np.uint64(65535)
    block = 4096
    for start in range(0, words.shape[0], block):
        stop = min(start + block, words.shape[0])
        plain = np.uint64(0)
        ramp = np.uint64(0)
        for i in range(start, stop):
            word = words[i]
            value = np.uint64(((word & 0xFF) << 8) | (word >> 8))
            plain += value
            ramp += value * np.uint64(stop - i)
        second += first * np.uint64(stop - start) + ramp
        first += plain
        if first >= modulus:
            first = (first - np.uint64(1)) % modulus + np.uint64(1)
        if second >= modulus:
            second = (second - np.uint64(1)) % modulus + np.uint64(1)
    return int((second << np.uint64(16)) | first)
