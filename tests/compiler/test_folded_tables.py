"""Tables over 16 bits in C: folded without loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mz.compiler.folding import fold, unfold


def exact(table: np.ndarray) -> bool:
    """Whether it is folded without loss, into numbers that C computes in 32 bits."""
    folded = fold(table)
    assert folded is not None and folded.nbytes < table.nbytes
    step = np.arange(table.shape[1] // folded.lines.shape[1])
    base, slope = (folded.lines[..., column, None].astype(np.int64) for column in (0, 1))
    steps, sums = slope * step, base + slope * step
    assert max(np.abs(steps).max(), sums.max(), -sums.min() - 1) < 1 << 31
    assert folded.lines[..., 3].max() <= 16
    return np.array_equal(unfold(folded, table.shape[1]), table)


x = np.arange(1 << 16) - 20_000.0
TABLES = {
    "a reciprocal root": np.clip(np.rint(4e6 / np.sqrt(np.maximum(x + 20_000, 1))), 0, 65_535),
    "a sigmoid": np.rint(65_535 / (1 + np.exp(-x / 4_000))),
    "hard swish": np.rint(np.clip(x + 24_000, 0, 48_000) * x / 48_000 + 12_000).clip(0, 65_535),
    "constant": np.full(1 << 16, 65_535),
    "steps of 8 bits": np.rint(255 / (1 + np.exp(-x / 4_000))),
    "falling from end to end": 65_535.0 - np.arange(1 << 16),
}


@pytest.mark.parametrize("name", TABLES)
def test_functions_lose_nothing_and_take_a_fifth(name: str) -> None:
    table = TABLES[name].astype(np.uint16)[None]
    assert exact(table)
    folded = fold(table)
    assert folded is not None and folded.nbytes < table.nbytes / 5


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from((8, 12, 15)))
def test_any_table_loses_nothing(seed: int, rows: int, bits: int) -> None:
    """Numbers of chance between the ends of their range, half of the places at an end."""
    random = np.random.default_rng(seed)
    table = random.integers(0, 1 << bits, (rows, 1 << 12))
    table[:, : 1 << 11] = random.choice((0, (1 << bits) - 1))
    table[:, 1 << 11 : random.integers(1 << 11, 1 << 12)] = random.choice((0, (1 << 16) - 1))
    assert exact(table.astype(np.uint16))


def test_what_saves_nothing_stays_a_table() -> None:
    random = np.random.default_rng(0)
    assert fold(random.integers(0, 1 << 16, (1, 1 << 16)).astype(np.uint16)) is None
    assert fold(np.zeros((3, 256), np.uint8)) is None
