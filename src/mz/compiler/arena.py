"""Where blocks of bytes that live for a while stand in one arena: several known heuristics, and a bounded search.

Finding the smallest arena is NP-hard (dynamic storage allocation), so that the best of several is taken. Whatever is
found, it can never be below the largest sum of blocks that live at once, and is compared with that.

Sources: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference" (MLSys workshops 2020), section
5; Wilson et al., "Dynamic Storage Allocation: A Survey and Critical Review" (1995) for first and best fit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Offsets = tuple[int, ...]
SEARCH_STEPS = 2000
SEARCH_MOVES = 200_000
"""Exchanges that the search tries where no heuristic meets the bound, and blocks that it places in all: the bounds on
its time."""


@dataclass(frozen=True, slots=True)
class Block:
    """`size` bytes, needed from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Placement:
    """offsets: where each block begins. heuristic: whose idea it was."""

    offsets: Offsets
    arena_bytes: int
    heuristic: str


def lower_bound(blocks: Sequence[Block]) -> int:
    """The largest sum of blocks that live at one step: no arena can be smaller."""
    steps = {block.first for block in blocks}
    return max(
        (sum(block.size for block in blocks if block.first <= step <= block.last) for step in steps),
        default=0,
    )


def place(blocks: Sequence[Block], search_steps: int = SEARCH_STEPS) -> Placement:
    """Offsets at which no two blocks that live at once overlap, in the smallest arena found. Deterministic.

    The heuristics are tried in order until one meets the lower bound; if none does, the best one's order of blocks is
    improved by exchanges.
    """
    bound = lower_bound(blocks)
    meetings = _meetings(blocks)
    best: Placement | None = None
    best_order: list[int] = []
    for name, (order_of, fit) in HEURISTICS.items():
        order = order_of(blocks)
        found = _place_in_order(blocks, meetings, order, fit, name)
        if best is None or found.arena_bytes < best.arena_bytes:
            best, best_order = found, order
        if best.arena_bytes == bound:
            return best
    assert best is not None
    return _search(blocks, meetings, best, best_order, bound, search_steps)


def greedy_by_size(blocks: Sequence[Block]) -> Placement:
    """What TensorFlow Lite for Microcontrollers does: the largest first, each into the lowest gap that takes it."""
    order_of, fit = HEURISTICS["greedy by size"]
    return _place_in_order(blocks, _meetings(blocks), order_of(blocks), fit, "greedy by size")


Fit = Callable[[Sequence[tuple[int, int]], int], int]
"""(occupied ranges [begin, end) sorted by begin, size) -> offset."""


def _first_fit(occupied: Sequence[tuple[int, int]], size: int) -> int:
    """The lowest gap that is large enough."""
    top = 0
    for begin, end in occupied:
        if begin - top >= size:
            return top
        top = max(top, end)
    return top


def _best_fit(occupied: Sequence[tuple[int, int]], size: int) -> int:
    """The smallest gap that is large enough, else above everything."""
    top, best, spare = 0, -1, -1
    for begin, end in occupied:
        gap = begin - top
        if gap >= size and (best < 0 or gap < spare):
            best, spare = top, gap
        top = max(top, end)
    return best if best >= 0 else top


def _by_size(blocks: Sequence[Block]) -> list[int]:
    return sorted(range(len(blocks)), key=lambda i: (-blocks[i].size, blocks[i].first))


def _by_start(blocks: Sequence[Block]) -> list[int]:
    return sorted(range(len(blocks)), key=lambda i: (blocks[i].first, -blocks[i].size))


def _by_area(blocks: Sequence[Block]) -> list[int]:
    return sorted(
        range(len(blocks)), key=lambda i: (-blocks[i].size * (blocks[i].last - blocks[i].first + 1), i)
    )


def _by_duration(blocks: Sequence[Block]) -> list[int]:
    return sorted(range(len(blocks)), key=lambda i: (blocks[i].first - blocks[i].last, -blocks[i].size))


def _by_breadth(blocks: Sequence[Block]) -> list[int]:
    """The blocks of the step at which most bytes live, the largest first, then those of the next, and so on."""
    steps = sorted({block.first for block in blocks})
    alive = {
        step: [i for i, block in enumerate(blocks) if block.first <= step <= block.last] for step in steps
    }
    by_breadth = sorted(steps, key=lambda step: (-sum(blocks[i].size for i in alive[step]), step))
    return list(
        dict.fromkeys(
            i for step in by_breadth for i in sorted(alive[step], key=lambda i: (-blocks[i].size, i))
        )
    )


HEURISTICS: dict[str, tuple[Callable[[Sequence[Block]], list[int]], Fit]] = {
    "greedy by size": (_by_size, _first_fit),
    "greedy by size, best fit": (_by_size, _best_fit),
    "greedy by breadth": (_by_breadth, _best_fit),
    "first fit by start": (_by_start, _first_fit),
    "best fit by start": (_by_start, _best_fit),
    "greedy by area": (_by_area, _first_fit),
    "longest first": (_by_duration, _first_fit),
}
"""Order in which blocks are placed, and the gap that each one takes."""


def _meetings(blocks: Sequence[Block]) -> list[list[int]]:
    """For every block, the others that live at one of its steps."""
    return [
        [
            j
            for j, other in enumerate(blocks)
            if j != i and other.first <= block.last and block.first <= other.last
        ]
        for i, block in enumerate(blocks)
    ]


def _place_in_order(
    blocks: Sequence[Block], meetings: Sequence[Sequence[int]], order: Sequence[int], fit: Fit, name: str
) -> Placement:
    offsets = [-1] * len(blocks)
    top = 0
    for i in order:
        occupied = sorted((offsets[j], offsets[j] + blocks[j].size) for j in meetings[i] if offsets[j] >= 0)
        offsets[i] = fit(occupied, blocks[i].size)
        top = max(top, offsets[i] + blocks[i].size)
    return Placement(tuple(offsets), top, name)


def _search(
    blocks: Sequence[Block],
    meetings: Sequence[Sequence[int]],
    best: Placement,
    order: list[int],
    bound: int,
    steps: int,
) -> Placement:
    """Exchanges, in line, a block at the top of the arena with any other; keeps what is no worse."""
    if len(blocks) < 2:
        return best
    rng = random.Random(0)
    current = best
    for _ in range(min(steps, SEARCH_MOVES // len(blocks))):
        if best.arena_bytes == bound:
            break
        highest = [
            place
            for place, i in enumerate(order)
            if current.offsets[i] + blocks[i].size == current.arena_bytes
        ]
        one, other = rng.choice(highest), rng.randrange(len(order))
        trial = list(order)
        trial[one], trial[other] = trial[other], trial[one]
        found = _place_in_order(blocks, meetings, trial, _first_fit, "search over orders")
        if found.arena_bytes <= current.arena_bytes:
            current, order = found, trial
        if found.arena_bytes < best.arena_bytes:
            best = found
    return best
