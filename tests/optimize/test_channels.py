"""Sets of channels that belong together, united."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mz.optimize.channels import join

NUMBERS = 12
PAIRS = st.lists(st.tuples(*(st.integers(0, NUMBERS - 1),) * 2), min_size=1, max_size=NUMBERS)


def partition(parent: np.ndarray) -> set[frozenset[int]]:
    roots = parent
    while not np.array_equal(parent[roots], roots):
        roots = parent[roots]
    return {frozenset(np.flatnonzero(roots == root).tolist()) for root in roots}


@given(st.lists(PAIRS, max_size=4))
def test_sets_are_those_of_one_pair_after_the_other(rounds) -> None:
    parent = np.arange(NUMBERS)
    sets = {number: {number} for number in range(NUMBERS)}
    for pairs in rounds:
        join(parent, *np.array(pairs).T)
        for one, other in pairs:
            whole = sets[one] | sets[other]
            sets |= dict.fromkeys(whole, whole)
    assert partition(parent) == {frozenset(one) for one in sets.values()}


def test_what_broadcasts_is_united_with_each() -> None:
    parent = np.arange(NUMBERS)
    join(parent, np.arange(NUMBERS).reshape(3, 4), np.arange(0, NUMBERS, 4)[:, None])
    assert partition(parent) == {frozenset(range(first, first + 4)) for first in (0, 4, 8)}
