"""How tensors lie in memory: maps [C, H, W] with the channel innermost, tensors of any other rank row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mz.errors import UserError
from mz.graph import Shape

MAX_RANK = 6
"""MZ_MAX_RANK of mz.h."""

Loop = tuple[int, ...]
"""A loop's size, and how far each operand moves with it."""


def storage_order(shape: Shape) -> tuple[int, ...]:
    """The axes as they lie in memory, outermost first."""
    return (1, 2, 0) if len(shape) == 3 else tuple(range(len(shape)))


def strides(shape: Shape) -> tuple[int, ...]:
    """How many integers apart neighbours along each axis lie."""
    found = [0] * len(shape)
    step = 1
    for axis in reversed(storage_order(shape)):
        found[axis] = step
        step *= shape[axis]
    return tuple(found)


def storage_bytes(bits: int) -> int:
    """Bytes of one integer: 4-bit activations take a whole one."""
    return 2 if bits > 8 else 1


def merged(loops: Sequence[Loop]) -> list[Loop]:
    """The same walk, outermost loop first, in as few loops as possible; at least one.

    Raises UserError where more than MAX_RANK are left.
    """
    kept: list[Loop] = []
    for loop in loops:
        if loop[0] == 1:
            continue
        size, steps = loop[0], loop[1:]
        if kept and all(outer == inner * size for outer, inner in zip(kept[-1][1:], steps, strict=True)):
            kept[-1] = (kept[-1][0] * size, *steps)
        else:
            kept.append(loop)
    if len(kept) > MAX_RANK:
        raise UserError(
            f"it moves integers along {len(kept)} axes, and the C target takes at most {MAX_RANK}"
        )
    return kept or [(1, *(1 for _ in loops[0][1:]))] if loops else [(1, 1, 1)]


def common_factors(first: Shape, second: Shape) -> list[int] | None:
    """Sizes of axes into which both shapes can be split, in order; None where there are none."""
    rest = [list(reversed([size for size in shape if size > 1])) for shape in (first, second)]
    factors = []
    while rest[0] and rest[1]:
        a, b = rest[0].pop(), rest[1].pop()
        small, large = min(a, b), max(a, b)
        if large % small:
            return None
        factors.append(small)
        if large > small:
            rest[0 if a > b else 1].append(large // small)
    return factors


def split_strides(shape: Shape, factors: Sequence[int]) -> list[int]:
    """The stride of each of `factors`, into which the axes of `shape` are split in order."""
    found: list[int] = []
    place = 0
    for size, step in zip(shape, strides(shape), strict=True):
        parts: list[int] = []
        while math.prod(parts) < size:
            parts.append(factors[place])
            place += 1
        found += [step * math.prod(parts[index + 1 :]) for index in range(len(parts))]
    return found
