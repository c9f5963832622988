"""Results with fitted output actions, made up from the values that they are to have."""

import numpy as np
from recording import measurement

from onnx_geed.groups import Fit
from onnx_geed.results import fit_notes, fit_part, result

ELEMENTS = ("e", "r1", "r2", "r3")

#: Unexplained shares by layer: of the identity, of each kind of fit, and of the next sample's.
DEPTH = {
    "conv1": {"identity": 0.20, "permutation": 0.21, "orthogonal": 0.22, "linear": 0.21},
    "conv2": {"identity": 0.90, "permutation": 0.30, "orthogonal": 0.31, "linear": 0.30},
    "conv3": {"identity": 1.20, "permutation": 1.10, "orthogonal": 0.40, "linear": 0.25},
    "conv4": {"identity": 2.00, "permutation": 2.01, "orthogonal": 2.00, "linear": 2.01},
}


def fitted_record(
    layer, kind, values, *, n=20, measure="unexplained", null=2.0, m=4.0, noise=0.05, defect=None
):
    """A record of a fit whose mean values are as given, with the samples' own ups and downs."""
    random = np.random.default_rng(abs(hash_of(layer)))
    own = noise * random.standard_normal((n, 4))  # what a sample is hard by, whatever predicts it
    own -= own.mean(axis=0)

    def deviations(value, seed):
        jitter = 0.2 * noise * np.random.default_rng(seed).standard_normal((n, 4))
        return m * np.maximum(value + own + jitter - jitter.mean(axis=0), -1.0)

    lam = None if kind == "permutation" else 0.1
    fit = Fit(kind, layer, samples=50, lambda_=lam, defect=defect or (0.1, 0.3))
    skipped = 1 if measure == "unexplained" else 0
    scale = m if measure == "unexplained" else 1.0
    record = measurement(
        measure=measure,
        layer=layer,
        layout="NCHW",
        output_action="channels" if kind == "permutation" else "channel_matrices",
        deviations=deviations(values[kind], 1 + len(kind)) * scale / m,
        elements=ELEMENTS,
        normaliser=scale if measure == "unexplained" else None,
        norm_samples=n if measure == "unexplained" else None,
        skipped=skipped,
    )
    record["fit"] = fit_part(
        fit,
        {
            "shuffled": deviations(values.get("shuffled", null), 2) * scale / m,
            "identity": deviations(values["identity"], 3) * scale / m,
            "other_element": deviations(values.get("other_element", null), 4) * scale / m,
        },
        divisor=record["normaliser"],
        skipped=skipped,
        usable=True,
        interval="t",
        seed=0,
    )
    record["notes"] = fit_notes(record)
    return record


def hash_of(text):
    return sum(ord(c) * 31**i for i, c in enumerate(text)) % 2**32


def result_with(records, *, sha="ab", path="net.onnx", n=20, file=None):
    """A result of these records, under C4 on n samples."""
    made = result(
        command="onnx-geed measure net.onnx --data x.npy --group C4",
        software={"onnx-geed": "0"},
        model={"path": path, "sha256": sha, "opset": 17, "producer": ""},
        data={
            "source": "x.npy",
            "fingerprint": "cd",
            "available": 99,
            "indices": list(range(n)),
            "names": None,
            "labels": None,
        },
        group={
            "name": "C4",
            "order": 4,
            "elements": list(ELEMENTS),
            "exact": [True] * 4,
            "interpolation": "bilinear",
            "support": "full",
        },
        runtime={"device": "a processor", "precision": "float32"},
        seed=0,
        measurements=records,
    )
    return made | ({"file": file} if file else {})


def fitted_result(kind, layers=DEPTH, **options):
    """A result of one kind of fit on several layers."""
    about = {k: options.pop(k) for k in ("sha", "path", "file") if k in options}
    records = [fitted_record(layer, kind, values, **options) for layer, values in layers.items()]
    file = about.pop("file", f"{kind}.json")
    return result_with(records, file=file, n=options.get("n", 20), **about)
