"""The paper's findings, held against the results: who lies below whom, and do intervals separate.

A comparison is `reproduced` where the paper's order holds and the 95 % intervals (over seeds) do
not overlap, `reversed` where the other order does, `not separated` otherwise. Changes over training
go by the seeds' own: `reproduced` where all are of the sign that the paper tells. Several
comparisons make one verdict; the count of each is told. No number of the paper's is in here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Found = tuple[str, list[str]]


@dataclass(frozen=True)
class Results:
    """Rows of one suite."""

    rows: Sequence[Row]

    def row(self, **wanted: Any) -> Row | None:
        """Return the one row of these values, or None where it was not measured."""
        found = [r for r in self.rows if all(r[k] == v for k, v in wanted.items())]
        return found[0] if len(found) == 1 else None

    def values(self, key: str, **wanted: Any) -> list[Any]:
        """Return the values of a key, in order, each once."""
        rows = (r for r in self.rows if all(r[k] == v for k, v in wanted.items()))
        return list(dict.fromkeys(r[key] for r in rows))


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


def paired_change(row: Row | None, other: Row | None) -> str:
    """Hold 'the value falls from the first to the second' against the seeds' own changes."""
    if row is None or other is None:
        return "not run"
    changes = [b - a for a, b in zip(row["values"], other["values"], strict=True)]
    if len(changes) > 1:
        if max(changes) < 0:
            return "reproduced"
        return "reversed" if min(changes) > 0 else "not separated"
    return "not separated"


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


def flat(r: Results) -> Found:
    """After the first checkpoint, a block moves by less than a tenth of the gap between models."""
    steps = sorted(s for s in r.values("step") if s)
    verdicts, worst = [], 0.0
    for layer in r.values("layer", measure="channel-cos"):
        series = {
            m: [r.row(model=m, step=s, measure="channel-cos", layer=layer) for s in steps]
            for m in ("conventional", "steerable")
        }
        gap = series["conventional"][-1]["mean"] - series["steerable"][-1]["mean"]
        for rows in series.values():
            moved = max(abs(x["mean"] - rows[0]["mean"]) for x in rows)
            worst = max(worst, moved / gap)
            verdicts.append("reproduced" if moved < 0.1 * gap else "not separated")
    return (
        f"largest move after iteration {steps[0]}: {worst:.1%} of the gap between models",
        verdicts,
    )


def final(measure: str, low: str, high: str, field: str = "mean") -> Callable[[Results], Found]:
    def find(r: Results) -> Found:
        last = max(r.values("step"))
        a, b = (r.row(model=m, step=last, measure=measure) for m in (low, high))
        text = f"{low} {told(a, field)}, {high} {told(b, field)}"
        return text, [below(a, b, field)]

    return find


def falls(measure: str, models: Sequence[str]) -> Callable[[Results], Found]:
    def find(r: Results) -> Found:
        steps = sorted(s for s in r.values("step") if s)
        texts, verdicts = [], []
        for model in models:
            first, last = (
                r.row(model=model, step=s, measure=measure) for s in (steps[0], steps[-1])
            )
            texts.append(f"{model} {told(first)} to {told(last)}")
            verdicts.append(paired_change(first, last))
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
    """Conventional - steerable against untrained - conventional, in means."""
    texts, verdicts = [], []
    for data in r.values("data"):
        means = [
            r.row(model=m, data=data, measure="latent-l2")["mean"]
            for m in ("steerable", "conventional", "untrained")
        ]
        inner, outer = means[1] - means[0], means[2] - means[1]
        verdicts.append("reproduced" if inner < outer else "reversed")
        if not data.startswith("digits,"):
            texts.append(f"{data} {inner:.2g} against {outer:.2g}")
    return "; ".join(texts), verdicts


def starts(group: str, measure: str) -> Callable[[Results], Found]:
    def find(r: Results) -> Found:
        steps = [s for s in sorted(r.values("step")) if s]
        texts, verdicts = [], []
        for network in sorted({m.rsplit(" ", 1)[0] for m in r.values("model")}):
            for step in steps:
                a, b = (
                    r.row(model=f"{network} {s}", step=step, measure=measure, group=group)
                    for s in ("scratch", "pretrained")
                )
                verdicts.append(below(a, b))
                texts.append(f"{step}: {told(a)} / {told(b)}")
        return f"scratch / pretrained, at {'; '.join(texts)}", verdicts

    return find


def trend(start: str, sign: int) -> Callable[[Results], Found]:
    def find(r: Results) -> Found:
        steps = [s for s in sorted(r.values("step")) if s]
        texts, verdicts = [], []
        for model in r.values("model"):
            if model.endswith(start):
                pair = [
                    r.row(model=model, step=s, measure="latent-l2", group="C8")
                    for s in (steps[0], steps[-1])
                ]
                texts.append(f"{told(pair[0])} to {told(pair[1])}")
                verdicts.append(paired_change(*(pair if sign < 0 else pair[::-1])))
        return "; ".join(texts), verdicts

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


#: Section, what the paper says, suite, check, picture.
FINDINGS: tuple[tuple[str, str, str, Callable[[Results], Found], str], ...] = (
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
        "digits.C8.latent-cos",
    ),
    (
        "4.1",
        "By cosine without M, C8-CNNs are more invariant",
        "4.1",
        final("latent-cos", "steerable", "conventional", "unnormalised_mean"),
        "digits.C8.latent-cos.unnormalised",
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
    ("4.3", "So also under D8", "4.3", starts("D8", "latent-l2"), "chips.D8.latent-l2"),
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
        "SimCLR is more invariant than supervised training (cosine)",
        "4.4-fashion",
        final("latent-cos", "simclr", "supervised"),
        "Fashion-MNIST.flip-h.latent-cos",
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
        "SimCLR is more invariant than DINO (cosine)",
        "4.4-fashion",
        final("latent-cos", "simclr", "dino"),
        "Fashion-MNIST.flip-h.latent-cos",
    ),
    (
        "4.4, control",
        "SimCLR with flips is more invariant than without",
        "4.4-fashion",
        final("latent-l2", "simclr", "simclr-no-flips"),
        "Fashion-MNIST.flip-h.latent-l2",
    ),
    ("4", "More than 50 points change little", "points", points, "C8.latent-l2"),
)


def table(results: Path, figures: str) -> str:
    """Return the findings of a scale as a Markdown table; pictures are linked from ``figures``."""
    lines = ["| section | finding | here | verdict | picture |", "| --- | --- | --- | --- | --- |"]
    for section, text, suite, check, picture in FINDINGS:
        path = results / f"{suite}.json"
        if path.is_file():
            figure, verdicts = check(Results(json.loads(path.read_text())["rows"]))
            link = f"[{suite}]({figures}/{suite}/{picture}.svg)"
        else:
            figure, verdicts, link = "", ["not run"], ""
        lines.append(f"| {section} | {text} | {figure} | {verdict(verdicts)} | {link} |")
    return "\n".join(lines)


def verdict(found: Sequence[str]) -> str:
    """Sum up comparisons; the counts are told where they differ."""
    counts = Counter(found)
    if len(counts) == 1:
        only = next(iter(counts))
        return only if len(found) == 1 else f"{only} ({len(found)} of {len(found)})"
    return ", ".join(f"{name} {count} of {len(found)}" for name, count in counts.most_common())
