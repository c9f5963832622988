"""Summaries of suites that are large, or whose names are hostile."""

import itertools


def row(
    model, *, step=None, data="digits", group="C8", measure="latent-l2", layer="z", at=0.3, **more
):
    value = -1 + at if measure.endswith("-cos") else at
    return {
        "model": model,
        "step": step,
        "data": data,
        "group": group,
        "measure": measure,
        "layer": layer,
        "output_action": "trivial",
        "samples": 50,
        "seeds": [0, 1, 2],
        "models": 3,
        "values": [value] * 3,
        "mean": value,
        "ci95_over_models": [value - 0.02, value + 0.02],
        "ci95_over_samples": None,
        "normalisers": [2.0] * 3,
        "unnormalised": [2 * value] * 3,
        "unnormalised_mean": 2 * value,
        "unnormalised_ci95_over_models": [2 * value - 0.04, 2 * value + 0.04],
        "relative": [at] * 3,
        "relative_mean": at,
        "relative_ci95_over_models": [at - 0.02, at + 0.02],
        "relative_ci95_over_samples": None,
        "exact_mean": None,
        "exact_ci95_over_models": None,
        "fit": None,
        "kind": "group",
        "warnings": [],
    } | more


def suite(rows, title="A suite", failed=()):
    return {"schema": "onnx-geed/suite/1", "title": title, "failed": list(failed), "rows": rows}


def grid(models, steps=(None,), data=("digits",), groups=("C8",), layers=5):
    """Each model at each step, under two measures, the first in so many layers."""
    rows = []
    cells = itertools.product(enumerate(models), enumerate(steps), enumerate(data), groups)
    for (i, model), (k, step), (j, where), group in cells:
        at = 0.1 + 0.7 * ((7 * i + 3) % len(models)) / len(models) / (1 + 0.3 * k) + 0.05 * j
        own = {"step": step, "data": where, "group": group}
        for n in range(layers):
            deep = at * (0.2 + 0.8 * (n + 1) / layers)
            rows.append(row(model, measure="channel-cos", layer=f"block{n + 1}", at=deep, **own))
        rows.append(
            row(model, layer=f"{model}/z", at=at, right_mean=1 - at, right_unmoved_mean=0.95, **own)
        )
    return rows
