"""The report's bars are the calibration's bins, merged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mz.quantize.histograms import BARS, histograms
from mz.quantize.statistics import TensorStatistics


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=200))
def test_bars_hold_every_value(values: list[float]) -> None:
    tensor = TensorStatistics()
    array = np.array(values, np.float32)
    tensor.update(array)
    found = histograms({"x": tensor})["x"]
    assert 1 <= len(found["counts"]) <= BARS
    assert sum(found["counts"]) == array.size
    assert (found["low"], found["high"]) == (array.min(), array.max())
    # Numbers so small that float32 loses their digits may count as 0.
    assert found["start"] <= found["low"] or -np.finfo(np.float32).tiny < found["low"] < 0 == found["start"]
    assert found["high"] <= found["start"] + found["width"] * len(found["counts"])


def test_bars_are_where_the_values_are() -> None:
    tensor = TensorStatistics()
    tensor.update(np.linspace(0, 1, 4801, dtype=np.float32)[:-1])
    counts = np.array(histograms({"x": tensor})["x"]["counts"])
    assert counts[:-1] == pytest.approx(np.full(len(counts) - 1, counts[0]), rel=0.05)
