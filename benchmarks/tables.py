"""Times as text, Markdown and a picture."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from clock import Claim, Race, Spread

from onnx_geed.run import cores

_PACKAGES = ("onnx-geed", "onnxruntime", "onnxruntime-gpu", "torch", "tmeasures", "numba", "numpy")


def machine(quick: bool) -> dict[str, Any]:
    """Return the machine that the figures are of; the load is that before the start."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.date.today().isoformat(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "load": load,
        "python": platform.python_version(),
        "versions": versions,
        "quick": quick,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def heading(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    # Threads that wait for each other suffer most from others' work, so that ratios are off too.
    reasons = ["this was a quick try-out"] if about["quick"] else []
    if (about["load"] or 0) > 0.5:
        reasons.append(f"others were at work (load {about['load']:.1f})")
    warning = f"Not to be quoted: {' and '.join(reasons)}. " if reasons else ""
    return (
        f"{warning}{about['cores']} cores, {about['processor']}, {about['system']}, "
        f"{about['date']}; Python {about['python']}, {versions}."
    )


def rows(race: Race) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the contenders' table."""
    if not race.fitted():
        header = ["", "seconds (smallest to largest)"]
        cells = [[name, str(race.full(name))] for name in race.seconds]
        if race.mebibytes:
            header.append("peak MiB")
            for row in cells:
                row.append(f"{race.peak(row[0]).middle:.0f}")
        return header, cells
    header = ["", "ms an orbit", "s once a run", f"s for {race.counts[-1]} orbits in all"]
    return header, [
        [
            name,
            str(Spread.of(race.slopes(name)).scaled(1000)),
            str(race.fixed(name)),
            str(race.full(name)),
        ]
        for name in race.seconds
    ]


def judged(race: Race) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the claims' table."""
    header = ["ratio", "whole job", "target"]
    if race.fitted():
        header.insert(1, "an orbit")
    return header, [_judged(race, claim) for claim in race.claims]


def _judged(race: Race, claim: Claim) -> list[str]:
    kinds = (False, True) if race.fitted() else (True,)
    ratios = [race.ratio(claim, full=full) for full in kinds]
    texts = [str(ratio) for ratio, _ in ratios]
    # A target is about what grows with the samples; the whole job stands beside it.
    return [claim.text, *texts, claim.judged(ratios[0][0])]


def claims(
    about: dict[str, Any], races: Sequence[Race], peaks: Sequence[dict[str, Any]]
) -> list[list[str]]:
    """Return the table of one line a claim that has a limit; the first row is its header."""
    where = f"{about['cores']} cores, {about['processor']}, {about['date']}"
    if about["quick"]:
        where += " (a try-out, not to be quoted)"
    lines = [["claim", "limit", "seen", "machine and date"]]
    for race in races:
        for claim in (c for c in race.claims if c.target is not None):
            seen = str(race.ratio(claim, full=True)[0])
            if race.fitted():
                seen = f"{race.ratio(claim, full=False)[0]} an orbit, {seen} the whole job"
            lines.append([f"{race.title}: {claim.text}", claim.limit, seen, where])
    lines += [[p["title"], p["target"], f"{p['ratio']:.2f}", where] for p in peaks]
    return lines


def as_text(about: dict[str, Any], races: Sequence[Race], peaks: Sequence[dict[str, Any]]) -> str:
    lines = [heading(about)]
    for race in races:
        lines += ["", race.title, "=" * len(race.title)]
        for header, cells in (rows(race), judged(race)):
            lines += [plain([header, *cells]), ""]
        lines += [f"- {note}" for note in race.notes]
    lines += [line for peak in peaks for line in ("", _peak(peak))]
    return "\n".join(lines)


def as_markdown(
    about: dict[str, Any], races: Sequence[Race], peaks: Sequence[dict[str, Any]]
) -> str:
    lines = [piped(claims(about, races, peaks)), ""]
    lines.append(heading(about) + " Medians (smallest to largest), contenders in turn.")
    for race in races:
        lines += ["", f"### {race.title}"]
        for header, cells in (rows(race), judged(race)):
            lines += ["", piped([header, *cells])]
        lines += [""] + [f"- {note}" for note in race.notes]
    lines += [line for peak in peaks for line in ("", _peak(peak))]
    return "\n".join(lines)


def _peak(peak: dict[str, Any]) -> str:
    sizes = ", ".join(f"{v:.0f} MiB for {n} samples" for n, v in peak["mebibytes"].items())
    met = "met" if peak["met"] else "missed"
    return f"{peak['title']}: {sizes}; ratio {peak['ratio']:.2f} ({peak['target']}: {met})"


def piped(table: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its header."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])


def plain(table: Sequence[Sequence[str]]) -> str:
    """The same in columns of blanks."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    padded = ([c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in table)
    return "\n".join("  ".join(row).rstrip() for row in padded)


def draw(races: Sequence[Race], path: Path) -> None:
    """One panel a race: milliseconds an orbit, or seconds of the job; whiskers are the range."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    heights = [0.5 + 0.32 * len(r.seconds) for r in races]
    figure = Figure(figsize=(9, sum(heights) + 0.6 * len(races)), layout="constrained")
    panels = figure.subplots(len(races), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, race in zip(panels, races, strict=True):
        names = list(race.seconds)[::-1]
        spreads = [
            Spread.of(race.slopes(n)).scaled(1000) if race.fitted() else race.full(n) for n in names
        ]
        middle = [s.middle for s in spreads]
        reach = [
            [max(0.0, s.middle - s.least) for s in spreads],
            [max(0.0, s.most - s.middle) for s in spreads],
        ]
        colours = [_colour(n) for n in names]
        axes.barh(names, middle, xerr=reach, color=colours, ecolor="#444444", capsize=2)
        axes.set_title(race.title, loc="left", fontsize=10)
        axes.set_xlabel("ms an orbit" if race.fitted() else "seconds", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_xlim(left=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def _colour(name: str) -> str:
    if name.startswith("onnx-geed"):
        return "#0072b2"
    return "#999999" if name.startswith(("bare", "plain", "numpy")) else "#e69f00"
