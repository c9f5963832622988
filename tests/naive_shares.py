"""Shares of the error by plain loops, written from the formulas and without the package.

Σ_x [E_g CE(p_g, y) − CE(p̄, y)] / Σ_x E_g CE(p_g, y), and Σ ‖z_g − z̄‖² / Σ ‖z_g − y‖².
"""

import math


def probabilities(scores, kind="logits"):
    """Probabilities of one row of class scores; a single one tells two classes apart."""
    scores = [float(s) for s in scores]
    if kind == "probabilities":
        return [1 - scores[0], scores[0]] if len(scores) == 1 else scores
    if len(scores) == 1:
        scores = [0.0, *scores]
    top = max(scores)
    powers = [math.exp(s - top) for s in scores]
    return [p / math.fsum(powers) for p in powers]


def undone(row, scores):
    """What ``out[c] = in[row[c]]`` was made of."""
    back = [0.0] * len(scores)
    for c, source in enumerate(row):
        back[source] = scores[c]
    return back


def of_classes(logits, labels, table=None, members=None, kind="logits"):
    """Deviations and errors, a list of lists each, of orbits (N, n, k) and labels (N,)."""
    deviations, errors = [], []
    for orbit, label in zip(logits, labels, strict=True):
        chosen = range(len(orbit)) if members is None else members
        rows = []
        for g in chosen:
            p = probabilities(orbit[g], kind)
            rows.append(p if table is None else undone(table[g], p))
        mean = math.fsum(p[label] for p in rows) / len(rows)
        own = [-math.log(p[label]) for p in rows]
        deviations.append([error + math.log(mean) for error in own])
        errors.append(own)
    return deviations, errors


def square(a, b):
    return math.fsum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def of_targets(orbits, targets, back=None, members=None):
    """The same of vectors (N, n, k) and targets (N, k); ``back(g, vector)`` moves them back."""
    deviations, errors = [], []
    for orbit, target in zip(orbits, targets, strict=True):
        chosen = range(len(orbit)) if members is None else members
        rows = [list(orbit[g]) if back is None else list(back(g, orbit[g])) for g in chosen]
        mean = [math.fsum(row[i] for row in rows) / len(rows) for i in range(len(rows[0]))]
        deviations.append([square(row, mean) for row in rows])
        errors.append([square(row, target) for row in rows])
    return deviations, errors


def total(rows):
    return math.fsum(math.fsum(row) for row in rows)


def share(deviations, errors):
    """The share: a ratio of sums."""
    return total(deviations) / total(errors)


def stderr(deviations, errors):
    """Its standard error by the jackknife: how the share changes without each sample."""
    n = len(deviations)
    without = [
        share(deviations[:i] + deviations[i + 1 :], errors[:i] + errors[i + 1 :]) for i in range(n)
    ]
    mean = math.fsum(without) / n
    return math.sqrt(math.fsum((r - mean) ** 2 for r in without) * (n - 1) / n)


def share_interval(hits):
    """Wilson's interval of a share, by bisection of (p - q)² = z² q (1 - q) / number.

    The number is how many independent draws would have the variance over samples of their shares.
    """
    count, draws = len(hits), len(hits[0])
    means = [sum(row) / draws for row in hits]
    p = math.fsum(means) / count
    variance = math.fsum((m - p) ** 2 for m in means) / count
    if p in (0, 1):
        number = count
    else:
        number = min(p * (1 - p) / (variance / count), count * draws) if variance else count * draws
    z = 1.959963984540054

    def beyond(q):
        return (p - q) ** 2 > z * z * q * (1 - q) / number

    ends = []
    for outer in (0.0, 1.0):
        # From an end, which is beyond the interval or on its edge, to the share within it.
        far, near = outer, p
        for _ in range(200):
            middle = (far + near) / 2
            far, near = (middle, near) if beyond(middle) else (far, middle)
        ends.append(near)
    return ends
