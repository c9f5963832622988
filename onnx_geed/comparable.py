"""Whether results were measured in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["differences", "name_of", "records_of", "same_samples"]

Made = Mapping[str, Any]
Key = tuple[str, str]


def differences(a: Made, b: Made) -> list[str]:
    """Say what makes two results incomparable.

    Parameters
    ----------
    a, b : mapping
        Results.

    Returns
    -------
    list of str
        Such as ``"group (C8, C4)"``; empty where they are comparable.
    """
    found = [
        f"{what} ({a['group'][key]}, {b['group'][key]})"
        for what, key in (
            ("group", "name"),
            ("interpolation", "interpolation"),
            ("support", "support"),
        )
        if a["group"][key] != b["group"][key]
    ]
    if not found and a["group"]["elements"] != b["group"]["elements"]:
        found.append("group elements")
    found += _of_data(a, b)
    ours, theirs = records_of(a), records_of(b)
    both = [(ours[key], theirs[key]) for key in ours if key in theirs]
    for what, field in (("output action", "output_action"), ("points of M", "norm_samples")):
        apart = [(x[field], y[field]) for x, y in both if x[field] != y[field]]
        if apart:
            found.append(f"{what} ({apart[0][0]}, {apart[0][1]})")
    return found


def _of_data(a: Made, b: Made) -> list[str]:
    ours, theirs = a["data"], b["data"]
    if _counts(a) != _counts(b):
        return [f"number of samples ({_counts(a)}, {_counts(b)})"]
    if ours["fingerprint"] == theirs["fingerprint"]:  # copies elsewhere are the same data
        return [] if ours["indices"] == theirs["indices"] else ["samples"]
    if ours["source"] != theirs["source"]:
        return [f"data ({ours['source']}, {theirs['source']})"]
    if ours["indices"] != theirs["indices"]:
        return ["samples drawn (--seed, --samples, --norm-samples)"]
    return ["what the models were fed (preprocessing, or files that have changed)"]


def _counts(made: Made) -> str:
    """Return the numbers of samples, commonly one."""
    return " and ".join(map(str, sorted({m["samples"] for m in made["measurements"]})))


def same_samples(a: Made, b: Made, count: int) -> bool:
    """Tell whether the first ``count`` samples of two results may be paired.

    Differently preprocessed pictures are still the same pictures; so are copies in another folder.
    """
    ours, theirs = a["data"], b["data"]
    if ours["indices"][:count] != theirs["indices"][:count]:
        return False
    if ours["fingerprint"] == theirs["fingerprint"]:
        return True
    if ours["names"] and theirs["names"]:
        return bool(ours["names"][:count] == theirs["names"][:count])
    return bool(ours["source"] == theirs["source"])


def records_of(made: Made) -> dict[Key, Made]:
    """Return the measurements by measure and layer."""
    return {(m["measure"], m["layer"]): m for m in made["measurements"]}


def name_of(made: Made) -> str:
    """Return what to call a result in a message."""
    return str(made.get("file") or made["model"]["path"])
