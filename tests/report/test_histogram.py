"""No weight is lost, and every bar holds the values that its place says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mz.report.histogram import BARS, float_histogram, integer_histogram


@given(st.sampled_from([4, 8, 16]), st.data())
def test_integers_by_bar(bits: int, data: st.DataObject) -> None:
    limit = (1 << (bits - 1)) - 1
    kernel = np.array(data.draw(st.lists(st.integers(-limit, limit), max_size=80)), np.int64)
    found = integer_histogram(kernel.astype(np.int8 if bits <= 8 else np.int16), bits)
    assert len(found["counts"]) <= BARS
    for index, count in enumerate(found["counts"]):
        first = found["start"] + index * found["width"]
        assert count == np.sum((kernel >= first) & (kernel < first + found["width"]))
    assert sum(found["counts"]) == kernel.size


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3), elements=st.floats(-1e6, 1e6, width=32)))
def test_floats_all_counted(kernel: np.ndarray) -> None:
    found = float_histogram(kernel)
    assert sum(found["counts"]) == kernel.size
    assert found["start"] == kernel.min()
    end = found["start"] + found["width"] * (len(found["counts"]) if kernel.min() < kernel.max() else 0)
    rounding = 1e-14 * float(np.abs(kernel).max(initial=0))  # the sum's, where the ends nearly cancel
    assert end == pytest.approx(float(kernel.max()), rel=1e-6, abs=max(1e-9, rounding))


def test_no_weights() -> None:
    assert float_histogram(np.empty(0, np.float32))["counts"] == []
