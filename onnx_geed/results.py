"""Results: the record of a measurement, and files of them."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_geed.errors import GeedError
from onnx_geed.intervals import Interval, mean_interval, standard_error

__all__ = [
    "SCHEMA",
    "check_writable",
    "measurement",
    "ranking_value",
    "read_result",
    "result",
    "to_csv",
    "to_json",
    "write_json",
]

SCHEMA = "onnx-geed/result/1"

# Below this, a mean cosine is too near zero to divide by.
_ILL_CONDITIONED = 0.05


def measurement(
    *,
    measure: str,
    layer: str,
    layout: str,
    output_action: str,
    deviations: ArrayLike,
    elements: Sequence[str],
    normaliser: float | None = None,
    norm_samples: int | None = None,
    needs_normaliser: bool = False,
    zero_pairs: float = 0.0,
    interval: str = "t",
    seed: int = 0,
    exact: tuple[Sequence[int], ArrayLike] | None = None,
    warnings: Iterable[str] = (),
) -> dict[str, Any]:
    """Return one entry of ``measurements``, spec section 6.

    Parameters
    ----------
    measure, layer, layout, output_action : str
        What was measured where.
    deviations : array_like of float64, shape (N, n)
        m(f(gx), φ_Y(g) f̂(x)), unnormalised.
    elements : sequence of str
        Names of the group's elements.
    normaliser : float, optional
        M of eq. (6).
    norm_samples : int, optional
        Points that M was taken over.
    needs_normaliser : bool
        Whether the measure is divided by M.
    zero_pairs : float
        Share of cosines between two zero vectors.
    interval : {"t", "bootstrap"}
        Interval over samples.
    seed : int
        Seed of the bootstrap.
    exact : (sequence of int, array_like of shape (N, subgroup)), optional
        The exact subgroup's members and deviations.
    warnings : iterable of str
        What is already to be said.

    Returns
    -------
    dict

    Raises
    ------
    GeedError
        If a deviation is not finite.
    """
    array = np.asarray(deviations, dtype=np.float64)
    if not np.isfinite(array).all():
        raise GeedError(f"{measure}@{layer}: a deviation is NaN or infinite")
    said = list(warnings)
    m = normaliser if needs_normaliser else None
    if needs_normaliser:
        said += _doubts(measure, m, norm_samples)
    record: dict[str, Any] = {
        "measure": measure,
        "layer": layer,
        "layout": layout,
        "output_action": output_action,
    }
    record |= _statistics(array, elements, m, needs_normaliser, interval, seed)
    record["norm_samples"] = norm_samples if needs_normaliser else None
    record["zero_pairs"] = float(zero_pairs)
    record["exact"] = None
    if exact is not None:
        members, values = exact
        names = [elements[g] for g in members]
        part = np.asarray(values, dtype=np.float64)
        record["exact"] = {"elements": names} | _statistics(
            part, names, m, needs_normaliser, interval, seed
        )
    record["references"] = None
    record["warnings"] = said
    return record


def _doubts(measure: str, m: float | None, points: int | None) -> list[str]:
    if m is None:
        return [f"M needs two points, {points or 0} were given: only the unnormalised value stands"]
    if m == 0:
        return ["M is 0: only the unnormalised value stands"]
    said = []
    if m < 0:
        said.append(
            f"M = {m:.3g} is negative: the order of normalised values is reversed; gates and "
            "comparisons use the unnormalised value"
        )
    if measure == "latent-cos" and abs(m) < _ILL_CONDITIONED:
        said.append(f"M = {m:.3g} is near zero: the normalised value is ill-conditioned")
    return said


def _statistics(
    array: NDArray[np.float64],
    elements: Sequence[str],
    m: float | None,
    needs_normaliser: bool,
    interval: str,
    seed: int,
) -> dict[str, Any]:
    """Eq. (4), its interval and its parts, divided by M where there is one."""
    usable = not needs_normaliser or bool(m)
    divisor = m if m and usable else 1.0
    means = array.mean(axis=1)
    per_sample = means / divisor
    found = mean_interval(per_sample, cast(Interval, interval), seed=seed) if usable else None
    return {
        "value": float(per_sample.mean()) if usable else None,
        "ci95": list(found) if found else None,
        "interval": interval,
        "stderr": standard_error(per_sample) if usable else None,
        "samples": len(array),
        "normaliser": m if needs_normaliser else None,
        "unnormalised": float(means.mean()) if needs_normaliser else None,
        "per_element": dict(
            zip(elements, (array.mean(axis=0) / divisor).tolist(), strict=True)
        ),
        "per_sample": per_sample.tolist(),
        "deviations": array.tolist(),
    }


def ranking_value(record: Mapping[str, Any]) -> tuple[float, str]:
    """Return the value by which a record is compared, and its name.

    Parameters
    ----------
    record : mapping
        An entry of ``measurements``.

    Returns
    -------
    value : float
        Larger means less equivariant.
    name : {"value", "unnormalised"}
        The unnormalised value where M is missing, zero or negative.
    """
    m = record["normaliser"]
    if record["value"] is None or (m is not None and m < 0):
        return float(record["unnormalised"]), "unnormalised"
    return float(record["value"]), "value"


def result(
    *,
    command: str,
    software: Mapping[str, str],
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    group: Mapping[str, Any],
    runtime: Mapping[str, Any],
    seed: int,
    measurements: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return a result of schema ``onnx-geed/result/1`` from its parts."""
    return {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "software": dict(software),
        "model": dict(model),
        "data": dict(data),
        "group": dict(group),
        "runtime": dict(runtime),
        "seed": seed,
        "measurements": [dict(m) for m in measurements],
    }


def to_json(made: Mapping[str, Any]) -> str:
    """Return a result as JSON.

    Parameters
    ----------
    made : mapping
        A result, aggregate or comparison.

    Returns
    -------
    str
        Ends in a newline; every float reads back as it was.

    Raises
    ------
    GeedError
        If it holds NaN or infinity.
    """
    try:
        return json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        raise GeedError("the result holds NaN or infinity, which no JSON file may") from None


def check_writable(path: str | Path) -> None:
    """Make sure that a result can be written, before a long run.

    Parameters
    ----------
    path : str or Path
        Where the result is to go.

    Raises
    ------
    GeedError
        If the folder does not exist or cannot be written to, or the path is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise GeedError(f"--out {path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise GeedError(f"--out {path}: there is no folder {path.parent}; make it first")
    if path.exists() and not os.access(path, os.W_OK):
        raise GeedError(f"--out {path}: cannot be overwritten (permission denied)")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".onnx-geed-"):
            pass
    except OSError as error:
        raise GeedError(f"--out {path}: cannot be written ({error.strerror})") from None


def write_json(made: Mapping[str, Any], path: str | Path) -> None:
    """Write a result, aggregate or comparison; the file appears whole or not at all.

    Parameters
    ----------
    made : mapping
        What to write.
    path : str or Path
        Where.

    Raises
    ------
    GeedError
        If it cannot be written, or holds NaN or infinity.
    """
    path, text = Path(path), to_json(made)
    unfinished = path.parent / f".{path.name}.{os.getpid()}.unfinished"
    try:
        with unfinished.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise GeedError(f"--out {path}: cannot be written ({error.strerror})") from None


def read_result(path: str | Path) -> dict[str, Any]:
    """Read a result file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict
        With ``file`` added: where it was read from.

    Raises
    ------
    GeedError
        If there is no such file, it is not JSON, or not a result that this version reads.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GeedError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise GeedError(f"{path}: not a result file ({str(error)[:120]})") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        newer = isinstance(schema, str) and schema.startswith("onnx-geed/result/")
        what = f"of schema {schema}" if schema else "without a schema"
        cure = "upgrade onnx-geed" if newer else "give a file that onnx-geed measure --out wrote"
        raise GeedError(f"{path}: is {what}, expected {SCHEMA}; {cure}")
    missing = [k for k in ("model", "data", "group", "measurements") if k not in content]
    if missing:
        raise GeedError(f"{path}: lacks {', '.join(missing)}; measure again")
    content["file"] = str(path)
    return cast(dict[str, Any], content)


def to_csv(made: Mapping[str, Any]) -> str:
    """Return one line a measurement, numbers in full.

    Parameters
    ----------
    made : mapping
        A result.

    Returns
    -------
    str
        With a header line.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = (
        "measure",
        "layer",
        "layout",
        "output_action",
        "value",
        "ci95_low",
        "ci95_high",
        "interval",
        "stderr",
        "samples",
        "normaliser",
        "unnormalised",
        "norm_samples",
        "zero_pairs",
        "exact_value",
        "warnings",
    )
    writer.writerow(("model", "group", *columns))
    for record in made["measurements"]:
        low, high = record["ci95"] or (None, None)
        exact = record["exact"]["value"] if record["exact"] else None
        extra = {
            "ci95_low": low,
            "ci95_high": high,
            "exact_value": exact,
            "warnings": "; ".join(record["warnings"]),
        }
        cells = [extra[c] if c in extra else record[c] for c in columns]
        shown = ["" if c is None else repr(c) if isinstance(c, float) else c for c in cells]
        writer.writerow((made["model"]["path"], made["group"]["name"], *shown))
    return stream.getvalue()


