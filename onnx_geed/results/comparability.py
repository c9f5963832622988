"""The comparability of two results: in what they differ, and which records belong together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from onnx_geed.measures import descriptor_of
from onnx_geed.results.families import is_family
from onnx_geed.results.origin import DataPart, InputPart, same_model
from onnx_geed.results.schema import Record, Result

__all__ = [
    "Key",
    "action_differences",
    "action_name",
    "differences",
    "matched",
    "name_of",
    "records_of",
    "same_samples",
    "same_setting",
    "truth_differences",
    "two_maps",
    "what_sets_apart",
]

Name = TypeVar("Name")

#: Measure and layer.
Key = tuple[str, str]


def differences(a: Result, b: Result, pairs: Sequence[tuple[Key, Key]]) -> list[str]:
    """Say what makes two results incomparable.

    Parameters
    ----------
    a, b : dict
        Results.
    pairs : sequence of (Key, Key)
        Records that are held against each other.

    Returns
    -------
    list of str
        Such as ``"group (C8, C4)"``; empty where they are comparable. Output actions are apart,
        in :func:`action_differences`.
    """
    x, y = a["group"], b["group"]
    reasons = [
        _unlike(name, own, other)
        for name, own, other in (
            (_noun(a, b), x["name"], y["name"]),
            ("interpolation", x["interpolation"], y["interpolation"]),
            ("support", x["support"], y["support"]),
            ("clip", x.get("clip", False), y.get("clip", False)),
            ("backgrounds", x.get("backgrounds", "none")[:8], y.get("backgrounds", "none")[:8]),
        )
        if own != other
    ]
    of_data = _of_data(a, b)
    # Those of named actions need none, and earlier versions did not write those of one's own. They
    # are of the first sample, and of another one tell nothing.
    if "members" in x and "members" in y and not of_data:
        whose = "elements do" if x["interpolation"] == "own" else "members do"
        does = [(x["members"][:8], y["members"][:8])]
        reasons += _first_unlike(f"what its {whose}", does)
    kinds = x.get("kind"), y.get("kind")  # which results of earlier versions do not say
    if not reasons and None not in kinds and kinds[0] != kinds[1]:
        reasons.append(_unlike("kind of group", *kinds))
    if not reasons and x["elements"] != y["elements"]:
        reasons.append("group elements")
    elif not reasons and x.get("parameters") != y.get("parameters"):
        reasons.append(f"{x.get('parameter') or 'parameter'} of its members")
    reasons += of_data or _of_what_is_beside(a, b)
    if (ours := _part(a)) != (theirs := _part(b)):
        reasons.insert(0, _unlike("part of a run", ours, theirs))
    if _has_vectors(a) or any("X" in r["layout"] for r, _ in _both(a, b, pairs)):
        told = [group.get("components", "right-down") for group in (x, y)]
        reasons += _first_unlike("components", [(told[0], told[1])])
    points = [(r["norm_samples"], s["norm_samples"]) for r, s in _both(a, b, pairs)]
    reasons += _first_unlike("points of M", points)
    if same_model(a["model"], b["model"]):  # of another one, scores may be of the other kind
        same = [(r, s) for r, s in _both(a, b, pairs) if r["layer"] == s["layer"]]
        reads = [(r["reads"], s["reads"]) for r, s in same if "reads" in r and "reads" in s]
        reasons += _first_unlike("what class scores are read as", reads)
    return reasons


def _has_vectors(result: Result) -> bool:
    """Tell whether an input that was moved has components of vectors."""
    data = result["data"]
    layouts = [data.get("layout", ""), *(one["layout"] for one in data.get("inputs", []))]
    return any("X" in layout for layout in layouts)


def _part(result: Result) -> str:
    return f"{part['number']} of {part['of']}" if (part := result.get("part")) else "whole"


def _noun(a: Result, b: Result) -> str:
    return "family" if is_family(a["group"]) and is_family(b["group"]) else "group"


def action_differences(a: Result, b: Result, pairs: Sequence[tuple[Key, Key]]) -> list[str]:
    """Say where two results have other output actions.

    Parameters
    ----------
    a, b : dict
        Results.
    pairs : sequence of (Key, Key)
        Records that are held against each other.

    Returns
    -------
    list of str
        Such as ``"output action (fit:linear, grid)"``. Values of one model under two actions tell
        which predicts better; those of two models tell nothing, and none are to be averaged. Of one
        model, what its tensors' axes are taken for counts too, and the tables.
    """
    both = _both(a, b, pairs)
    actions = [(action_name(r), action_name(s)) for r, s in both]
    reasons = _first_unlike("output action", actions)
    if not reasons and same_model(a["model"], b["model"]):
        same = [(r, s) for r, s in both if r["layer"] == s["layer"]]
        reasons += _first_unlike("layout", [(r["layout"], s["layout"]) for r, s in same])
        tables = [(r.get("table"), s.get("table")) for r, s in same]
        reasons += _first_unlike("action table", [pair for pair in tables if None not in pair])
    return reasons


def matched(a: Result, b: Result) -> list[tuple[Key, Key]]:
    """Match the records of two results.

    Parameters
    ----------
    a, b : dict
        Results.

    Returns
    -------
    list of (Key, Key)
        Those of one measure and layer; and those that are the only ones of their measure in both.
    """
    ours, theirs = list(records_of(a)), list(records_of(b))
    pairs = [(key, key) for key in ours if key in theirs]
    for measure in dict.fromkeys(key[0] for key in ours):
        own, other = ([key for key in keys if key[0] == measure] for keys in (ours, theirs))
        if len(own) == len(other) == 1 and own != other:
            pairs.append((own[0], other[0]))
    return pairs


def _both(a: Result, b: Result, pairs: Sequence[tuple[Key, Key]]) -> list[tuple[Record, Record]]:
    ours, theirs = records_of(a), records_of(b)
    return [(ours[x], theirs[y]) for x, y in pairs]


def _first_unlike(name: str, pairs: Iterable[tuple[object, object]]) -> list[str]:
    return [_unlike(name, own, other) for own, other in pairs if own != other][:1]


def action_name(record: Record) -> str:
    """Return what to call a record's output action: ``fit:linear`` and such where it was fitted."""
    fit = record.get("fit")
    return f"fit:{fit['kind']}" if fit else record["output_action"]


def two_maps(a: Result, b: Result, first: Record, second: Record) -> bool:
    """Tell whether two records are of one model's tensor, and of two maps that predict it.

    They tell then which map predicts better, and nothing of which model is.
    """
    if not same_model(a["model"], b["model"]) or first["layer"] != second["layer"]:
        return False
    if first.get("fit") or second.get("fit") or first["layout"] != second["layout"]:
        return True
    tables = first.get("table"), second.get("table")
    other = None not in tables and tables[0] != tables[1]
    return other or first["output_action"] != second["output_action"]


def _unlike(name: str, own: object, other: object) -> str:
    return f"{name} ({own}, {other})"


def _of_data(a: Result, b: Result) -> list[str]:
    ours, theirs = a["data"], b["data"]
    if _counts(a) != _counts(b):
        return [f"number of samples ({_counts(a)}, {_counts(b)})"]
    if _same_values(ours, theirs):  # copies elsewhere are the same data
        if ours["indices"] != theirs["indices"]:
            return ["samples"]
        masks = [data.get("masks") for data in (ours, theirs)]
        digests = ["none" if own is None else own["fingerprint"][:8] for own in masks]
        return [] if digests[0] == digests[1] else [_unlike("masks", *digests)]
    if ours["source"] != theirs["source"]:
        return [f"data ({ours['source']}, {theirs['source']})"]
    if ours["indices"] != theirs["indices"]:
        return ["samples drawn (--seed, --samples, --norm-samples)"]
    return ["what the models were fed (preprocessing, or files that have changed)"]


def _same_values(ours: DataPart, theirs: DataPart) -> bool:
    """Tell whether two models were fed the same samples.

    A cache's fingerprint is of all its samples, of which fewer may have been measured.
    """
    if ours["fingerprint"] == theirs["fingerprint"]:
        return True
    told = [(data.get("marks"), data.get("preprocess")) for data in (ours, theirs)]
    return told[0] == told[1] and all(part is not None for part in told[0])


def _of_what_is_beside(a: Result, b: Result) -> list[str]:
    """Say in what two results differ that comes with the samples, where both tell of it."""
    ours, theirs = a["data"], b["data"]
    reasons = _of_moved_inputs(a, b)
    # Of other types the same numbers have other fingerprints.
    others = [
        {(one["name"], one["dtype"]): one.get("fingerprint") for one in data.get("inputs", [])}
        for data in (ours, theirs)
    ]
    # A cache's are of all its samples, of which fewer may have been measured: marks tell of these.
    alike = _alike(_marks_of_inputs(ours), _marks_of_inputs(theirs))
    unlike = [key for key in _unlike_of(*others) if key not in alike]
    reasons += [f"what input {name} was fed" for name, _ in unlike]
    fed = _unlike_of(ours.get("fed", {}), theirs.get("fed", {}))
    same = _alike(_marks_of_feeds(ours), _marks_of_feeds(theirs))
    reasons += [f"what input {name} was fed (--feed)" for name in fed if name not in same]
    # Results of earlier versions do not say.
    if "mask" in ours and "mask" in theirs and ours["mask"] != theirs["mask"]:
        reasons.append("what is padding (--mask)")
    return reasons


def _of_moved_inputs(a: Result, b: Result) -> list[str]:
    """Say whether the group moved other inputs in two results, or other axes of them.

    Names and the order of axes are a model's own, and so is how many inputs it has: of two models,
    letters are held against each other, and an input that one of them left unmoved is told of. In
    which order an array was read, fingerprints of its samples tell.
    """
    ours, theirs = a["data"], b["data"]
    further = [[one["layout"] for one in data.get("inputs", [])[1:]] for data in (ours, theirs)]
    one_model = same_model(a["model"], b["model"])
    if len(further[0]) != len(further[1]):
        fewer = ours if len(further[0]) < len(further[1]) else theirs
        if one_model or fewer.get("fed"):
            counts = (len(each) + 1 for each in further)
            return [_unlike("number of inputs that are moved", *counts)]
        further = [[], []]  # one of them takes less, such as no mask and no adjacency
    # Of earlier versions' results nobody knows what was fed.
    if one_model and "mask" in ours and "mask" in theirs:
        still = [sorted(data.get("fed", {})) for data in (ours, theirs)]
        if still[0] != still[1]:
            return [_unlike("inputs that stay unmoved", *(", ".join(s) or "none" for s in still))]
    layouts = [data.get("layout", "") for data in (ours, theirs)]
    if not all(layouts):
        return []
    read = [sorted([own, *others]) for own, others in zip(layouts, further, strict=True)]
    held = read
    if not one_model:
        held = [sorted("".join(sorted(text)) for text in each) for each in read]
    return [] if held[0] == held[1] else [_unlike("layout of the input", *map(" and ".join, read))]


def _marks_of_inputs(data: DataPart) -> dict[tuple[str, str], object]:
    """Return digests of the samples that inputs were fed, and what was done to these then.

    The first one's are those of the data. Where a result does not tell, there are none.
    """
    told: dict[tuple[str, str], object] = {}
    for i, one in enumerate(data.get("inputs", [])):
        part: InputPart | DataPart = one if i else data
        marks = part.get("marks")
        told[one["name"], one["dtype"]] = (marks, part.get("preprocess")) if marks else None
    return told


def _marks_of_feeds(data: DataPart) -> dict[str, object]:
    """Return digests of what other inputs were fed: one where it was the same for all samples."""
    fed = data.get("fed_marks", {})
    return {name: own[:1] if len({*own}) == 1 else own for name, own in fed.items()}


def _alike(ours: Mapping[Name, object], theirs: Mapping[Name, object]) -> set[Name]:
    """Return the names under which both have the same, and something."""
    return {name for name in ours if ours[name] and ours[name] == theirs.get(name)}


def truth_differences(a: Result, b: Result, pairs: Iterable[tuple[Key, Key]]) -> list[str]:
    """Say whether shares of the error were measured against other targets or labels.

    Parameters
    ----------
    a, b : dict
        Results.
    pairs : iterable of (Key, Key)
        Records that are held against each other.

    Returns
    -------
    list of str
        Such as ``"labels"``; empty where there are none, or nothing can be told of them.
    """
    ours, theirs = a["data"], b["data"]
    layers = [(x[1], y[1]) for x, y in pairs if descriptor_of(x[0]).of_error]
    targets = [
        (ours.get("targets", {}).get(x), theirs.get("targets", {}).get(y)) for x, y in layers
    ]
    reasons = [
        f"target of {x}"
        for (x, _), (own, other) in zip(layers, targets, strict=True)
        if own and other and own != other
    ]
    if all(own and other for own, other in targets):
        return reasons
    count = a["measurements"][0]["samples"]
    labels = [(data["labels"] or [])[:count] for data in (ours, theirs)]
    # Names and numbers of the same classes cannot be held against each other.
    alike = {type(label) for each in labels for label in each}
    return reasons + ["labels"] * (len(alike) == 1 and all(labels) and labels[0] != labels[1])


def _unlike_of(ours: Mapping[Name, object], theirs: Mapping[Name, object]) -> list[Name]:
    """Return the names under which both have something, and not the same."""
    both = [name for name in ours if None not in (ours[name], theirs.get(name))]
    return [name for name in both if ours[name] != theirs[name]]


def _counts(result: Result) -> str:
    """Return the numbers of samples, commonly one."""
    return " and ".join(map(str, sorted({r["samples"] for r in result["measurements"]})))


def same_samples(a: Result, b: Result, count: int) -> bool:
    """Tell whether the first ``count`` samples of two results may be paired.

    Differently preprocessed pictures are still the same pictures; so are copies in another folder.
    What was fed along with them, and what of them is padding, is part of them.
    """
    return not what_sets_apart(a, b, count)


def what_sets_apart(a: Result, b: Result, count: int) -> str:
    """Say why the first ``count`` samples of two results are not the same.

    Parameters
    ----------
    a, b : dict
        Results.
    count : int
        How many samples are looked at.

    Returns
    -------
    str
        Such as ``"samples with other values of input u"``; empty where they are the same, or
        results of earlier versions do not say.
    """
    ours, theirs = a["data"], b["data"]
    if not _same_of_first_input(ours, theirs, count):
        return "different samples"
    names = _other_inputs_unlike(ours, theirs, count) + _other_feeds(ours, theirs, count)
    if names:
        return f"samples with other values of input {names[0]}"
    masks = [data.get("mask", "") for data in (ours, theirs)]
    # It is of all samples, so that only of the same ones it tells anything.
    if "" not in masks and masks[0] != masks[1] and ours["indices"] == theirs["indices"]:
        return "samples with other padding"
    return ""


def _same_of_first_input(ours: DataPart, theirs: DataPart, count: int) -> bool:
    if ours["indices"][:count] != theirs["indices"][:count]:
        return False
    if ours["fingerprint"] == theirs["fingerprint"]:
        return True
    if ours["names"] and theirs["names"]:
        return bool(ours["names"][:count] == theirs["names"][:count])
    return bool(ours["source"] == theirs["source"])


def _other_inputs_unlike(ours: DataPart, theirs: DataPart, count: int) -> list[str]:
    """Return the inputs beside the first that the group moves, of whose samples some are others."""
    further = [
        {(one["name"], one["dtype"]): one for one in data.get("inputs", [])[1:]}
        for data in (ours, theirs)
    ]
    pairs = [(one, further[1][key]) for key, one in further[0].items() if key in further[1]]
    return [one["name"] for one, other in pairs if not _same_of_input(one, other, count)]


def _same_of_input(ours: InputPart, theirs: InputPart, count: int) -> bool:
    prints = ours.get("fingerprint"), theirs.get("fingerprint")
    if None in prints or prints[0] == prints[1]:
        return True
    marks = [one.get("marks", [])[:count] for one in (ours, theirs)]
    if all(marks) and marks[0] == marks[1]:
        return True
    # Prepared or read in another way, the same have other values.
    told = [[one.get(k) for k in ("preprocess", "shape", "layout")] for one in (ours, theirs)]
    if all(marks) and told[0] == told[1]:
        return False
    return ours["source"] == theirs["source"]


def _other_feeds(ours: DataPart, theirs: DataPart, count: int) -> list[str]:
    """Return the inputs that were fed other values with some of the first samples."""
    unlike = _unlike_of(ours.get("fed", {}), theirs.get("fed", {}))
    return [name for name in unlike if not _fed_alike(ours, theirs, name, count)]


def _fed_alike(ours: DataPart, theirs: DataPart, name: str, count: int) -> bool:
    """Tell whether the first samples were fed the same; all those of a result were not."""
    marks = [data.get("fed_marks", {}).get(name, [])[:count] for data in (ours, theirs)]
    if all(marks):
        return marks[0] == marks[1] or len({*marks[0], *marks[1]}) == 1
    # Fed without rows, or by an earlier version, whose digest tells of the same samples only.
    told = all("fed_marks" in data for data in (ours, theirs))
    return not told and ours["indices"] != theirs["indices"]


def same_setting(a: Result, b: Result) -> bool:
    """Tell whether two results of the same samples were fed and normalised alike."""
    return (
        a["data"].get("preprocess") == b["data"].get("preprocess")
        and not _of_what_is_beside(a, b)
        and all(r["norm_samples"] == s["norm_samples"] for r, s in _both(a, b, matched(a, b)))
    )


def records_of(result: Result) -> dict[Key, Record]:
    """Return the records by measure and layer."""
    return {(r["measure"], r["layer"]): r for r in result["measurements"]}


def name_of(result: Result) -> str:
    """Return what to call a result in a message."""
    return str(result.get("file") or result["model"]["path"])
