"""Bare inference as a process: open a model on all cores, run images that lie ready in a file.

python run_bare.py MODEL.onnx ROWS.npy COUNT BATCH

BATCH is that of the model where its file fixes it. Rows are taken again from the start where they
run out. Only one batch is in memory, and nothing is kept or written.
"""

import math
import sys

import numpy as np
import onnxruntime as ort

model, path, count, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
options = ort.SessionOptions()
options.log_severity_level = 4
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
taken = session.get_inputs()[0]
if isinstance(taken.shape[0], int):
    batch = taken.shape[0]
with open(path, "rb") as file:
    np.lib.format.read_magic(file)
    (rows, *shape), _, dtype = np.lib.format.read_array_header_1_0(file)
    first, done = file.tell(), 0
    while done < count:
        if done % rows == 0:
            file.seek(first)
        some = min(batch, count - done, rows - done % rows)
        images = np.fromfile(file, dtype, some * math.prod(shape)).reshape(some, *shape)
        session.run(None, {taken.name: images})
        done += some
