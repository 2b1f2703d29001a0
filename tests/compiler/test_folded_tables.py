"""Tables over 16 bits in C: folded without loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mz.compiler.emitters.c99.tables import Folded, fold


def unfolded(folded: Folded, rows: int) -> np.ndarray:
    """What the C code reads, [rows, entries]: three bytes at a time, in 32-bit integers."""
    place = np.arange(1 << folded.block_bits)
    base, slope, first, bits = (column[:, None].astype(np.int64) for column in folded.lines.T)
    line = base + slope * place
    assert np.abs(slope * place).max() < 1 << 31 and line.min() >= -(1 << 31) and line.max() < 1 << 31
    start = first + (place * bits >> 3)
    near = sum(folded.rest[start + byte].astype(np.int64) << 8 * byte for byte in range(3))
    left = near >> (place * bits & 7) & (1 << bits) - 1
    return ((line >> 15) + left).reshape(rows, -1)


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
    folded = fold(table)
    assert np.array_equal(unfolded(folded, 1), table)
    assert folded.bytes < table.nbytes / 5


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from((8, 12, 16)))
def test_any_table_loses_nothing(seed: int, rows: int, bits: int) -> None:
    """Numbers of chance, with runs of the least and the largest among them."""
    random = np.random.default_rng(seed)
    table = random.integers(0, 1 << bits, (rows, 1 << 12))
    for low in (0, 1 << 11):
        table[:, low : low + random.integers(0, 1 << 11)] = random.choice((0, (1 << bits) - 1))
    table = table.astype(np.uint16)
    assert np.array_equal(unfolded(fold(table), rows), table)
