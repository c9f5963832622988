"""Vector instructions for what :mod:`onnx_geed.measures.lane_sums` says in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from onnx_geed.measures.lane_instructions import ask_for
from onnx_geed.measures.lane_sums import products, products_with_two
from onnx_geed.measures.map_memory import LANES

__all__: list[str] = []

# Numbers ahead: 8 KiB. Half as many or twice as many were slower.
_AHEAD = 2048


_DOUBLE, _INDEX = ir.DoubleType(), ir.IntType(32)


_SINGLES, _DOUBLES = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(_DOUBLE, LANES)


_TURNED = ir.Constant(ir.VectorType(_INDEX, LANES), list(range(LANES - 1, -1, -1)))


# Products of two float32 are exact in float64: a sum that is rounded once with its product is the
# same number.
_FLAGS = ("contract",)


class _Sums:
    """Sums of products that grow in one place of memory each, which becomes a register."""

    def __init__(self, builder: Any, kind: Any, pairs: Sequence[tuple[int, int]]) -> None:
        self._builder, self._pairs = builder, pairs
        none = ir.Constant(kind, [0.0] * LANES if kind is _DOUBLES else 0.0)
        self.places = [cgutils.alloca_once_value(builder, none) for _ in pairs]

    def add(self, numbers: Sequence[Any]) -> None:
        """Add the products of some vectors, or some numbers."""
        builder = self._builder
        for place, (i, j) in zip(self.places, self._pairs, strict=True):
            product = builder.fmul(numbers[i], numbers[j], flags=_FLAGS)
            builder.store(builder.fadd(builder.load(place), product, flags=_FLAGS), place)


def _sum_of_lanes(builder: Any, lanes: Any) -> Any:
    """Return the sum of a vector: its second half is added to its first, again and again."""
    length = LANES
    while length > 1:
        length //= 2
        halves = [
            ir.Constant(ir.VectorType(_INDEX, length), list(range(start, start + length)))
            for start in (0, length)
        ]
        lanes = builder.fadd(*(builder.shuffle_vector(lanes, lanes, half) for half in halves))
    return builder.extract_element(lanes, ir.Constant(_INDEX, 0))


class _Stretch:
    """Numbers u, and one or two others for each, as compiled loops take them.

    Parameters
    ----------
    context, builder
        numba's and LLVM's, of the loop around.
    arrays : sequence
        Where the numbers of each array are.
    begins : sequence
        Which of them is the first.
    backwards : bool
        Whether all but u are read backwards.
    """

    def __init__(
        self,
        context: Any,
        builder: Any,
        arrays: Sequence[Any],
        begins: Sequence[Any],
        backwards: bool,
    ) -> None:
        self._context, self._builder = context, builder
        self._arrays, self._begins, self._backwards = arrays, begins, backwards

    def number(self, n: int) -> Any:
        """Return a whole number."""
        return self._context.get_constant(types.intp, n)

    def ask_ahead(self, p: Any) -> None:
        """Have the processor fetch the u that are read some steps later."""
        there = self._builder.add(self._begins[0], self._builder.add(p, self.number(_AHEAD)))
        ask_for(self._builder, self._builder.gep(self._arrays[0], [there]))

    def lanes(self, p: Any) -> list[Any]:
        """Return eight numbers of each array from the p-th on."""
        return [self._eight(k, p) for k in range(len(self._arrays))]

    def singles(self, p: Any) -> list[Any]:
        """Return the p-th number of each array."""
        builder = self._builder
        places = [builder.gep(array, [self._at(k, p)]) for k, array in enumerate(self._arrays)]
        return [builder.fpext(builder.load(place), _DOUBLE) for place in places]

    def _at(self, k: int, p: Any) -> Any:
        moved = self._builder.sub if k and self._backwards else self._builder.add
        return moved(self._begins[k], p)

    def _eight(self, k: int, p: Any) -> Any:
        builder, at = self._builder, self._at(k, p)
        turned = k > 0 and self._backwards
        if turned:
            at = builder.sub(at, self.number(LANES - 1))
        place = builder.gep(self._arrays[k], [at])
        numbers = builder.load(builder.bitcast(place, _SINGLES.as_pointer()), align=4)
        if turned:
            numbers = builder.shuffle_vector(numbers, numbers, _TURNED)
        return builder.fpext(numbers, _DOUBLES)


def _built(stretch: _Stretch, builder: Any, count: Any, pairs: Sequence[tuple[int, int]]) -> Any:
    """Return the sums of the products of some pairs of numbers, as :func:`products` orders them."""
    number = stretch.number
    low, high = (_Sums(builder, _DOUBLES, pairs) for _ in range(2))
    rest = _Sums(builder, _DOUBLE, pairs)
    sixteens = builder.and_(count, number(-2 * LANES))
    eights = builder.and_(count, number(-LANES))

    def every(start: Any, stop: Any, step: int) -> Any:
        return cgutils.for_range_slice(builder, start, stop, number(step), inc=True)

    with every(number(0), sixteens, 2 * LANES) as (p, _):
        stretch.ask_ahead(p)
        low.add(stretch.lanes(p))
        high.add(stretch.lanes(builder.add(p, number(LANES))))
    with every(sixteens, eights, LANES) as (p, _):
        low.add(stretch.lanes(p))
    for place, a, b in zip(rest.places, low.places, high.places, strict=True):
        both = builder.fadd(builder.load(a), builder.load(b))
        builder.store(_sum_of_lanes(builder, both), place)
    with every(eights, count, 1) as (p, _):
        rest.add(stretch.singles(p))
    return [builder.load(place) for place in rest.places]


# Which of u, v and w are multiplied.
_OF_ONE = ((0, 1), (0, 0), (1, 1))


_OF_TWO = (*_OF_ONE, (0, 2), (2, 2))


def _summing(pairs: Sequence[tuple[int, int]], backwards: bool) -> Any:
    """Return what compiled loops call: the arrays, each with its first number, and how many."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *given, count = arguments
        arrays = [
            context.make_array(kind)(context, builder, value=array).data
            for kind, array in zip(signature.args[:-1:2], given[::2], strict=True)
        ]
        stretch = _Stretch(context, builder, arrays, given[1::2], backwards)
        sums = _built(stretch, builder, count, pairs)
        return context.make_tuple(builder, signature.return_type, sums)

    sums, place = types.UniTuple(types.float64, len(pairs)), types.intp
    if len(pairs) == len(_OF_ONE):

        @intrinsic
        def of_one(typing, u, at, v, first, count):
            return sums(u, place, v, place, place), build

        return of_one

    @intrinsic
    def of_two(typing, u, at, v, first, w, second, count):
        return sums(u, place, v, place, w, place, place), build

    return of_two


_one, _one_turned = (_summing(_OF_ONE, backwards) for backwards in (False, True))


_two, _two_turned = (_summing(_OF_TWO, backwards) for backwards in (False, True))


@overload(products)
def _(u, at, v, first, count, step):
    def chosen(u, at, v, first, count, step):
        if step < 0:
            return _one_turned(u, at, v, first, count)
        return _one(u, at, v, first, count)

    return chosen


@overload(products_with_two)
def _(u, at, v, first, w, second, count, step):
    def chosen(u, at, v, first, w, second, count, step):
        if step < 0:
            return _two_turned(u, at, v, first, w, second, count)
        return _two(u, at, v, first, w, second, count)

    return chosen
