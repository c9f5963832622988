"""Data read in this very process: ten files and more in the time that one command takes.

A library that ends the process ends the fuzzer too; the commands, in children, are the judge.
"""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import onnx
from bounded import Ended

from onnx_geed import GeedError
from onnx_geed.data import open_samples, parse_preprocess
from onnx_geed.safe_names import one_line


def read(line: Sequence[str], folder: Path) -> Ended:
    """Open the data of a command line, and read all samples; say how it ended."""
    given = dict(pairwise(line))
    preprocess = given.get("--preprocess")
    stated = onnx.load(folder / "model.onnx").graph.input[0].type.tensor_type.shape.dim[1:]
    start, before, said = time.monotonic(), os.getcwd(), ""
    os.chdir(folder)
    try:
        with warnings.catch_warnings(action="ignore"):
            samples = open_samples(
                given["--data"],
                input_shape=[dim.dim_value or None for dim in stated],
                input_layout=given.get("--input-layout", "NCHW"),
                preprocess=None if preprocess is None else parse_preprocess(preprocess),
                labels=given.get("--labels"),
            )
            for i in range(min(len(samples), 20)):
                samples[i]
    except GeedError as error:
        said = f"onnx-geed: {one_line(str(error), 370)}"
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"({Path(at.filename).name}, line {at.lineno})"
        said = f"onnx-geed: internal error, {type(error).__name__}: {error} {where}"
    finally:
        os.chdir(before)
    return Ended(2 if said else 0, "", said, time.monotonic() - start, 0, ())
