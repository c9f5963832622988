"""Finite groups: element names, a multiplication table, and what the named ones do to the plane.

How a motion of the plane moves an array is the business of :mod:`onnx_geed.actions`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, check_choice, nearest, shown

__all__ = [
    "MAX_ORDER",
    "Group",
    "Motion",
    "check_group",
    "cyclic",
    "dihedral",
    "flip",
    "motions",
    "parse_group",
    "product",
    "shift",
]

#: Largest order :func:`parse_group` builds: every sample is run once per element.
MAX_ORDER = 1024


@dataclass(frozen=True)
class Motion:
    """What an element does to the plane: rotate, then mirror, then shift.

    Parameters
    ----------
    degrees : Fraction
        Rotation angle in degrees, counter-clockwise as displayed, 0 ≤ degrees < 360.
    mirror : {"", "h", "v"}
        Left-right or up-down mirror after the rotation.
    shift : tuple of two Fraction
        Shift down and right, in fractions of height and width.
    """

    degrees: Fraction = Fraction(0)
    mirror: str = ""
    shift: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))


@dataclass(frozen=True, eq=False)
class Group:
    """A finite group; two are equal if name, elements and table are.

    Parameters
    ----------
    name : str
        Name as the user writes it, such as ``C8``.
    elements : tuple of str
        Element names; element 0 is the identity.
    table : ndarray of int64, shape (n, n)
        ``table[a, b]`` is the index of the product ab, "b first, then a":
        φ(a, φ(b, x)) = φ(ab, x). Kept as a copy that cannot be written to.

    Attributes
    ----------
    motions : tuple of Motion or None
        What each element does to the plane, for a group that :func:`cyclic`, :func:`dihedral`,
        ``flip`` or ``shift`` made. Nothing is concluded from an element's name.

    Raises
    ------
    GeedError
        If the name or an element's name is no text, or element names repeat.
        If the table is not of whole numbers, or not of shape (n, n).
        If the table is not the multiplication table of a group with identity 0, saying why.

    Examples
    --------
    >>> group = parse_group("C4")
    >>> group.elements[group.table[1, 3]]
    'e'
    """

    name: str
    elements: tuple[str, ...]
    table: NDArray[np.int64] = field(repr=False)
    motions: tuple[Motion, ...] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise GeedError(f"a group's name is a text, found {shown(self.name)}")
        if isinstance(self.elements, str) or not isinstance(self.elements, Sequence | np.ndarray):
            raise GeedError(
                f"group {self.name}: elements are a tuple of names, found {shown(self.elements)}"
            )
        names = tuple(self.elements)
        odd = next((e for e in names if not isinstance(e, str) or not e), None)
        if odd is not None or not names:
            what = "found none" if not names else f"found {shown(odd)}"
            raise GeedError(f"group {self.name}: element names are texts, one at least; {what}")
        if len(set(names)) != len(names):
            raise GeedError(f"group {self.name}: element names repeat; give each its own name")
        object.__setattr__(self, "elements", tuple(map(str, names)))
        object.__setattr__(self, "table", _checked_table(self.name, self.elements, self.table))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Group):
            return NotImplemented
        same = (self.name, self.elements) == (other.name, other.elements)
        return same and np.array_equal(self.table, other.table)

    def __hash__(self) -> int:
        return hash((self.name, self.elements))

    @property
    def order(self) -> int:
        """Number of elements, ``|G|``."""
        return len(self.elements)

    def index(self, element: str) -> int:
        """Index of an element by its name.

        Raises
        ------
        GeedError
            If the group has no element of that name.
        """
        if element not in self.elements:
            known = ", ".join(self.elements[:12])
            near = nearest(element, self.elements) if isinstance(element, str) else ""
            raise GeedError(
                f"group {self.name} has no element {shown(element)!r}; it has {known}"
                f"{', ...' if self.order > 12 else '.'}{near}"
            )
        return self.elements.index(element)

    def inverse(self, g: int) -> int:
        """Index of g⁻¹."""
        return int(np.flatnonzero(self.table[g] == 0)[0])

    def is_subgroup(self, members: Sequence[int]) -> bool:
        """Whether a set of element indices is closed under the product and holds the identity.

        Raises
        ------
        GeedError
            If one is no index of an element.
        """
        for g in members:
            if not _is_whole(g) or not 0 <= g < self.order:
                raise GeedError(
                    f"group {self.name}: elements are numbered 0 to {self.order - 1}, found "
                    f"{shown(g)}"
                )
        inside = np.zeros(self.order, dtype=bool)
        inside[list(members)] = True
        return bool(inside[0] and inside[self.table[np.ix_(inside, inside)]].all())


def check_group(group: object) -> Group:
    """Return a group if it is one, for a public function that takes no name.

    Raises
    ------
    GeedError
        If it is something else.
    """
    if isinstance(group, Group):
        return group
    call = f"parse_group({group!r})" if isinstance(group, str) else "parse_group('C4')"
    raise GeedError(f"a group is a Group, found {shown(group)}: give onnx_geed.{call}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _checked_table(name: str, elements: tuple[str, ...], given: Any) -> NDArray[np.int64]:
    """Return a group's table as an array of its own, if it is one."""
    n = len(elements)
    try:
        found = np.asarray(given)
    except ValueError:
        raise GeedError(f"group {name}: the table's rows differ in length") from None
    if found.shape != (n, n):
        raise GeedError(f"group {name}: {n} elements need a ({n}, {n}) table, found {found.shape}")
    if found.dtype.kind not in "iu":
        raise GeedError(
            f"group {name}: the table holds whole numbers, the indices of the products; found "
            f"{found.dtype}"
        )
    table = found.astype(np.int64)
    wrong = f"group {name}: the table is not the multiplication table of a group whose element 0 "
    wrong += "is the identity"
    every = np.arange(n)
    for axis, line in ((1, "row"), (0, "column")):
        doubled = (np.sort(table, axis) != (every if axis else every[:, None])).any(axis)
        if doubled.any():
            element = elements[int(doubled.argmax())]
            raise GeedError(
                f"{wrong}: the {line} of {element} does not hold each of 0 to {n - 1} once"
            )
    neutral = (table == every).all(1) & (every == table.T).all(1)
    if not neutral[0]:
        there = f"; that is {elements[int(neutral.argmax())]}: put it first" if any(neutral) else ""
        raise GeedError(f"{wrong}{there}")
    for a in _generators(table):
        # (ab)c = a(bc) for all b, c at once. Where two a's have that, so has their product.
        row = table[a]
        differ = table[row] != row[table]
        if differ.any():
            b, c = (int(i) for i in np.argwhere(differ)[0])
            x, y, z = elements[a], elements[b], elements[c]
            raise GeedError(f"{wrong}: ({x}·{y})·{z} is not {x}·({y}·{z})")
    table.setflags(write=False)
    return table


def _generators(table: NDArray[np.int64]) -> list[int]:
    """Elements whose products are all elements."""
    inside = np.zeros(len(table), dtype=bool)
    found: list[int] = []
    while not inside.all():
        found.append(int(np.argmin(inside)))
        inside[found[-1]] = True
        count = 0
        while count < inside.sum():
            count = int(inside.sum())
            inside[table[np.ix_(inside, inside)]] = True
    return found


def motions(group: Group) -> tuple[Motion, ...] | None:
    """Return what each element of a group does to the plane, or ``None`` if that is not known.

    It is known of the named groups, also where one was written out with the very elements and
    table; a group of another table is another one, whatever its name.
    """
    if group.motions is not None:
        return group.motions
    try:
        named = parse_group(group.name)
    except GeedError:
        return None
    return named.motions if named == group else None


def _moving(
    name: str, elements: Sequence[str], table: NDArray[Any], moves: Sequence[Motion]
) -> Group:
    """Make a group whose elements are motions of the plane."""
    group = Group(name, tuple(elements), table)
    object.__setattr__(group, "motions", tuple(moves))
    return group


def _turn(k: int, n: int) -> Fraction:
    return Fraction(360 * k, n)


def _order_of(value: object, what: str) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise GeedError(f"{what}: is a whole number from 1 on, found {shown(value)}")
    return int(value)


def cyclic(n: int) -> Group:
    """Return the cyclic group of order n, ``e, r1, .., r<n-1>``."""
    n = _order_of(n, "the order of a cyclic group")
    k = np.arange(n)
    moves = [Motion(_turn(i, n)) for i in range(n)]
    return _moving(f"C{n}", _rotations(n), (k[:, None] + k) % n, moves)


def dihedral(n: int) -> Group:
    """Return the dihedral group of order 2n: ``e, r1, ..`` then ``s, sr1, ..``.

    Notes
    -----
    Element sr<k> is s·r^k, "rotate, then mirror"; r·s = s·r⁻¹.
    """
    n = _order_of(n, "the rotations of a dihedral group")
    mirrored, k = np.divmod(np.arange(2 * n), n)
    # (s^a r^i)(s^b r^j) = s^(a+b) r^((-1)^b i + j)
    sign = np.where(mirrored == 1, -1, 1)
    flips = (mirrored[:, None] + mirrored) % 2
    turns = (sign[None, :] * k[:, None] + k) % n
    names = (*_rotations(n), "s", *(f"sr{i}" for i in range(1, n)))
    moves = [Motion(_turn(i, n), mirror) for mirror in ("", "h") for i in range(n)]
    return _moving(f"D{n}", names, flips * n + turns, moves)


def _rotations(n: int) -> tuple[str, ...]:
    return ("e", *(f"r{k}" for k in range(1, n)))


def flip(axis: str) -> Group:
    """Return the group of order 2 of a mirror: ``h`` left-right, ``v`` up-down."""
    axis = check_choice("the axis of a mirror", axis, ("h", "v"))
    moves = [Motion(), Motion(mirror=axis)]
    return _moving(f"flip-{axis}", ("e", "flip"), np.array([[0, 1], [1, 0]]), moves)


def shift(a: int, b: int) -> Group:
    """Return Z_a × Z_b with elements ``e, t0,1, .., t<a-1>,<b-1>``, row-major."""
    a, b = _order_of(a, "the shifts down"), _order_of(b, "the shifts right")
    names = ("e", *(f"t{i},{j}" for i in range(a) for j in range(b) if i or j))
    moves = [Motion(shift=(Fraction(i, a), Fraction(j, b))) for i in range(a) for j in range(b)]
    return _moving(f"shift{a}x{b}", names, _product_table(cyclic(a), cyclic(b)), moves)


def product(
    left: Group, right: Group, *, name: str | None = None, elements: Sequence[str] | None = None
) -> Group:
    """Return the direct product of two groups, elements in row-major order.

    Parameters
    ----------
    left, right : Group
        The factors.
    name : str, optional
        Name of the product; ``"<left>x<right>"`` by default.
    elements : sequence of str, optional
        Element names; ``"(a,b)"`` by default, ``"e"`` for the identity.

    Returns
    -------
    Group
        How it moves an image is not known, even where that of its factors is.

    Raises
    ------
    GeedError
        If a factor is no group.
        If there is not one name for each element, or names repeat.
    """
    left, right = check_group(left), check_group(right)
    table = _product_table(left, right)
    if elements is None:
        pairs = [f"({a},{b})" for a in left.elements for b in right.elements]
        elements = ["e", *pairs[1:]]
    return Group(f"{left.name}x{right.name}" if name is None else name, tuple(elements), table)


def _product_table(left: Group, right: Group) -> NDArray[np.int64]:
    i, j = np.divmod(np.arange(left.order * right.order), right.order)
    table: NDArray[np.int64] = left.table[i[:, None], i] * right.order
    return table + right.table[j[:, None], j]


def parse_group(name: str) -> Group:
    """Return the group that a name stands for.

    Parameters
    ----------
    name : str
        ``C<n>``, ``D<n>``, ``flip-h``, ``flip-v`` or ``shift<a>x<b>``.

    Returns
    -------
    Group

    Raises
    ------
    GeedError
        If the name is none of these, or no text.
        If the order would exceed ``MAX_ORDER``, 1024.
    """
    if not isinstance(name, str):
        raise GeedError(
            f"a group is a name such as C8, or a Group; found {shown(name)}: write C<n>, D<n>, "
            "flip-h, flip-v or shift<a>x<b>"
        )
    if match := re.fullmatch(r"([CDcd])([1-9]\d{0,5})", name):
        n, twice = int(match[2]), match[1] in "Dd"
        _check_order(name, 2 * n if twice else n)
        return dihedral(n) if twice else cyclic(n)
    if match := re.fullmatch(r"flip-([hv])", name):
        return flip(match[1])
    if match := re.fullmatch(r"shift([1-9]\d{0,5})x([1-9]\d{0,5})", name):
        a, b = int(match[1]), int(match[2])
        _check_order(name, a * b)
        return shift(a, b)
    raise GeedError(
        f"no group is called {name!r}: write C<n> (rotations, such as C8), D<n> (rotations and "
        "mirrors), flip-h, flip-v or shift<a>x<b> (such as shift4x4)"
    )


def _check_order(name: str, order: int) -> None:
    if order > MAX_ORDER:
        raise GeedError(
            f"group {name} has {order} elements and every sample is run once for each: take a "
            f"group of at most {MAX_ORDER} elements"
        )
