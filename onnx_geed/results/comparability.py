"""The comparability of two results: in what they differ, and which records belong together."""

from __future__ import annotations

from onnx_geed.results.schema import Record, Result

__all__ = ["Key", "differences", "name_of", "records_of", "same_samples"]

#: Measure and layer.
Key = tuple[str, str]


def differences(a: Result, b: Result) -> list[str]:
    """Say what makes two results incomparable.

    Parameters
    ----------
    a, b : dict
        Results.

    Returns
    -------
    list of str
        Such as ``"group (C8, C4)"``; empty where they are comparable.
    """
    x, y = a["group"], b["group"]
    reasons = [
        _unlike(name, own, other)
        for name, own, other in (
            ("group", x["name"], y["name"]),
            ("interpolation", x["interpolation"], y["interpolation"]),
            ("support", x["support"], y["support"]),
        )
        if own != other
    ]
    if not reasons and x["elements"] != y["elements"]:
        reasons.append("group elements")
    reasons += _of_data(a, b)
    ours, theirs = records_of(a), records_of(b)
    both = [(ours[key], theirs[key]) for key in ours if key in theirs]
    actions = [(r["output_action"], s["output_action"]) for r, s in both]
    points = [(r["norm_samples"], s["norm_samples"]) for r, s in both]
    for name, pairs in (("output action", actions), ("points of M", points)):
        unlike = next(((own, other) for own, other in pairs if own != other), None)
        if unlike:
            reasons.append(_unlike(name, *unlike))
    return reasons


def _unlike(name: str, own: object, other: object) -> str:
    return f"{name} ({own}, {other})"


def _of_data(a: Result, b: Result) -> list[str]:
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


def _counts(result: Result) -> str:
    """Return the numbers of samples, commonly one."""
    return " and ".join(map(str, sorted({r["samples"] for r in result["measurements"]})))


def same_samples(a: Result, b: Result, count: int) -> bool:
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


def records_of(result: Result) -> dict[Key, Record]:
    """Return the records by measure and layer."""
    return {(r["measure"], r["layer"]): r for r in result["measurements"]}


def name_of(result: Result) -> str:
    """Return what to call a result in a message."""
    return str(result.get("file") or result["model"]["path"])
