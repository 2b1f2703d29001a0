"""By few samples as by second moments: the same factor, and the same integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mz.quantize import uptake
from mz.quantize.covariance import second_moments
from mz.quantize.rounded_scales import round_with_scales
from mz.quantize.rounding import round_second_order
from mz.quantize.uptake import Factor, FewSamples, Moments, blocks, inputs_of


def samples_of(seed: int, groups: int, count: int, size: int) -> np.ndarray:
    """Integers [G, P, K] that have something in common, some of them never other than 0."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-40, 41, (groups, count, 1)) + rng.integers(-30, 31, (groups, count, size))
    x[:, :, rng.random(size) < 0.1] = 0
    return x.astype(np.float32)


def whole(factor: Factor, size: int) -> np.ndarray:
    """U [G, K, K]: what lies behind a block takes up of one unit of error in each of its weights."""
    found = np.zeros((len(factor.order), size, size))
    for block in blocks(size):
        found[:, block, block] = factor.within(block)
    for last in blocks(size)[1:]:
        rest = np.zeros((len(factor.order), size, size))
        take_up = factor.passing(rest)
        for block in blocks(last.start):
            errors = np.zeros((len(factor.order), size, block.stop - block.start))
            errors[:, block] = np.eye(block.stop - block.start)
            take_up(errors, block)
        found[:, : last.start, last] -= rest[:, : last.start, last]
    return found


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6), groups=st.integers(1, 3), count=st.integers(1, 20), size=st.integers(2, 60)
)
def test_it_is_the_inverse_of_the_damped_moments(seed, groups, count, size):
    samples = samples_of(seed, groups, count, size)
    moments = second_moments(samples)
    found, wanted = (inputs.factorize() for inputs in (FewSamples(samples), Moments(moments)))
    np.testing.assert_array_equal(found.order, wanted.order)
    for group, order in enumerate(found.order):
        mean = np.diag(moments[group]).mean()
        damped = moments[group] + (uptake._DAMPING * mean if mean else 1.0) * np.eye(size)
        for upper in (whole(found, size)[group], whole(wanted, size)[group]):
            np.testing.assert_allclose(np.tril(upper, -1), 0, atol=1e-9)
            product = upper.T @ upper @ damped[np.ix_(order, order)]
            np.testing.assert_allclose(product, np.eye(size), atol=1e-6)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(uptake, "_BLOCK", 5)


@pytest.mark.usefixtures("small_blocks")
def test_blocks_behind_each_other_too():
    test_it_is_the_inverse_of_the_damped_moments()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("size", [50, 200])
def test_the_integers_are_the_same(bits, size):
    samples = samples_of(1, 2, 24, size)
    rows = np.random.default_rng(2).normal(0, 1, (2, 7, size))
    scale = np.abs(rows).max(axis=2) / (2 ** (bits - 1) - 1)
    one, other = (
        round_with_scales(rows, scale, inputs, bits)
        for inputs in (FewSamples(samples), Moments(second_moments(samples)))
    )
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_allclose(one[1], other[1], rtol=1e-6)


def test_inputs_that_are_always_0_round_to_nearest():
    rows = np.random.default_rng(3).normal(0, 1, (1, 4, 90))
    q = round_second_order(
        rows, np.full((1, 4), 0.1), FewSamples(np.zeros((1, 8, 90), np.float32)).factorize(), 127
    )
    np.testing.assert_array_equal(q, np.rint(rows / 0.1))


def test_rows_are_weighed_by_the_moments():
    samples = samples_of(4, 2, 12, 70)
    rows = np.random.default_rng(5).normal(0, 1, (2, 3, 70))
    np.testing.assert_allclose(
        FewSamples(samples).weigh(rows), rows @ second_moments(samples), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(("count", "kind"), [(35, FewSamples), (36, Moments)])
def test_up_to_half_as_many_samples_as_weights_are_few(count, kind):
    inputs = inputs_of(samples_of(6, 3, count, 70))
    assert type(inputs) is kind and inputs.groups == 3
