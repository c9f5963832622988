"""Actions for tests of workers elsewhere: a slow one, and one that ends its process."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


def flipped(g, x):
    """A flip that takes its time."""
    time.sleep(0.05)
    return np.ascontiguousarray(x[..., ::-1]) if g else x


@dataclass(frozen=True)
class Deadly:
    """A flip that kills every process but one, for a sample whose first value is 0.5."""

    deaths: Path
    spared: int

    def __call__(self, g, x):
        if 0.5 in (x.ravel()[0], x[..., ::-1].ravel()[0]) and os.getpid() != self.spared:
            with self.deaths.open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return np.ascontiguousarray(x[..., ::-1]) if g else x
