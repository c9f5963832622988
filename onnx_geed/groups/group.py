"""Finite groups: elements, multiplication table, subgroups, products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError, nearest, shown
from onnx_geed.groups.factors import Factor, Motion, PlaneFactor
from onnx_geed.groups.families import Family
from onnx_geed.groups.small_motions import SmallMotions

__all__ = [
    "MOST_ELEMENTS",
    "Behind",
    "Components",
    "Group",
    "check_group",
    "check_size",
    "generators",
    "product",
    "product_table",
    "sampled",
    "some_of",
    "with_factors",
]

#: Elements of a group: its table has the square of that.
MOST_ELEMENTS = 4096

#: The first two components of vectors; a third one is forward.
Components = Literal["right-down", "right-up", "down-right"]

# Factors by which one sample is moved, drawn from the seed of the run and the index of the sample.
Behind = Callable[[int, int], tuple[Factor, ...]]


@checked
@dataclass(frozen=True, eq=False)
class Group:
    """A finite group; two groups are equal if their names, elements and tables are.

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
    factors : tuple of Factor or None
        What each element does to each kind of axis, for a named group; ``None`` for your own. Names
        themselves have no meaning.
    behind : callable or None
        For a sampled group whose first element is not the identity: the factors that move a sample.
    onward : callable or None
        For a sampled group whose elements differ from sample to sample: the factors that move the
        first entry of a sample's orbit to the others, and the model's outputs likewise. Without
        ``behind`` they also move the sample. ``factors`` are then those of one of the samples.
    independent : bool
        Whether each sample's elements are drawn independently of each other. Then their mean is
        nearer to them than the mean over the whole group.
    independent_elements : int
        Of a product, one side of which has such elements: how many; else 0.
    half : tuple of int
        For a sampled group: half of the elements, which cover the larger group evenly too; empty if
        there is no such half.
    components : {"right-down", "right-up", "down-right"}
        The components of the vectors that the factors rotate.
    small : SmallMotions or None
        The small motions, forwards and backwards, if the elements are such motions.
    family : Family or None
        The family, if the elements are its members, which form no group.

    Raises
    ------
    GeedError
        If the name or an element's name is not a string, or element names repeat.
        If there are no elements, or over 4096.
        If the table does not contain whole numbers, or does not have shape (n, n).
        If the table is not the multiplication table of a group with identity 0; the message says
        why.

    Examples
    --------
    >>> group = parse_group("C4")
    >>> group.elements[group.table[1, 3]]
    'e'
    """

    name: str
    elements: tuple[str, ...]
    table: NDArray[np.int64] = field(repr=False)
    factors: tuple[Factor, ...] | None = field(init=False, default=None, repr=False)
    behind: Behind | None = field(init=False, default=None, repr=False)
    onward: Behind | None = field(init=False, default=None, repr=False)
    independent: bool = field(init=False, default=False, repr=False)
    independent_elements: int = field(init=False, default=0, repr=False)
    half: tuple[int, ...] = field(init=False, default=(), repr=False)
    components: Components = field(init=False, default="right-down", repr=False)
    small: SmallMotions | None = field(init=False, default=None, repr=False)
    family: Family | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.name:
            raise GeedError("a group's name is empty; give it one")
        names = self.elements
        check_size(f"group {self.name}: the number of elements", len(names))
        if "" in names:
            raise GeedError(f"group {self.name}: the name of an element is empty; give it one")
        if len(set(names)) != len(names):
            raise GeedError(f"group {self.name}: element names repeat; give each its own name")
        object.__setattr__(self, "table", _checked_table(self.name, names, self.table))

    @property
    def motions(self) -> tuple[Motion, ...] | None:
        """How each element moves the plane; ``None`` if it does not, or if this is unknown."""
        planes = (f for f in self.factors or () if isinstance(f, PlaneFactor) and f.axes == "HW")
        return next((plane.motions for plane in planes), None)

    @property
    def changes_values(self) -> bool:
        """Whether it is a family that changes the input's values and moves nothing."""
        return self.family is not None and not self.family.geometric

    @property
    def kind(self) -> Literal["group", "sampled", "family"]:
        """Kind of elements: a finite group, a sample of a larger group, or a family's members."""
        if self.family is not None:
            return "family"
        return "sampled" if self.behind is not None or self.onward is not None else "group"

    @property
    def is_closed(self) -> bool:
        """Whether products of elements are elements; false for a sample of a larger group."""
        return self.table.size > 0

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

    @checked
    def index(self, element: str) -> int:
        """Index of an element by its name.

        Raises
        ------
        GeedError
            If the group has no element of that name.
        """
        if element not in self.elements:
            known, near = ", ".join(self.elements[:12]), nearest(element, self.elements)
            raise GeedError(
                f"group {self.name} has no element {shown(element)!r}; it has {known}"
                f"{', ...' if self.order > 12 else '.'}{near}"
            )
        return self.elements.index(element)

    @checked
    def inverse(self, g: int) -> int:
        """Index of g⁻¹.

        Raises
        ------
        GeedError
            If the elements are a sample of a larger group, without their inverses.
            If ``g`` is not the index of an element.
        """
        if not self.is_closed:
            raise GeedError(
                f"group {self.name} holds only some elements of a larger group, without their "
                "inverses: take a complete group"
            )
        self.check_elements("g", (g,))
        return int(np.flatnonzero(self.table[g] == 0)[0])

    @checked
    def is_subgroup(self, members: Sequence[int]) -> bool:
        """Whether a set of element indices is closed under the product and contains the identity.

        Raises
        ------
        GeedError
            If one is not the index of an element.
        """
        self.check_elements("members", members)
        inside = np.zeros(self.order, dtype=bool)
        inside[list(members)] = True
        return self.is_closed and bool(
            inside[0] and inside[self.table[np.ix_(inside, inside)]].all()
        )

    def check_elements(self, argument: str, members: Sequence[int]) -> None:
        """Refuse what is not the index of an element."""
        for g in members:
            if not 0 <= g < self.order:
                raise GeedError(
                    f"{argument}: the elements of group {self.name} are numbered 0 to "
                    f"{self.order - 1}, found {shown(g)}"
                )


def check_size(name: str, value: int, most: int = MOST_ELEMENTS) -> None:
    """Refuse a number of elements for which no table can be kept.

    Raises
    ------
    GeedError
        If it is not from 1 to ``most``.
    """
    if not 1 <= value <= most:
        raise GeedError(f"{name}: give a whole number from 1 to {most}, found {shown(value)}")


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


def _checked_table(name: str, elements: tuple[str, ...], array: NDArray[Any]) -> NDArray[np.int64]:
    """Return a group's table as an array of its own, if it is one."""
    n = len(elements)
    if array.shape != (n, n):
        raise GeedError(f"group {name}: {n} elements need a ({n}, {n}) table, found {array.shape}")
    if array.dtype.kind not in "iu":
        raise GeedError(
            f"group {name}: the table holds whole numbers, the indices of the products; found "
            f"{array.dtype}"
        )
    table = array.astype(np.int64)
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
        hint = f"; that is {elements[int(neutral.argmax())]}: put it first" if any(neutral) else ""
        raise GeedError(f"{wrong}{hint}")
    for a in generators(table):
        # (ab)c = a(bc) for all b, c at once. Where two a's have that, so has their product.
        row = table[a]
        differ = table[row] != row[table]
        if differ.any():
            b, c = (int(i) for i in np.argwhere(differ)[0])
            x, y, z = elements[a], elements[b], elements[c]
            raise GeedError(f"{wrong}: ({x}·{y})·{z} is not {x}·({y}·{z})")
    table.setflags(write=False)
    return table


def generators(table: NDArray[np.int64]) -> list[int]:
    """Elements whose products are all elements."""
    inside = np.zeros(len(table), dtype=bool)
    chosen: list[int] = []
    while not inside.all():
        chosen.append(int(np.argmin(inside)))
        inside[chosen[-1]] = True
        count = 0
        while count < inside.sum():
            count = int(inside.sum())
            inside[table[np.ix_(inside, inside)]] = True
    return chosen


@checked
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
        Its action on images is unknown, even if that of its factors is known.

    Raises
    ------
    GeedError
        If a factor is not a group, or the product has over 4096 elements.
        If there is not one name for each element, or names repeat.
    """
    check_size("left and right: the product of their orders", left.order * right.order)
    table = product_table(left, right)
    if elements is None:
        pairs = [f"({a},{b})" for a in left.elements for b in right.elements]
        elements = ["e", *pairs[1:]]
    return Group(f"{left.name}x{right.name}" if name is None else name, tuple(elements), table)


def some_of(name: str, elements: Sequence[str]) -> Group:
    """Return some elements of a larger group, the identity first, of which no product is known."""
    k = np.arange(len(elements))
    group = Group(name, tuple(elements), (k[:, None] + k) % len(k))
    object.__setattr__(group, "table", np.empty((0, 0), dtype=np.int64))
    return group


def with_factors(group: Group, *factors: Factor) -> Group:
    """Enter what a new group's elements do to each kind of axis, and return it."""
    object.__setattr__(group, "factors", factors)
    return group


def sampled(
    group: Group,
    *,
    behind: Behind | None = None,
    onward: Behind | None = None,
    independent: bool = False,
    independent_elements: int = 0,
    half: Sequence[int] = (),
) -> Group:
    """Enter in a new group by what each sample is moved, and return it."""
    object.__setattr__(group, "behind", behind)
    object.__setattr__(group, "onward", onward)
    object.__setattr__(group, "independent", independent)
    object.__setattr__(group, "independent_elements", independent_elements)
    # One element alone would be its own mean.
    object.__setattr__(group, "half", tuple(half) if len(half) > 1 else ())
    return group


def product_table(left: Group, right: Group) -> NDArray[np.int64]:
    """Return the multiplication table of a direct product, elements as pairs in row-major order."""
    i, j = np.divmod(np.arange(left.order * right.order), right.order)
    table: NDArray[np.int64] = left.table[i[:, None], i] * right.order
    return table + right.table[j[:, None], j]
