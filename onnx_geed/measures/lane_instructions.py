"""Vector instructions for what :mod:`onnx_geed.measures.lanes` says in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import intrinsic, overload

from onnx_geed.measures.lanes import (
    add_tap,
    blend,
    doubles_at,
    fetch,
    floats_at,
    gather,
    round_lanes,
    transpose,
    whole_numbers_at,
)
from onnx_geed.measures.map_memory import LANES

__all__ = ["ask_for"]

_SINGLES = ir.VectorType(ir.FloatType(), LANES)


_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)


def _instruction(build: Callable[..., Any]) -> Any:
    """Return what compiled loops call, from a function of the arguments' types."""
    return intrinsic(build)


# As the loops around them are compiled.
_FLAGS = ("contract",)


def _place(context: Any, builder: Any, of: Any, array: Any, at: Any) -> Any:
    """Return the address of eight entries of a flat array."""
    data = context.make_array(of)(context, builder, value=array).data
    single = of.dtype == types.float32
    return builder.bitcast(builder.gep(data, [at]), (_SINGLES if single else _DOUBLES).as_pointer())


def _spread(builder: Any, number: Any) -> Any:
    """Return a vector of one number."""
    one = builder.insert_element(ir.Constant(_DOUBLES, ir.Undefined), number, _at(0))
    return builder.shuffle_vector(one, ir.Constant(_DOUBLES, ir.Undefined), _order([0] * LANES))


def _start(context: Any) -> Any:
    return context.get_constant(types.intp, 0)


def _at(k: int) -> Any:
    return ir.Constant(ir.IntType(32), k)


def _order(entries: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), [_at(k) for k in entries])


def ask_for(builder: Any, place: Any) -> None:
    """Have the processor fetch what is at an address."""
    byte, kind = ir.IntType(8).as_pointer(), ir.IntType(32)
    prefetch = builder.module.declare_intrinsic(
        "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), [byte, kind, kind, kind])
    )
    # To be read, into the nearest cache, as data.
    builder.call(prefetch, [builder.bitcast(place, byte), _at(0), _at(3), _at(1)])


@_instruction
def _fetch(typing, numbers, at):
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, value=arguments[0]).data
        ask_for(builder, builder.gep(data, [arguments[1]]))
        return context.get_dummy_value()

    return types.void(numbers, types.intp), build


def _entry(context: Any, builder: Any, of: Any, array: Any, at: Any) -> Any:
    """Return an entry of a flat array. Numba's own way asks whether ``at`` counts from the end."""
    data = context.make_array(of)(context, builder, value=array).data
    return builder.load(builder.gep(data, [at]))


def _lanes_of(context: Any, builder: Any, kinds: Any, source: Any, pixels: Any, at: Any) -> Any:
    """Return the lanes of the pixel that entry ``at`` of a table names."""
    pixel = builder.sext(_entry(context, builder, kinds[1], pixels, at), ir.IntType(64))
    start = builder.mul(pixel, ir.Constant(ir.IntType(64), LANES))
    return builder.load(_place(context, builder, kinds[0], source, start), align=4)


@_instruction
def _blend(typing, out, at, pixels, index, weights, i):
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, at, pixels, index, weights, i = arguments
        kinds, total = signature.args[2:4], None
        for t in range(4):
            tap = builder.add(i, context.get_constant(types.intp, t))
            lanes = _lanes_of(context, builder, kinds, pixels, index, tap)
            weight = _entry(context, builder, signature.args[4], weights, tap)
            lanes = builder.fpext(lanes, _DOUBLES)
            part = builder.fmul(_spread(builder, weight), lanes, flags=_FLAGS)
            total = part if total is None else builder.fadd(total, part, flags=_FLAGS)
        place = _place(context, builder, signature.args[0], out, at)
        builder.store(builder.fptrunc(total, _SINGLES), place, align=4)
        return context.get_dummy_value()

    return types.void(out, types.intp, pixels, index, weights, types.intp), build


@_instruction
def _add_tap(typing, total, pixels, h, w):
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, pixels, h, w = arguments
        place = _place(context, builder, signature.args[1], pixels, h)
        lanes = builder.fpext(builder.load(place, align=4), _DOUBLES)
        part = builder.fmul(_spread(builder, w), lanes, flags=_FLAGS)
        place = _place(context, builder, signature.args[0], total, _start(context))
        builder.store(
            builder.fadd(builder.load(place, align=8), part, flags=_FLAGS), place, align=8
        )
        return context.get_dummy_value()

    return types.void(total, pixels, types.intp, types.float64), build


@_instruction
def _round_lanes(typing, out, at, total):
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, at, total = arguments
        sums = _place(context, builder, signature.args[2], total, _start(context))
        place = _place(context, builder, signature.args[0], out, at)
        builder.store(builder.fptrunc(builder.load(sums, align=8), _SINGLES), place, align=4)
        builder.store(ir.Constant(_DOUBLES, [0.0] * LANES), sums, align=8)
        return context.get_dummy_value()

    return types.void(out, types.intp, total), build


# Three steps that exchange neighbours, pairs and fours: each is one instruction a vector.
_STEPS = (
    (1, [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]),
    (2, [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]),
    (4, [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]),
)


def _transposed(builder: Any, v: list[Any]) -> list[Any]:
    """Return eight vectors whose k-th entries were the k-th vector."""

    def both(a: Any, b: Any, step: int) -> list[Any]:
        return [builder.shuffle_vector(a, b, _order(order)) for order in _STEPS[step][1:]]

    low = [both(v[i], v[i + 1], 0) for i in (0, 2, 4, 6)]
    pairs = [
        [*both(low[i][0], low[i + 1][0], 1), *both(low[i][1], low[i + 1][1], 1)] for i in (0, 2)
    ]
    fours = [both(a, b, 2) for a, b in zip(*pairs, strict=True)]
    return [four[0] for four in fours] + [four[1] for four in fours]


@_instruction
def _transpose(typing, out, at, stride, source, a, b, c, d, e, f, g, h):
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, at, stride, source, *starts = arguments
        loaded = [
            builder.load(_place(context, builder, signature.args[3], source, start), align=4)
            for start in starts
        ]
        _store_rows(context, builder, signature.args[0], (out, at, stride), loaded)
        return context.get_dummy_value()

    return types.void(out, types.intp, types.intp, source, *[types.intp] * 8), build


@_instruction
def _gather(typing, out, at, stride, source, pixels, q):
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, at, stride, source, pixels, q = arguments
        kinds = signature.args[3:5]
        ats = [builder.add(q, context.get_constant(types.intp, i)) for i in range(LANES)]
        loaded = [_lanes_of(context, builder, kinds, source, pixels, a) for a in ats]
        _store_rows(context, builder, signature.args[0], (out, at, stride), loaded)
        return context.get_dummy_value()

    return types.void(out, types.intp, types.intp, source, pixels, types.intp), build


def _store_rows(context: Any, builder: Any, kind: Any, rows: Any, loaded: list[Any]) -> None:
    """Write the transposed vectors, a stride from each other."""
    out, at, stride = rows
    for lanes in _transposed(builder, loaded):
        builder.store(lanes, _place(context, builder, kind, out, at), align=4)
        at = builder.add(at, stride)


def _pointer_to(kind: Any, single: Any) -> Any:
    """Return the instruction that takes an address for that of numbers of one kind."""

    @_instruction
    def pointer(typing, address):
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], single.as_pointer())

        return types.CPointer(kind)(types.intp), build

    return pointer


_floats = _pointer_to(types.float32, ir.FloatType())


_doubles = _pointer_to(types.float64, ir.DoubleType())


_whole_numbers = _pointer_to(types.int32, ir.IntType(32))


@overload(fetch)
def _(numbers, at):
    return lambda numbers, at: _fetch(numbers, at)


@overload(blend)
def _(out, at, pixels, index, weights, i):
    return lambda out, at, pixels, index, weights, i: _blend(out, at, pixels, index, weights, i)


@overload(gather)
def _(out, at, stride, source, pixels, q):
    return lambda out, at, stride, source, pixels, q: _gather(out, at, stride, source, pixels, q)


@overload(add_tap)
def _(total, pixels, h, w):
    return lambda total, pixels, h, w: _add_tap(total, pixels, h, w)


@overload(round_lanes)
def _(out, at, total):
    return lambda out, at, total: _round_lanes(out, at, total)


@overload(transpose)
def _(out, at, stride, source, a, b, c, d, e, f, g, h):
    return lambda out, at, stride, source, a, b, c, d, e, f, g, h: _transpose(
        out, at, stride, source, a, b, c, d, e, f, g, h
    )


@overload(floats_at)
def _(address, size):
    return lambda address, size: carray(_floats(address), (size,))


@overload(doubles_at)
def _(address, size):
    return lambda address, size: carray(_doubles(address), (size,))


@overload(whole_numbers_at)
def _(address, size):
    return lambda address, size: carray(_whole_numbers(address), (size,))
