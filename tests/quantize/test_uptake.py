"""By few samples as by second moments: the same factor, and the same integers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mz.quantize import uptake
from mz.quantize.covariance import second_moments
from mz.quantize.rounded_scales import round_with_scales
from mz.quantize.rounding import round_second_order
from mz.quantize.uptake import Factor, FewSamples, Moments, blocks, inputs_by_moments, inputs_of


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


def both(samples: np.ndarray) -> tuple[FewSamples, Moments]:
    moments = inputs_by_moments(second_moments(samples), samples.shape[1])
    return FewSamples(samples, moments.d), moments


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6), groups=st.integers(1, 3), count=st.integers(1, 20), size=st.integers(2, 60)
)
def test_it_is_the_inverse_of_the_damped_moments(seed, groups, count, size):
    samples = samples_of(seed, groups, count, size)
    few, moments = both(samples)
    found, wanted = few.factorize(), moments.factorize()
    np.testing.assert_array_equal(found.order, wanted.order)
    for group, order in enumerate(found.order):
        damped = moments.moments[group] + moments.d[group] * np.eye(size)
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
    one, other = (round_with_scales(rows, scale, inputs, bits) for inputs in both(samples))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_allclose(one[1], other[1], rtol=1e-6)


def test_inputs_that_are_always_0_round_to_nearest():
    rows = np.random.default_rng(3).normal(0, 1, (1, 4, 90))
    inputs = inputs_of(np.zeros((1, 8, 90), np.float32))
    q = round_second_order(rows, np.full((1, 4), 0.1), inputs.factorize(), 127)
    np.testing.assert_array_equal(q, np.rint(rows / 0.1))


def test_rows_are_weighed_by_the_damped_moments():
    samples = samples_of(4, 2, 12, 70)
    rows = np.random.default_rng(5).normal(0, 1, (2, 3, 70))
    few, moments = both(samples)
    wanted = rows @ (second_moments(samples) + moments.d * np.eye(70))
    for inputs in (few, moments):
        np.testing.assert_allclose(inputs.weigh(rows), wanted, rtol=1e-6, atol=1e-6)


def test_few_images_are_trusted_less_and_many_alike():
    """Rounded by 40 samples of 60 weights, on 2,000 others: not much worse than to nearest, as a 1 % damping was."""
    ratios, trusting = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        mix = rng.normal(0, 1, (60, 60))
        seen, unseen = (rng.normal(0, 1, (count, 60)) @ mix for count in (40, 2000))
        rows = rng.normal(0, 1, (1, 20, 60))
        scale = np.abs(rows).max(axis=2) / 7
        inputs = inputs_of(seen.astype(np.float32)[None])
        power = np.square(seen).mean()
        for found, d in ((ratios, inputs.d), (trusting, np.full((1, 1, 1), 0.01 * power))):
            q = round_second_order(rows, scale, dataclasses.replace(inputs, d=d).factorize(), 7)
            found.append(
                power_of(rows, scale, q, unseen)
                / power_of(rows, scale, np.rint(rows / scale[..., None]), unseen)
            )
    assert np.mean(ratios) < 1.02 < np.mean(trusting)


def power_of(rows, scale, q, x) -> float:
    return float(np.square((rows - scale[..., None] * q)[0] @ x.T).sum())


@pytest.mark.parametrize(("count", "kind"), [(35, FewSamples), (36, Moments)])
def test_up_to_half_as_many_samples_as_weights_are_few(count, kind):
    inputs = inputs_of(samples_of(6, 3, count, 70))
    assert type(inputs) is kind and inputs.groups == 3
