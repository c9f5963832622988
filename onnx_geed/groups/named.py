"""The named groups, and what each of their elements does to each kind of axis."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, nearest, shown
from onnx_geed.groups.axis_groups import (
    hue,
    line_shift,
    reverse,
    reverse_complement,
    symmetric,
)
from onnx_geed.groups.factors import Factor, MixFactor, Motion
from onnx_geed.groups.families import KINDS, backgrounds, corruption, own_members, values_of
from onnx_geed.groups.group import Group, product_table, sampled, some_of, with_factors
from onnx_geed.groups.plane_groups import cyclic, dihedral, flip, shift, turns_sampled
from onnx_geed.groups.rotations import icosahedral_rotations, octahedral_rotations
from onnx_geed.groups.sampled import haar_elements, some_permutations
from onnx_geed.groups.small_groups import family_group, small_group
from onnx_geed.groups.small_motions import SmallKind
from onnx_geed.groups.space_groups import about, octahedral, space_sampled

__all__ = [
    "MAX_ORDER",
    "colours_of",
    "direct_product",
    "factors_of",
    "group_named",
    "motions",
    "moves_places",
    "parse_group",
    "recorded_group",
]

#: Largest order :func:`parse_group` builds: every sample is run once per element.
MAX_ORDER = 1024


# How groups are spelled, for messages.
_SPELLED = (
    "C<n> (rotations), D<n> (with mirrors), flip-h, flip-v, shift<a>x<b>, hue<n>; C<n>-x, O, Oh "
    "(volumes); reverse, shift<n> (lines); revcomp (DNA); S<n>, S<n>~k (sets); SO2~n, O2~n, SO3~n, "
    "O3~n (sampled); small-rotation; a family such as zoom:0.8..1.25/9; or G*H (measure --help "
    "lists all)"
)


def factors_of(group: Group) -> tuple[Factor, ...]:
    """Return what the elements of a group do to each kind of axis.

    It is known for the named groups, also where one was written out with the same elements and
    table. A group with another table is another group, whatever its name.

    Raises
    ------
    GeedError
        If the group is not one of the named ones, so that no action is known.
    """
    if group.factors is not None:
        return group.factors
    named = group_named(group.name)
    if named is not None and named == group and named.factors is not None:
        return named.factors
    if named is None:
        raise GeedError(
            f"group {group.name}: how a group of your own moves an image is not known, only its "
            "elements and table: take C<n>, D<n>, flip-h, flip-v or shift<a>x<b>, define it with "
            "onnx_geed.measure(action=...), or move the samples yourself and give the activations "
            "to onnx_geed.latent_l2, latent_cos, softmax_kl or output_l2"
        )
    differ = "other elements" if named.elements != group.elements else "another table"
    raise GeedError(
        f"group {group.name}: has {differ} than onnx-geed's group of that name, so how it moves an "
        f"image is not known: take onnx_geed.parse_group({group.name!r})"
    )


def colours_of(group: Group) -> NDArray[np.float64] | None:
    """Return what each element mixes the colours of a pixel with, shape (n, 3, 3); ``None`` if not.

    Raises
    ------
    GeedError
        If the group is not one of the named ones.
    """
    for factor in factors_of(group):
        if isinstance(factor, MixFactor) and factor.axes == "C":
            return np.array(factor.matrices).reshape(-1, factor.size, factor.size)
    return None


def moves_places(group: Group) -> bool:
    """Tell whether a group moves anything but channels and values, or is not known not to."""
    if group.small is not None:
        return True
    try:
        return any(factor.axes != "C" for factor in factors_of(group))
    except GeedError:
        return True


def motions(group: Group) -> tuple[Motion, ...] | None:
    """Return how each element of a group moves the plane, or ``None`` where it does not."""
    if group.factors is not None:
        return group.motions
    named = group_named(group.name)
    return named.motions if named is not None and named == group else None


@functools.lru_cache(maxsize=64)
def group_named(name: str) -> Group | None:
    """Return the group that a name in a file stands for; ``None`` where it stands for none.

    Also for a family of one's own.
    """
    try:
        return recorded_group(name)
    except GeedError:
        return None


def recorded_group(name: str) -> Group:
    """Return the group that a result or a cache names: no program is run because a file says so.

    Parameters
    ----------
    name : str
        As :func:`parse_group` takes it, but for ``module:function``.

    Returns
    -------
    Group

    Raises
    ------
    GeedError
        If it names a program.
        If it is the name of no group.
    """
    return _group_of(name, runs=False)


def direct_product(left: Group, right: Group) -> Group:
    """Return the direct product of two named groups that move different kinds of axes.

    Parameters
    ----------
    left, right : Group
        Named groups, such as ``C4`` and ``hue3``.

    Returns
    -------
    Group
        Elements in row-major order, ``a*b`` by name, ``e`` for the identity.

    Raises
    ------
    GeedError
        If both move axes of one kind, or one is of small motions.
        If the order would exceed ``MAX_ORDER``, 1024.
    """
    name = f"{left.name}*{right.name}"
    if family := next((g for g in (left, right) if g.family is not None), None):
        raise GeedError(
            f"group {name}: a family cannot be part of a product: measure --group {family.name} "
            "and the other group in separate runs"
        )
    if small := next((g.small for g in (left, right) if g.small is not None), None):
        raise GeedError(
            f"group {name}: small motions cannot be part of a product: measure --group "
            f"{small.name} and the other group in separate runs"
        )
    ours, theirs = ("".join(f.axes for f in factors_of(g)) for g in (left, right))
    if both := [letter for letter in "HWDTPXBC" if letter in ours and letter in theirs]:
        raise GeedError(
            f"group {name}: both move axes {', '.join(both)}; the groups of a product must move "
            "different kinds of axes, such as C4*hue3"
        )
    n, m = left.order, right.order
    check_order(name, n * m)
    first, second = (part.tolist() for part in np.divmod(np.arange(n * m), m))
    pairs = [f"{a}*{b}" for a in left.elements for b in right.elements]
    elements = ("e", *pairs[1:])
    if left.is_closed and right.is_closed:
        group = Group(name, elements, product_table(left, right))
    else:
        group = some_of(name, elements)
    with_factors(
        group,
        *(factor.of(first) for factor in factors_of(left)),
        *(factor.of(second) for factor in factors_of(right)),
    )
    if left.kind == right.kind == "group":
        return group
    halves = [side.half or range(side.order) for side in (left, right)]
    half = [a * m + b for a in halves[0] for b in halves[1]]
    return sampled(
        group,
        behind=_ProductDrawn(left, right, first=True) if left.behind or right.behind else None,
        onward=_ProductDrawn(left, right, first=False) if left.onward or right.onward else None,
        independent_elements=max(side.order * side.independent for side in (left, right)),
        half=half if left.half or right.half else (),
    )


@dataclass(frozen=True)
class _ProductDrawn:
    """What a sample, or what a model makes of it, is moved by where a side is sampled.

    Parameters
    ----------
    left, right : Group
        The sides.
    first : bool
        Whether it is what moves the sample.
    """

    left: Group
    right: Group
    first: bool

    def __call__(self, seed: int, sample: int) -> tuple[Factor, ...]:
        n, m = self.left.order, self.right.order
        first, second = (part.tolist() for part in np.divmod(np.arange(n * m), m))
        return tuple(
            factor.of(elements)
            for group, elements in ((self.left, first), (self.right, second))
            for factor in self._factors(group, seed, sample)
        )

    def _factors(self, group: Group, seed: int, sample: int) -> tuple[Factor, ...]:
        drawn = (self.first and group.behind) or group.onward
        return drawn(seed, sample) if drawn else factors_of(group)


def parse_group(name: str) -> Group:
    """Return the group with a given name.

    Parameters
    ----------
    name : str
        ``C<n>``, ``D<n>``, ``flip-h``, ``flip-v`` or ``shift<a>x<b>`` of a plane; ``C<n>-x``,
        ``-y``, ``-z``, ``O`` or ``Oh`` of space; ``reverse`` or ``shift<n>`` of a line;
        ``revcomp`` of DNA; ``S<n>`` (n ≤ 6) or ``S<n>~<k>`` of points; ``hue<n>`` of colours;
        ``SO2~<n>``, ``O2~<n>``, ``SO3~<n>`` or ``O3~<n>``, sampled; ``small-rotation``,
        ``small-shift`` or ``small-zoom``, each also with a step in pixels of the input's corner,
        such as ``small-shift~0.5``; a family ``zoom:LO..HI/N``, also of ``rotate``, ``shift-px``,
        ``brightness``, ``contrast``, ``blur``, ``noise`` and ``jpeg``, ``background:FOLDER/N``,
        ``imagenet-c:NAME``, or ``module:function`` for one's own; or a product ``G*H``.

    Returns
    -------
    Group

    Raises
    ------
    GeedError
        If the name is not one of these, or not a string.
        If the order would exceed ``MAX_ORDER``, 1024.
        If the two groups of a product move the same kind of axis, or one has small motions.
        If a step of small motions is invalid.
        If a range of a family is invalid, or your own family cannot be imported.
    """
    return _group_of(name, runs=True)


def _group_of(name: str, *, runs: bool) -> Group:
    """Return the group of a name; ``runs`` says whether it may be, or hold, a program."""
    if not isinstance(name, str):
        raise GeedError(
            f"a group is a name such as C8, or a Group; found {shown(name)}: write {_SPELLED}"
        )
    kind, colon, members = name.partition(":")
    if colon and kind in (*KINDS, _CORRUPTIONS, _BACKGROUNDS):
        return _family(name, kind, members)
    if name.count("*") >= _FACTORS:
        raise GeedError(
            f"a product of {name.count('*') + 1} groups has more than {MAX_ORDER} elements: write "
            f"fewer than {_FACTORS + 1}"
        )
    if "*" in name:
        left, _, right = name.rpartition("*")
        return direct_product(_group_of(left, runs=runs), _group_of(right, runs=runs))
    if not runs and re.fullmatch(_OWN, name):
        raise GeedError(
            f"group {name}: is somebody's own program, which is not run because a file names it; "
            "measure again with --group"
        )
    for pattern, make in _NAMED:
        if match := re.fullmatch(pattern, name):
            return make(name, *match.groups())
    if name in KINDS:
        raise GeedError(
            f"group {name}: is a family and needs a range: write {name}:{KINDS[name].example}"
        )
    if infinite := re.fullmatch(r"(S?O)\(?([23])\)?", name, re.IGNORECASE):
        sampled_as = _SAMPLED["".join(infinite.groups()).upper()]
        raise GeedError(
            f"group {name}: has infinitely many elements: say how many to sample, such as "
            f"{sampled_as}"
        )
    near = nearest(name, _EXAMPLES)
    if colon and (meant := nearest(kind, KINDS)):
        near = meant
    raise GeedError(f"no group is called {name!r}: write {_SPELLED}.{near}")


# Of two elements each, more are more than MAX_ORDER.
_FACTORS = 10


# Groups of which a number of elements is drawn, each with one.
_SAMPLED = {"SO2": "SO2~32", "O2": "O2~32", "SO3": "SO3~24", "O3": "O3~48"}


# Names that a mistyped one is held against.
_EXAMPLES = (
    *("C4", "C8", "D4", "D8", "flip-h", "flip-v", "shift4x4", "C4-z", "O", "Oh", "reverse"),
    *("shift8", "revcomp", "S4", "S16~20", "hue3", "SO2~32", "O2~32", "SO3~24", "SO3~60", "O3~48"),
    *("small-rotation", "small-shift", "small-zoom", "small-rotation~0.5"),
)


def _plane(name: str, kind: str, digits: str) -> Group:
    n, twice = int(digits), kind in "Dd"
    check_order(name, 2 * n if twice else n)
    return dihedral(n) if twice else cyclic(n)


def _grid_shift(name: str, down: str, right: str) -> Group:
    check_order(name, int(down) * int(right))
    return shift(int(down), int(right))


def _sized(make: Callable[[int], Group]) -> Callable[[str, str], Group]:
    """Return a function that makes a group of order n from n's digits."""

    def checked(name: str, digits: str) -> Group:
        check_order(name, int(digits))
        return make(int(digits))

    return checked


def _axial(name: str, digits: str, axis: str) -> Group:
    check_order(name, int(digits))
    return about(int(digits), axis)


def _permutations(name: str, digits: str) -> Group:
    if int(digits) > 6:
        raise GeedError(
            f"group {name} has {digits}! elements and every sample is run once for each: take "
            f"S{digits}~20 (twenty of them), or n up to 6"
        )
    return symmetric(int(digits))


def _sampled_permutations(name: str, points: str, count: str) -> Group:
    check_order(name, int(count))
    return some_permutations(int(points), int(count))


def _sampled_turns(name: str, mirrored: str, digits: str) -> Group:
    n = int(digits)
    check_order(name, n)
    if mirrored == "O" and n % 2:
        raise GeedError(f"group {name}: half of its elements are mirrored, so take an even number")
    return turns_sampled(n // 2 if mirrored == "O" else n, mirrored=mirrored == "O")


def _sampled_space(name: str, reflected: str, digits: str) -> Group:
    check_order(name, int(digits))
    if name == "SO3~60":
        return space_sampled(name, icosahedral_rotations())
    if name in ("SO3~24", "O3~48"):
        return space_sampled(name, octahedral_rotations(full=name == "O3~48"))
    return haar_elements(name, int(digits), reflected=reflected == "O")


def _small(name: str, kind: SmallKind, step: str | None) -> Group:
    return small_group(kind, Fraction(step or 1))


_CORRUPTIONS, _BACKGROUNDS = "imagenet-c", "background"


def _family(name: str, kind: str, members: str) -> Group:
    made = {_CORRUPTIONS: corruption, _BACKGROUNDS: backgrounds}.get(kind)
    family = values_of(kind, members) if made is None else made(members)
    check_order(name, len(family.values))
    return family_group(name, family)


def _own(name: str) -> Group:
    family = own_members(name)
    check_order(name, len(family.values))
    return family_group(name, family)


_OWN = r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*"


_NUMBER = r"([1-9]\d{0,5})"


# How names are spelled, and what makes the group; the first that fits.
_NAMED: tuple[tuple[str, Callable[..., Group]], ...] = (
    (rf"([CDcd]){_NUMBER}", _plane),
    (r"flip-([hv])", lambda name, axis: flip(axis)),
    (rf"shift{_NUMBER}x{_NUMBER}", _grid_shift),
    (rf"[Cc]{_NUMBER}-([xyz])", _axial),
    (r"O", lambda name: octahedral(full=False)),
    (r"Oh", lambda name: octahedral(full=True)),
    (r"reverse", lambda name: reverse()),
    (rf"shift{_NUMBER}", _sized(line_shift)),
    (r"revcomp", lambda name: reverse_complement()),
    (rf"S{_NUMBER}", _permutations),
    (rf"S{_NUMBER}~{_NUMBER}", _sampled_permutations),
    (rf"hue{_NUMBER}", _sized(hue)),
    (rf"(SO|O)2~{_NUMBER}", _sampled_turns),
    (rf"(SO|O)3~{_NUMBER}", _sampled_space),
    (r"small-(rotation|shift|zoom)(?:~(\d{1,4}(?:\.\d{1,6})?))?", _small),
    (_OWN, _own),
)


def check_order(name: str, order: int) -> None:
    if order > MAX_ORDER:
        raise GeedError(
            f"group {name} has {order} elements and every sample is run once for each: take a "
            f"group of at most {MAX_ORDER} elements"
        )
