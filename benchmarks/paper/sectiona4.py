"""Appendix A.4's question: do channels of hidden layers move along where nobody said how?

At each block, f(gx) is predicted from f(x): with channels left where they are (identity), permuted,
turned into each other by an orthogonal map, or mixed by any linear one. The maps are fitted to some
samples and judged on others by `unexplained`, beside what another sample's prediction leaves
(shuffled). Digits are rotated once, as in section 4.1; the same networks without augmentation and
without training are the controls.

`FAMILIES` asks the same of changes that form no group, and of turns of the hue: which layers know
them, that is, tell f(gx) from f(x) by a linear map?

Choices: 800 iterations at `--scale small`, for there are three networks a seed; of 26 photos, 12
are measured and 14 fitted to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx_geed import measure, read_result, write_json
from onnx_geed.results import LayerMotion, Result, layer_motions, mean_interval

ITERATIONS = {"paper": 2000, "small": 800}
SEEDS = {"paper": 10, "small": 2}
SEEDS_OF_LITE0 = 1
FITS = ("permutation", "orthogonal", "linear")
SHOWN = {"shuffled": "linear, shuffled"}
KINDS = ("shuffled", "identity", *FITS, "given")

# What is measured of a kind of network: layers, groups, data, options.
_OF_DIGITS = (
    ("block[1-6]",),
    ("C4", "flip-h"),
    "data/digits.npz",
    {"samples": 50, "fit_samples": 50},
)
_OF_PHOTOS = (
    ("_bn0", "_blocks.?", "_blocks.1?"),
    ("flip-h", "C4", "hue3"),
    "data/photos",
    {"samples": 12, "fit_samples": 14},
)
NETWORKS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "conventional": ("rotated/conventional/run{seed}/step{step}.onnx", _OF_DIGITS),
    "upright": ("upright/conventional/run{seed}/step{step}.onnx", _OF_DIGITS),
    "untrained": ("rotated/conventional/run{seed}/step0.onnx", _OF_DIGITS),
    "steerable": ("rotated/steerable/run{seed}/step{step}.onnx", _OF_DIGITS),
    "lite0": ("lite0/pretrained.onnx", _OF_PHOTOS),
    "lite0 untrained": ("lite0/untrained{seed}.onnx", _OF_PHOTOS),
}
_OF_FAMILIES = (
    ("_bn0", "_blocks.?", "_blocks.1?"),
    ("rotate:-15..15/7", "zoom:0.8..1.25/9", "hue12"),
    "data/photos",
    {"samples": 12, "fit_samples": 14},
)
FAMILIES = {name: (NETWORKS[name][0], _OF_FAMILIES) for name in ("lite0", "lite0 untrained")}
#: What each network is held against, seed by seed: the same weights before training or without
#: augmentation.
CONTROLS = {"conventional": ("untrained", "upright"), "lite0": ("lite0 untrained",)}
#: Networks whose layers' actions are known, and the groups that these are known for.
GIVEN = {"steerable": ("C4",)}

#: By seed, layer and kind of map, what was seen.
Found = dict[int, dict[str, dict[str, dict[str, Any]]]]


def run(
    work: Path,
    scale: str,
    mnist: str | None,
    photos: Path | None,
    weights: Mapping[str, Path],
    *,
    seeds: list[int] | None = None,
) -> None:
    """Train what is not yet trained, and convert what is given."""
    import section41

    if others := [n for n in weights if n != "lite0"]:
        raise SystemExit(f"A.4: --weights {others[0]}=...: there is lite0")
    if "lite0" in weights:
        lite0(work, photos, weights["lite0"])
    for seed in range(SEEDS[scale]) if seeds is None else seeds:
        common: dict[str, Any] = {"seeds": [seed], "iterations": ITERATIONS[scale]}
        section41.run(work, scale, mnist, folder="A.4/rotated", **common)
        section41.run(
            *(work, scale, mnist),
            **{"folder": "A.4/upright", "kinds": ("conventional",), "rotated": False, **common},
        )


def lite0(work: Path, photos: Path | None, weights: Path) -> None:
    """Convert EfficientNet-Lite0, and the same network with random weights."""
    import checkpoints
    import packaged
    import section44
    import torch

    section44.data(work, photos, "A.4")
    _, (model, *words) = section44.PUBLISHED["lite0"]
    out = checkpoints.with_folder(work / "A.4" / "lite0" / "pretrained.onnx")
    if not out.is_file():
        section44.convert([model, *words, "--checkpoint", str(weights), "-o", str(out)])
    at = words.index("--input-shape")
    options = [*words[:at], *words[at + 2 :]]
    for seed in range(SEEDS_OF_LITE0):
        out = work / "A.4" / "lite0" / f"untrained{seed}.onnx"
        if not out.is_file():
            torch.manual_seed(seed)
            checkpoints.export(packaged.lite0().eval(), out, (3, 224, 224), *options)


def measured(
    work: Path,
    scale: str,
    networks: Mapping[str, tuple[str, tuple[Any, ...]]],
    fits: Sequence[str] = FITS,
) -> list[dict[str, Any]]:
    """Measure every network that there is, and return a row a layer and kind of map."""
    found: dict[tuple[str, str], Found] = {}
    for network, (pattern, (layers, groups, data, options)) in networks.items():
        seeds = {}
        for seed in range(100):
            path = work / "A.4" / pattern.format(seed=seed, step=ITERATIONS[scale])
            if path.is_file() and ("{seed}" in pattern or not seed):
                seeds[seed] = path
        for group in groups if seeds else ():
            for seed, path in seeds.items():
                named = group.partition(":")[0]
                keep = work / "results" / "A.4" / f"{network}.{seed}.{named}"
                what = {"measures": [f"unexplained@{layer}" for layer in layers], **options}
                seen = [
                    result(
                        *(path, work / data, group, keep.with_name(f"{keep.name}.{kind}.json")),
                        **what,
                        output_action=dict.fromkeys(layers, f"fit:{kind}"),
                    )
                    for kind in fits
                ]
                given = None
                if group in GIVEN.get(network, ()):
                    place = keep.with_name(f"{keep.name}.given.json")
                    known = {name: v for name, v in what.items() if name != "fit_samples"}
                    given = result(path, work / data, group, place, **known)
                own = predictions(layer_motions(seen), given)
                found.setdefault((network, group), {})[seed] = own
                print(f"A.4: {network} {seed}, {group}", flush=True)
    if not found:
        raise SystemExit("A.4: there is no network to measure yet")
    rows = []
    for (network, group), own in found.items():
        data = Path(networks[network][1][2]).stem
        controls = {
            name: found[name, group] for name in CONTROLS.get(network, ()) if (name, group) in found
        }
        rows += rows_of(network, data, group, own, controls)
    return rows


def result(model: Path, data: Path, group: str, place: Path, **options: Any) -> Result:
    """Return the result of a file, measured anew where it is of other weights or not there."""
    if place.is_file():
        kept = read_result(place)
        if kept["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest():
            return kept
    new = measure(model, data, group, **options)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(new, place)
    return new


def predictions(
    motions: Sequence[LayerMotion], given: Result | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what each map leaves of each sample, by layer and kind of map."""
    layers: dict[str, dict[str, dict[str, Any]]] = {}
    for motion in motions:
        kinds: dict[str, dict[str, Any]] = {
            p.kind: {
                "per_sample": p.per_sample,
                "shuffled": p.null if p.fit else None,
                "defect": p.fit["defect"]["median"] if p.fit and p.fit["defect"] else None,
            }
            for p in motion.predictions
        }
        kinds[motion.freest.kind]["motion"] = motion.motion
        # The freest map's null: that of a stiffer one, which cannot retreat to the mean, is larger.
        kinds["shuffled"] = {"per_sample": motion.freest.shuffled}
        layers[motion.layer] = kinds
    for record in given["measurements"] if given else ():
        layers[record["layer"]]["given"] = {"per_sample": np.array(record["per_sample"])}
    return layers


def rows_of(
    network: str, data: str, group: str, found: Found, controls: Mapping[str, Found]
) -> list[dict[str, Any]]:
    """Return rows of one network and group, from `predictions` by seed.

    ``values`` are by seed. ``gaps`` are paired intervals over samples, by seed, of how much more
    one kind of map leaves than a stiffer one, or than the same kind in a control.
    """
    rows = []
    seeds = [*found]
    for layer, kinds in found[seeds[0]].items():
        for kind in kinds:
            own = [found[seed][layer][kind] for seed in seeds]
            values = [float(x["per_sample"].mean()) for x in own]
            # Of two seeds an interval over seeds says nothing: over samples, of the seeds' mean.
            few = len(seeds) < 3
            of_seeds = np.mean([x["per_sample"] for x in own], axis=0)
            rows.append(
                {
                    **{"network": network, "group": group, "data": data, "layer": layer},
                    **{"kind": kind, "measure": "unexplained", "seeds": seeds},
                    **{"samples": len(own[0]["per_sample"]), "values": values},
                    "mean": float(np.mean(values)),
                    "ci95_over_models": None if few else mean_interval(values),
                    "ci95_over_samples": mean_interval(of_seeds) if few else None,
                    **{
                        key: [x[key] for x in own]
                        for key in ("shuffled", "defect", "motion")
                        if kinds[kind].get(key) is not None
                    },
                    "gaps": {
                        **{
                            than: gaps(found, found, layer, kind, than)
                            for than in KINDS[: KINDS.index(kind)]
                            if than in kinds
                        },
                        **{
                            name: gaps(found, other, layer, kind, kind)
                            for name, other in controls.items()
                        },
                    },
                }
            )
    return rows


def gaps(
    found: Found, other: Found, layer: str, kind: str, than: str
) -> list[tuple[float, float] | None]:
    """Return the paired intervals of how much more one map leaves than another, by seed of both."""
    return [
        mean_interval(own[layer][kind]["per_sample"] - other[seed][layer][than]["per_sample"])
        for seed, own in found.items()
        if seed in other
    ]


def pictured(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows as those of a suite: a picture a network and group, in it the kinds of map."""
    return [
        {
            **{key: row[key] for key in ("layer", "measure", "data", "mean")},
            **{key: row[key] for key in ("ci95_over_models", "ci95_over_samples")},
            **{"step": None, "unnormalised_mean": None, "normalisers": []},
            **{
                "model": SHOWN.get(row["kind"], row["kind"]),
                "group": f"{row['network']} {row['group'].partition(':')[0]}",
            },
        }
        for row in sorted(rows, key=lambda row: KINDS.index(row["kind"]))
    ]
