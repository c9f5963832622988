"""The slow twin of actions by layout letters, and of the measures on what they move.

Plain float64 loops over indices, without the package; planes are moved by ``naive``. A sample's
axes have a letter each, in the order of the array: H, W a plane; D, H, W a volume; T a line; P
points; X components (right, down, forward); B the bases A, C, G, T; C channels, which are colours
of the input only. Activations are ``(N, |G|, ...)`` with the letters of the axes after these two.

Where a sampled group's elements are others for each sample, ``S7~5@3,8`` has those of sample 8
under seed 3, and ``S7~5`` alone those of sample 0 under seed 0.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache

import naive
import numpy as np
from naive import Floats
from numpy.typing import ArrayLike

# ------------------------------------------------------------------------------------------------
# Groups: element names and products
# ------------------------------------------------------------------------------------------------

_PLANE = r"C\d+|D\d+|flip-[hv]|shift\d+x\d+"
_ABOUT = r"C(\d+)-([xyz])"
_SAMPLED_PLANE = r"(SO2|O2)~(\d+)"
_SPACE = {"O": False, "Oh": True, "SO3~24": False, "O3~48": True}
_SOME = r"S(\d+)~(\d+)(?:@(\d+),(\d+))?"
_HAAR = r"(S?)O3~(?!24$|60$|48$)(\d+)(?:@(\d+),(\d+))?"


def drawn(group: str, seed: int, sample: int) -> str:
    """The group with the elements that it has for a sample."""
    each = re.fullmatch
    own = f"@{seed},{sample}"
    return "*".join(
        side + own if each(_SOME, side) or each(_HAAR, side) else side for side in group.split("*")
    )


def is_sampled(group: str) -> bool:
    return any(re.match(r"S?O[23]~", factor) for factor in group.split("*"))


def is_independent(group: str) -> bool:
    """Are elements drawn one by one, instead of spread evenly?"""
    return re.fullmatch(_HAAR, group) is not None


def half(group: str) -> list[str] | None:
    """Every second element of what is sampled, where these are as even, or as independent, too."""
    names = elements(group)
    if sampled := re.fullmatch(_SAMPLED_PLANE, group):
        even = int(sampled[2]) % (2 if sampled[1] == "SO2" else 4) == 0
        return names[::2] if even and len(names) > 2 else None
    return names[::2] if re.fullmatch(_HAAR, group) and len(names) > 2 else None


def sides(group: str) -> tuple[str, str]:
    """G and H of G*H, the last of several."""
    left, _, right = group.rpartition("*")
    return left, right


def split(element: str) -> tuple[str, str]:
    """a and b of an element a*b of a product."""
    if element == "e":
        return "e", "e"
    left, _, right = element.rpartition("*")
    return left, right


@cache
def elements(group: str) -> list[str]:
    """Names in order, the identity first."""
    if "*" in group:
        left, right = (elements(side) for side in sides(group))
        return ["e", *[f"{a}*{b}" for a in left for b in right][1:]]
    if re.fullmatch(_PLANE, group):
        return naive.elements(group)
    if sampled := re.fullmatch(_SAMPLED_PLANE, group):
        n = int(sampled[2])
        return naive.elements(f"C{n}" if sampled[1] == "SO2" else f"D{n // 2}")
    if (about := re.fullmatch(_ABOUT, group)) or (about := re.fullmatch(r"hue(\d+)", group)):
        return naive.elements(f"C{about[1]}")
    if group in _SPACE:
        names = [signed_name(matrix) for matrix in cube(mirrored=_SPACE[group])]
        return ["e", *(names[1:] if "~" not in group else _numbered("g", len(names)))]
    if group in ("reverse", "revcomp"):
        return ["e", group]
    if line := re.fullmatch(r"shift(\d+)", group):
        return ["e", *_numbered("t", int(line[1]))]
    if some := re.fullmatch(_SOME, group):
        return ["e", *_numbered("p", int(some[2]))]
    if haar := re.fullmatch(_HAAR, group):
        return ["e", *_numbered("g", int(haar[2]))]
    if every := re.fullmatch(r"S(\d+)", group):
        rows = itertools.permutations(range(int(every[1])))
        return ["e", *["".join(str(i + 1) for i in row) for row in rows][1:]]
    raise ValueError(f"no group {group!r}")


def _numbered(letter: str, count: int) -> list[str]:
    return [f"{letter}{k}" for k in range(1, count)]


@cache
def multiply(group: str, a: str, b: str) -> str:
    """The element ab: b acts first. Some permutations of a set are no group and have none."""
    if a == "e" or b == "e":
        return b if a == "e" else a
    if "*" in group:
        pairs = zip(sides(group), split(a), split(b), strict=True)
        left, right = (multiply(side, p, q) for side, p, q in pairs)
        return "e" if (left, right) == ("e", "e") else f"{left}*{right}"
    if re.fullmatch(_PLANE, group):
        return naive.multiply(group, a, b)
    if sampled := re.fullmatch(_SAMPLED_PLANE, group):
        n = int(sampled[2])
        return naive.multiply(f"C{n}" if sampled[1] == "SO2" else f"D{n // 2}", a, b)
    if group in _SPACE:
        product = space_matrix(group, a) @ space_matrix(group, b)
        return next(g for g in elements(group) if np.allclose(space_matrix(group, g), product))
    if group in ("reverse", "revcomp"):
        return "e"
    if re.fullmatch(r"S\d+", group):
        # y[i] = x[b[i]], then z[i] = y[a[i]] = x[b[a[i]]].
        first, second = permutation(group, b), permutation(group, a)
        rows = [permutation(group, g) for g in elements(group)]
        return elements(group)[rows.index([first[i] for i in second])]
    names = elements(group)  # cyclic: numbers add up
    if "~" in group:
        raise ValueError(f"{group} is no group")
    return names[(names.index(a) + names.index(b)) % len(names)]


@cache
def inverse(group: str, element: str) -> str:
    return next(g for g in elements(group) if multiply(group, g, element) == "e")


# ------------------------------------------------------------------------------------------------
# What an element is
# ------------------------------------------------------------------------------------------------


def cube(*, mirrored: bool) -> list[Floats]:
    """The rotations of the cube, or all 48 symmetries, on (right, down, forward)."""
    found = []
    for places in itertools.permutations(range(3)):
        # A permutation is even where an even number of pairs stands the wrong way round.
        wrong = sum(a > b for a, b in itertools.combinations(places, 2))
        for signs in itertools.product((1, -1), repeat=3):
            if mirrored or (-1) ** wrong * math.prod(signs) == 1:
                matrix = np.zeros((3, 3))
                for row in range(3):
                    matrix[row, places[row]] = signs[row]
                found.append(matrix)
    return found


def signed_name(matrix: Floats) -> str:
    """Such as y-xz: right is now the old down (y), down minus the old right, forward as it was."""
    name = ""
    for row in matrix:
        for letter, entry in zip("xyz", row, strict=True):
            if entry:
                name += ("-" if entry < 0 else "") + letter
    return name


def turn_of_two(degrees: float) -> Floats:
    """A rotation counter-clockwise as displayed on (right, down): 90 degrees take right to up."""
    t = math.radians(degrees)
    right, down = (math.cos(t), -math.sin(t)), (math.sin(t), math.cos(t))
    return np.array([[right[0], down[0]], [right[1], down[1]]])


def plane_matrix(group: str, element: str) -> Floats:
    """What C<n>, D<n>, flips, shifts, SO2 and O2 do to vectors (right, down)."""
    if sampled := re.fullmatch(_SAMPLED_PLANE, group):
        group = f"C{sampled[2]}" if sampled[1] == "SO2" else f"D{int(sampled[2]) // 2}"
    family, sizes = naive.parse(group)
    code = naive.code_of(group, element)
    if family == "C":
        return turn_of_two(360 * code[0] / sizes[0])
    if family == "D":
        turned = turn_of_two(360 * code[1] / sizes[0])
        return np.diag([-1.0, 1.0]) @ turned if code[0] else turned
    if family.startswith("flip") and code[0]:
        return np.diag([-1.0, 1.0] if family == "flip-h" else [1.0, -1.0])
    return np.eye(2)


@cache
def space_matrix(group: str, element: str) -> Floats:
    """What an element does to vectors (right, down, forward)."""
    if about := re.fullmatch(_ABOUT, group):
        # About z right and down turn; about x down and forward; about y forward and right.
        first = {"z": 0, "x": 1, "y": 2}[about[2]]
        second = (first + 1) % 3
        small = plane_matrix(f"C{about[1]}", element)
        matrix = np.eye(3)
        for i, row in enumerate((first, second)):
            for j, column in enumerate((first, second)):
                matrix[row, column] = small[i, j]
        return matrix
    if haar := re.fullmatch(_HAAR, group):
        own = haar_matrices(group, int(haar[3] or 0), int(haar[4] or 0))
        return own[elements(group).index(element)] @ own[0].T
    return cube(mirrored=_SPACE[group])[elements(group).index(element)]


def permutation(group: str, element: str) -> list[int]:
    """Of S<n> and S<n>~k: point i of the moved set is point p[i] of the set."""
    if some := re.fullmatch(_SOME, group):
        n, k, seed, sample = (int(number or 0) for number in some.groups())
        draw, rows = np.random.default_rng((seed, sample)), [list(range(n))]
        while len(rows) < k:
            row = draw.permutation(n).tolist()
            if row not in rows:
                rows.append(row)
        return rows[elements(group).index(element)]
    n = int(group[1:])
    return list(range(n)) if element == "e" else [int(digit) - 1 for digit in element]


def hue_matrix(n: int, k: int) -> Floats:
    """RGB turned by 360 k / n degrees about grey: after 120 degrees what was red is green."""
    cosine, sine = math.cos(2 * math.pi * k / n), math.sin(2 * math.pi * k / n)
    same = (1 + 2 * cosine) / 3
    before, after = (1 - cosine) / 3 - sine / math.sqrt(3), (1 - cosine) / 3 + sine / math.sqrt(3)
    return np.array([[same, before, after], [after, same, before], [before, after, same]])


def behind(group: str, seed: int, sample: int) -> dict[str, object]:
    """The element of the larger group that a sampled group's elements stand behind."""
    draw = np.random.default_rng((seed, sample))
    if re.fullmatch(_SAMPLED_PLANE, group):
        return {"degrees": 360 * draw.random()}
    if re.fullmatch(_HAAR, group):
        return {"matrix": haar_matrices(group, seed, sample)[0]}
    return {"matrix": _haar(draw)}


def haar_matrices(group: str, seed: int, sample: int) -> list[Floats]:
    """What SO3~k and O3~k move a sample by, each drawn by itself."""
    kind, k = re.fullmatch(_HAAR, group).groups()[:2]  # type: ignore[union-attr]
    draw = np.random.default_rng((seed, sample))
    every = [_haar(draw) for _ in range(int(k))]
    if kind == "S":
        return every
    signs = draw.choice([-1.0, 1.0], size=(int(k), 1, 1))
    return [sign * matrix for sign, matrix in zip(signs, every, strict=True)]


def _haar(draw: np.random.Generator) -> Floats:
    """A rotation of space, all equally likely."""
    w, x, y, z = draw.standard_normal(4)
    norm = w * w + x * x + y * y + z * z
    # v -> q v q*, entry by entry, for a quaternion of any length.
    matrix = np.array(
        [
            [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
        ]
    )
    return matrix / norm


# ------------------------------------------------------------------------------------------------
# Actions
# ------------------------------------------------------------------------------------------------


def act(
    group: str,
    element: str,
    letters: str,
    sample: ArrayLike,
    interpolation: str = "bilinear",
    *,
    of_input: bool = False,
    first: dict[str, object] | None = None,
) -> Floats:
    """phi(g, x) of one sample; ``first`` is what a sampled group's element stands behind."""
    x = np.array(sample, dtype=np.float64)
    if x.ndim != len(letters):
        raise ValueError(f"{letters} are not the axes of {x.shape}")
    if "*" in group:
        for side, own in zip(sides(group), split(element), strict=True):
            behind_it = first if is_sampled(side) else None
            x = act(side, own, letters, x, interpolation, of_input=of_input, first=behind_it)
        return x
    if re.fullmatch(_PLANE, group) or re.fullmatch(_SAMPLED_PLANE, group):
        return _act_on_plane(group, element, letters, x, interpolation, first)
    if group in _SPACE or re.fullmatch(_ABOUT, group) or re.fullmatch(_HAAR, group):
        return _act_in_space(group, element, letters, x, interpolation, first)
    if group in ("reverse", "revcomp") and element == "e":
        return x
    if group in ("reverse", "revcomp"):
        x = _gathered(x, letters, "T", lambda length: list(range(length))[::-1])
        if group == "revcomp":
            x = _gathered(x, letters, "B", lambda length: [3, 2, 1, 0])
        return x
    if line := re.fullmatch(r"shift(\d+)", group):
        return _gathered(x, letters, "T", lambda n: _shifted(n, int(line[1]), group, element))
    if group.startswith("S"):
        row = permutation(group, element)
        return _gathered(x, letters, "P", lambda n: row if n == len(row) else list(range(n)))
    if hue := re.fullmatch(r"hue(\d+)", group):
        if of_input and "C" in letters and x.shape[letters.index("C")] == 3:
            matrix = hue_matrix(int(hue[1]), elements(group).index(element))
            return mixed(x, letters.index("C"), matrix)
        return x
    raise ValueError(f"no group {group!r}")


def _shifted(length: int, n: int, group: str, element: str) -> list[int]:
    if length % n:
        raise ValueError(f"{group} has no action on a line of {length}")
    step = elements(group).index(element) * length // n
    return [(t - step) % length for t in range(length)]


def _gathered(x: Floats, letters: str, letter: str, rows: object) -> Floats:
    """out[i] = in[row[i]] on every axis of a letter."""
    for axis, own in enumerate(letters):
        if own == letter:
            row = rows(x.shape[axis])  # type: ignore[operator]
            out = np.empty_like(x)
            for i, source in enumerate(row):
                np.moveaxis(out, axis, 0)[i] = np.moveaxis(x, axis, 0)[source]
            x = out
    return x


def mixed(x: Floats, axis: int, matrix: Floats) -> Floats:
    """A matrix on an axis: out[i] is the sum over j of matrix[i, j] in[j]."""
    if x.shape[axis] != len(matrix):
        raise ValueError(f"{x.shape[axis]} components and a matrix {matrix.shape}")
    parts, out = np.moveaxis(x, axis, 0), np.zeros_like(x)
    for i in range(len(matrix)):
        for j in range(len(matrix)):
            np.moveaxis(out, axis, 0)[i] += matrix[i, j] * parts[j]
    return out


def _on_axes(x: Floats, axes: Sequence[int], move: object) -> Floats:
    """A function of the last axes, on any axes in this order."""
    places = range(-len(axes), 0)
    moved = move(np.moveaxis(x, axes, places))  # type: ignore[operator]
    return np.array(np.moveaxis(moved, places, axes))


def _act_on_plane(
    group: str,
    element: str,
    letters: str,
    x: Floats,
    interpolation: str,
    first: dict[str, object] | None,
) -> Floats:
    offset = float(first["degrees"]) if first else 0.0  # type: ignore[arg-type]
    if "H" in letters and "W" in letters:
        axes = [letters.index("H"), letters.index("W")]
        if re.fullmatch(_PLANE, group):
            x = _on_axes(x, axes, lambda plane: naive.act(group, element, plane, interpolation))
        else:
            mirrored = element.startswith("s")
            n = len(elements(group)) // (2 if group.startswith("O2") else 1)
            k = elements(group).index(element) % n
            degrees = (360 * k / n + offset) % 360
            x = _on_axes(x, axes, lambda plane: _turned(plane, degrees, interpolation))
            if mirrored:
                x = np.flip(x, axes[1])
    if "X" in letters and not group.startswith("shift"):  # which turns nothing
        matrix = plane_matrix(group, element) @ turn_of_two(offset)
        x = mixed(x, letters.index("X"), matrix)
    return x


def _turned(plane: Floats, degrees: float, interpolation: str) -> Floats:
    quarters, rest = divmod(degrees, 90)
    if plane.shape[-2] != plane.shape[-1]:
        quarters, rest = 0, degrees
    if rest:
        plane = naive.rotate_directly(plane, rest, interpolation)
    return np.rot90(plane, int(quarters), axes=(-2, -1))


def _act_in_space(
    group: str,
    element: str,
    letters: str,
    x: Floats,
    interpolation: str,
    first: dict[str, object] | None,
) -> Floats:
    matrix = space_matrix(group, element)
    if first:
        matrix = matrix @ first["matrix"]
    if about := re.fullmatch(_ABOUT, group):
        # Rows run as "down" does in C<n>, columns as "right".
        rows, columns = {"z": "HW", "x": "DH", "y": "WD"}[about[2]]
        if rows in letters and columns in letters:
            axes = [letters.index(rows), letters.index(columns)]
            x = _on_axes(x, axes, lambda p: naive.act(f"C{about[1]}", element, p, interpolation))
    elif all(letter in letters for letter in "DHW"):
        axes = [letters.index(letter) for letter in "DHW"]
        x = _on_axes(x, axes, lambda volume: warped(volume, matrix, interpolation))
    if "X" in letters:
        x = mixed(x, letters.index("X"), matrix)
    return x


def warped(volume: Floats, matrix: Floats, interpolation: str = "bilinear") -> Floats:
    """A volume (.., D, H, W) moved by an orthogonal matrix on (right, down, forward)."""
    shape = volume.shape[-3:]
    out = np.zeros_like(volume)
    taps = warp_taps(tuple(matrix.ravel().tolist()), shape, interpolation)
    for place, neighbours in zip(np.ndindex(*shape), taps, strict=True):
        for entry, weight in neighbours:
            out[(..., *place)] += weight * volume[(..., *entry)]
    return out


@lru_cache(maxsize=4096)
def warp_taps(
    matrix: tuple[float, ...], shape: tuple[int, ...], interpolation: str
) -> tuple[tuple[tuple[tuple[int, ...], float], ...], ...]:
    """For each entry of a moved volume the entries, with weights, that it is a sum of.

    What stands at p, counted from the centre, comes from matrix^-1 p; outside the grid is zero.
    """
    found = []
    for place in np.ndindex(*shape):
        # Components of the place: right is along W, down along H, forward along D.
        p = [place[axis] - (shape[axis] - 1) / 2 for axis in (2, 1, 0)]
        source = [sum(matrix[3 * j + i] * p[j] for j in range(3)) for i in range(3)]
        along = [source[2 - axis] + (shape[axis] - 1) / 2 for axis in range(3)]
        lines = [naive.line_taps(coordinate, interpolation) for coordinate in along]
        taps = []
        for line in itertools.product(*lines):
            weight = math.prod(tap[1] for tap in line)
            if weight and all(0 <= tap[0] < n for tap, n in zip(line, shape, strict=True)):
                taps.append((tuple(tap[0] for tap in line), weight))
        found.append(tuple(taps))
    return tuple(found)


def is_exact(group: str, element: str, letters: str, shape: Sequence[int]) -> bool:
    """Is a grid, where there is one, mapped onto itself?"""
    if "*" in group:
        pairs = zip(sides(group), split(element), strict=True)
        return all(is_exact(side, own, letters, shape) for side, own in pairs)
    size = dict(zip(letters, shape, strict=True))
    if re.fullmatch(_PLANE, group):
        has_plane = "H" in size and "W" in size
        return not has_plane or naive.is_exact(group, element, size["H"], size["W"])
    if sampled := re.fullmatch(_SAMPLED_PLANE, group):
        whole = f"C{sampled[2]}" if sampled[1] == "SO2" else f"D{int(sampled[2]) // 2}"
        return is_exact(whole, element, letters, shape)
    if about := re.fullmatch(_ABOUT, group):
        rows, columns = {"z": "HW", "x": "DH", "y": "WD"}[about[2]]
        has_plane = rows in size and columns in size
        own = size.get(rows, 1), size.get(columns, 1)
        return not has_plane or naive.is_exact(f"C{about[1]}", element, *own)
    space = group in _SPACE or re.fullmatch(_HAAR, group)
    if space and all(letter in size for letter in "DHW"):
        if element != "e" and re.fullmatch(_HAAR, group):
            return False
        lengths = [size[letter] for letter in "WHD"]
        return [int(n) for n in np.abs(space_matrix(group, element)) @ lengths] == lengths
    return True


def exact_subgroup(group: str, tensors: Sequence[tuple[str, Sequence[int]]]) -> list[str] | None:
    """Elements exact on all tensors, where they are some, not all, and a subgroup."""
    names = elements(group)
    exact = [g for g in names if all(is_exact(group, g, *tensor) for tensor in tensors)]
    if not 1 < len(exact) < len(names):
        return None
    return exact if all(multiply(group, a, b) in exact for a in exact for b in exact) else None


def orbit(
    group: str,
    letters: str,
    samples: ArrayLike,
    interpolation: str = "bilinear",
    *,
    of_input: bool = True,
    seed: int = 0,
    indices: Sequence[int] | None = None,
) -> Floats:
    """Samples (N, ...) as (N, |G|, ...); ``indices`` number them for a sampled group."""
    x = np.asarray(samples, dtype=np.float64)
    numbers = range(len(x)) if indices is None else indices
    rows = []
    for number, sample in zip(numbers, x, strict=True):
        first = None
        for side in group.split("*"):
            first = behind(side, seed, number) if is_sampled(side) else first
        own = drawn(group, seed, number)
        options = {"of_input": of_input, "first": first}
        rows.append(
            [
                act(own, g, letters, sample, interpolation, **options)  # type: ignore[arg-type]
                for g in elements(group)
            ]
        )
    return np.array(rows)


def act_and_mix(
    group: str,
    element: str,
    letters: str,
    x: Floats,
    matrix: ArrayLike,
    interpolation: str = "bilinear",
) -> Floats:
    """The element's own way on the letters, and a matrix on the channels of what comes out."""
    moved = act(group, element, letters, x, interpolation)
    return mixed(moved, letters.index("C" if "C" in letters else "K"), np.asarray(matrix))


def kernel_of_action(
    group: str,
    letters: str,
    shape: Sequence[int],
    interpolation: str = "bilinear",
    matrices: ArrayLike | None = None,
) -> list[str]:
    """The elements that leave every basis vector where it is, within 1e-6."""
    # Channels stay in place, so one is like another; the basis vectors stand where they were.
    own = [(letter, n) for letter, n in zip(letters, shape, strict=True) if letter not in "CK"]
    kept, lengths = "".join(letter for letter, _ in own), [n for _, n in own]
    size = math.prod(lengths)
    basis = np.eye(size).reshape(size, *lengths)
    found = []
    for g in elements(group):
        moved = act(group, g, "C" + kept, basis, interpolation)
        away = np.abs(moved - basis).max()
        if matrices is not None:
            matrix = np.asarray(matrices)[elements(group).index(g)]
            away = max(away, np.abs(matrix - np.eye(len(matrix))).max())
        if away <= naive.IDENTITY_TOLERANCE:
            found.append(g)
    return found


# ------------------------------------------------------------------------------------------------
# Deviations m(f(gx), phi_Y(g) f_hat(x)): (N, |G|)
# ------------------------------------------------------------------------------------------------
# ``seen`` (N, |G|, ...) is what stands in for f(gx): that of other samples, for between-samples.
# ``members`` are the elements of a subgroup, where not all count.


def _pairs(
    activations: ArrayLike,
    group: str,
    letters: str,
    interpolation: str,
    seen: ArrayLike | None,
    members: Sequence[str] | None,
    matrices: ArrayLike | None = None,
) -> Iterator[list[tuple[Floats, Floats]]]:
    """For each sample the pairs (f(gx), phi_Y(g) f_hat(x)), element by element."""
    values = np.asarray(activations, dtype=np.float64)
    others = values if seen is None else np.asarray(seen, dtype=np.float64)
    names = elements(group)
    some = names if members is None else members
    kernel = kernel_of_action(group, letters, values.shape[2:], interpolation, matrices)
    inside = [names.index(k) for k in kernel if k in some]
    for sample, other in zip(values, others, strict=True):
        centre = sum(sample[k] for k in inside) / len(inside)
        row = []
        for g in some:
            n = names.index(g)
            if matrices is None:
                moved = act(group, g, letters, centre, interpolation)
            else:
                matrix = np.asarray(matrices)[n]
                moved = act_and_mix(group, g, letters, centre, matrix, interpolation)
            row.append((other[n], moved))
        yield row


def channel_cos(
    activations: ArrayLike,
    group: str,
    letters: str,
    interpolation: str = "bilinear",
    seen: ArrayLike | None = None,
    members: Sequence[str] | None = None,
) -> Floats:
    """Minus the cosine over all axes but the channels', mean over channels."""
    out = []
    for row in _pairs(activations, group, letters, interpolation, seen, members):
        found = []
        for u, v in row:
            if "C" in letters:
                u, v = (np.moveaxis(a, letters.index("C"), 0) for a in (u, v))
            else:
                u, v = u[None], v[None]
            found.append(-sum(naive.cos(a, b) for a, b in zip(u, v, strict=True)) / len(u))
        out.append(found)
    return np.array(out)


def output_l2(
    activations: ArrayLike,
    group: str,
    letters: str,
    interpolation: str = "bilinear",
    seen: ArrayLike | None = None,
    members: Sequence[str] | None = None,
    mask: ArrayLike | None = None,
) -> Floats:
    """The distance of whole tensors; ``mask`` (N, ...) leaves out its zeros."""
    return np.sqrt(squares(activations, group, letters, interpolation, seen, members, mask))


def squares(
    activations: ArrayLike,
    group: str,
    letters: str,
    interpolation: str = "bilinear",
    seen: ArrayLike | None = None,
    members: Sequence[str] | None = None,
    mask: ArrayLike | None = None,
    matrices: ArrayLike | None = None,
) -> Floats:
    """The squared distance of whole tensors; ``matrices`` (|G|, C, C) mix the channels."""
    out = []
    pairs = _pairs(activations, group, letters, interpolation, seen, members, matrices)
    for number, row in enumerate(pairs):
        found = []
        for g, (u, v) in zip(members or elements(group), row, strict=True):
            terms = (u - v) ** 2
            if mask is not None:
                # Where something is padding is moved along with what is padded.
                here = np.broadcast_to(np.asarray(mask, dtype=np.float64)[number], u.shape)
                terms = terms * (act(group, g, letters, here) > 0.5)
            found.append(math.fsum(terms.ravel()))
        out.append(found)
    return np.array(out)


def latent(activations: ArrayLike, letters: str) -> Floats:
    """(N, |G|, ...) as (N, |G|, C): the mean over all axes but the channels'."""
    values = np.asarray(activations, dtype=np.float64)
    if "C" not in letters:
        return values.reshape(*values.shape[:2], -1)
    axes = tuple(2 + axis for axis, letter in enumerate(letters) if letter != "C")
    return values.mean(axis=axes)


def mean_square(points: ArrayLike) -> float:
    """M2 of ``unexplained``: half the mean squared distance over distinct pairs of points."""
    values = np.asarray(points, dtype=np.float64)
    pairs = [math.fsum(((a - b) ** 2).ravel()) / 2 for a, b in itertools.combinations(values, 2)]
    return math.fsum(pairs) / len(pairs)


def unexplained(
    activations: ArrayLike,
    group: str,
    letters: str,
    points: ArrayLike,
    interpolation: str = "bilinear",
    seen: ArrayLike | None = None,
    members: Sequence[str] | None = None,
    mask: ArrayLike | None = None,
) -> Floats:
    """The squared distance over M2 of the norm points (N, ...)."""
    found = squares(activations, group, letters, interpolation, seen, members, mask)
    return found / mean_square(points)


def mean_without_identity(
    deviations: ArrayLike, group: str, letters: str, shape: Sequence[int]
) -> float:
    """The mean, over g other than e where no other element acts as the identity."""
    d = np.asarray(deviations, dtype=np.float64)
    if kernel_of_action(group, letters, shape) == ["e"]:
        d = d[:, 1:]
    return math.fsum(d.ravel()) / d.size


def log_scores(values: ArrayLike, kind: str, axis: int) -> Floats:
    """Scores as log-probabilities along an axis, which comes last."""
    scores = np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1)
    if kind == "logits":
        return naive.log_softmax(scores)
    with np.errstate(divide="ignore"):
        return np.log(scores)


def _moved_back(
    group: str, g: str, letters: str, values: Floats, centre: Floats, interpolation: str
) -> tuple[Floats, Floats, Floats]:
    """f(gx), what is expected, and where the two are compared.

    Where g is resampled, f(gx) is moved back, and places that then come from outside the grid are
    left out; otherwise what is expected is moved along.
    """
    inside = np.ones_like(values)
    if is_exact(group, g, letters, values.shape):
        return values, act(group, g, letters, centre, interpolation), inside
    back = inverse(group, g)
    seen, inside = (act(group, back, letters, a, interpolation) for a in (values, inside))
    return seen, centre, inside


def softmax_kl(
    activations: ArrayLike,
    group: str,
    letters: str,
    interpolation: str = "bilinear",
    kind: str = "logits",
    seen: ArrayLike | None = None,
    members: Sequence[str] | None = None,
) -> Floats:
    """KL(f(gx) || phi_Y(g) f_hat(x)) along the classes, mean over the other places."""
    values = np.asarray(activations, dtype=np.float64)
    others = values if seen is None else np.asarray(seen, dtype=np.float64)
    names, axis = elements(group), letters.index("C" if "C" in letters else "K")
    some = names if members is None else members
    kernel = kernel_of_action(group, letters, values.shape[2:], interpolation)
    still = [names.index(k) for k in kernel if k in some]
    out = []
    for sample, other in zip(values, others, strict=True):
        probabilities = [np.exp(log_scores(sample[k], kind, axis)) for k in still]
        centre = np.moveaxis(sum(probabilities) / len(still), -1, axis)
        row = []
        for name in some:
            of_g = other[names.index(name)]
            u, v, inside = _moved_back(group, name, letters, of_g, centre, interpolation)
            log_p, log_q = log_scores(u, kind, axis), log_scores(v, "probabilities", axis)
            used = np.moveaxis(inside, axis, -1)[..., 0] > 1 - 1e-9
            pairs = zip(log_p[used], log_q[used], strict=True)
            found = [naive.kl(p, q) for p, q in pairs]
            row.append(math.fsum(found) / len(found))
        out.append(row)
    return np.array(out)


def flip_rate(
    activations: ArrayLike,
    group: str,
    letters: str,
    interpolation: str = "bilinear",
    seen: ArrayLike | None = None,
    members: Sequence[str] | None = None,
) -> Floats:
    """The share of places whose largest score is another class's than in f(x), moved."""
    values = np.asarray(activations, dtype=np.float64)
    others = values if seen is None else np.asarray(seen, dtype=np.float64)
    names, axis = elements(group), letters.index("C" if "C" in letters else "K")
    out = []
    for sample, other in zip(values, others, strict=True):
        row = []
        for name in names if members is None else members:
            of_g = other[names.index(name)]
            u, v, inside = _moved_back(group, name, letters, of_g, sample[0], interpolation)
            used = inside.take(0, axis) > 1 - 1e-9
            row.append(float((u.argmax(axis) != v.argmax(axis))[used].mean()))
        out.append(row)
    return np.array(out)
