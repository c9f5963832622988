"""Compiled loops over feature maps: the three sums behind eq. (5), many layers in one call.

The unmoved map is read once into interleaved form, eight channels side by side; there it is
resampled and gathered. What the elements expect lies in rows, a channel of a moved map each, and
those of some hundred kilobytes of channels are made before any is compared: so the activations are
read in long stretches, which takes half the time of short ones. They are read once for both
comparisons, with f̂ of their own sample and of the one before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_geed.jit import compiled
from onnx_geed.measures.lane_sums import products, products_with_two
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

__all__ = ["BATCH", "LAYER", "ROW", "room_of_layers", "sums_in_room"]

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


#: A layer's maps of some orbits: addresses (``before`` is 0 where the first sample has none before
#: it), distances in numbers, and where its sums begin, against their own references and others.
BATCH = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("maps", "references", "before", "channels", "of_orbit", "of_element"),
            *("out", "between"),
        )
    ]
)


F32 = NDArray[np.float32]


F64 = NDArray[np.float64]


I32 = NDArray[np.int32]


# Rows that are compared together, in numbers: 1 MiB. Twice as many gain nothing on one core, and
# lose where several are at work.
_ROOM = 1 << 18


# A reference is fetched so many numbers before it is interleaved, or eight channels before.
_AHEAD = 4096


# Maps that an element's are compared with at once: f̂ of its own sample, and of the one before.
_BOTH = 2


@compiled("contract")
def _interleave(planes: F32, at: int, count: int, area: int, pixels: F32) -> None:
    """Set ``pixels`` (area, 8) to ``count`` planes that begin ``at``.

    Eight streams at once are more than a processor follows by itself: at each step it is asked for
    256 bytes of the planes behind these, as much as the step reads.
    """
    whole = area // 8 * 8 if count == 8 else 0
    ahead = at + max(8 * area, _AHEAD)
    for p in range(0, whole, 8):
        q, r = at + p, at + p + 4 * area
        for line in range(4):
            fetch(planes, ahead + 8 * p + 16 * line)
        transpose(
            *(pixels, 8 * p, 8, planes),
            *(q, q + area, q + 2 * area, q + 3 * area, r, r + area, r + 2 * area, r + 3 * area),
        )
    for p in range(whole, area):
        for k in range(count):
            pixels[8 * p + k] = planes[at + k * area + p]


@compiled("contract")
def _resample(
    pixels: F32, area: int, taps: int, index: I32, weights: F64, begin: int, total: F64, out: F32
) -> None:
    """Set pixel p of ``out`` (area, 8) to Σ_t weight[p, t] pixels[index[p, t]].

    Sums grow in ``total`` (8,), which is zero before and afterwards.
    """
    if taps == 4:  # bilinear
        for p in range(area):
            blend(out, 8 * p, pixels, index, weights, begin + 4 * p)
        return
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
        gather(rows, at + p, stride, pixels, gathered, by + p)
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
    total: F64,
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
            _resample(pixels, area, taps, index, weights, begin, total, moved)
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


@compiled("contract")
def _fill_block(
    references: F32,
    at: int,
    count: int,
    layer: np.void,
    tables: I32,
    total: F64,
    pixels: F32,
    moved: F32,
    rows: F32,
    begin: int,
) -> None:
    """Set the rows of ``count`` channels, the first of which begins ``at``."""
    area, lanes = layer["area"], layer["lanes"]
    stride = layer["rows"] * ((area + 7) // 8 * 8)
    for s in range(0, count if layer["rows"] > 0 else 0, lanes):
        of, to = at + s * area, begin + s * stride
        if lanes > 1:
            some = min(LANES, count - s)
            _fill_rows(references, of, some, layer, tables, total, pixels, moved, rows, to)
        else:
            _fill_rows_of_one(references, of, layer, tables, moved, rows, to)


@compiled("contract")
def _sums_of_some(
    maps: F32,
    maps_at: int,
    rows: F32,
    rows_at: int,
    others: F32,
    others_at: int,
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
    between_at: int,
) -> None:
    """Sums of one element's maps and rows, over ``count`` channels from ``first``.

    Σ u·v, Σ u², Σ v² over runs of pixels, u in maps that begin at ``maps_at``, v in rows that begin
    at ``rows_at`` and ``stride`` from each other; and the same with w in other rows for v, unless
    ``between_at`` is negative. A row read from its end is its half turn.
    """
    step = -1 if backwards else 1
    for k in range(count):
        s = first + k
        c = s if target < 0 else int(tables[target + s])
        u_at, v_at, w_at = maps_at + c * area, rows_at + k * stride, others_at + k * stride
        if backwards:
            v_at, w_at = v_at + area - 1, w_at + area - 1
        ab = 0.0
        aa = 0.0
        bb = 0.0
        ac = 0.0
        cc = 0.0
        for i in range(runs):
            start, stop = int(tables[run + 2 * i]), int(tables[run + 2 * i + 1])
            u, v, w = u_at + start, v_at + step * start, w_at + step * start
            if between_at < 0:
                x = products(maps, u, rows, v, stop - start, step)
                ab += x[0]
                aa += x[1]
                bb += x[2]
            else:
                y = products_with_two(maps, u, rows, v, others, w, stop - start, step)
                ab += y[0]
                aa += y[1]
                bb += y[2]
                ac += y[3]
                cc += y[4]
        at = out_at + 3 * c
        out[at] = ab
        out[at + 1] = aa
        out[at + 2] = bb
        if between_at >= 0:
            at = between_at + 3 * c
            out[at] = ac
            out[at + 1] = aa
            out[at + 2] = cc


@compiled("contract")
def _sums_of_block(
    maps: F32,
    maps_at: int,
    references: F32,
    references_at: int,
    others: F32,
    others_at: int,
    of_element: int,
    elements: int,
    channels: int,
    first: int,
    count: int,
    layer: np.void,
    tables: I32,
    rows: F32,
    behind: int,
    out: F64,
    out_at: int,
    between_at: int,
) -> None:
    """Sums of one orbit over ``count`` channels from ``first``, whose rows are filled.

    Rows of the others lie ``behind`` those of the orbit's own references.
    """
    area, number = layer["area"], layer["rows"]
    padded = (area + 7) // 8 * 8
    for g in range(elements):
        r = np.int64(tables[layer["row_of"] + g])
        backwards = tables[layer["backwards"] + g] != 0
        target = layer["target"] if layer["target"] < 0 else layer["target"] + g * channels
        u, to = maps_at + g * channels * area, out_at + 3 * g * channels
        to_between = between_at if between_at < 0 else between_at + 3 * g * channels
        if r == 0:
            at = g * of_element + first * area
            _sums_of_some(
                *(maps, u, references, references_at + at, others, others_at + at, area),
                *(first, count, area, backwards, tables, target, layer["run"], layer["runs"]),
                *(out, to, to_between),
            )
        else:
            at = (r - 1) * padded
            _sums_of_some(
                *(maps, u, rows, at, rows, behind + at, number * padded),
                *(first, count, area, backwards, tables, target, layer["run"], layer["runs"]),
                *(out, to, to_between),
            )


@compiled("contract")
def room_of_layers(
    layers: NDArray[np.void], batch: NDArray[np.void], following: int, needed: NDArray[np.int64]
) -> None:
    """Set ``needed`` (3,) to how many numbers are interleaved, resampled, and kept in rows."""
    needed[:] = 0
    for n in range(len(layers)):
        padded, lanes = (layers[n]["area"] + 7) // 8 * 8, layers[n]["lanes"]
        number, groups = layers[n]["rows"], (batch[n]["channels"] + lanes - 1) // lanes
        together = lanes * number * padded
        if number > 0:
            needed[0] = max(needed[0], lanes * padded if lanes > 1 else 0)
        if layers[n]["bases"] > 0:
            needed[1] = max(needed[1], lanes * padded)
        sets = _BOTH if following > 0 or batch[n]["before"] != 0 else 1
        room = sets * max(together, min(_ROOM // sets, together * groups))
        needed[2] = max(needed[2], room)


@compiled("contract")
def sums_in_room(
    layers: NDArray[np.void],
    tables: I32,
    batch: NDArray[np.void],
    orbits: int,
    elements: int,
    following: int,
    total: F64,
    pixels: F32,
    moved: F32,
    rows: F32,
    out: F64,
) -> None:
    """Sums behind eq. (5) of some orbits and layers, from the addresses of their maps.

    Of layer l, ``out[batch[l]["out"]:]`` becomes (orbits, elements, C, 3): Σ u·v, Σ u², Σ v² over
    the compared pixels, where u is channel c of f(gx) and v that of φ_Y(g) f̂(x). From
    ``batch[l]["between"]`` on it becomes the same of v of the sample before: of the first orbit
    where there is one, and of so many ``following``. Room for eight sums, which are zero, and what
    :func:`room_of_layers` tells is given; of the last pixels, up to the next eighth, nothing is
    used.
    """
    for n in range(len(layers)):
        layer, area, channels = layers[n], layers[n]["area"], batch[n]["channels"]
        size = channels * area
        padded, number, lanes = (area + 7) // 8 * 8, layer["rows"], layer["lanes"]
        sets = _BOTH if following > 0 or batch[n]["before"] != 0 else 1
        # The unmoved map is read as often as a row.
        block = max(1, _ROOM // (sets * lanes * max(1, number) * padded)) * lanes
        behind = min(block, (channels + lanes - 1) // lanes * lanes) * number * padded
        of_orbit, of_element = batch[n]["of_orbit"], batch[n]["of_element"]
        maps = floats_at(batch[n]["maps"], orbits * elements * size)
        of_one = (elements - 1) * of_element + size
        references = floats_at(batch[n]["references"], (orbits - 1) * of_orbit + of_one)
        for o in range(orbits):
            u, v = o * elements * size, o * of_orbit
            to = batch[n]["out"] + 3 * o * elements * channels
            others, w, to_between = references, v, np.int64(-1)
            if o == 0 and batch[n]["before"] != 0:
                others, w = floats_at(batch[n]["before"], of_one), 0
                to_between = batch[n]["between"]
            elif 0 < o <= following:
                w -= of_orbit
                to_between = batch[n]["between"] + 3 * o * elements * channels
            for first in range(0, channels, block):
                count, at = min(block, channels - first), first * area
                _fill_block(
                    *(references, v + at, count, layer, tables, total, pixels, moved, rows, 0)
                )
                if to_between >= 0:
                    _fill_block(
                        *(others, w + at, count, layer, tables, total, pixels, moved, rows, behind)
                    )
                _sums_of_block(
                    *(maps, u, references, v, others, w, of_element, elements, channels),
                    *(first, count, layer, tables, rows, behind, out, to, to_between),
                )
