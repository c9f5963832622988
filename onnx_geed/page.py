"""Results → one self-contained HTML page."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx_geed.diagnosis import diagnose, diagnose_corners, model_of
from onnx_geed.errors import GeedError
from onnx_geed.files import make_folder, write_text
from onnx_geed.intervals import mean_interval
from onnx_geed.reading import Reading, angle, grade, meaning, read_record, span
from onnx_geed.table import interval, number

__all__ = ["report", "write_report"]

# What of a page is looked at first: the samples are ranked by the first of these that there is.
_HEADLINE = ("softmax-kl", "latent-l2", "latent-cos", "output-l2", "channel-cos")
_REFERENCES = ("input_round_trip", "output_round_trip", "numeric", "untrained")
# Samples at each end, elements of a long orbit.
_ENDS, _THUMBNAILS = 3, 8
# Exact elements that deviate by so much of the whole show that interpolation is not the cause.
_OWN = 0.6
# No element stands out whose deviation differs by less, as a share of what samples differ by.
_DIFFER = 0.02


def write_report(
    results: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    data: str | Path | None = None,
    pictures: str | Path | None = None,
    command: str | None = None,
) -> None:
    """Write the page of some results.

    Parameters
    ----------
    results : sequence of mapping
        Results, such as :func:`onnx_geed.read_result` returns.
    path : str or Path
        The HTML file.
    data : str or Path, optional
        The data that was measured, for thumbnails.
    pictures : str or Path, optional
        A folder that the pictures are written to as well, as SVG files.
    command : str, optional
        What the page says it was made by.

    Raises
    ------
    GeedError
        If a file cannot be written.
        If there is no result, or one without measurements.
        If matplotlib or jinja2 are not installed.
        If the data are not those that were measured.
    """
    _check_installed()
    content = _content(results, data, command)
    write_text(path, _render(content), option="-o")
    if pictures is not None:
        _keep(content["sections"], Path(pictures))


def _keep(shown: Sequence[Mapping[str, Any]], folder: Path) -> None:
    from onnx_geed.canvas import themed

    make_folder(folder, option="--pictures")
    for section in shown:
        for i, picture in enumerate(section["pictures"], 1):
            file = folder / f"{section['measure']}-{i}-{picture['what']}.svg"
            write_text(file, themed(str(picture["svg"])), option="--pictures")


def report(results: Sequence[Mapping[str, Any]], *, data: str | Path | None = None) -> str:
    """Return one self-contained HTML page of some results.

    Parameters
    ----------
    results : sequence of mapping
        Results; several are drawn over one another and compared with the first.
    data : str or Path, optional
        The data that was measured, for thumbnails of the samples with the largest and smallest
        deviations.

    Returns
    -------
    str
        HTML with its pictures and style inside.

    Raises
    ------
    GeedError
        If there is no result, or one without measurements.
        If matplotlib or jinja2 are not installed.
        If the data are not those that were measured.
    """
    _check_installed()
    return _render(_content(results, data, None))


def _check_installed() -> None:
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError:
        raise GeedError(
            "report: needs matplotlib and jinja2; install them with pip install 'onnx-geed[report]'"
        ) from None


def _render(content: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("onnx_geed"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(content)


def _content(
    results: Sequence[Mapping[str, Any]], data: str | Path | None, command: str | None
) -> dict[str, Any]:
    """Return what the template is filled with."""
    from onnx_geed.sections import comparisons, sections

    if not results or any(not r["measurements"] for r in results):
        raise GeedError("report: give result files that hold at least one measurement")
    names = _names(results)
    read = [[read_record(m) for m in r["measurements"]] for r in results]
    return {
        "title": " · ".join(names[:3]) + (f" and {len(names) - 3} more" * (len(names) > 3)),
        "group": " · ".join(dict.fromkeys(r["group"]["name"] for r in results)),
        "results": [
            _result(*args, others=results) for args in zip(results, names, read, strict=True)
        ],
        "sections": sections(results, names, read),
        "comparisons": comparisons(results, names),
        "samples": _all_samples(results, names, read, data),
        "again": _again(results, data, command),
    }


def _names(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the results, as short as tells them apart."""
    paths = [Path(r["model"]["path"]) for r in results]
    files = [Path(r.get("file") or f"result {i}") for i, r in enumerate(results, 1)]
    groups = [f"{p.stem}, {r['group']['name']}" for p, r in zip(paths, results, strict=True)]
    for names in (
        [p.stem for p in paths],
        groups,
        [str(p) for p in paths],
        [f.stem for f in files],
        [str(f) for f in files],
    ):
        if len(set(names)) == len(names):
            return names
    return [f"{f} ({i})" for i, f in enumerate(files, 1)]


def _result(
    made: Mapping[str, Any],
    name: str,
    read: Sequence[Reading],
    *,
    others: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    from onnx_geed.sections import OPEN, class_tables

    order = made["group"]["order"]
    rows = [_row(m, order) for m in made["measurements"]]
    return {
        "name": name,
        "summary": _summary(made, read),
        "findings": [
            *(f for other in others for f in diagnose_corners(made, other)),
            *diagnose(made, model_of(made)),
        ],
        "rows": rows,
        "open": len(rows) <= OPEN,
        "references": [k for k in _REFERENCES if any(k in row["references"] for row in rows)],
        "classes": class_tables(made),
        "facts": _facts(made),
        "notes": list(made.get("notes", ())),
    }


def _row(record: Mapping[str, Any], order: int) -> dict[str, Any]:
    read, part = read_record(record), record["exact"]
    references = record["references"] or {}
    # Between samples has a column of its own, of results that are older too.
    references = {k: v for k, v in references.items() if k != "between_samples"}
    what = "value" if read.normalised else "unnormalised"
    return {
        "measure": record["measure"],
        "layer": record["layer"],
        "value": number(record["value"]),
        "ci": interval(record["ci95"]),
        "unnormalised": "" if read.normalised else number(record["unnormalised"]),
        "exact": number(read.exact) if part else "",
        "exact_ci": interval(read.exact_ci95) if part else "",
        "m": number(record["normaliser"]) if record["normaliser"] is not None else "",
        "n": record["samples"],
        "between": "" if read.between is None else number(read.between),
        "relative": "" if read.relative is None else number(read.relative),
        "relative_ci": interval(read.relative_ci95) if read.relative_ci95 else "",
        "meaning": meaning(record, order),
        "warnings": record["warnings"],
        "references": {
            k: number(v.get(what) if isinstance(v, Mapping) else v) for k, v in references.items()
        },
    }


def _summary(made: Mapping[str, Any], read: Sequence[Reading]) -> list[str]:
    """Sentences, every number and direction of which is read from the result."""
    group, order = made["group"]["name"], made["group"]["order"]
    from onnx_geed.sections import TITLES

    said = []
    maps = [r for r in read if r.measure == "channel-cos"]
    if len(maps) > 1:
        said.append(_depth(maps))
    for record, r in zip(made["measurements"], read, strict=True):
        if r.measure != "channel-cos" or len(maps) == 1:
            title = TITLES.get(r.measure, r.measure)
            said.append(f"{title} ({r.layer}): {meaning(record, order)}")
    tripped = [r for r in (maps or read) if r.trips]
    if tripped and not all(made["group"]["exact"]):
        said.append(_resampling(tripped[-1]))
    ranked = maps[-1] if maps else read[-1]
    if order > 2 and not np.allclose(ranked.per_element, ranked.perfect, atol=1e-4):
        said.append(_elements(ranked, group, made["group"]["elements"]))
    return said


def _resampling(read: Reading) -> str:
    """Say how much of a value resampling alone could bring about."""
    name, value = max(read.trips.items(), key=lambda item: item[1])
    away, unit = value - read.perfect, read.unit
    text = f"Resampling alone ({name.replace('_', ' ')}) gives {span(value)} {unit} in {read.layer}"
    if read.similarity:
        text = f"Resampling alone ({name.replace('_', ' ')}) leaves cosine {span(-value)} in "
        text += read.layer
    if read.away < 1e-6:
        return text + "."
    if read.exact is not None and read.exact - read.perfect >= _OWN * read.away:
        own = span(read.told(read.exact))
        return (
            f"{text}; but the exact elements, which are not resampled, have {own}: most of the "
            "deviation is the network's own."
        )
    if away < 0.3 * read.away:
        return text + ", so interpolation explains little of the deviation."
    return text + ", so interpolation may explain much of the deviation."


def _depth(maps: Sequence[Reading]) -> str:
    first, last = maps[0], maps[-1]
    worst = max(maps, key=lambda r: r.value)
    text = (
        f"Feature maps: moving the image moves them along with cosine {span(-first.value)} in "
        f"{first.layer} and {span(-last.value)} in {last.layer}"
    )
    if worst is not first and worst is not last:
        text += f"; least in {worst.layer}, {span(-worst.value)}"
    text += ". 1 would be perfect"
    # Maps of different samples are alike to a degree, which depends on the kind of layer.
    related = all(r.relative is not None for r in maps)
    steps = [(b.share(b.value) - a.share(a.value), a, b) for a, b in itertools.pairwise(maps)]
    rise, before, after = max(steps, key=lambda s: s[0])
    if before is not after and rise > 0.02:
        text += f". The largest loss lies between {before.layer} and {after.layer} ("
        text += (
            f"{span(rise)} of what different samples differ by)" if related else f"{span(rise)})"
        )
    return f"{text}. {_graded(maps)}."


def _graded(maps: Sequence[Reading]) -> str:
    """Say in the words of grades how the first and the last map move along."""
    first, last = grade(maps[0]), grade(maps[-1])
    if first == last:
        return f"Both ends are {first}"
    return f"The first is {first}, the last {last}"


def _elements(read: Reading, group: str, elements: Sequence[str]) -> str:
    values = read.per_element[1:]
    worst, best = int(values.argmax()) + 1, int(values.argmin()) + 1
    ends = [span(read.told(float(v))) for v in (values.max(), values.min())]
    unit = "cosine" if read.similarity else read.unit
    gaps = read.deviations[:, worst] - read.deviations[:, best]
    sure = mean_interval(gaps)
    spread = read.share(float(values.max())) - read.share(float(values.min()))
    if spread < _DIFFER or sure is None or sure[0] <= 0:
        between = f"({unit} {ends[0]} to {ends[1]})"
        return f"In {read.layer}, no element but the identity stands out {between}."
    return (
        f"In {read.layer}, {angle(group, elements[worst])} is the hardest element and "
        f"{angle(group, elements[best])} the easiest ({unit} {ends[0]} and {ends[1]})."
    )


def _facts(made: Mapping[str, Any]) -> list[tuple[str, str]]:
    group, data, runtime = made["group"], made["data"], made.get("runtime", {})
    exact = sum(group["exact"])
    acts = f"{group['name']}, {group['order']} elements"
    if exact < group["order"]:
        acts += f", {exact} of them exact, the others resampled ({group['interpolation']})"
    acts += "" if group["support"] == "full" else f", inside the inscribed {group['support']}"
    facts = [
        ("Model", f"{made['model']['path']} (SHA-256 {made['model']['sha256'][:16]}…)"),
        ("Group", acts),
        (
            "Data",
            f"{data['source']}, {data.get('available', '?')} samples, fingerprint "
            f"{data['fingerprint'][:16]}…",
        ),
        (
            "Measured",
            f"{made.get('created', '')}; {runtime.get('device', '')}, "
            f"{runtime.get('precision', '')}; seed {made.get('seed', '?')}",
        ),
        ("Software", ", ".join(f"{k} {v}" for k, v in made.get("software", {}).items())),
        ("Command", made.get("command", "")),
    ]
    return [(k, v) for k, v in facts if v]


def _all_samples(
    results: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    read: Sequence[Sequence[Reading]],
    data: str | Path | None,
) -> list[dict[str, Any]]:
    """Return the samples of every result; pictures of those that the data are of."""
    entries, refused = [], []
    for made, name, readings in zip(results, names, read, strict=True):
        try:
            entries.append(_samples(made, name, readings, data))
        except GeedError as error:
            refused.append(error)
            entries.append(
                _samples(made, name, readings, None) | {"note": f"No pictures: {error}."}
            )
    if len(refused) == len(results):
        raise refused[0]
    return entries


def _samples(
    made: Mapping[str, Any], name: str, read: Sequence[Reading], data: str | Path | None
) -> dict[str, Any]:
    """Return the samples at both ends, by the measure nearest to the output.

    Raises
    ------
    GeedError
        If the data are not those that were measured.
    """
    chosen = next(r for measure in _HEADLINE for r in reversed(read) if r.measure == measure)
    values = chosen.per_sample
    order = np.argsort(-values, kind="stable")
    ends = min(_ENDS, len(order) // 2)
    shown = [("largest", int(k)) for k in order[:ends]]
    shown += [("smallest", int(k)) for k in order[::-1][:ends]]
    pictures, note = None, ""
    if data is not None:
        from onnx_geed.thumbnails import check_shown, open_pictures

        pictures = open_pictures(data, made)
        if not check_shown(data, made, [position for _, position in shown]):
            note = (
                "The result keeps no marks of its samples, so that these pictures could not be "
                "held against them."
            )
    rows = [{"end": end} | _sample(made, chosen, position, pictures) for end, position in shown]
    return {
        "name": name,
        "measure": chosen.measure,
        "layer": chosen.layer,
        "unit": chosen.unit,
        "note": note,
        "ends": [(e, [r for r in rows if r["end"] == e]) for e in ("largest", "smallest")]
        if rows
        else [],
    }


def _sample(made: Mapping[str, Any], read: Reading, position: int, pictures: Any) -> dict[str, Any]:
    group, where = made["group"], made["data"]
    index = where["indices"][position]
    label = where["labels"][position] if where.get("labels") else None
    row = read.deviations[position]
    called = where["names"][position] if where["names"] else f"sample {index}"
    worst = int(row.argmax())
    entry: dict[str, Any] = {
        "name": called + (f", label {label}" if label is not None else ""),
        "value": number(float(row.mean())),
        # Invariance is measured from the mean of an orbit, which the sample itself may be far from.
        "worst": angle(group["name"], group["elements"][worst])
        if worst
        else "e, that is, as it was given: farthest from the mean of its orbit",
        "worst_value": number(float(row[worst])),
        "thumbnails": [],
    }
    if pictures is not None:
        from onnx_geed.thumbnails import orbit_pictures

        count = group["order"]
        at = np.linspace(0, count, min(count, _THUMBNAILS), endpoint=False).astype(int).tolist()
        if count <= 2 * _THUMBNAILS:
            at = list(range(count))
        images = orbit_pictures(pictures, index, group, at)
        entry["thumbnails"] = [
            {
                "src": image,
                "alt": f"{called} under {angle(group['name'], group['elements'][g])}",
                "element": group["elements"][g],
                "value": number(float(row[g])),
                "worst": g == worst,
            }
            for g, image in zip(at, images, strict=False)
        ]
    return entry


def _again(
    results: Sequence[Mapping[str, Any]], data: str | Path | None, command: str | None
) -> list[str]:
    """Return the commands that make this page."""
    commands = [r.get("command", "") for r in results]
    files = [r.get("file") for r in results]
    if command is None and all(files):
        words = ["onnx-geed", "report", *map(str, files), "-o", "report.html"]
        words += ["--data", str(data)] if data is not None else []
        command = shlex.join(words)
    return [c for c in (*commands, command) if c]
