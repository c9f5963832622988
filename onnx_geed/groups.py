"""Finite groups: element names and a multiplication table.

A :class:`Group` knows nothing of images. How its elements move an array is the business of
:mod:`onnx_geed.actions`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError

__all__ = ["MAX_ORDER", "Group", "cyclic", "dihedral", "flip", "parse_group", "product", "shift"]

#: Largest order :func:`parse_group` builds: every sample is run once per element.
MAX_ORDER = 1024


@dataclass(frozen=True)
class Group:
    """A finite group.

    Parameters
    ----------
    name : str
        Name as the user writes it, such as ``C8``.
    elements : tuple of str
        Element names; element 0 is the identity.
    table : ndarray of int64, shape (n, n)
        ``table[a, b]`` is the index of the product ab, "b first, then a":
        φ(a, φ(b, x)) = φ(ab, x).

    Raises
    ------
    GeedError
        If element names repeat.
        If the table is not the multiplication table of a group with identity 0.

    Examples
    --------
    >>> group = parse_group("C4")
    >>> group.elements[group.table[1, 3]]
    'e'
    """

    name: str
    elements: tuple[str, ...]
    table: NDArray[np.int64] = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        n = len(self.elements)
        if len(set(self.elements)) != n:
            raise GeedError(f"group {self.name}: element names repeat; give each its own name")
        if self.table.shape != (n, n):
            raise GeedError(
                f"group {self.name}: {n} elements need a ({n}, {n}) table, found {self.table.shape}"
            )
        every = np.arange(n)
        latin = (np.sort(self.table, 0) == every[:, None]).all() and (
            np.sort(self.table, 1) == every
        ).all()
        identity = (self.table[0] == every).all() and (self.table[:, 0] == every).all()
        if not latin or not identity or not _associative(self.table):
            raise GeedError(
                f"group {self.name}: the table is not the multiplication table of a group whose "
                "element 0 is the identity"
            )

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
            raise GeedError(f"group {self.name} has no element {element!r}; it has {known}")
        return self.elements.index(element)

    def inverse(self, g: int) -> int:
        """Index of g⁻¹."""
        return int(np.flatnonzero(self.table[g] == 0)[0])

    def is_subgroup(self, members: Sequence[int]) -> bool:
        """Whether a set of element indices is closed under the product and holds the identity."""
        inside = np.zeros(self.order, dtype=bool)
        inside[list(members)] = True
        return bool(inside[0] and inside[self.table[np.ix_(inside, inside)]].all())


def _associative(table: NDArray[np.int64]) -> bool:
    # Row by row: (ab)c = a(bc) for all b, c at once, so that memory stays quadratic.
    return all(np.array_equal(table[row], row[table]) for row in table)


def cyclic(n: int) -> Group:
    """Return the cyclic group of order n, ``e, r1, .., r<n-1>``."""
    k = np.arange(n)
    return Group(f"C{n}", _rotations(n), (k[:, None] + k) % n)


def dihedral(n: int) -> Group:
    """Return the dihedral group of order 2n: ``e, r1, ..`` then ``s, sr1, ..``.

    Notes
    -----
    Element sr<k> is s·r^k, "rotate, then mirror"; r·s = s·r⁻¹.
    """
    mirrored, k = np.divmod(np.arange(2 * n), n)
    # (s^a r^i)(s^b r^j) = s^(a+b) r^((-1)^b i + j)
    sign = np.where(mirrored == 1, -1, 1)
    flips = (mirrored[:, None] + mirrored) % 2
    turns = (sign[None, :] * k[:, None] + k) % n
    names = (*_rotations(n), "s", *(f"sr{i}" for i in range(1, n)))
    return Group(f"D{n}", names, flips * n + turns)


def _rotations(n: int) -> tuple[str, ...]:
    return ("e", *(f"r{k}" for k in range(1, n)))


def flip(axis: str) -> Group:
    """Return the group of order 2 of a mirror: ``h`` left-right, ``v`` up-down."""
    return Group(f"flip-{axis}", ("e", "flip"), np.array([[0, 1], [1, 0]]))


def shift(a: int, b: int) -> Group:
    """Return Z_a × Z_b with elements ``e, t0,1, .., t<a-1>,<b-1>``, row-major."""
    names = ("e", *(f"t{i},{j}" for i in range(a) for j in range(b) if i or j))
    return product(cyclic(a), cyclic(b), name=f"shift{a}x{b}", elements=names)


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
    """
    i, j = np.divmod(np.arange(left.order * right.order), right.order)
    table = left.table[i[:, None], i] * right.order + right.table[j[:, None], j]
    if elements is None:
        pairs = [f"({a},{b})" for a in left.elements for b in right.elements]
        elements = ["e", *pairs[1:]]
    return Group(name or f"{left.name}x{right.name}", tuple(elements), table)


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
        If the name is none of these.
        If the order would exceed ``MAX_ORDER``, 1024.
    """
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
