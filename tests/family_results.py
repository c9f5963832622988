"""Results of families for tests, whose curves are known."""

import numpy as np
from recording import measurement

from onnx_geed.results import result

#: By equal ratios.
ZOOMS = tuple(0.8 * 1.25 ** (k / 4) for k in (0, 1, 2, 3, 5, 6, 7, 8))

#: Name, parameter, unit and values of members, the identity's own among them or None.
FAMILIES = {
    "rotate:-15..15/7": ("rotate", "angle", "°", 0.0, (-15, -10, -5, 5, 10, 15)),
    "zoom:0.8..1.25/9": ("zoom", "factor", "", 1.0, ZOOMS),
    "jpeg:90..10/6": ("jpeg", "quality", "", None, (90, 74, 58, 42, 26, 10)),
    "noise:4..32/6": ("noise", "σ", "/255", None, (4, 9.6, 15.2, 20.8, 26.4, 32)),
}  # fmt: skip


def family_group(name, **changes):
    """The ``group`` part of a result of one of them."""
    short, parameter, unit, own, values = FAMILIES[name]
    return {
        "name": name,
        "kind": "family",
        "order": 1 + len(values),
        "elements": ["e", *(f"{short}{v:g}" for v in values)],
        "exact": [True] + [False] * len(values),
        "interpolation": "bilinear",
        "support": "full",
        "parameters": [own, *map(float, values)],
        "parameter": parameter,
        "unit": unit,
    } | changes


def strengths(name):
    """How strong each element is, 0 to 1, the identity first."""
    _, _, _, own, values = FAMILIES[name]
    array = np.array(values, float)
    away = np.abs(np.log(array)) if name.startswith("zoom") else np.abs(array - (own or 0))
    away = 100 - array if name.startswith("jpeg") else away
    return np.append(0.0, away / away.max())


def family_result(
    name, *, scale=1.0, path="net.onnx", sha="ab", seed=0, samples=12, labels=True, depth=3, **parts
):
    """A result whose deviations grow with a member's strength, and by ``scale``."""
    rng = np.random.default_rng(seed)
    group = family_group(name)
    strong = strengths(name)
    of_sample = 1 + 0.3 * rng.standard_normal((samples, 1))

    def record(measure, layer, values, **options):
        return measurement(
            measure=measure,
            layer=layer,
            layout="NCHW" if measure == "channel-cos" else "NK",
            output_action="grid" if measure == "channel-cos" else "trivial",
            deviations=values,
            elements=group["elements"],
            skipped=1,
            **options,
        )

    order = group["order"]
    maps = [
        record(
            "channel-cos",
            f"conv{k}",
            -1 + 0.5 * scale * strong * np.abs(of_sample) * k / depth,
            between=np.full((4, order), -0.1),
        )
        for k in range(1, depth + 1)
    ]
    latent = record(
        "latent-l2",
        "z",
        0.8 * scale * strong * np.abs(of_sample),
        normaliser=2.0,
        norm_samples=9,
        between=np.full((4, order), 2.0),
    )
    gains = 1 + 2 * scale * strong[1:]
    latent["gain"] = {
        "value": float(gains.mean()),
        "per_element": dict(zip(group["elements"][1:], gains.tolist(), strict=True)),
    }
    kl = record(
        "softmax-kl",
        "logits",
        0.6 * scale * strong**2 * np.abs(of_sample),
        between=np.full((4, order), 3.0),
    )
    flips = rng.random((samples, order)) < 0.6 * scale * strong
    flip = record("flip-rate", "logits", flips.astype(float), trials=True)
    flip["most_common"] = 0.25
    if labels:
        stay = 1 - flips.mean(axis=0)
        right = 0.9 - 0.5 * scale * strong
        kl["predictions"] = flip["predictions"] = {
            "stay": _share(group, stay),
            "right": _share(group, right),
            "samples": samples,
        }
    return result(
        command=f"onnx-geed measure {path} --group {name}",
        software={"numpy": "1"},
        model={"path": path, "sha256": sha * 32, "opset": 17, "producer": ""},
        data={
            "source": "x.npy",
            "fingerprint": "cd" * 32,
            "available": 30,
            "indices": list(range(samples)),
            "names": None,
            "labels": None,
            "layout": "NCHW",
            "shape": [3, 32, 32],
        },
        group=group | parts,
        runtime={"device": "a processor", "precision": "float32"},
        seed=0,
        measurements=[*maps, latent, kl, flip],
    )


def _share(group, values):
    return {
        "value": float(values.mean()),
        "per_element": dict(zip(group["elements"], values.tolist(), strict=True)),
    }
