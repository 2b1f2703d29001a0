"""Offsets in an arena: nothing that lives at once overlaps, and known cases come out as small as they can be."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mz.compiler import arena
from mz.compiler.arena import Block, greedy_by_size, lower_bound, place

blocks = st.lists(
    st.builds(
        lambda size, first, length: Block(size, first, first + length),
        st.integers(0, 60),
        st.integers(0, 12),
        st.integers(0, 6),
    ),
    max_size=14,
)


def overlaps(blocks: list[Block], offsets: tuple[int, ...]) -> list[tuple[int, int]]:
    return [
        (i, j)
        for (i, one), (j, other) in itertools.combinations(enumerate(blocks), 2)
        if one.first <= other.last and other.first <= one.last
        and offsets[i] < offsets[j] + other.size and offsets[j] < offsets[i] + one.size
    ]  # fmt: skip


@given(blocks)
def test_every_heuristic_keeps_living_blocks_apart(blocks: list[Block]):
    for name, (order_of, fit) in arena.HEURISTICS.items():
        order = order_of(blocks)
        assert sorted(order) == list(range(len(blocks))), name
        found = arena._place_in_order(blocks, arena._meetings(blocks), order, fit, name)
        assert not overlaps(blocks, found.offsets), name
        assert found.arena_bytes == max(
            (o + b.size for o, b in zip(found.offsets, blocks, strict=True)), default=0
        )


@given(blocks)
def test_the_best_is_between_the_bound_and_greedy_by_size(blocks: list[Block]):
    found = place(blocks, search_steps=50)
    assert not overlaps(blocks, found.offsets)
    assert lower_bound(blocks) <= found.arena_bytes <= greedy_by_size(blocks).arena_bytes
    assert all(offset >= 0 for offset in found.offsets)
    assert place(blocks, search_steps=50) == found


def test_the_bound_by_hand():
    assert lower_bound([]) == 0
    assert lower_bound([Block(5, 0, 1), Block(7, 1, 2), Block(9, 2, 3)]) == 16


def test_greedy_by_size_by_hand():
    # 50 at 0; 30 meets it: at 50; 20 meets 30 alone: the gap below it
    assert greedy_by_size([Block(30, 1, 2), Block(50, 0, 1), Block(20, 2, 3)]).offsets == (50, 0, 0)


def test_where_greedy_by_size_wastes_another_meets_the_bound():
    # the two large ones never meet, so greedy puts both at 0, and what bridges them on top of the larger
    blocks = [Block(10, 0, 1), Block(8, 2, 3), Block(6, 1, 2), Block(4, 2, 3)]
    assert lower_bound(blocks) == 18
    assert place(blocks).arena_bytes == 18
    chain = [
        Block(12, 0, 1),
        Block(4, 1, 2),
        Block(12, 2, 3),
        Block(8, 3, 4),
        Block(8, 4, 5),
        Block(12, 5, 6),
    ]
    assert place(chain).arena_bytes == lower_bound(chain) == 20


def test_the_search_improves_on_the_heuristics():
    """Random instances on which no heuristic meets the bound: the search closes part of what is left."""
    import random

    rng = random.Random(3)
    before = after = 0
    for _ in range(40):
        starts = [rng.randrange(20) for _ in range(24)]
        blocks = [Block(rng.randrange(1, 50), s, s + rng.randrange(8)) for s in starts]
        before += place(blocks, search_steps=0).arena_bytes - lower_bound(blocks)
        after += place(blocks, search_steps=400).arena_bytes - lower_bound(blocks)
    assert after < before


@pytest.mark.parametrize("count", [0, 1])
def test_few_blocks(count: int):
    assert place([Block(7, 0, 0)] * count).arena_bytes == 7 * count
