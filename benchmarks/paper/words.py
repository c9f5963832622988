"""What the README and the documentation say of the results in words, every number from the results.

The five conclusions of the paper with the verdicts of `findings.py`; why what did not come out did
not; fitted actions; families. `run.py figures` writes them between the pages' markers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from findings import (
    FINDINGS,
    Results,
    Row,
    flat,
    networks,
    own_counts_more,
    read,
    smaller_gap,
    told,
    verdict,
)

Words = Callable[[Path], str]
CORRUPTED = "digits, "


def suite(results: Path, name: str) -> Results:
    return read(results / f"{name}.json")


def last(r: Results) -> int | None:
    return max((s for s in r.values("step") if s is not None), default=None)


def value(row: Row | None) -> float:
    return float("nan") if row is None else row["mean"]


def range_of(values: Iterable[float], form: str = ".3g") -> str:
    """Return the least and the largest; one of them where they read the same."""
    every = list(values)
    ends = dict.fromkeys(f"{x:{form}}" for x in (min(every), max(every)))
    return " to ".join(ends)


def verdicts_of(results: Path, section: str, *texts: str) -> str:
    """Sum up the verdicts of a section's findings whose text begins so."""
    every: list[str] = []
    for where, text, name, check, _ in FINDINGS:
        path = results / f"{name}.json"
        if path.is_file() and where == section and text.startswith(texts):
            every += check(read(path))[1]
    return verdict(every or ["not run"])


def first(results: Path) -> str:
    r = suite(results, "4.1")
    end, begin = last(r), min(s for s in r.values("step") if s)

    def ends(measure: str) -> str:
        where = {"model": "conventional", "measure": measure}
        return " to ".join(told(r.row(**where, step=s)) for s in (begin, end))

    return (
        f"Channelwise EED, {flat(r)[0]}; meanwhile the CNN's latent EED falls from "
        f"{ends('latent-l2')}, its softmax EED from {ends('softmax-kl')}"
    )


def second(results: Path) -> str:
    r = suite(results, "4.2")
    worn = [d for d in r.values("data") if d.startswith(CORRUPTED)]
    far = [d for d in r.values("data") if not d.startswith("digits")]

    def spread(model: str, measure: str, data: Sequence[str]) -> str:
        return range_of(value(r.row(model=model, data=d, measure=measure)) for d in data)

    def latents(model: str) -> str:
        seen = (spread(model, "latent-l2", d) for d in (("digits",), worn, far))
        return ", ".join(seen)

    return (
        f"Latent EED on digits, {len(worn)} corruptions of them, {len(far)} other data sets: "
        f"trained {latents('conventional')}; untrained {latents('untrained')}. Insensitivity was "
        "seen of untrained networks alone: the trained CNN's softmax EED is "
        f"{spread('conventional', 'softmax-kl', ('digits',))} on digits and "
        f"{spread('conventional', 'softmax-kl', far)} far away"
    )


def third(results: Path) -> str:
    r = suite(results, "4.2")

    def at(model: str, measure: str) -> str:
        return told(r.row(model=model, data="digits", measure=measure))

    def apart(model: str) -> str:
        row = r.row(model=model, data="digits", measure="latent-l2")
        return "-" if row is None else range_of(row["normalisers"])

    return (
        f"Softmax EED on digits {at('untrained', 'softmax-kl')} untrained, "
        f"{at('steerable', 'softmax-kl')} of C8-CNNs; latent distance the other way round, "
        f"{at('untrained', 'latent-l2')} to {at('steerable', 'latent-l2')}. It is insensitivity, "
        f"as the paper suspects: latents of different digits lie {apart('untrained')} apart in "
        f"untrained CNNs, {apart('conventional')} in trained ones"
    )


def fourth(results: Path) -> str:
    r = suite(results, "4.3")
    end = last(r)

    def seen(network: str, measure: str, field: str = "mean") -> str:
        where = {"step": end, "measure": measure, "group": "C8"}
        rows = (r.row(model=f"{network} {start}", **where) for start in ("scratch", "pretrained"))
        return " / ".join(told(row, field) for row in rows)

    each = "; ".join(
        f"{network} by distance {seen(network, 'latent-l2')}, by cosine with M "
        f"{seen(network, 'latent-cos')}, without M "
        f"{seen(network, 'latent-cos', 'unnormalised_mean')}"
        for network in networks(r)
    )
    return f"Scratch / pretrained after {end} iterations: {each}"


def fifth(results: Path) -> str:
    r = suite(results, "4.4-fashion")

    def at(model: str) -> str:
        return told(r.row(model=model, step=last(r), measure="latent-l2"))

    def near(kind: str) -> str:
        every = [v["neighbours"] for k, v in r.training.items() if k.split("/")[0] == kind]
        return range_of(every, ".1%")

    return (
        f"In our controlled study, by distance: SimCLR with flips {at('simclr')}, without "
        f"{at('simclr-no-flips')}, DINO {at('dino')}, supervised {at('supervised')}. Of SimCLR's "
        f"augmentations {own_counts_more(suite(results, '4.4-turns'))[0]}. Encoders are "
        f"small: 20 nearest neighbours name the class of {near('supervised')} of images in "
        f"supervised latents, {near('simclr')} in SimCLR's, {near('dino')} in DINO's. The paper's "
        "checkpoints were not at hand"
    )


def contrasted(how: str) -> tuple[str, ...]:
    others = ("supervised training", "DINO")
    return tuple(f"SimCLR is more invariant than {other} ({how})" for other in others)


#: What the paper concludes, which findings it stands on (in what respect, section, how they begin),
#: and what was seen.
CONCLUSIONS: tuple[tuple[str, tuple[tuple[str, str, tuple[str, ...]], ...], Words], ...] = (
    (
        "Augmentation does not induce invariance through equivariant layers; it arises otherwise",
        (
            ("layers do not become equivariant", "4.1, (1)", ("No layer",)),
            ("invariance grows", "4.1, (1)", ("Latent EED", "Softmax EED")),
        ),
        first,
    ),
    (
        "Learned invariance generalises mildly; on data far away, what looks like invariance may "
        "be insensitivity",
        (("trained CNNs ahead of untrained ones in their latents", "4.2, (2)", ("Trained CNNs",)),),
        second,
    ),
    (
        "Networks with random weights can be more invariant than ones with learned or built-in "
        "invariance",
        (("at the softmax", "4.2, (3)", ("At the softmax",)),),
        third,
    ),
    (
        "Pretrained weights lead to other invariance than random ones; which is more invariant "
        "depends on the distance",
        (
            ("depends on the distance", "4.3, (4)", ("Which start",)),
            ("from scratch ahead by the paper's, Euclidean", "4.3, (4)", ("From scratch",)),
        ),
        fourth,
    ),
    (
        "Self-supervised models are no more invariant than supervised ones, unless trained with a "
        "contrastive loss and augmentation from the group",
        (
            *(
                (f"SimCLR ahead by {how}", "4.4, (5)", contrasted(how))
                for how in ("distance", "cosine without M", "cosine with M")
            ),
            ("for its flips", "4.4, control", ("SimCLR with flips",)),
            ("its own augmentation's above all", "4.4, controlled", ("Contrastive",)),
        ),
        fifth,
    ),
)


def reached(results: Path, findings: Sequence[tuple[str, str, tuple[str, ...]]]) -> str:
    """Return the verdicts of a conclusion, by what it says."""
    seen = ((how, verdicts_of(results, section, *texts)) for how, section, texts in findings)
    return "; ".join(f"{how}: **{found}**" for how, found in seen)


def seeds(results: Path) -> str:
    """Return how many seeds the conclusions stand on."""
    names = ("4.1", "4.2", "4.3", "4.4-fashion")
    counts = {len(row["seeds"]) for name in names for row in suite(results, name).rows}
    return range_of(counts, "d")


def more_seeds(results: Path) -> str:
    """Return which verdicts of 4.1 and 4.2 three seeds would have told otherwise."""
    lines = ["| section | finding | three seeds | ten |", "| --- | --- | --- | --- |"]
    findings = [f for f in FINDINGS if f[2] in ("4.1", "4.1-features", "4.2", "4.2-disk")]
    for section, text, name, check, _ in findings:
        r = suite(results, name)
        few, every = (check(x)[1] for x in (r.of_first(3), r))
        # As shares, for there are more networks to be right on digits.
        if {v: few.count(v) / len(few) for v in few} != {
            v: every.count(v) / len(every) for v in every
        }:
            lines.append(f"| {section} | {text} | {verdict(few)} | {verdict(every)} |")
    told = (
        f"Of {len(findings)} findings of 4.1 and 4.2 these would have another verdict with the "
        "first three of the ten seeds:"
    )
    return "\n".join([told, "", *lines])


def conclusions(results: Path) -> str:
    """Return the conclusions with their verdicts and what was seen."""
    lines = ["| the paper concludes | verdict | seen here |", "| --- | --- | --- |"]
    for number, (text, findings, seen) in enumerate(CONCLUSIONS, 1):
        lines.append(f"| ({number}) {text} | {reached(results, findings)} | {seen(results)} |")
    return "\n".join(lines)


def short(results: Path) -> str:
    """Return the conclusions with their verdicts, for the documentation's first page."""
    lines = [f"| the paper concludes | seen here, {seeds(results)} seeds |", "| --- | --- |"]
    for number, (text, findings, _) in enumerate(CONCLUSIONS, 1):
        lines.append(f"| ({number}) {text} | {reached(results, findings)} |")
    return "\n".join(lines)


def turned(r: Results, disk: Results) -> str:
    """Return what turns without interpolation show of either start, beside all turns."""
    texts = []
    for network in networks(r):

        def pair(s: Results, key: str = "mean", network: str = network) -> str:
            where = {"step": last(s), "measure": "latent-l2", "group": "C8"}
            rows = (s.row(model=f"{network} {x}", **where) for x in ("scratch", "pretrained"))
            return " / ".join("-" if row is None else f"{row[key]:.3g}" for row in rows)

        texts.append(f"{network} {pair(r, 'exact_mean')} ({pair(r)}; {pair(disk)})")
    return (
        "Scratch / pretrained over quarter turns alone (over all; over all inside a disk, where no "
        f"corner comes in): {'; '.join(texts)}"
    )


def causes(results: Path) -> str:
    """Return why what did not come out did not, a line each."""
    r, heads, disk = (suite(results, n) for n in ("4.1", "4.1-features", "4.2-disk"))
    chips, views = suite(results, "4.3"), suite(results, "4.4-fashion")

    def cos(s: Results, model: str, field: str = "mean") -> str:
        return told(s.row(model=model, step=last(s), measure="latent-cos"), field)

    def m(s: Results, model: str) -> str:
        row = s.row(model=model, step=last(s), measure="latent-cos")
        return "-" if row is None else range_of(row["normalisers"])

    def far(s: Results) -> str:
        return told(s.row(model="conventional", data="Fashion-MNIST", measure="latent-l2"))

    data = suite(results, "4.2")
    pairs = zip(data.values("data"), smaller_gap(data)[1], strict=True)
    reverse = [name for name, found in pairs if found == "reversed"]

    def away(model: str) -> str:
        home, *others = (
            value(data.row(model=model, data=name, measure="latent-l2"))
            for name in ("digits", *reverse)
        )
        return f"from {home:.3g} to {min(others):.3g} and up to {max(others):.3g}"

    early = min(s for s in chips.values("step") if s)
    blind = chips.row(model="lite0 scratch", step=early, measure="softmax-kl", group="C8")
    maps, hidden = (
        told(s.row(model="conventional", step=last(s), measure="latent-l2")) for s in (heads, r)
    )
    return "\n".join(
        (
            f"- **4.1, cosine with M**: M decides. In the hidden layer, our latent, M is "
            f"{m(r, 'steerable')} in C8-CNNs and {m(r, 'conventional')} in CNNs, and the values "
            f"are {cos(r, 'steerable')} and {cos(r, 'conventional')}. In what the heads read, one "
            f"layer earlier, M is {m(heads, 'steerable')} and {m(heads, 'conventional')} (fields "
            "are pooled to maxima, never negative), and the paper's order is there: "
            f"{cos(heads, 'steerable')} and {cos(heads, 'conventional')}. So what the paper calls "
            "most surprising depends on which layer is called latent, which it does not say.",
            f"- **4.1, the last layers hold a CNN's invariance**: its hidden layer has a latent "
            f"EED of {hidden}, the flattened maps that it reads one of {maps}.",
            f"- **4.2, all data**: intervals overlap where trained CNNs differ most among "
            f"themselves, as on Fashion-MNIST ({far(suite(results, '4.2'))}). It is not the "
            f"corners that rotations bring in: masked to a disk, it is {far(disk)}.",
            f"- **4.2, the smaller difference**: reversed on "
            f"{', '.join(name.removeprefix(CORRUPTED) for name in reverse)}. What a CNN has learnt "
            "does not go as far as what is built in: from digits to these its latent EED goes "
            f"{away('conventional')}, that of C8-CNNs {away('steerable')}, and of untrained CNNs "
            f"{away('untrained')}.",
            "- **4.3**: what separates the starts is largely the black corners that turns by 45 "
            f"degrees bring in. {turned(chips, suite(results, '4.3-disk'))}. Without corners the "
            "starts of ResNet-18 and SqueezeNet hardly differ, and those of Lite0 lean to the "
            "paper's order. A network from scratch may not see the image yet: Lite0's at iteration "
            f"{early} has a softmax EED of {value(blind):.0e}.",
            f"- **4.4, cosine with M**: M again. The supervised network comes first, "
            f"{cos(views, 'supervised')} against SimCLR's {cos(views, 'simclr')}, since different "
            f"images have a mean cosine of {m(views, 'supervised')} in it and of "
            f"{m(views, 'simclr')} in SimCLR's, which hears of no classes.",
        )
    )


def left(
    r: Results, network: str, group: str, kind: str, layers: Sequence[str] = (), field: str = ""
) -> list[float]:
    """Return what a kind of map leaves unexplained, of all layers or some, each seed's."""
    rows = [row for row in r.rows if (row["network"], row["group"]) == (network, group)]
    kept = [x for x in rows if x["kind"] == kind and (not layers or x["layer"] in layers)]
    return [v for row in kept for v in row[field or "values"] if v is not None]


KINDS = ("identity", "permutation", "orthogonal", "linear")


def fitted(results: Path) -> str:
    """Return what fitted actions tell, a line each."""
    r = suite(results, "A.4")

    def of(network: str, group: str, kind: str, *layers: str, field: str = "") -> str:
        return range_of(left(r, network, group, kind, layers, field), ".2f")

    def four(group: str, layer: str) -> str:
        return ", ".join(of("lite0", group, kind, layer) for kind in KINDS)

    def random(group: str, *layers: str) -> str:
        return ", ".join(of("lite0 untrained", group, "orthogonal", layer) for layer in layers)

    def right(start: str) -> str:
        every = [v["accuracy"] for k, v in r.training.items() if k.startswith(start)]
        return range_of(every, ".1%")

    def says(text: str) -> str:
        return verdicts_of(results, "A.4, control", text)

    deep = tuple(f"block{i}" for i in range(3, 7))
    stem, *blocks = ("_bn0", "_blocks.0", "_blocks.2", "_blocks.10")
    hues = "; ".join(
        f"{name} {four('hue3', layer)}"
        for name, layer in zip(
            ("stem", "block 0", "block 2", "block 10"), (stem, *blocks), strict=True
        )
    )
    return "\n".join(
        (
            "- **CNNs trained with rotations do not permute, and what they mix they have not "
            "learnt.** Under quarter turns the best permutations have median defects of "
            f"{of('conventional', 'C4', 'permutation', field='defect')}, so they are no "
            f"representation; linear maps leave {of('conventional', 'C4', 'linear')}, with random "
            f"weights {of('untrained', 'C4', 'linear')} ({says('Mixing is learnt')}). Any "
            "convolution's channels are in part linear functions of each other's turned ones.",
            "- **What augmentation does is to lose less with depth**: of blocks 3 to 6 linear maps "
            f"leave {of('upright', 'C4', 'linear', *deep)} without rotations, "
            f"{of('conventional', 'C4', 'linear', *deep)} with them. Networks are right on "
            f"{right('rotated/conventional')} of rotated digits, C8-CNNs on "
            f"{right('rotated/steerable')}, CNNs trained upright on {right('upright')}.",
            "- **C8-CNNs permute, and the fit finds their table.** Under a mirror, to which they "
            "are not built, their first block mixes (orthogonal "
            f"{of('steerable', 'flip-h', 'orthogonal', 'block1')}, permuted "
            f"{of('steerable', 'flip-h', 'permutation', 'block1')}), their last leaves "
            f"{of('steerable', 'flip-h', 'orthogonal', 'block6')}.",
            "- **EfficientNet-Lite0 mixes in its first two thirds and becomes invariant to mirrors "
            "after, channel by channel.** Identity, permutation, orthogonal, linear leave "
            f"{four('flip-h', '_blocks.0')} in block 0, {four('flip-h', '_blocks.4')} in block 4, "
            f"{four('flip-h', '_blocks.15')} in block 15. It is learnt: with random weights "
            "orthogonal maps leave "
            f"{random('flip-h', '_blocks.0', '_blocks.4', '_blocks.15')}. Quarter turns, which its "
            f"training has not shown, are mixed along too (block 4: {four('C4', '_blocks.4')}) and "
            f"lost at the end (block 15: {four('C4', '_blocks.15')}).",
            "- **Colours have a hidden action**: when red, green and blue change places, these "
            f"leave {hues}; with random weights orthogonal maps {random('hue3', stem, *blocks)}.",
        )
    )


def known(results: Path) -> str:
    """Return which layers know small turns, scale and hue, a line each."""
    r = suite(results, "layers")
    layers = list(dict.fromkeys(row["layer"] for row in r.rows))
    stem, *blocks = layers
    groups = {g.partition(":")[0]: g for g in dict.fromkeys(row["group"] for row in r.rows)}

    def of(family: str, kind: str, *where: str, network: str = "lite0") -> str:
        return range_of(left(r, network, groups[family], kind, where), ".2f")

    def random(family: str, kind: str, *where: str) -> str:
        return of(family, kind, *where, network="lite0 untrained")

    def gained(family: str) -> str:
        pairs = zip(
            *(left(r, "lite0", groups[family], kind, blocks) for kind in ("identity", "linear")),
            strict=True,
        )
        return f"{max(a - b for a, b in pairs):.2f}"

    def worst(family: str) -> str:
        leaves = {x: left(r, "lite0", groups[family], "linear", (x,))[0] for x in blocks}
        most = max(leaves, key=leaves.__getitem__)
        return f"{leaves[most]:.2f} in block {most.removeprefix('_blocks.')}"

    end = blocks[-1]
    return "\n".join(
        (
            "- **Every layer knows hue, as a mixing of channels**: linear maps leave "
            f"{of('hue12', 'linear', stem)} in the stem and {of('hue12', 'linear', *blocks)} in "
            f"the blocks, channels that stay {of('hue12', 'identity', stem)} and "
            f"{of('hue12', 'identity', *blocks)}; with random weights, whose stem is linear too, "
            f"linear maps leave up to {random('hue12', 'linear', end)}.",
            "- **Small turns and scale are lost in the middle and known at the end, channel by "
            f"channel**: linear maps leave up to {worst('rotate')} and {worst('zoom')}, but in the "
            f"last block channels that stay leave {of('rotate', 'identity', end)} and "
            f"{of('zoom', 'identity', end)}. Mixing "
            f"takes off at most {gained('rotate')} and {gained('zoom')}. It is learnt: with random "
            f"weights linear maps leave {random('rotate', 'linear', end)} and "
            f"{random('zoom', 'linear', end)} there.",
        )
    )


def reactions(results: Path) -> str:
    """Return what the network for photos reacts to, a line each."""
    r = suite(results, "discussion")

    def row(family: str, measure: str) -> Row:
        named = (x for x in r.rows if x["group"].partition(":")[0] == family)
        return next(x for x in named if x["measure"] == measure)

    def of(family: str, measure: str, *members: str) -> str:
        seen = row(family, measure)["per_element"]
        return range_of((seen[f"{family}{k}"] for k in members), ".2f")

    def kept(*families: str) -> str:
        return range_of((1 - value(row(f, "flip-rate")) for f in families), ".1%")

    gains = range_of((row(f, "latent-l2")["gain"] for f in ("blur", "jpeg", "noise")), ".1f")
    still = range_of(
        (row(f, "latent-l2")["gain"] for f in ("brightness", "contrast", "shift-px")), ".1f"
    )
    unmoved, photos = (row("zoom", "flip-rate")[k] for k in ("right_unmoved_mean", "samples"))
    lost = {
        f: unmoved - row(f, "flip-rate")["right_mean"]
        for f in ("blur", "hue12", "noise", "jpeg", "rotate", "zoom")
    }
    most = sorted(lost, key=lambda f: -lost[f])[:2]
    two, eight = ("-2", "2"), ("-8", "8")
    return "\n".join(
        (
            f"- **It reads fine texture**: blur, JPEG and noise move the latent {gains} times as "
            "far as they move pixels, each as a share of what different photos are apart "
            f"(`gain`); blur of σ 3 flips {of('blur', 'flip-rate', '3')} of predictions.",
            f"- **It hardly looks at brightness**: brightness, contrast and shifts have gains of "
            f"{still}, and {kept('brightness', 'contrast', 'shift-px')} of predictions stay.",
            "- **Scaling and small turns lie between**: latent EED "
            f"{value(row('zoom', 'latent-l2')):.2f} and {value(row('rotate', 'latent-l2')):.2f}, "
            f"as blur of σ 1 ({of('blur', 'latent-l2', '1')}), with flips of "
            f"{value(row('zoom', 'flip-rate')):.2f} and {value(row('rotate', 'flip-rate')):.2f} "
            f"({of('blur', 'flip-rate', '1')}).",
            "- **Shifts count by whether the grid of strides moves, not by how far**: two pixels "
            f"come to {of('shift-px', 'latent-l2', *two)}, eight to "
            f"{of('shift-px', 'latent-l2', *eight)}.",
            f"- Of accuracy ({unmoved:.0%} unmoved) {most[0]} takes the most, then {most[1]}. "
            f"{photos} photos bound all of this: one is {1 / photos:.0%} of an accuracy. `hue12` "
            "is held against the mean of its orbit, which is nearer to each than the photo itself.",
        )
    )


#: What stands between the markers of the README, by name.
BLOCKS: dict[str, Words] = {
    "conclusions": conclusions,
    "seeds": more_seeds,
    "causes": causes,
    "fits": fitted,
    "layers": known,
    "families": reactions,
}
