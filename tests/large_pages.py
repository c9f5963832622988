"""Results for pages that are large or hostile, and maps of noise to be looked at on them."""

import numpy as np
from recording import measurement

from onnx_geed import parse_group
from onnx_geed.report import samples_to_show
from onnx_geed.results import Exploration, ExploredLayer, result

C8 = parse_group("C8")
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '"><svg onload=alert(3)>',
    "__proto__",
    "constructor",
    "\u202egnp.exe & 'quotes' \"$x^2$\" <!--",
    "block/" * 400,
    "\ud800 \x1b[31m \x00 ]]>",
    "x" * 5000,
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 " * 50,
    "a\nb\tc\r\nd\u2028e",
]


def explored(of, layers, samples=4, order=8, side=6, seed=0):
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((2, samples, order, 2, side, side)).astype(np.float32)
    scores = rng.dirichlet(np.ones(5), (samples, order))
    shown = [
        ExploredLayer(name, (3, 1), *maps, rng.uniform(-1, 1, (samples, order, 2)))
        for name in layers
    ]
    return Exploration(samples_to_show(of, samples), tuple(shown), scores, tuple(HOSTILE[:5]), ())


def of_layers(layers, path="net.onnx", names=None):
    noise = np.random.default_rng(0).standard_normal((4, 8))
    maps = [
        measurement(
            measure="channel-cos",
            layer=name,
            layout="NCHW",
            output_action="grid",
            deviations=-0.5 + i / (3 * len(layers)) + 0.01 * noise,
            elements=C8.elements,
        )
        for i, name in enumerate(layers)
    ]
    return result(
        command=f"onnx-geed measure {path}",
        software={"numpy": "1"},
        model={"path": path, "sha256": "ab" * 32, "opset": 17, "producer": ""},
        data={
            "source": "x.npy",
            "fingerprint": "cd" * 32,
            "available": 30,
            "indices": [0, 1, 2, 3],
            "names": names,
            "labels": None,
        },
        group={
            "name": "C8",
            "order": 8,
            "elements": list(C8.elements),
            "exact": [g % 2 == 0 for g in range(8)],
            "interpolation": "bilinear",
            "support": "full",
        },
        runtime={"device": "a processor", "precision": "float32"},
        seed=0,
        measurements=maps,
    )
