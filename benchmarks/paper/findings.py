"""The paper's findings, held against the results: who lies below whom, and do intervals separate.

A comparison is `reproduced` where the paper's order holds and the 95 % intervals (over seeds; over
samples where a model has one seed) do not overlap, `reversed` where the other order does, `not
separated` otherwise. Changes over training, and differences of differences, are each seed's own:
there the 95 % interval of their mean lies on the side of zero that the paper tells, on the other,
or on both. Several comparisons make one verdict; the count of each is told. No number of the
paper's is in here.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_geed.results import mean_interval

Row = Mapping[str, Any]
Found = tuple[str, list[str]]


@dataclasses.dataclass(frozen=True)
class Results:
    """Rows of one suite, and what each trained network was seen to do at its end."""

    rows: Sequence[Row]
    training: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def row(self, **wanted: Any) -> Row | None:
        """Return the one row of these values, or None where it was not measured."""
        rows = [r for r in self.rows if all(r[k] == v for k, v in wanted.items())]
        return rows[0] if len(rows) == 1 else None

    def values(self, key: str, **wanted: Any) -> list[Any]:
        """Return the values of a key, in order, each once."""
        rows = (r for r in self.rows if all(r[k] == v for k, v in wanted.items()))
        return list(dict.fromkeys(r[key] for r in rows))

    def of_first(self, count: int) -> Results:
        """Return what the first seeds say; values without M are kept as a mean of all alone."""
        rows = []
        for row in self.rows:
            values = [v for v in row["values"][:count] if v is not None]
            rows.append(
                {
                    **row,
                    **{key: row[key][:count] for key in ("seeds", "values")},
                    "mean": sum(values) / len(values) if values else None,
                    "ci95_over_models": mean_interval(values),
                }
            )
        first = {f"run{seed}" for seed in range(count)}
        training = {k: v for k, v in self.training.items() if k.rpartition("/")[2] in first}
        return Results(rows, training)


def read(path: Path) -> Results:
    """Read a file of results."""
    content = json.loads(path.read_text("utf-8"))
    return Results(content["rows"], content["training"])


def ends(row: Row, field: str = "mean") -> tuple[float, float]:
    name = "ci95_over_models" if field == "mean" else "unnormalised_ci95_over_models"
    low, high = (
        row[name]
        or (row["ci95_over_samples"] if field == "mean" else None)
        or (
            float("-inf"),
            float("inf"),
        )
    )
    return low, high


def below(a: Row | None, b: Row | None, field: str = "mean") -> str:
    """Hold 'a lies below b' against intervals."""
    if a is None or b is None or a[field] is None or b[field] is None:
        return "not run"
    if ends(a, field)[1] < ends(b, field)[0]:
        return "reproduced"
    if ends(b, field)[1] < ends(a, field)[0]:
        return "reversed"
    return "not separated"


def told(row: Row | None, field: str = "mean") -> str:
    """Return a value with half its interval."""
    if row is None or row[field] is None:
        return "-"
    low, high = ends(row, field)
    half = (high - low) / 2
    return f"{row[field]:.3g} ± {half:.2g}" if half < float("inf") else f"{row[field]:.3g}"


def by_seed(row: Row | None) -> dict[Any, float]:
    """Return each seed's value."""
    if row is None:
        return {}
    return {k: v for k, v in zip(row["seeds"], row["values"], strict=True) if v is not None}


def negative(changes: Sequence[float]) -> str:
    """Hold 'this is below zero' against an interval of the mean of what each seed has."""
    if not changes:
        return "not run"
    low, high = mean_interval(changes) or (float("-inf"), float("inf"))
    return "reproduced" if high < 0 else "reversed" if low > 0 else "not separated"


def changes(row: Row | None, other: Row | None) -> list[float]:
    """Return how much each seed's value grows from the first to the second."""
    first, last = by_seed(row), by_seed(other)
    return [last[k] - first[k] for k in first if k in last]


def accurate(least: float) -> Callable[[Results], Found]:
    """Every network reaches an accuracy."""

    def find(r: Results) -> Found:
        accuracies: dict[str, list[float]] = {}
        for name, seen in r.training.items():
            accuracies.setdefault(name.rpartition("/")[0], []).append(seen["accuracy"])
        texts = [f"{kind} {span(values)}" for kind, values in accuracies.items()]
        every = [a for values in accuracies.values() for a in values]
        return "; ".join(texts), ["reproduced" if a > least else "reversed" for a in every]

    return find


def span(values: Sequence[float]) -> str:
    return f"{min(values):.2%} to {max(values):.2%}"


def more_accurate(r: Results) -> Found:
    """With pretrained weights a network ends with a higher accuracy, seed by seed."""
    texts, verdicts = [], []
    for network in sorted({name.split("/")[0] for name in r.training}):
        scratch, pretrained = (
            {
                name.split("/")[2]: seen["accuracy"]
                for name, seen in r.training.items()
                if name.startswith(f"{network}/{start}/")
            }
            for start in ("scratch", "pretrained")
        )
        both = [k for k in scratch if k in pretrained]
        verdicts.append(negative([scratch[k] - pretrained[k] for k in both]))
        if both:
            texts.append(f"{network} {span([*scratch.values()])} / {span([*pretrained.values()])}")
    return f"scratch / pretrained: {'; '.join(texts)}", verdicts


def equivariant_blocks(r: Results) -> Found:
    last = max(r.values("step"))
    verdicts, texts = [], []
    for layer in r.values("layer", measure="channel-cos"):
        a, b = (
            r.row(model=m, step=last, measure="channel-cos", layer=layer)
            for m in ("steerable", "conventional")
        )
        verdicts.append(below(a, b))
        texts.append(f"{told(a)} / {told(b)}")
    return f"steerable / conventional, first and last block: {texts[0]}; {texts[-1]}", verdicts


def decay(model: str) -> Callable[[Results], Found]:
    def find(r: Results) -> Found:
        last = max(r.values("step"))
        layers = r.values("layer", measure="channel-cos")
        rows = [r.row(model=model, step=last, measure="channel-cos", layer=n) for n in layers]
        return " > ".join(told(x) for x in rows), [below(rows[0], rows[-1])]

    return find


def resampled(r: Results) -> Found:
    """Of the steerable network's loss with depth, quarter turns alone show less than a tenth."""
    last = max(r.values("step"))
    layers = r.values("layer", measure="channel-cos")
    first, deep = (
        r.row(model="steerable", step=last, measure="channel-cos", layer=layer)
        for layer in (layers[0], layers[-1])
    )
    if first is None or deep is None or first["exact_mean"] is None:
        return "", ["not run"]
    lost, exact = deep["mean"] - first["mean"], deep["exact_mean"] - first["exact_mean"]
    text = (
        f"lost from first to last block: {lost:.3g} over all turns, {exact:.2g} over quarter "
        "turns, which need no interpolation"
    )
    return text, ["reproduced" if exact < 0.1 * lost else "reversed"]


#: A block is called more equivariant than before if its mean cosine has grown by more than this.
LITTLE = 0.01


def flat(r: Results) -> Found:
    """After the first checkpoint, no block's cosine grows by more than a little."""
    steps = sorted(s for s in r.values("step") if s)
    verdicts = []
    moves: dict[str, float] = {}
    for model in ("conventional", "steerable"):
        for layer in r.values("layer", measure="channel-cos"):
            first, last = (
                r.row(model=model, step=s, measure="channel-cos", layer=layer)
                for s in (steps[0], steps[-1])
            )
            own = changes(first, last)
            if len(own) < 2:
                verdicts.append("not separated" if own else "not run")
                continue
            # The EED is a negative cosine: a block that becomes more equivariant falls.
            moves[f"{model} {layer}"] = sum(own) / len(own)
            grown = negative([x + LITTLE for x in own])
            verdicts.append("reversed" if grown == "reproduced" else "reproduced")
    if not moves:
        return "", verdicts
    most, least = min(moves, key=moves.__getitem__), max(moves, key=moves.__getitem__)
    return (
        f"from iteration {steps[0]} to {steps[-1]}, a mean over seeds moves by "
        f"{moves[most]:+.3f} ({most}) to {moves[least]:+.3f} ({least})",
        verdicts,
    )


def final(measure: str, low: str, high: str, field: str = "mean") -> Callable[[Results], Found]:
    def find(r: Results) -> Found:
        # Networks that were measured at one step alone have none in a suite's words.
        last = max((s for s in r.values("step") if s is not None), default=None)
        a, b = (r.row(model=m, step=last, measure=measure) for m in (low, high))
        text = f"{low} {told(a, field)}, {high} {told(b, field)}"
        return text, [below(a, b, field)]

    return find


def augmented(low: str, high: str, group: str) -> Callable[[Results], Found]:
    """Under one of the groups, one augmentation leaves shorter latent distances than another."""

    def find(r: Results) -> Found:
        where = {"step": max(r.values("step")), "measure": "latent-l2", "group": group}
        a, b = (r.row(model=m, **where) for m in (low, high))
        return f"{low} {told(a)}, {high} {told(b)}", [below(a, b)]

    return find


def own_counts_more(r: Results) -> Found:
    """An augmentation wins more under its own group than under the other."""
    texts, verdicts = [], []
    for kind, own, other in (("flips", "flip-h", "C4"), ("turns", "C4", "flip-h")):
        won = {}
        for group in (own, other):
            where = {"step": max(r.values("step")), "measure": "latent-l2", "group": group}
            without, having = (by_seed(r.row(model=m, **where)) for m in ("neither", kind))
            # As shares, for the two groups move images differently far.
            won[group] = {k: 1 - having[k] / without[k] for k in having if k in without}
        seeds = [k for k in won[own] if k in won[other]]
        verdicts.append(negative([won[other][k] - won[own][k] for k in seeds]))
        if seeds:
            a, b = (sum(won[g][k] for k in seeds) / len(seeds) for g in (own, other))
            texts.append(f"{kind} shorten distances by {a:.0%} under {own}, {b:.0%} under {other}")
    return "; ".join(texts), verdicts


def falls(measure: str, models: Sequence[str]) -> Callable[[Results], Found]:
    def find(r: Results) -> Found:
        steps = sorted(s for s in r.values("step") if s)
        texts, verdicts = [], []
        for model in models:
            first, last = (
                r.row(model=model, step=s, measure=measure) for s in (steps[0], steps[-1])
            )
            texts.append(f"{model} {told(first)} to {told(last)}")
            verdicts.append(negative(changes(first, last)))
        return "; ".join(texts), verdicts

    return find


def across(measure: str, low: str, high: str, *, digits: bool = True) -> Callable[[Results], Found]:
    def find(r: Results) -> Found:
        texts, verdicts = [], []
        for data in r.values("data"):
            if not digits and data == "digits":
                continue
            a, b = (r.row(model=m, data=data, measure=measure) for m in (low, high))
            verdicts.append(below(a, b))
            texts.append(f"{data} {told(a)} / {told(b)}")
        shown = [t for t in texts if not t.startswith("digits,")]
        return f"{low} / {high}: {'; '.join(shown)}", verdicts

    return find


def smaller_gap(r: Results) -> Found:
    """Conventional - steerable against untrained - conventional, each seed for itself."""
    texts, verdicts = [], []
    for data in r.values("data"):
        steerable, conventional, untrained = (
            by_seed(r.row(model=m, data=data, measure="latent-l2"))
            for m in ("steerable", "conventional", "untrained")
        )
        seeds = [k for k in steerable if k in conventional and k in untrained]
        inner = [conventional[k] - steerable[k] for k in seeds]
        outer = [untrained[k] - conventional[k] for k in seeds]
        verdicts.append(negative([a - b for a, b in zip(inner, outer, strict=True)]))
        if seeds and not data.startswith("digits,"):
            a, b = sum(inner) / len(seeds), sum(outer) / len(seeds)
            texts.append(f"{data} {a:.2g} against {b:.2g}")
    return "; ".join(texts), verdicts


def networks(r: Results) -> list[str]:
    """Return the networks that were trained from pretrained weights and from scratch."""
    return list(dict.fromkeys(m.rsplit(" ", 1)[0] for m in r.values("model")))


def starts(group: str, measure: str) -> Callable[[Results], Found]:
    """From scratch a network lies below the same from pretrained weights, at every checkpoint."""

    def find(r: Results) -> Found:
        steps = [s for s in sorted(r.values("step")) if s]
        texts, verdicts = [], []
        for network in networks(r):
            for step in steps:
                a, b = (
                    r.row(model=f"{network} {s}", step=step, measure=measure, group=group)
                    for s in ("scratch", "pretrained")
                )
                verdicts.append(below(a, b))
            texts.append(f"{network} {told(a)} / {told(b)}")
        return f"scratch / pretrained, at {steps[-1]}: {'; '.join(texts)}", verdicts

    return find


def depends(group: str) -> Callable[[Results], Found]:
    """At the end one start is more invariant by one measure, the other by another."""
    measures = (
        ("distance", "latent-l2", "mean"),
        ("cosine with M", "latent-cos", "mean"),
        ("cosine without M", "latent-cos", "unnormalised_mean"),
        ("softmax", "softmax-kl", "mean"),
    )
    words = {"reproduced": "scratch", "reversed": "pretrained"}

    def find(r: Results) -> Found:
        texts, verdicts = [], []
        for network in networks(r):
            orders = {}
            for name, measure, field in measures:
                where = {"step": max(r.values("step")), "measure": measure, "group": group}
                a, b = (r.row(model=f"{network} {s}", **where) for s in ("scratch", "pretrained"))
                orders[name] = below(a, b, field)
            both = {"reproduced", "reversed"} <= {*orders.values()}
            verdicts.append("reproduced" if both else "not separated")
            told_of = (f"by {name} {words.get(order, order)}" for name, order in orders.items())
            texts.append(f"{network} {', '.join(told_of)}")
        return f"more invariant at the end: {'; '.join(texts)}", verdicts

    return find


def trend(start: str, sign: int) -> Callable[[Results], Found]:
    """With training the latent EED of every network rises (1) or falls (-1)."""

    def find(r: Results) -> Found:
        steps = [s for s in sorted(r.values("step")) if s]
        texts, verdicts = [], []
        for network in networks(r):
            pair = [
                r.row(model=f"{network} {start}", step=s, measure="latent-l2", group="C8")
                for s in (steps[0], steps[-1])
            ]
            texts.append(f"{network} {told(pair[0])} to {told(pair[1])}")
            verdicts.append(negative([-sign * x for x in changes(*pair)]))
        return f"from iteration {steps[0]} to {steps[-1]}: {'; '.join(texts)}", verdicts

    return find


def points(r: Results) -> Found:
    """Every value of more points lies inside the interval of 50."""
    texts, verdicts = [], []
    for model in r.values("model"):
        for measure in r.values("measure"):
            base = r.row(model=model, data="50 points", measure=measure)
            others = [
                r.row(model=model, data=d, measure=measure)
                for d in r.values("data")
                if int(d.split()[0]) > 50
            ]
            low, high = ends(base)
            inside = [low <= o["mean"] <= high for o in others]
            verdicts += ["reproduced" if i else "not separated" for i in inside]
            if measure in ("latent-l2", "softmax-kl"):
                texts.append(
                    f"{model} {measure} {told(base)}, of {others[-1]['samples']} "
                    f"{others[-1]['mean']:.3g}"
                )
    return "; ".join(texts), verdicts


def less(kind: str, than: str, network: str, group: str) -> Callable[[Results], Found]:
    """One kind of map leaves less than another, or than the same in a control, block by block.

    By each seed's paired samples.
    """

    def find(r: Results) -> Found:
        where = {"network": network, "group": group}
        control = than in r.values("network")
        texts, verdicts = [], []
        for layer in r.values("layer", **where):
            a = r.row(**where, layer=layer, kind=kind)
            other = {"network": than} if control else {"kind": than}
            b = r.row(**{**where, "layer": layer, "kind": kind, **other})
            gaps = a["gaps"].get(than, ()) if a else ()
            verdicts.append("not separated" if gaps else "not run")
            if gaps and all(gap and gap[1] < 0 for gap in gaps):
                verdicts[-1] = "reproduced"
            if gaps and all(gap and gap[0] > 0 for gap in gaps):
                verdicts[-1] = "reversed"
            texts.append(f"{of_seeds(a)} / {of_seeds(b)}")
        if not texts:
            return "", ["not run"]
        shown = dict.fromkeys([texts[0], texts[len(texts) // 4], texts[-1]])
        held = f"{kind}, {network} / {than}" if control else f"{kind} / {than}"
        return f"{held}: {'; '.join(shown)}", verdicts

    return find


def of_seeds(row: Row | None) -> str:
    """Return the least and the largest of seeds' values."""
    if row is None:
        return "-"
    ends = dict.fromkeys(f"{value:.2g}" for value in (min(row["values"]), max(row["values"])))
    return " to ".join(ends)


def table_found(network: str, group: str) -> Callable[[Results], Found]:
    """The permutations that are fitted do as well as the given ones, and compose as they do."""

    def find(r: Results) -> Found:
        worst, defect, verdicts = 0.0, 0.0, []
        for layer in r.values("layer", network=network, group=group):
            fitted, given = (
                r.row(network=network, group=group, layer=layer, kind=k)
                for k in ("permutation", "given")
            )
            if fitted is None or given is None:
                verdicts.append("not run")
                continue
            pairs = zip(fitted["values"], given["values"], strict=True)
            off, defects = max(a - b for a, b in pairs), max(fitted["defect"])
            verdicts.append("reproduced" if off < LEAST and not defects else "reversed")
            worst, defect = max(worst, *fitted["values"]), max(defect, defects)
        text = f"permutations leave at most {worst:.1g}, with a defect of at most {defect:.2g}"
        return text * bool(verdicts), verdicts or ["not run"]

    return find


#: What a fitted permutation may leave more than the given one.
LEAST = 1e-6


def motions(network: str, group: str, wanted: str) -> Callable[[Results], Found]:
    """Count what the package says of each layer and seed."""

    def find(r: Results) -> Found:
        rows = (
            r.row(network=network, group=group, layer=layer, kind="linear")
            for layer in r.values("layer", network=network, group=group)
        )
        words = [word for row in rows if row for word in row["motion"]]
        counts = Counter(words).most_common()
        text = ", ".join(f"{word} {count} of {len(words)}" for word, count in counts)
        return text, ["reproduced" if w == wanted else "reversed" for w in words] or ["not run"]

    return find


#: Section, what the paper says, suite, check, picture.
FINDINGS: tuple[tuple[str, str, str, Callable[[Results], Found], str], ...] = (
    ("4.1", "All networks are right on over 98 % of test digits", "4.1", accurate(0.98), ""),
    (
        "4.1",
        "Blocks of the C8-CNN are more equivariant than the CNN's",
        "4.1",
        equivariant_blocks,
        "digits.C8.channel-cos",
    ),
    (
        "4.1",
        "Equivariance decays with depth in the C8-CNN",
        "4.1",
        decay("steerable"),
        "digits.C8.channel-cos",
    ),
    (
        "4.1",
        "Equivariance decays with depth in the CNN",
        "4.1",
        decay("conventional"),
        "digits.C8.channel-cos",
    ),
    (
        "4.1",
        "Its conjecture: that decay is interpolation's",
        "4.1",
        resampled,
        "digits.C8.channel-cos",
    ),
    (
        "4.1, (1)",
        "No layer becomes more equivariant after a jump at the beginning",
        "4.1",
        flat,
        "digits.C8.channel-cos",
    ),
    (
        "4.1",
        "C8-CNNs are more invariant in their latents (distance)",
        "4.1",
        final("latent-l2", "steerable", "conventional"),
        "digits.C8.latent-l2",
    ),
    (
        "4.1",
        "C8-CNNs are more invariant at the softmax",
        "4.1",
        final("softmax-kl", "steerable", "conventional"),
        "digits.C8.softmax-kl",
    ),
    (
        "4.1, (1)",
        "Latent EED falls with training",
        "4.1",
        falls("latent-l2", ("conventional", "steerable")),
        "digits.C8.latent-l2",
    ),
    (
        "4.1, (1)",
        "Softmax EED falls with training",
        "4.1",
        falls("softmax-kl", ("conventional", "steerable")),
        "digits.C8.softmax-kl",
    ),
    (
        "4.1",
        "By cosine with M, C8-CNNs are less invariant than CNNs",
        "4.1",
        final("latent-cos", "conventional", "steerable"),
        "digits.C8.latent-cos.normalised",
    ),
    (
        "4.1",
        "By cosine without M, C8-CNNs are more invariant",
        "4.1",
        final("latent-cos", "steerable", "conventional", "unnormalised_mean"),
        "digits.C8.latent-cos.unnormalised",
    ),
    (
        "4.1, control",
        "The same by what the heads read: with M, C8-CNNs are less invariant than CNNs",
        "4.1-features",
        final("latent-cos", "conventional", "steerable"),
        "C8.latent-cos.normalised",
    ),
    (
        "4.1, control",
        "And without M, C8-CNNs are more invariant",
        "4.1-features",
        final("latent-cos", "steerable", "conventional", "unnormalised_mean"),
        "C8.latent-cos.unnormalised",
    ),
    (
        "4.2, (2)",
        "Trained CNNs are more invariant in their latents than untrained ones, on all data",
        "4.2",
        across("latent-l2", "conventional", "untrained"),
        "C8.latent-l2",
    ),
    (
        "4.2",
        "C8-CNNs are more invariant in their latents than trained CNNs, on all data",
        "4.2",
        across("latent-l2", "steerable", "conventional"),
        "C8.latent-l2",
    ),
    (
        "4.2",
        "That difference is smaller than the one between trained and untrained",
        "4.2",
        smaller_gap,
        "C8.latent-l2",
    ),
    (
        "4.2, inside a disk",
        "Trained CNNs are more invariant in their latents than untrained ones, on all data",
        "4.2-disk",
        across("latent-l2", "conventional", "untrained"),
        "C8.latent-l2",
    ),
    (
        "4.2, inside a disk",
        "C8-CNNs are more invariant in their latents than trained CNNs, on all data",
        "4.2-disk",
        across("latent-l2", "steerable", "conventional"),
        "C8.latent-l2",
    ),
    (
        "4.2, (3)",
        "At the softmax, untrained CNNs are more invariant than C8-CNNs",
        "4.2",
        across("softmax-kl", "untrained", "steerable"),
        "C8.softmax-kl",
    ),
    (
        "4.2",
        "At the softmax, C8-CNNs are more invariant than trained CNNs",
        "4.2",
        across("softmax-kl", "steerable", "conventional"),
        "C8.softmax-kl",
    ),
    (
        "4.3, (4)",
        "From scratch, latents are more invariant than from pretrained weights (C8)",
        "4.3",
        starts("C8", "latent-l2"),
        "chips.C8.latent-l2",
    ),
    (
        "4.3, (4)",
        "Which start is more invariant depends on the measure",
        "4.3",
        depends("C8"),
        "chips.C8.latent-cos.normalised",
    ),
    ("4.3", "So also under D8", "4.3", starts("D8", "latent-l2"), "chips.D8.latent-l2"),
    (
        "4.3, inside a disk",
        "From scratch, latents are more invariant than from pretrained weights (C8)",
        "4.3-disk",
        starts("C8", "latent-l2"),
        "chips.C8.latent-l2",
    ),
    (
        "4.3",
        "From scratch, latent EED rises slightly with training",
        "4.3",
        trend("scratch", 1),
        "chips.C8.latent-l2",
    ),
    (
        "4.3",
        "From pretrained weights, latent EED falls slightly with training",
        "4.3",
        trend("pretrained", -1),
        "chips.C8.latent-l2",
    ),
    ("4.3", "Pretrained networks tend to be more accurate", "4.3", more_accurate, ""),
    (
        "4.3",
        "At the softmax the picture is ambiguous (here: is scratch lower?)",
        "4.3",
        starts("C8", "softmax-kl"),
        "chips.C8.softmax-kl",
    ),
    (
        "4.4, (5)",
        "SimCLR is more invariant than supervised training (distance)",
        "4.4-fashion",
        final("latent-l2", "simclr", "supervised"),
        "Fashion-MNIST.flip-h.latent-l2",
    ),
    (
        "4.4, (5)",
        "SimCLR is more invariant than supervised training (cosine with M)",
        "4.4-fashion",
        final("latent-cos", "simclr", "supervised"),
        "Fashion-MNIST.flip-h.latent-cos.normalised",
    ),
    (
        "4.4, (5)",
        "SimCLR is more invariant than supervised training (cosine without M)",
        "4.4-fashion",
        final("latent-cos", "simclr", "supervised", "unnormalised_mean"),
        "Fashion-MNIST.flip-h.latent-cos.unnormalised",
    ),
    (
        "4.4, (5)",
        "SimCLR is more invariant than DINO (distance)",
        "4.4-fashion",
        final("latent-l2", "simclr", "dino"),
        "Fashion-MNIST.flip-h.latent-l2",
    ),
    (
        "4.4, (5)",
        "SimCLR is more invariant than DINO (cosine with M)",
        "4.4-fashion",
        final("latent-cos", "simclr", "dino"),
        "Fashion-MNIST.flip-h.latent-cos.normalised",
    ),
    (
        "4.4, (5)",
        "SimCLR is more invariant than DINO (cosine without M)",
        "4.4-fashion",
        final("latent-cos", "simclr", "dino", "unnormalised_mean"),
        "Fashion-MNIST.flip-h.latent-cos.unnormalised",
    ),
    (
        "4.4, (5)",
        "DINO against supervised training by cosine without M (here: is DINO lower?)",
        "4.4-fashion",
        final("latent-cos", "dino", "supervised", "unnormalised_mean"),
        "Fashion-MNIST.flip-h.latent-cos.unnormalised",
    ),
    (
        "4.4, (5)",
        "DINO against supervised training depends on the measure (here: is DINO lower?)",
        "4.4-fashion",
        final("latent-l2", "dino", "supervised"),
        "Fashion-MNIST.flip-h.latent-l2",
    ),
    (
        "4.4, (5)",
        "The same by cosine with M (here: is DINO lower?)",
        "4.4-fashion",
        final("latent-cos", "dino", "supervised"),
        "Fashion-MNIST.flip-h.latent-cos.normalised",
    ),
    (
        "4.4, control",
        "SimCLR with flips is more invariant than without",
        "4.4-fashion",
        final("latent-l2", "simclr", "simclr-no-flips"),
        "Fashion-MNIST.flip-h.latent-l2",
    ),
    (
        "4.4, controlled",
        "With flips in its training SimCLR is more invariant to them",
        "4.4-turns",
        augmented("flips", "neither", "flip-h"),
        "Fashion-MNIST.flip-h.latent-l2",
    ),
    (
        "4.4, controlled",
        "With quarter turns, more invariant to these",
        "4.4-turns",
        augmented("turns", "neither", "C4"),
        "Fashion-MNIST.C4.latent-l2",
    ),
    (
        "4.4, controlled",
        "Any augmentation would do: with turns, more invariant to flips too",
        "4.4-turns",
        augmented("turns", "neither", "flip-h"),
        "Fashion-MNIST.flip-h.latent-l2",
    ),
    (
        "4.4, controlled",
        "With flips, more invariant to turns too",
        "4.4-turns",
        augmented("flips", "neither", "C4"),
        "Fashion-MNIST.C4.latent-l2",
    ),
    (
        "4.4, controlled",
        "Each is had at no price of the other: flips beside turns, under flips",
        "4.4-turns",
        augmented("both", "turns", "flip-h"),
        "Fashion-MNIST.flip-h.latent-l2",
    ),
    (
        "4.4, controlled",
        "Turns beside flips, under turns",
        "4.4-turns",
        augmented("both", "flips", "C4"),
        "Fashion-MNIST.C4.latent-l2",
    ),
    (
        "4.4, controlled",
        "Contrastive training learns its own augmentation's invariance above all",
        "4.4-turns",
        own_counts_more,
        "Fashion-MNIST.C4.latent-l2",
    ),
    ("4", "More than 50 points change little", "points", points, "C8.latent-l2"),
    (
        "A.4",
        "With augmentation CNNs mix: orthogonal maps tell more than permutations (C4)",
        "A.4",
        less("orthogonal", "permutation", "conventional", "C4"),
        "conventional-C4.unexplained",
    ),
    (
        "A.4",
        "With augmentation CNNs permute: permutations tell more than channels that stay (C4)",
        "A.4",
        less("permutation", "identity", "conventional", "C4"),
        "conventional-C4.unexplained",
    ),
    (
        "A.4",
        "Blocks of CNNs with augmentation mix along, in the package's words (C4)",
        "A.4",
        motions("conventional", "C4", "mixes along"),
        "conventional-C4.unexplained",
    ),
    (
        "A.4, control",
        "C8-CNNs permute: fitted permutations are as good as the given ones (C4)",
        "A.4",
        table_found("steerable", "C4"),
        "steerable-C4.unexplained",
    ),
    (
        "A.4, control",
        "Mixing is learnt: linear maps leave less of trained CNNs than of untrained ones (C4)",
        "A.4",
        less("linear", "untrained", "conventional", "C4"),
        "untrained-C4.unexplained",
    ),
    (
        "A.4, control",
        "It is augmentation's: linear maps leave less with it than without (C4)",
        "A.4",
        less("linear", "upright", "conventional", "C4"),
        "upright-C4.unexplained",
    ),
    (
        "A.4, control",
        "So also under a mirror, of which the augmentation has none (flip-h)",
        "A.4",
        less("linear", "upright", "conventional", "flip-h"),
        "conventional-flip-h.unexplained",
    ),
    (
        "A.4",
        "Lite0 mixes under a mirror: orthogonal maps tell more than permutations (flip-h)",
        "A.4",
        less("orthogonal", "permutation", "lite0", "flip-h"),
        "lite0-flip-h.unexplained",
    ),
    (
        "A.4",
        "Lite0 permutes: permutations tell more than channels that stay (flip-h)",
        "A.4",
        less("permutation", "identity", "lite0", "flip-h"),
        "lite0-flip-h.unexplained",
    ),
    (
        "A.4, control",
        "Lite0 has learnt it: orthogonal maps leave less than of random weights (flip-h)",
        "A.4",
        less("orthogonal", "lite0 untrained", "lite0", "flip-h"),
        "lite0-untrained-flip-h.unexplained",
    ),
    (
        "A.4",
        "Lite0 mixes under quarter turns: orthogonal maps tell more than permutations (C4)",
        "A.4",
        less("orthogonal", "permutation", "lite0", "C4"),
        "lite0-C4.unexplained",
    ),
    (
        "A.4, control",
        "It is learnt too, without turns in its training: less than of random weights (C4)",
        "A.4",
        less("orthogonal", "lite0 untrained", "lite0", "C4"),
        "lite0-untrained-C4.unexplained",
    ),
    (
        "A.4",
        "Colours have a hidden action: orthogonal maps tell more than channels that stay (hue3)",
        "A.4",
        less("orthogonal", "identity", "lite0", "hue3"),
        "lite0-hue3.unexplained",
    ),
    (
        "A.4, control",
        "Lite0 has learnt it: orthogonal maps leave less than of random weights (hue3)",
        "A.4",
        less("orthogonal", "lite0 untrained", "lite0", "hue3"),
        "lite0-untrained-hue3.unexplained",
    ),
    *(
        row
        for name, group, slug in (
            ("small turns", "rotate:-15..15/7", "rotate"),
            ("scale", "zoom:0.8..1.25/9", "zoom"),
            ("hue", "hue12", "hue12"),
        )
        for row in (
            (
                "A.4, families",
                f"Lite0 mixes along with {name}: linear maps tell more than channels that stay",
                "layers",
                less("linear", "identity", "lite0", group),
                f"lite0-{slug}.unexplained",
            ),
            (
                "A.4, families",
                f"It has learnt {name}: linear maps leave less than of random weights",
                "layers",
                less("linear", "lite0 untrained", "lite0", group),
                f"lite0-untrained-{slug}.unexplained",
            ),
        )
    ),
)


def table(results: Path, figures: str) -> str:
    """Return the findings of a scale as a Markdown table; pictures are linked from ``figures``."""
    lines = ["| section | finding | here | verdict | picture |", "| --- | --- | --- | --- | --- |"]
    for section, text, suite, check, picture in FINDINGS:
        path = results / f"{suite}.json"
        if path.is_file():
            figure, verdicts = check(read(path))
            link = f"[{suite}]({figures}/{suite}/{picture}.svg)" if picture else ""
        else:
            figure, verdicts, link = "", ["not run"], ""
        lines.append(f"| {section} | {text} | {figure} | {verdict(verdicts)} | {link} |")
    return "\n".join(lines)


def verdict(verdicts: Sequence[str]) -> str:
    """Sum up comparisons; the counts are told where they differ."""
    counts = Counter(verdicts)
    if len(counts) == 1:
        only = next(iter(counts))
        return only if len(verdicts) == 1 else f"{only} ({len(verdicts)} of {len(verdicts)})"
    return ", ".join(f"{name} {count} of {len(verdicts)}" for name, count in counts.most_common())
