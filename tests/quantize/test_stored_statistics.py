"""Statistics survive a file, and nothing else passes for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.quantize.networks import statistics_of

from mz.archive.npz import dumps, loads
from mz.quantize.stored_statistics import from_arrays, to_arrays

TENSORS = st.dictionaries(
    st.text(max_size=8), st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1)
)


@given(TENSORS)
def test_statistics_come_back_as_they_were(tensors):
    statistics = {name: statistics_of(values) for name, values in tensors.items()}
    found = from_arrays(loads(dumps(to_arrays(statistics))))
    assert list(found) == list(statistics)
    for name, wanted in statistics.items():
        one = found[name]
        assert (one.low, one.high, one.exponent) == (wanted.low, wanted.high, wanted.exponent)
        assert type(one.low) is float
        assert one.counts.dtype == wanted.counts.dtype
        np.testing.assert_array_equal(one.counts, wanted.counts)


@pytest.mark.parametrize(
    "change",
    [
        {"names": np.frombuffer(b'["a"]', np.uint8)},
        {"names": np.frombuffer(b"no JSON", np.uint8)},
        {"names": np.frombuffer(b"5", np.uint8)},
        {"low": np.array([np.nan, 0.0])},
        {"high": np.zeros(1)},
        {"counts": np.zeros(1, np.int64)},
        {"size": np.zeros(2, np.int64)},
        {"first": np.array([8000, 8000])},
    ],
)
def test_anything_else_is_refused(change):
    arrays = to_arrays({"a": statistics_of(np.arange(500)), "b": statistics_of([1.0, 3.0])})
    with pytest.raises(ValueError, match=r"."):
        from_arrays(arrays | change)
    del arrays["exponent"]
    with pytest.raises(ValueError, match="exponent"):
        from_arrays(arrays)
