"""Both forms of the regression are the same one, and what they say of themselves is true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mz.quantize.covariance import correlation, second_moments
from mz.quantize.ridge import BySamples, ByWeights, halved, inputs_by_halves, joined
from mz.quantize.uptake import FewSamples, Moments


def data(groups: int, count: int, size: int, outputs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(groups, count, wide)).astype(np.float32) for wide in (size, outputs))


def both(samples: np.ndarray, errors: np.ndarray) -> tuple[ByWeights, BySamples]:
    weights = ByWeights(second_moments(samples), correlation(samples, errors), samples.shape[1])
    return weights, BySamples(samples, errors, second_moments(samples.transpose(0, 2, 1)))


@given(
    st.integers(1, 3),
    st.integers(2, 40),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from([1.0, 0.1]),
    st.integers(0, 99),
)
def test_either_system_has_the_same_solution(groups, count, size, outputs, ridge, seed):
    samples, errors = data(groups, count, size, outputs, seed)
    weights, by_samples = both(samples, errors)
    found = weights.fit(ridge)
    assert by_samples.fit(ridge) == pytest.approx(found, rel=1e-3, abs=1e-4)
    assert by_samples.judge(found) == pytest.approx(weights.judge(found), rel=1e-3, abs=1e-4)


def test_the_judgement_is_what_the_fit_does_to_the_error():
    samples, errors = data(2, 30, 7, 3, 0)
    for regression in both(samples, errors):
        found = regression.fit(0.1)
        explained, added = regression.judge(found)
        rest = errors - np.matmul(samples, found)
        less = (np.square(errors, dtype=np.float64).sum() - np.square(rest, dtype=np.float64).sum()) / 30
        assert 2 * explained - added == pytest.approx(less, rel=1e-4)
        assert less > 0


def test_inputs_that_are_always_0_explain_nothing():
    samples, errors = data(1, 6, 9, 2, 0)
    for regression in both(0 * samples, errors):
        assert not regression.fit(1.0).any()


@pytest.mark.parametrize(
    ("count", "kind", "whole", "rounded_by"),
    [
        (80, ByWeights, ByWeights, Moments),
        (30, BySamples, ByWeights, Moments),
        (12, BySamples, BySamples, Moments),
        (10, BySamples, BySamples, FewSamples),
    ],
)
def test_halves_take_the_smaller_system_and_join_to_the_whole(count, kind, whole, rounded_by):
    samples, errors = data(2, count, 20, 3, 1)
    halves = halved(samples, errors, count // 2 - 1)
    assert {type(half) for half in halves} == {kind}
    assert [half.count for half in halves] == [count // 2 - 1, count // 2 + 1]
    inputs = inputs_by_halves(halves, samples)
    assert type(inputs) is rounded_by
    wanted = second_moments(samples) + inputs.d * np.eye(20)
    np.testing.assert_allclose(inputs.weigh(np.eye(20)[None]), wanted, rtol=1e-4, atol=1e-5)
    regression = joined(halves, samples, inputs)
    assert type(regression) is whole
    np.testing.assert_allclose(regression.fit(1.0), both(samples, errors)[0].fit(1.0), rtol=1e-3, atol=1e-4)
