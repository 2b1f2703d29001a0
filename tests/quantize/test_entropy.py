"""Ranges by least Kullback-Leibler divergence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.quantize.networks import statistics_of

from mz.graph.functions import apply
from mz.quantize.entropy import _histogram, divergence, least_divergence
from mz.quantize.ranges import min_max

MODERATE = st.floats(-1e6, 1e6, width=32)
TENSORS = st.lists(st.lists(MODERATE, min_size=1, max_size=30), min_size=1, max_size=3)
BITS = st.sampled_from([4, 8])


def total(statistics, low, high, bits, full):
    return sum(divergence(_histogram(s, *full), low, high, bits) for s in statistics)


@given(TENSORS, BITS)
@settings(max_examples=40)
def test_the_range_lies_within_the_extremes_and_is_never_worse(tensors, bits):
    statistics = [statistics_of(values) for values in tensors]
    full = min_max(statistics)
    low, high = least_divergence(statistics, bits)
    assert full[0] <= low <= 0 <= high <= full[1]
    assume(full[0] < full[1])
    assert total(statistics, low, high, bits, full) <= total(statistics, *full, bits, full)


@given(st.lists(MODERATE, min_size=1, max_size=30), BITS, st.floats(0.05, 1), st.floats(0.05, 1))
def test_a_divergence_is_not_negative_and_nothing_diverges_from_itself(values, bits, low, high):
    found = statistics_of(values)
    full = min_max([found])
    assume(full[0] < full[1])
    histogram = _histogram(found, *full)
    assert divergence(histogram, full[0] * low, full[1] * high, bits) >= -1e-12
    few = np.arange(2.0**bits), np.arange(1.0, 2.0**bits + 1)
    assert divergence(few, 0.0, 2.0**bits - 1, bits) == pytest.approx(0, abs=1e-12)


def test_the_divergence_is_that_of_the_definition():
    """Four bits over 0 .. 15: bins at 6.6 and 7.4 share an integer, and one bin lies beyond the range."""
    histogram = np.array([2.0, 6.6, 7.4, 14.0, 20.0]), np.array([4.0, 6.0, 2.0, 3.0, 5.0])
    p, q = np.array([4, 6, 2, 8]) / 20, np.array([4, 4, 4, 3]) / 15
    assert divergence(histogram, 0.0, 15.0, 4) == pytest.approx(float(np.sum(p * np.log(p / q))))
    assert divergence(histogram, 0.0, 1.0, 4) == math.inf


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=30), st.integers(-20, 20), BITS)
@settings(max_examples=30)
def test_units_do_not_matter(values, exponent, bits):
    assume(all(value == 0 or abs(value) > 1e-6 for value in values))
    one = least_divergence([statistics_of(values)], bits)
    other = least_divergence([statistics_of(np.ldexp(np.float32(values), exponent))], bits)
    assert other == pytest.approx(tuple(math.ldexp(end, exponent) for end in one), rel=1e-6)


def test_a_heap_of_zeros_says_nothing_about_a_range():
    values = np.abs(np.random.default_rng(0).normal(0, 1, 20_000)).astype(np.float32)
    padded = np.concatenate([values, np.zeros(200_000, np.float32)])
    assert least_divergence([statistics_of(padded)], 4) == pytest.approx(
        least_divergence([statistics_of(values)], 4), rel=0.05
    )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("bits", [4, 8])
def test_an_outlier_is_clipped_and_the_rest_is_not(sign, bits):
    """The other end, where nothing lies far out, stays where the values end."""
    values = np.append(np.random.default_rng(0).normal(0, 1, 200_000), 1000.0)
    low, high = sorted(sign * np.array(least_divergence([statistics_of(sign * values)], bits)))
    assert high <= 150
    assert -low > 1.5


def test_a_uniform_distribution_is_clipped_little():
    values = np.linspace(-2, 5, 100_001)
    low, high = least_divergence([statistics_of(values)], 8)
    assert low == pytest.approx(-2, rel=0.03)
    assert high == pytest.approx(5, rel=0.03)


@given(TENSORS)
@settings(max_examples=20)
def test_a_search_stays_within_what_the_function_lets_through(tensors):
    statistics = [statistics_of(values) for values in tensors]

    def hard_swish(values):
        return apply("hard_swish", values)

    low, high = least_divergence(statistics, 8, hard_swish)
    full = min_max(statistics, hard_swish)
    assert full[0] <= low <= 0 <= high <= full[1]
