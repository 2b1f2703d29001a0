"""Streaming statistics: what they know does not depend on how the values arrived."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.quantize.networks import statistics_of

from mz.errors import UserError
from mz.quantize import TensorStatistics, collect

# A value 2^-100 of another falls beside its bin by underflow: it counts as 0, which nobody can tell.
FINITE = st.floats(-(2.0**60), 2.0**60, width=32).map(lambda value: value if abs(value) > 2.0**-60 else 0.0)
VALUES = st.lists(FINITE, min_size=1, max_size=40)


class Passing:
    """A network whose tensors are its feeds."""

    def __init__(self) -> None:
        self.largest_batch = 0

    def run(self, feeds):
        self.largest_batch = max(self.largest_batch, *map(len, feeds.values()))
        return dict(feeds)


def assert_same(a: TensorStatistics, b: TensorStatistics) -> None:
    assert (a.low, a.high, a.exponent) == (b.low, b.high, b.exponent)
    np.testing.assert_array_equal(a.counts, b.counts)


@given(VALUES)
@settings(max_examples=50)
def test_a_histogram_grown_by_merging_equals_one_built_at_once(values):
    grown = TensorStatistics()
    for value in values:
        grown.update(np.array([value], np.float32))
    assert_same(grown, statistics_of(values))


@given(VALUES)
def test_extremes_are_exact_and_every_value_lies_in_its_bin(values):
    found = statistics_of(values)
    assert (found.low, found.high) == (min(values), max(values))
    half_bin = math.ldexp(1 / len(found.counts), found.exponent)
    restored = np.repeat(found.centres, found.counts)
    assert np.abs(restored - np.sort(np.array(values, np.float64))).max() <= half_bin


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 7), min_size=1, max_size=6))
@settings(max_examples=30)
def test_batches_and_memory_bounds_change_nothing(seed, sizes):
    rng = np.random.default_rng(seed)
    x = (rng.normal(0, 1, (sum(sizes), 3, 4)) * 10.0 ** rng.integers(-3, 4, (sum(sizes), 1, 1))).astype(
        np.float32
    )
    batches = [{"x": part} for part in np.split(x, np.cumsum(sizes)[:-1])]
    assert_same(collect(Passing(), batches, 48)["x"], statistics_of(x))
    one_at_a_time = Passing()
    assert_same(collect(one_at_a_time, batches, 1 << 40)["x"], statistics_of(x))
    assert one_at_a_time.largest_batch == 1


def test_a_large_tensor_is_sampled_evenly_over_its_axes():
    """Three channels last: a step of three would see one of them only."""
    channels = np.array([1.0, 10.0, 100.0], np.float32)
    found = statistics_of(np.broadcast_to(channels, (1 << 19, 3)))
    used = found.counts[found.counts > 0]
    assert len(used) == 3
    assert used.max() / used.min() < 1.01


def test_a_short_last_batch_weighs_no_more_than_its_share():
    found = TensorStatistics()
    found.update(np.full(3 << 19, 1.0, np.float32))
    found.update(np.full(1000, -1.0, np.float32))
    share = found.counts[: len(found.counts) // 2].sum() / found.counts.sum()
    assert share == pytest.approx(1000 / (3 << 19), rel=0.02)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_names_its_layer(bad):
    good, broken = np.ones((2, 3), np.float32), np.array([[1.0, bad, 2.0]], np.float32)
    with pytest.raises(UserError, match="layer conv7: .*not a finite number"):
        collect(Passing(), [{"x": good}, {"x": good, "conv7": broken}], 1)


class Counting:
    """A gatherer that knows how many images and of which tensors it saw."""

    def __init__(self) -> None:
        self.images: dict[str, int] = {}

    def update(self, tensors):
        for name, values in tensors.items():
            self.images[name] = self.images.get(name, 0) + len(values)


def test_one_pass_serves_all_who_ask():
    x = np.ones((7, 3), np.float32)
    gatherers = [Counting(), Counting()]
    found = collect(Passing(), [{"x": x, "y": x}, {"x": x, "y": -x}], 100 << 20, gatherers)
    assert found["y"].low == -1
    assert [gatherer.images for gatherer in gatherers] == [{"x": 14, "y": 14}] * 2


def test_an_empty_calibration_set_is_refused():
    with pytest.raises(UserError, match="calibration set is empty"):
        collect(Passing(), [], 1)
