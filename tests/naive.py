"""The slow twin of every number: G-EED in plain float64 loops, written from the equations alone.

Equation numbers are those of Kvinge et al., "In What Ways Are Deep Neural Networks Invariant and
How Should We Measure This?". Nothing here imports the package; speed is no aim. Activations are
``(N, |G|, ...)``: samples, then group elements, identity first.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
IDENTITY_TOLERANCE = 1e-6

# ------------------------------------------------------------------------------------------------
# Groups: element names and products. An element is a tuple of integers; names are made from it.
# ------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A group's name, read: its family and its one or two sizes."""

    family: str
    sizes: tuple[int, ...]


def parse(group: str) -> Kind:
    for family, pattern in [
        ("C", r"C(\d+)"),
        ("D", r"D(\d+)"),
        ("flip-h", r"flip-h"),
        ("flip-v", r"flip-v"),
        ("shift", r"shift(\d+)x(\d+)"),
    ]:
        match = re.fullmatch(pattern, group)
        if match:
            return Kind(family, tuple(int(size) for size in match.groups()))
    raise ValueError(f"no group {group!r}")


def codes(group: str) -> list[tuple[int, ...]]:
    """The elements in order: C<n> as (k,), D<n> as (mirrored, k), flips (k,), shifts (i, j)."""
    family, sizes = parse(group)
    if family == "C":
        return [(k,) for k in range(sizes[0])]
    if family == "D":
        return [(mirrored, k) for mirrored in (0, 1) for k in range(sizes[0])]
    if family == "shift":
        return [(i, j) for i in range(sizes[0]) for j in range(sizes[1])]
    return [(0,), (1,)]


def name_of(group: str, code: tuple[int, ...]) -> str:
    family, _ = parse(group)
    if not any(code):
        return "e"
    if family == "C":
        return f"r{code[0]}"
    if family == "D":
        mirrored, k = code
        return ("s" if mirrored else "") + (f"r{k}" if k else "")
    if family == "shift":
        return f"t{code[0]},{code[1]}"
    return "flip"


def elements(group: str) -> list[str]:
    """Names in order, identity first: e, r1, ..; then s, sr1, ..; flip; e, t0,1, .. row-major."""
    return [name_of(group, code) for code in codes(group)]


def code_of(group: str, element: str) -> tuple[int, ...]:
    return codes(group)[elements(group).index(element)]


def multiply(group: str, a: str, b: str) -> str:
    """The element ab, for which phi(a, phi(b, x)) = phi(ab, x): b acts first."""
    family, sizes = parse(group)
    p, q = code_of(group, a), code_of(group, b)
    if family == "D":
        # sr^k is "rotate by k, then mirror"; a mirror turns a rotation round: r^k s = s r^-k.
        mirrored = (p[0] + q[0]) % 2
        k = (-p[1] if q[0] else p[1]) + q[1]
        return name_of(group, (mirrored, k % sizes[0]))
    moduli = sizes if sizes else (2,)
    product = tuple((x + y) % m for x, y, m in zip(p, q, moduli, strict=True))
    return name_of(group, product)


def inverse(group: str, element: str) -> str:
    for candidate in elements(group):
        if multiply(group, candidate, element) == "e":
            return candidate
    raise ValueError(f"{element} of {group} has no inverse")


def is_subgroup(group: str, subset: Sequence[str]) -> bool:
    members = set(subset)
    return "e" in members and all(
        multiply(group, a, b) in members for a in members for b in members
    )


# ------------------------------------------------------------------------------------------------
# Actions on images: the last two axes
# ------------------------------------------------------------------------------------------------


def cubic_weight(distance: float, a: float = -0.75) -> float:
    """Keys' kernel, as PyTorch and ONNX GridSample have it."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    if d < 2:
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return 0.0


def line_taps(source: float, interpolation: str) -> list[tuple[int, float]]:
    """Neighbours on one axis and their weights."""
    if interpolation == "nearest":
        return [(math.floor(round(source, 9) + 0.5), 1.0)]
    first = math.floor(source)
    if interpolation == "bilinear":
        return [(first, 1 - (source - first)), (first + 1, source - first)]
    if interpolation == "bicubic":
        return [(first + o, cubic_weight(source - (first + o))) for o in (-1, 0, 1, 2)]
    raise ValueError(f"no interpolation {interpolation!r}")


@lru_cache(maxsize=4096)
def rotation_taps(
    degrees: float, height: int, width: int, interpolation: str
) -> tuple[tuple[tuple[int, int, float], ...], ...]:
    """For each output pixel, row-major, the (row, column, weight) it is a sum of.

    src_x = cx + dx cos t - dy sin t, src_y = cy + dx sin t + dy cos t about the pixel centre.
    A neighbour outside the grid counts as zero, so it is not listed.
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if degrees % 90 == 0:
        cosine, sine = float(round(cosine)), float(round(sine))
    cy, cx = (height - 1) / 2, (width - 1) / 2
    pixels = []
    for i in range(height):
        for j in range(width):
            dx, dy = j - cx, i - cy
            source_x = cx + dx * cosine - dy * sine
            source_y = cy + dx * sine + dy * cosine
            pixels.append(
                tuple(
                    (row, column, row_weight * column_weight)
                    for row, row_weight in line_taps(source_y, interpolation)
                    for column, column_weight in line_taps(source_x, interpolation)
                    if 0 <= row < height and 0 <= column < width
                )
            )
    return tuple(pixels)


def rotate_directly(image: Floats, degrees: float, interpolation: str) -> Floats:
    height, width = image.shape[-2:]
    out = np.zeros_like(image)
    taps = rotation_taps(degrees, height, width, interpolation)
    for pixel, neighbours in enumerate(taps):
        i, j = divmod(pixel, width)
        for row, column, weight in neighbours:
            out[..., i, j] += weight * image[..., row, column]
    return out


def rotate(image: Floats, k: int, n: int, interpolation: str) -> Floats:
    """Rotate by 360 k / n degrees, counter-clockwise as displayed."""
    height, width = image.shape[-2:]
    if height == width:
        # On a square grid: the quarter turn of the rotation by (angle mod 90), by definition.
        quarters, rest = divmod(4 * k, n)
        turned = rotate_directly(image, 90 * rest / n, interpolation) if rest else image
        return np.rot90(turned, quarters, axes=(-2, -1))
    if k == 0:
        return image
    if 2 * k == n:
        return image[..., ::-1, ::-1]
    return rotate_directly(image, 360 * k / n, interpolation)


def act(group: str, element: str, image: ArrayLike, interpolation: str = "bilinear") -> Floats:
    """phi(g, x) on the last two axes of x."""
    x = np.asarray(image, dtype=np.float64)
    family, sizes = parse(group)
    code = code_of(group, element)
    if family == "C":
        moved = rotate(x, code[0], sizes[0], interpolation)
    elif family == "D":
        moved = rotate(x, code[1], sizes[0], interpolation)
        if code[0]:
            moved = moved[..., ::-1]
    elif family == "flip-h":
        moved = x[..., ::-1] if code[0] else x
    elif family == "flip-v":
        moved = x[..., ::-1, :] if code[0] else x
    else:
        height, width = x.shape[-2:]
        if height % sizes[0] or width % sizes[1]:
            raise ValueError(f"{group} has no action on {height}x{width}")
        steps = (code[0] * height // sizes[0], code[1] * width // sizes[1])
        moved = np.roll(x, steps, axis=(-2, -1))
    return np.array(moved)


def orbit(group: str, images: ArrayLike, interpolation: str = "bilinear") -> Floats:
    """(N, ..., H, W) to (N, |G|, ..., H, W)."""
    x = np.asarray(images, dtype=np.float64)
    return np.stack([act(group, g, x, interpolation) for g in elements(group)], axis=1)


def is_exact(group: str, element: str, height: int, width: int) -> bool:
    """Does the element map the grid onto itself?"""
    family, sizes = parse(group)
    if family not in "CD":
        return True
    k = code_of(group, element)[-1]
    turn = 4 if height == width else 2
    return (turn * k) % sizes[0] == 0


def disk_mask(height: int, width: int) -> NDArray[np.bool_]:
    """dx^2 + dy^2 <= (min(H, W) / 2)^2."""
    mask = np.zeros((height, width), dtype=bool)
    for i in range(height):
        for j in range(width):
            dx, dy = j - (width - 1) / 2, i - (height - 1) / 2
            mask[i, j] = dx**2 + dy**2 <= (min(height, width) / 2) ** 2
    return mask


# ------------------------------------------------------------------------------------------------
# Output actions and their kernels
# ------------------------------------------------------------------------------------------------


def act_on_output(
    group: str,
    element: str,
    y: ArrayLike,
    *,
    grid: bool = False,
    interpolation: str = "bilinear",
    channels: ArrayLike | None = None,
    permutation: ArrayLike | None = None,
    matrices: ArrayLike | None = None,
) -> Floats:
    """phi_Y(g) y for one y: (C, H, W) with a grid or a channel table, else (k,).

    Nothing given: the trivial action. Tables gather: out[c] = in[table[g, c]].
    """
    g = elements(group).index(element)
    out = np.array(y, dtype=np.float64)
    if channels is not None:
        out = np.stack([out[c] for c in np.asarray(channels)[g]])
    if grid:
        out = act(group, element, out, interpolation)
    if permutation is not None:
        out = np.array([out[c] for c in np.asarray(permutation)[g]])
    if matrices is not None:
        out = np.asarray(matrices, dtype=np.float64)[g] @ out
    return out


def kernel_of_action(group: str, shape: tuple[int, ...], **action: object) -> list[str]:
    """ker(phi_Y): the elements that leave every basis vector of R^shape where it is."""
    kernel = []
    for element in elements(group):
        fixed = True
        for place in itertools.product(*(range(size) for size in shape)):
            vector = np.zeros(shape)
            vector[place] = 1
            moved = act_on_output(group, element, vector, **action)  # type: ignore[arg-type]
            if np.abs(moved - vector).max() > IDENTITY_TOLERANCE:
                fixed = False
                break
        if fixed:
            kernel.append(element)
    return kernel


def is_representation(group: str, matrices: ArrayLike, tolerance: float = 1e-5) -> bool:
    """rho(g2) rho(g1) = rho(g2 g1)."""
    names = elements(group)
    rho = dict(zip(names, np.asarray(matrices, dtype=np.float64), strict=True))
    return all(
        np.abs(rho[a] @ rho[b] - rho[multiply(group, a, b)]).max() <= tolerance
        for a in names
        for b in names
    )


def table_to_matrices(table: ArrayLike) -> Floats:
    """out[c] = in[table[g, c]] as (|G|, n, n) permutation matrices."""
    rows = np.asarray(table)
    matrices = np.zeros((rows.shape[0], rows.shape[1], rows.shape[1]))
    for g, row in enumerate(rows):
        for c, source in enumerate(row):
            matrices[g, c, source] = 1
    return matrices


def f_hat(group: str, orbit_values: ArrayLike, kernel: Sequence[str]) -> Floats:
    """Eq. (2) for one sample: the mean of f(kx) over k in ker(phi_Y)."""
    names = elements(group)
    values = np.asarray(orbit_values, dtype=np.float64)
    total = np.zeros(values.shape[1:])
    for element in kernel:
        total += values[names.index(element)]
    return total / len(kernel)


# ------------------------------------------------------------------------------------------------
# Deviations m(f(gx), phi_Y(g) f_hat(x)): (N, |G|)
# ------------------------------------------------------------------------------------------------


def cos(u: ArrayLike, v: ArrayLike) -> float:
    """Cosine; of two zero vectors 1, of one zero vector and another 0."""
    a, b = np.asarray(u, dtype=np.float64).ravel(), np.asarray(v, dtype=np.float64).ravel()
    norm_a, norm_b = math.sqrt(math.fsum(a * a)), math.sqrt(math.fsum(b * b))
    if norm_a == 0 and norm_b == 0:
        return 1.0
    if norm_a == 0 or norm_b == 0:
        return 0.0
    return math.fsum(a * b) / (norm_a * norm_b)


def channel_pairs(
    activations: ArrayLike,
    group: str,
    *,
    interpolation: str = "bilinear",
    channels: ArrayLike | None = None,
    disk: bool = False,
    trivial: bool = False,
    subgroup: Sequence[str] | None = None,
) -> list[list[list[tuple[Floats, Floats]]]]:
    """Eq. (5)'s pairs ([f(gx)]_c, [phi_Y(g) f_hat(x)]_c), indexed [sample][element][channel]."""
    values = np.asarray(activations, dtype=np.float64)
    _, _, n_channels, height, width = values.shape
    names = elements(group)
    members = list(names if subgroup is None else subgroup)
    action = (
        {"channels": channels}
        if trivial
        else {"grid": True, "interpolation": interpolation, "channels": channels}
    )
    kernel = [g for g in kernel_of_action(group, values.shape[2:], **action) if g in members]
    mask = disk_mask(height, width) if disk else np.ones((height, width), dtype=bool)
    pairs = []
    for sample in values:
        centre = f_hat(group, sample, kernel)
        rows = []
        for element in members:
            seen = sample[names.index(element)]
            expected = act_on_output(group, element, centre, **action)  # type: ignore[arg-type]
            rows.append([(seen[c][mask], expected[c][mask]) for c in range(n_channels)])
        pairs.append(rows)
    return pairs


def channel_cos(activations: ArrayLike, group: str, **options: object) -> Floats:
    """Eq. (5): minus the mean over channels of the cosine of each channel."""
    pairs = channel_pairs(activations, group, **options)  # type: ignore[arg-type]
    return np.array(
        [[-sum(cos(u, v) for u, v in row) / len(row) for row in sample] for sample in pairs]
    )


def channel_means(activations: ArrayLike, group: str, **options: object) -> Floats:
    """Minus the cosine of each of eq. (5)'s channels, mean over samples and elements: (C,)."""
    pairs = channel_pairs(activations, group, **options)  # type: ignore[arg-type]
    rows = [[-cos(u, v) for u, v in row] for sample in pairs for row in sample]
    return np.array([math.fsum(column) / len(rows) for column in zip(*rows, strict=True)])


def channel_zero_pairs(activations: ArrayLike, group: str, **options: object) -> float:
    """The share of eq. (5)'s pairs whose two vectors are both zero."""
    pairs = channel_pairs(activations, group, **options)  # type: ignore[arg-type]
    flat = [not u.any() and not v.any() for sample in pairs for row in sample for u, v in row]
    return sum(flat) / len(flat)


def vector_deviations(
    activations: ArrayLike,
    group: str,
    distance: object,
    *,
    subgroup: Sequence[str] | None = None,
    **action: object,
) -> Floats:
    """m(f(gx), phi_Y(g) f_hat(x)) of (N, |G|, k) activations, for any m of two vectors."""
    values = np.asarray(activations, dtype=np.float64)
    names = elements(group)
    members = list(names if subgroup is None else subgroup)
    kernel = [g for g in kernel_of_action(group, values.shape[2:], **action) if g in members]
    out = []
    for sample in values:
        centre = f_hat(group, sample, kernel)
        out.append(
            [
                distance(  # type: ignore[operator]
                    sample[names.index(g)],
                    act_on_output(group, g, centre, **action),  # type: ignore[arg-type]
                )
                for g in members
            ]
        )
    return np.array(out)


def l2(u: ArrayLike, v: ArrayLike) -> float:
    difference = np.asarray(u, dtype=np.float64) - np.asarray(v, dtype=np.float64)
    return math.sqrt(math.fsum((difference * difference).ravel()))


def minus_cos(u: ArrayLike, v: ArrayLike) -> float:
    return -cos(u, v)


def latent_l2(activations: ArrayLike, group: str, **options: object) -> Floats:
    """Eq. (6) without 1/M: phi_Y trivial, so f_hat is the orbit mean; the l2 distance."""
    return vector_deviations(flat_latent(activations), group, l2, **options)


def latent_cos(activations: ArrayLike, group: str, **options: object) -> Floats:
    """Eq. (6) without 1/M: phi_Y trivial; minus the cosine."""
    return vector_deviations(flat_latent(activations), group, minus_cos, **options)


def output_l2(activations: ArrayLike, group: str, **options: object) -> Floats:
    """Eq. (4) with m the l2 distance; phi_Y trivial, `permutation=` or `matrices=`."""
    return vector_deviations(flat_latent(activations), group, l2, **options)


def flat_latent(activations: ArrayLike) -> Floats:
    """(N, |G|, k, 1, 1) counts as (N, |G|, k); a map is averaged over its grid."""
    values = np.asarray(activations, dtype=np.float64)
    return values if values.ndim == 3 else values.mean(axis=(-2, -1))


def two_classes(values: Floats, kind: str) -> Floats:
    """One logit z is the logits (0, z); one probability p is (1 - p, p)."""
    if values.shape[-1] != 1:
        return values
    first = np.zeros_like(values) if kind == "logits" else 1 - values
    return np.concatenate([first, values], axis=-1)


def log_softmax(logits: ArrayLike) -> Floats:
    """By log-sum-exp, on the last axis."""
    z = np.asarray(logits, dtype=np.float64)
    top = z.max(axis=-1, keepdims=True)
    return z - top - np.log(np.exp(z - top).sum(axis=-1, keepdims=True))


def kl(log_p: Floats, log_q: Floats) -> float:
    """KL(p || q) in nats from logarithms; 0 log 0 = 0; p > 0 against 0 is refused."""
    terms = []
    for a, b in zip(log_p, log_q, strict=True):
        if a == -math.inf:
            continue
        if b == -math.inf:
            raise ZeroDivisionError("p > 0 against q = 0")
        terms.append(math.exp(a) * (a - b))
    return math.fsum(terms)


def softmax_kl(
    values: ArrayLike,
    group: str,
    *,
    kind: str = "logits",
    permutation: ArrayLike | None = None,
    subgroup: Sequence[str] | None = None,
) -> Floats:
    """KL(f(gx) || phi_Y(g) f_hat(x)), phi_Y trivial or a permutation of the classes."""
    raw = two_classes(np.asarray(values, dtype=np.float64), kind)
    if kind == "logits":
        log_p = log_softmax(raw)
    else:
        with np.errstate(divide="ignore"):
            log_p = np.log(raw)
    names = elements(group)
    members = list(names if subgroup is None else subgroup)
    n_classes = raw.shape[-1]
    action = {"permutation": permutation}
    kernel = [g for g in kernel_of_action(group, (n_classes,), **action) if g in members]
    out = []
    for sample in log_p:
        # log f_hat = log((1/|ker|) sum exp(log p)), again by log-sum-exp.
        stack = np.stack([sample[names.index(k)] for k in kernel])
        top = stack.max(axis=0)
        safe = np.where(np.isinf(top), 0.0, top)
        with np.errstate(divide="ignore"):
            log_mean = safe + np.log(np.exp(stack - safe).sum(axis=0)) - math.log(len(kernel))
        row = []
        for g in members:
            index = (
                range(n_classes) if permutation is None else np.asarray(permutation)[names.index(g)]
            )
            row.append(kl(sample[names.index(g)], np.array([log_mean[c] for c in index])))
        out.append(row)
    return np.array(out)


# ------------------------------------------------------------------------------------------------
# M, summaries, sampling, the exact subgroup, references
# ------------------------------------------------------------------------------------------------


def normaliser(latents: ArrayLike, measure: str) -> float | None:
    """M of eq. (6): mean l2 distance or cosine over unordered pairs of distinct points (n, k)."""
    points = np.asarray(latents, dtype=np.float64)
    distance = {"latent-l2": l2, "latent-cos": cos}[measure]
    if len(points) < 2:
        return None
    pairs = [distance(a, b) for a, b in itertools.combinations(points, 2)]
    return math.fsum(pairs) / len(pairs)


def t_interval(values: ArrayLike) -> tuple[float, float] | None:
    """Nominal 95 % Student t interval of the mean; None for fewer than two values."""
    v = np.asarray(values, dtype=np.float64)
    if len(v) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(v) - 1)) * standard_error(v)
    mean = math.fsum(v) / len(v)
    return mean - half, mean + half


def standard_error(values: ArrayLike) -> float:
    v = np.asarray(values, dtype=np.float64)
    mean = math.fsum(v) / len(v)
    return math.sqrt(math.fsum((v - mean) ** 2) / (len(v) - 1) / len(v))


class Summary(NamedTuple):
    """Eq. (4) and what stands beside it in a record."""

    value: float
    per_sample: Floats
    per_element: Floats
    stderr: float | None
    ci95: tuple[float, float] | None


def summarise(deviations: ArrayLike, m: float = 1.0) -> Summary:
    """Eq. (4) over deviations (N, |G|), or eq. (6) where m is M."""
    d = np.asarray(deviations, dtype=np.float64) / m
    samples, order = d.shape
    per_sample = np.array([math.fsum(row) / order for row in d])
    per_element = np.array([math.fsum(column) / samples for column in d.T])
    stderr = standard_error(per_sample) if samples > 1 else None
    value = math.fsum(d.ravel()) / (samples * order)
    return Summary(value, per_sample, per_element, stderr, t_interval(per_sample))


def sample_indices(
    available: int, seed: int, samples: int = 50, norm_samples: int = 200
) -> tuple[list[int], list[int]]:
    """D and the points for M: the head of one seeded permutation."""
    order = np.random.default_rng(seed).permutation(available).tolist()
    return order[:samples], order[:norm_samples]


def exact_subgroup(group: str, *grids: tuple[int, int]) -> list[str] | None:
    """Elements exact on all given grids, where they are some, not all, and a subgroup > 1."""
    exact = [g for g in elements(group) if all(is_exact(group, g, *grid) for grid in grids)]
    if len(exact) in (1, len(elements(group))) or not is_subgroup(group, exact):
        return None
    return exact


def input_round_trips(group: str, images: ArrayLike, interpolation: str = "bilinear") -> Floats:
    """phi(g^-1) phi(g) x as (N, |G|, ..., H, W): what resampling the input alone does."""
    x = np.asarray(images, dtype=np.float64)
    return np.stack(
        [
            act(group, inverse(group, g), act(group, g, x, interpolation), interpolation)
            for g in elements(group)
        ],
        axis=1,
    )


def output_round_trip_channel_cos(
    maps: ArrayLike,
    group: str,
    *,
    interpolation: str = "bilinear",
    channels: ArrayLike | None = None,
    disk: bool = False,
) -> Floats:
    """m(phi_Y(g^-1) phi_Y(g) f(x), f(x)) of maps f(x) (N, C, H, W), by eq. (5)'s m."""
    values = np.asarray(maps, dtype=np.float64)
    mask = disk_mask(*values.shape[-2:]) if disk else np.ones(values.shape[-2:], dtype=bool)
    action = {"grid": True, "interpolation": interpolation, "channels": channels}
    out = []
    for y in values:
        row = []
        for g in elements(group):
            moved = act_on_output(group, g, y, **action)  # type: ignore[arg-type]
            back = act_on_output(group, inverse(group, g), moved, **action)  # type: ignore[arg-type]
            cosines = [cos(b[mask], a[mask]) for a, b in zip(y, back, strict=True)]
            row.append(-sum(cosines) / len(cosines))
        out.append(row)
    return np.array(out)


def looks(most: int) -> list[int]:
    """After how many samples --precision looks: 20, then times 3/2 rounded up, and at the end."""
    counts = [min(20, most)]
    while counts[-1] < most:
        counts.append(min(most, (3 * counts[-1] + 1) // 2))
    return counts


# ------------------------------------------------------------------------------------------------
# Between samples
# ------------------------------------------------------------------------------------------------


def minus_channel_cos(u: ArrayLike, v: ArrayLike, disk: bool = False) -> float:
    """Eq. (5)'s m of two maps (C, H, W)."""
    a, b = np.asarray(u, dtype=np.float64), np.asarray(v, dtype=np.float64)
    mask = disk_mask(*a.shape[1:]) if disk else np.ones(a.shape[1:], dtype=bool)
    return -sum(cos(a[c][mask], b[c][mask]) for c in range(len(a))) / len(a)


def divergence(p: ArrayLike, q: ArrayLike) -> float:
    """KL(p || q) of probabilities."""
    with np.errstate(divide="ignore"):
        return kl(np.log(np.asarray(p)), np.log(np.asarray(q)))


def between_samples(
    activations: ArrayLike, group: str, distance: object, **action: object
) -> float | None:
    """The mean over p < min(16, N) and g of m(f(g x_(p+1)), phi_Y(g) f_hat(x_p)), cyclically."""
    values = np.asarray(activations, dtype=np.float64)
    n = len(values)
    if n == 1:
        return None
    names = elements(group)
    kernel = kernel_of_action(group, values.shape[2:], **action)
    deviations = []
    for p in range(min(16, n)):
        centre = f_hat(group, values[p], kernel)
        other = values[p + 1] if p + 1 < n else values[0]
        for g, element in enumerate(names):
            moved = act_on_output(group, element, centre, **action)  # type: ignore[arg-type]
            deviations.append(distance(other[g], moved))  # type: ignore[operator]
    return math.fsum(deviations) / len(deviations)


# ------------------------------------------------------------------------------------------------
# A metric over batches
# ------------------------------------------------------------------------------------------------


class Metric:
    """Values over batches as they come, by keeping all of them and beginning anew each time.

    ``measures`` are (measure, output) pairs; outputs are maps (B, C, H, W), which move with the
    group, or vectors (B, k), which do not. M and M2 are over the first ``norm_samples`` samples.
    """

    def __init__(
        self, group: str, measures: Sequence[tuple[str, str]], norm_samples: int = 200
    ) -> None:
        self.group, self.measures, self.norm_samples = group, measures, norm_samples
        self.reset()

    def reset(self) -> None:
        self.orbits: dict[str, list[Floats]] = {}
        self.labels: list[int] = []

    def update(self, f: object, batch: ArrayLike, labels: Sequence[int] = ()) -> None:
        for sample in np.asarray(batch):
            for name, rows in f(orbit(self.group, sample[None])[0]).items():  # type: ignore[operator]
                self.orbits.setdefault(name, []).append(np.asarray(rows, dtype=np.float64))
        self.labels += labels

    def merged(self, other: Metric) -> Metric:
        both = Metric(self.group, self.measures, self.norm_samples)
        both.labels = self.labels + other.labels
        for name in {**self.orbits, **other.orbits}:
            both.orbits[name] = self.orbits.get(name, []) + other.orbits.get(name, [])
        return both

    def compute(self) -> dict[str, float]:
        values = {}
        for measure, output in self.measures:
            orbits = np.stack(self.orbits[output])
            values[f"{measure}@{output}"] = self._value(measure, orbits)
        return values

    def _value(self, measure: str, orbits: Floats) -> float:
        points = orbits[: self.norm_samples, 0]
        if measure == "unexplained":
            moving = orbits.ndim == 5
            kernel = kernel_of_action(self.group, orbits.shape[2:], grid=moving)
            found = []
            for sample in orbits:
                centre = f_hat(self.group, sample, kernel)
                for g, element in enumerate(elements(self.group)):
                    if kernel != ["e"] or element != "e":
                        expected = act_on_output(self.group, element, centre, grid=moving)
                        found.append(l2(sample[g], expected) ** 2)
            squares = [l2(a, b) ** 2 / 2 for a, b in itertools.combinations(points, 2)]
            return (sum(found) / len(found)) / (sum(squares) / len(squares))
        if measure == "flip-rate":
            classes = orbits.argmax(axis=-1)
            flips = [row[g] != row[0] for row in classes for g in range(1, len(row))]
            return sum(flips) / len(flips)
        deviations = {
            "channel-cos": channel_cos,
            "latent-l2": latent_l2,
            "latent-cos": latent_cos,
            "output-l2": output_l2,
            "softmax-kl": softmax_kl,
        }[measure](orbits, self.group)
        m = normaliser(points, measure) if measure.startswith("latent") else 1.0
        assert m is not None
        return summarise(deviations, m).value

    def predictions(self, output: str) -> tuple[dict[str, float], dict[str, float]]:
        """How often the class stays, and how often it is the label, under each element."""
        classes = [[int(row.argmax()) for row in sample] for sample in self.orbits[output]]
        stay, right = {}, {}
        for g, element in enumerate(elements(self.group)):
            stay[element] = sum(row[g] == row[0] for row in classes) / len(classes)
            hits = [row[g] == label for row, label in zip(classes, self.labels, strict=True)]
            right[element] = sum(hits) / len(hits)
        return stay, right
