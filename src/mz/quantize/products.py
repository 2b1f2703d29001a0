"""Products of large matrices on all processors, with the same numbers on any number of them.

Whoever calls keeps BLAS to one thread (`threads.side_by_side`).
"""

from __future__ import annotations

import numpy as np

from mz.threads import side_by_side

_ROWS = 256


def product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[G, M, K] times [G, K, N]: so many rows of the first at a time, however many processors there are."""
    rows = one.shape[1]
    if rows <= _ROWS:
        return np.matmul(one, other)
    found = np.empty((len(one), rows, other.shape[2]), np.result_type(one, other))

    def multiply(start: int) -> None:
        part = slice(start, start + _ROWS)
        np.matmul(one[:, part], other, out=found[:, part])

    side_by_side(multiply, range(0, rows, _ROWS))
    return found
