"""Products in blocks are the products, whoever computes the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from mz import threads
from mz.quantize.products import product


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("rows", [1, 256, 257, 700])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_product_in_blocks(groups, rows, kind, monkeypatch):
    rng = np.random.default_rng(rows)
    one, other = rng.normal(size=(groups, rows, 9)).astype(kind), rng.normal(size=(groups, 9, 5)).astype(kind)
    found = product(one, other)
    assert found.dtype == kind
    np.testing.assert_allclose(found, np.matmul(one, other), rtol=1e-4)
    monkeypatch.setattr(threads, "processors", lambda: 1)
    assert np.array_equal(found, product(one, other))
