"""Layers that move integers, in C: loops with a stride in the source and one in the target."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mz.compiler.emitters.c99.layout import (
    Loop,
    common_factors,
    merged,
    split_strides,
    strides,
)
from mz.compiler.emitters.c99.part import Context, Part
from mz.compiler.memory_plan import keeps_order
from mz.emulator.constants import MoveConstants, PadConstants
from mz.graph import Concat, Pad, Shape, Slice, Transpose


def concat(context: Context, c: MoveConstants) -> Part:
    part, layer = Part(context), context.layer
    assert isinstance(layer, Concat)
    steps, first = strides(layer.shape), 0
    for index, shape in enumerate(context.shapes):
        loops = list(zip(shape, strides(shape), steps, strict=True))
        _move(part, f"part{index}", _outermost_first(loops), 0, first, f"{{x{index}}}", "{y}")
        first += shape[layer.axis] * steps[layer.axis]
    return part


def cut(context: Context, c: MoveConstants) -> Part:
    part, layer = Part(context), context.layer
    assert isinstance(layer, Slice)
    (shape,) = context.shapes
    bounds = [
        slice(*bound).indices(size)
        for *bound, size in zip(layer.starts, layer.stops, layer.steps, shape, strict=True)
    ]
    source = strides(shape)
    first = sum(start * step for (start, _, _), step in zip(bounds, source, strict=True))
    moved = [stride * step for stride, (_, _, step) in zip(source, bounds, strict=True)]
    loops = list(zip(layer.shape, moved, strides(layer.shape), strict=True))
    _move(part, "layer", _outermost_first(loops), first, 0, "{x0}", "{y}")
    return part


def pad(context: Context, c: PadConstants) -> Part:
    part, layer = Part(context), context.layer
    assert isinstance(layer, Pad)
    (shape,) = context.shapes
    fill = part.constant("fill", c.fill[:1] if (c.fill == c.fill[0]).all() else c.fill)
    count, bits = math.prod(layer.shape), context.tensor.bits
    part.calls.append(f"mz_fill({{y}}, {count}, {bits}, {fill}, {len(part.arrays[fill])});")
    target = strides(layer.shape)
    first = layer.pads[0] * target[1] + layer.pads[1] * target[2]
    loops = list(zip(shape, strides(shape), target, strict=True))
    _move(part, "layer", _outermost_first(loops), 0, first, "{x0}", "{y}")
    return part


def transpose(context: Context, c: MoveConstants) -> Part:
    part, layer = Part(context), context.layer
    assert isinstance(layer, Transpose)
    source = strides(context.shapes[0])
    moved = [source[axis] for axis in layer.permutation]
    loops = list(zip(layer.shape, moved, strides(layer.shape), strict=True))
    _move(part, "layer", _outermost_first(loops), 0, 0, "{x0}", "{y}")
    return part


def reshape(context: Context, c: MoveConstants) -> Part:
    part = Part(context)
    before, after = context.shapes[0], context.layer.shape
    if keeps_order(before, after, "channels_last"):
        part.copies = True
        _move(part, "layer", [(context.counts[0], 1, 1)], 0, 0, "{x0}", "{y}")
        return part
    factors = common_factors(before, after)
    if factors is None:
        _walk(part, before, after)
        return part
    loops = list(zip(factors, split_strides(before, factors), split_strides(after, factors), strict=True))
    _move(part, "layer", _outermost_first(loops), 0, 0, "{x0}", "{y}")
    return part


def row_by_row(part: Part, suffix: str, shape: Shape, bits: int, x: str, y: str, *, out: bool) -> None:
    """Enters the copy of a map into rows (its last axis innermost), or with `out` back."""
    flat = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    loops = list(zip(shape, *((flat, strides(shape)) if out else (strides(shape), flat)), strict=True))
    _move(part, suffix, _outermost_first(loops), 0, 0, x, y, bits)


def _outermost_first(loops: Sequence[Loop]) -> list[Loop]:
    """Loops in the order in which the target lies in memory."""
    return sorted(loops, key=lambda loop: -loop[2])


def _move(
    part: Part,
    suffix: str,
    loops: Sequence[Loop],
    first_from: int,
    first_to: int,
    x: str,
    y: str,
    bits: int = 0,
) -> None:
    ordered = merged(loops)
    sizes, source, target = zip(*ordered, strict=True)
    fields = {
        "rank": len(ordered),
        "bits": bits or part.context.tensor.bits,
        "size": sizes,
        "from": source,
        "to": target,
        "first_from": first_from,
        "first_to": first_to,
    }
    part.call("mz_move_run", "mz_move", suffix, fields, x, y)


def _walk(part: Part, before: Shape, after: Shape) -> None:
    def side(shape: Shape, mover: str) -> dict[str, object]:
        loops = merged(list(zip(shape, strides(shape), strict=True)))
        sizes, steps = zip(*loops, strict=True)
        still = (0,) * len(loops)
        return {
            "rank": len(loops),
            "bits": part.context.tensor.bits,
            "size": sizes,
            "from": steps if mover == "from" else still,
            "to": steps if mover == "to" else still,
        }

    fields = {"source": side(before, "from"), "target": side(after, "to")}
    part.call("mz_walk_run", "mz_walk", "layer", fields, "{x0}", "{y}")
