"""From statistics to ranges, and from ranges to scales and zero points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.quantize.networks import statistics_of

from mz.graph.functions import apply
from mz.quantize.ranges import POWERS, _mean_error, _merged, least_error, min_max, percentile, tensor_quant

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
MODERATE = st.floats(-1e6, 1e6, width=32)
TENSORS = st.lists(st.lists(MODERATE, min_size=1, max_size=30), min_size=1, max_size=3)
BITS = st.sampled_from([4, 8, 16])


@given(TENSORS, st.floats(0, 49), st.floats(51, 100), BITS)
def test_every_range_holds_zero_and_lies_within_the_extremes(tensors, low, high, bits):
    statistics = [statistics_of(values) for values in tensors]
    every = [value for values in tensors for value in values]
    full = min(0.0, *every), max(0.0, *every)
    assert min_max(statistics) == full
    for found in (percentile(statistics, low, high), least_error(statistics, bits)):
        assert full[0] <= found[0] <= 0 <= found[1] <= full[1]


@given(TENSORS)
def test_percentiles_0_and_100_are_the_extremes(tensors):
    statistics = [statistics_of(values) for values in tensors]
    assert percentile(statistics, 0, 100) == min_max(statistics)


@pytest.mark.parametrize("power", POWERS.values())
def test_an_error_is_the_mean_power_of_what_integers_lose(power):
    values, weights = np.random.default_rng(0).normal(0, 2, 500), np.random.default_rng(1).random(500)
    t = tensor_quant(-3.0, 2.5, 8, False)
    lost = values - t.dequantize(np.clip(np.rint(values / t.scale) + t.zero_point, 0, 255).astype(np.uint8))
    low, high = (float(t.scale) * end for end in (-t.zero_point, 255 - t.zero_point))
    expected = weights @ np.abs(lost) ** power
    assert _mean_error(values, weights, low, high, 8, power) == pytest.approx(expected, rel=1e-5)


def test_percentiles_cut_what_they_say():
    found = percentile([statistics_of(np.linspace(-1, 1, 100_001))], 1, 90)
    np.testing.assert_allclose(found, (-0.98, 0.8), atol=2 / 4096)


@given(TENSORS, BITS, st.sampled_from([2.0, 3.0]))
@settings(max_examples=40)
def test_least_error_is_never_worse_than_the_extremes(tensors, bits, power):
    statistics = [statistics_of(values) for values in tensors]
    values, weights = _merged(statistics, power)
    full, found = min_max(statistics), least_error(statistics, bits, power)
    before = _mean_error(values, weights, *full, bits, power)
    assert _mean_error(values, weights, *found, bits, power) <= before


@pytest.mark.parametrize(
    ("function", "low", "high"), [("hard_swish", -3, 8), ("hard_sigmoid", -2.5, 2.5), ("silu", -9, 8)]
)
def test_ends_on_which_the_function_is_constant_need_no_integers(function, low, high):
    statistics = [statistics_of(np.linspace(-9, 8, 1001))]
    found = min_max(statistics, lambda values: apply(function, values))
    assert found == pytest.approx((low, high), abs=1e-3)
    assert min_max(statistics) == (-9, 8)


@given(TENSORS, st.sampled_from([2.0, 3.0]))
@settings(max_examples=20)
def test_a_search_stays_within_what_the_function_lets_through(tensors, power):
    statistics = [statistics_of(values) for values in tensors]

    def hard_swish(values):
        return apply("hard_swish", values)

    low, high = least_error(statistics, 8, power, hard_swish)
    full = min_max(statistics, hard_swish)
    assert full[0] <= low <= 0 <= high <= full[1]
    values, weights = _merged(statistics, power)
    seen = np.clip(values, *full)
    assert _mean_error(seen, weights, low, high, 8, power) <= _mean_error(seen, weights, *full, 8, power)


@pytest.mark.parametrize("sign", [1, -1])
def test_least_error_clips_an_outlier_at_few_bits(sign):
    """And not further than it pays: its error is near the best of a grid over both ends."""
    values = np.append(np.random.default_rng(0).normal(0, 1, 20_000), 30.0)
    low, high = sorted(sign * np.array(least_error([statistics_of(sign * values)], 4, 2.0)))

    def error(low: float, high: float) -> float:
        scale = (high - low) / 15
        zero = np.rint(-low / scale)
        return float(np.mean((scale * (np.clip(np.rint(values / scale) + zero, 0, 15) - zero) - values) ** 2))

    best = min(error(-a, b) for a in np.arange(1.5, 5, 0.25) for b in np.arange(1.5, 31, 0.5))
    assert error(low, high) <= 1.1 * best
    assert error(low, high) < 0.5 * error(values.min(), values.max())


@given(FINITE, FINITE, BITS, st.booleans())
@example(0.0, 1e-45, 8, True)
@example(-1e-45, 1e-40, 16, False)
@example(-3.4e38, 3.4e38, 4, True)
@example(-1.0, 0.0, 4, True)
@example(-0.001, 1.0, 8, True)
def test_a_scale_covers_its_range(a, b, bits, even):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    t = tensor_quant(low, high, bits, even)
    assert type(t.scale) is np.float32
    assert np.finfo(np.float32).tiny <= t.scale < math.inf
    assert 0 <= t.zero_point <= t.q_max
    assert not even or t.zero_point % 2 == 0
    lowest, highest = t.real_range
    # A zero point at the end leaves out at most half a step, which rounding would take away in any case.
    spare_low, spare_high = (
        0.5 * float(t.scale) * (t.zero_point == end) for end in (0, t.q_max - even * t.q_max % 2)
    )
    slack = (high - low) * 2**-22
    assert lowest - spare_low <= low + slack
    assert highest + spare_high >= high - slack


@given(MODERATE, MODERATE, BITS, st.booleans())
@example(-0.375, 70.0, 8, False)
@example(-2.6, 252.4, 8, True)
def test_an_integer_zero_point_hardly_coarsens_the_scale(a, b, bits, even):
    """Rounding -low / scale = 1.4 to 1 and stretching the scale to reach low would cost 40 % of all precision."""
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    if high - low < 1e-30:
        return
    t = tensor_quant(low, high, bits, even)
    step = 2 if even else 1
    worst = 1 + step / ((t.q_max + 1) // 2 - step)
    assert float(t.scale) <= (high - low) / t.q_max * worst * (1 + 1e-6)


def test_an_empty_range_still_has_a_scale():
    t = tensor_quant(0.0, 0.0, 8, True)
    assert t.scale > 0
    assert t.zero_point == 0
