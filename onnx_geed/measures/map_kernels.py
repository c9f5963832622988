"""Compiled loops over feature maps: the three sums behind eq. (5), many layers in one call.

The unmoved map is read once into interleaved form, eight channels side by side; there it is
resampled and gathered. What the elements expect lies in rows, a channel of a moved map each, and
those of some hundred kilobytes of channels are made before any is compared: so the activations are
read in long stretches, which takes half the time of short ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.jit import compiled
from onnx_geed.measures.lanes import (
    add_tap,
    blend,
    doubles_at,
    floats_at,
    round_lanes,
    transpose,
    whole_numbers_at,
)
from onnx_geed.measures.map_memory import LANES

__all__ = ["BATCH", "LAYER", "ROW", "sums_of_layers"]

#: A layer's maps: where what they need begins in the flat tables, or its address, and how much.
LAYER = np.dtype(
    [
        # Pixels of a map; channels side by side, 8 or 1; taps of an interpolated pixel.
        *[(name, np.int64) for name in ("area", "lanes", "taps")],
        # Addresses of the pixels that resamplings read, and of their weights, (B, area, taps).
        *[(name, np.int64) for name in ("index", "weight")],
        # The resamplings that are used, by their numbers from 0 on.
        *[(name, np.int64) for name in ("bases", "base")],
        # Address of the pixels that rows are gathered by, (R, area).
        ("gathered", np.int64),
        # Moved maps, of ``ROW`` integers each.
        *[(name, np.int64) for name in ("rows", "row")],
        # An element's row, 0 for the unmoved map; whether it reads it from the end, (elements,).
        *[(name, np.int64) for name in ("row_of", "backwards")],
        # The channel to which an element carries a channel, (elements, C); −1: to the same one.
        ("target", np.int64),
        # First pixel and the one behind the last of each run of compared pixels, (runs, 2).
        *[(name, np.int64) for name in ("runs", "run")],
    ]
)


#: Integers of a row: the place of its base among those used, 0 being the unmoved map, and which of
#: the gathered rows it is, or −1.
ROW = 2


#: A layer's maps of some orbits: addresses, distances in numbers, and where its sums begin.
BATCH = np.dtype(
    [
        (name, np.int64)
        for name in ("maps", "references", "channels", "of_orbit", "of_element", "out")
    ]
)


F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


I32 = NDArray[np.int32]


# These sums the compiler may split into lanes, once and for all when it compiles; the three of them
# alike, so that equal maps have equal sums and a cosine of exactly 1.
_summing = compiled("contract", "reassoc")


# Rows that are compared together, in numbers: 1 MiB. Twice as many gain nothing on one core, and
# lose where several are at work.
_ROOM = 1 << 18


@compiled("contract")
def _interleave(planes: F32, at: int, count: int, area: int, pixels: F32) -> None:
    """Set ``pixels`` (area, 8) to ``count`` planes that begin ``at``."""
    whole = area // 8 * 8 if count == 8 else 0
    for p in range(0, whole, 8):
        q, r = at + p, at + p + 4 * area
        transpose(
            *(pixels, 8 * p, 8, planes),
            *(q, q + area, q + 2 * area, q + 3 * area, r, r + area, r + 2 * area, r + 3 * area),
        )
    for p in range(whole, area):
        for k in range(count):
            pixels[8 * p + k] = planes[at + k * area + p]


@compiled("contract")
def _resample(
    pixels: F32, area: int, taps: int, index: I32, weights: F64, begin: int, out: F32
) -> None:
    """Set pixel p of ``out`` (area, 8) to Σ_t weight[p, t] pixels[index[p, t]]."""
    if taps == 4:  # bilinear
        for p in range(area):
            i = begin + 4 * p
            blend(
                *(out, 8 * p, pixels),
                *(8 * index[i], 8 * index[i + 1], 8 * index[i + 2], 8 * index[i + 3]),
                *(weights[i], weights[i + 1], weights[i + 2], weights[i + 3]),
            )
        return
    total = np.zeros(8)
    for p in range(area):
        for t in range(taps):
            i = begin + p * taps + t
            add_tap(total, pixels, 8 * index[i], weights[i])
        round_lanes(out, 8 * p, total)


@compiled("contract")
def _rows_in_order(pixels: F32, area: int, rows: F32, at: int, stride: int) -> None:
    """Set eight rows, which begin ``at`` and ``stride`` from each other, to ``pixels``."""
    for p in range(0, area, 8):
        q, r = 8 * p, 8 * p + 32
        transpose(rows, at + p, stride, pixels, q, q + 8, q + 16, q + 24, r, r + 8, r + 16, r + 24)


@compiled("contract")
def _rows_gathered(
    pixels: F32, area: int, gathered: I32, by: int, rows: F32, at: int, stride: int
) -> None:
    """Set eight rows to ``pixels`` as ``gathered[by + p]`` gathers them."""
    whole = area // 8 * 8
    for p in range(0, whole, 8):
        q = by + p
        transpose(
            *(rows, at + p, stride, pixels),
            *(8 * gathered[q], 8 * gathered[q + 1], 8 * gathered[q + 2], 8 * gathered[q + 3]),
            *(8 * gathered[q + 4], 8 * gathered[q + 5], 8 * gathered[q + 6], 8 * gathered[q + 7]),
        )
    for p in range(whole, area):
        for k in range(8):
            rows[at + k * stride + p] = pixels[8 * gathered[by + p] + k]


@compiled("contract")
def _fill_rows(
    references: F32,
    at: int,
    count: int,
    layer: np.void,
    tables: I32,
    pixels: F32,
    moved: F32,
    rows: F32,
    first: int,
) -> None:
    """Set the rows of up to eight channels, the first of which begins ``at``."""
    area, taps, number = layer["area"], layer["taps"], layer["rows"]
    padded = (area + 7) // 8 * 8
    _interleave(references, at, count, area, pixels)
    for base in range(layer["bases"] + 1):
        if base > 0:
            begin = np.int64(tables[layer["base"] + base - 1]) * area * taps
            index = whole_numbers_at(layer["index"], begin + area * taps)
            weights = doubles_at(layer["weight"], begin + area * taps)
            _resample(pixels, area, taps, index, weights, begin, moved)
        for r in range(number):
            row = layer["row"] + ROW * r
            if tables[row] != base:
                continue
            by, to = np.int64(tables[row + 1]), first + r * padded
            source = moved if base > 0 else pixels
            if by < 0:
                _rows_in_order(source, area, rows, to, number * padded)
            else:
                gathered = whole_numbers_at(layer["gathered"], (by + 1) * area)
                _rows_gathered(source, area, gathered, by * area, rows, to, number * padded)


@compiled("contract")
def _resample_plane(
    plane: F32, at: int, area: int, taps: int, index: I32, weights: F64, begin: int, out: F32
) -> None:
    """Set pixel p of ``out`` (area,) to Σ_t weight[p, t] plane[at + index[p, t]]."""
    if taps == 4:  # bilinear
        for p in range(area):
            i = begin + 4 * p
            out[p] = (
                weights[i] * plane[at + index[i]]
                + weights[i + 1] * plane[at + index[i + 1]]
                + weights[i + 2] * plane[at + index[i + 2]]
                + weights[i + 3] * plane[at + index[i + 3]]
            )
        return
    for p in range(area):
        total = 0.0
        for t in range(taps):
            i = begin + p * taps + t
            total += weights[i] * plane[at + index[i]]
        out[p] = total


@compiled("contract")
def _fill_rows_of_one(
    references: F32,
    at: int,
    layer: np.void,
    tables: I32,
    moved: F32,
    rows: F32,
    first: int,
) -> None:
    """Set the rows of one channel, which begins ``at``; a large map has no room for eight."""
    area, taps, number = layer["area"], layer["taps"], layer["rows"]
    padded = (area + 7) // 8 * 8
    for base in range(layer["bases"] + 1):
        if base > 0:
            begin = np.int64(tables[layer["base"] + base - 1]) * area * taps
            index = whole_numbers_at(layer["index"], begin + area * taps)
            weights = doubles_at(layer["weight"], begin + area * taps)
            _resample_plane(references, at, area, taps, index, weights, begin, moved)
        source, begins = (moved, 0) if base > 0 else (references, at)
        for r in range(number):
            row = layer["row"] + ROW * r
            if tables[row] != base:
                continue
            by, to = np.int64(tables[row + 1]), first + r * padded
            if by < 0:
                for p in range(area):
                    rows[to + p] = source[begins + p]
            else:
                gathered = whole_numbers_at(layer["gathered"], (by + 1) * area)
                for p in range(area):
                    rows[to + p] = source[begins + gathered[by * area + p]]


@_summing
def _sums_of_some(
    maps: F32,
    maps_at: int,
    rows: F32,
    rows_at: int,
    stride: int,
    first: int,
    count: int,
    area: int,
    backwards: bool,
    tables: I32,
    target: int,
    run: int,
    runs: int,
    out: F64,
    out_at: int,
) -> None:
    """Sums of one element's maps and rows, over ``count`` channels from ``first``.

    Σ u·v, Σ u², Σ v² over runs of pixels, u in maps that begin at ``maps_at``, v in rows that begin
    at ``rows_at`` and ``stride`` from each other. A row read from its end is its half turn.
    """
    for k in range(count):
        s = first + k
        c = s if target < 0 else np.int64(tables[target + s])
        u_at, v_at, at = maps_at + c * area, rows_at + k * stride, out_at + 3 * c
        last = v_at + area - 1
        ab = 0.0
        aa = 0.0
        bb = 0.0
        for i in range(runs):
            start, stop = np.int64(tables[run + 2 * i]), np.int64(tables[run + 2 * i + 1])
            if backwards:
                for p in range(start, stop):
                    # Signed, it would not be made of vectors and take five times as long.
                    u = np.float64(maps[np.uint64(u_at + p)])
                    v = np.float64(rows[np.uint64(last - p)])
                    ab += u * v
                    aa += u * u
                    bb += v * v
            else:
                for p in range(start, stop):
                    u = np.float64(maps[np.uint64(u_at + p)])
                    v = np.float64(rows[np.uint64(v_at + p)])
                    ab += u * v
                    aa += u * u
                    bb += v * v
        out[at] = ab
        out[at + 1] = aa
        out[at + 2] = bb


@compiled("contract")
def _sums_of_block(
    maps: F32,
    maps_at: int,
    references: F32,
    references_at: int,
    of_element: int,
    elements: int,
    channels: int,
    first: int,
    count: int,
    layer: np.void,
    tables: I32,
    rows: F32,
    out: F64,
    out_at: int,
) -> None:
    """Sums of one orbit over ``count`` channels from ``first``, whose rows are filled."""
    area, number = layer["area"], layer["rows"]
    padded = (area + 7) // 8 * 8
    for g in range(elements):
        r = np.int64(tables[layer["row_of"] + g])
        backwards = tables[layer["backwards"] + g] != 0
        target = layer["target"] if layer["target"] < 0 else layer["target"] + g * channels
        u, to = maps_at + g * channels * area, out_at + 3 * g * channels
        if r == 0:
            v = references_at + g * of_element + first * area
            _sums_of_some(
                *(maps, u, references, v, area, first, count, area, backwards),
                *(tables, target, layer["run"], layer["runs"], out, to),
            )
        else:
            _sums_of_some(
                *(maps, u, rows, (r - 1) * padded, number * padded, first, count, area, backwards),
                *(tables, target, layer["run"], layer["runs"], out, to),
            )


@compiled("contract")
def sums_of_layers(
    layers: NDArray[np.void],
    tables: I32,
    batch: NDArray[np.void],
    orbits: int,
    elements: int,
    out: F64,
) -> None:
    """Sums behind eq. (5) of some orbits and layers, from the addresses of their maps.

    Of layer l, ``out[batch[l]["out"]:]`` becomes (orbits, elements, C, 3): Σ u·v, Σ u², Σ v² over
    the compared pixels, where u is channel c of f(gx) and v that of φ_Y(g) f̂(x).
    """
    interleaved, resampled, room = 0, 0, 0
    for n in range(len(layers)):
        padded, lanes = (layers[n]["area"] + 7) // 8 * 8, layers[n]["lanes"]
        number, groups = layers[n]["rows"], (batch[n]["channels"] + lanes - 1) // lanes
        together = lanes * number * padded
        if number > 0:
            interleaved = max(interleaved, lanes * padded if lanes > 1 else 0)
        if layers[n]["bases"] > 0:
            resampled = max(resampled, lanes * padded)
        room = max(room, max(together, min(_ROOM, together * groups)))
    # Of the last pixels, up to the next eighth, nothing is used.
    pixels = np.zeros(interleaved, dtype=np.float32)
    moved = np.zeros(resampled, dtype=np.float32)
    rows = np.empty(room, dtype=np.float32)
    for n in range(len(layers)):
        layer, area, channels = layers[n], layers[n]["area"], batch[n]["channels"]
        size = channels * area
        padded, number, lanes = (area + 7) // 8 * 8, layer["rows"], layer["lanes"]
        # The unmoved map is read as often as a row.
        block = max(1, _ROOM // (lanes * max(1, number) * padded)) * lanes
        of_orbit, of_element = batch[n]["of_orbit"], batch[n]["of_element"]
        maps = floats_at(batch[n]["maps"], orbits * elements * size)
        end = (orbits - 1) * of_orbit + (elements - 1) * of_element + size
        references = floats_at(batch[n]["references"], end)
        for o in range(orbits):
            u, v = o * elements * size, o * of_orbit
            to = batch[n]["out"] + 3 * o * elements * channels
            for first in range(0, channels, block):
                count = min(block, channels - first)
                for s in range(0, count if number > 0 else 0, lanes):
                    at, begin = v + (first + s) * area, s * number * padded
                    if lanes > 1:
                        _fill_rows(
                            *(references, at, min(LANES, count - s)),
                            *(layer, tables, pixels, moved, rows, begin),
                        )
                    else:
                        _fill_rows_of_one(references, at, layer, tables, moved, rows, begin)
                _sums_of_block(
                    *(maps, u, references, v, of_element, elements, channels, first, count),
                    *(layer, tables, rows, out, to),
                )
