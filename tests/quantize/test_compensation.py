"""Weights fitted to inputs that quantization has changed: what can be made good is, and noise is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mz.quantize import compensation
from mz.quantize.compensation import compensated
from mz.quantize.covariance import centred, second_moments


def problem(seed: int, groups: int = 2, places: int = 600, size: int = 6, channels: int = 3):
    """Float inputs about their mean, float weights, and what these make of those."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(0, 1, (groups, places, size)) @ rng.normal(0, 1, (groups, size, size))
    x = centred((50 * mixed).astype(np.float32))
    rows = rng.normal(0, 1, (groups, channels, size))
    return rng, x, rows, np.matmul(x, rows.transpose(0, 2, 1)).astype(np.float32)


def power(errors: np.ndarray) -> float:
    return float(np.square(errors, dtype=np.float64).mean())


def lacking(rows: np.ndarray, samples: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return wanted - np.matmul(samples, rows.transpose(0, 2, 1))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_what_the_inputs_lost_in_size_the_weights_win_back(seed):
    rng, x, rows, wanted = problem(seed)
    changed = (x * rng.uniform(0.8, 1.2, (2, 1, 6))).astype(np.float32)
    found, _ = compensated(rows, changed, wanted + 7, 300)
    assert power(lacking(found, changed, wanted)) < 0.75 * power(lacking(rows, changed, wanted))


@given(seed=st.integers(0, 10_000), places=st.sampled_from([20, 100, 1000]))
@settings(max_examples=60, deadline=None)
def test_noise_that_no_weight_can_mend_is_hardly_fitted_to(seed, places):
    """Least squares on so few places would: on new ones it then errs by 1 + size / places and more."""
    rng, x, rows, wanted = problem(seed, places=places)
    noise = rng.normal(0, power(wanted) ** 0.5 / 10, wanted.shape).astype(np.float32)
    found, _ = compensated(rows, x, wanted + noise, places // 2)
    moved = np.matmul(problem(seed, places=4000)[1], (found - rows).transpose(0, 2, 1))
    assert power(moved) < 0.35 * power(noise)


def test_noise_alone_moves_less_than_least_squares_would():
    shares = []
    for seed in range(20):
        rng, x, rows, wanted = problem(seed, places=60)
        noise = rng.normal(0, 20, wanted.shape).astype(np.float32)
        found, _ = compensated(rows, x, wanted + noise, 30)
        fitted = np.stack(
            [np.linalg.lstsq(one, other, rcond=None)[0].T for one, other in zip(x, noise, strict=True)]
        )
        shares.append(
            power(np.matmul(x, (found - rows).transpose(0, 2, 1))) / power(x @ fitted.transpose(0, 2, 1))
        )
    assert np.median(shares) < 0.05


def test_moments_are_those_of_all_samples():
    _, x, rows, wanted = problem(3)
    _, inputs = compensated(rows, x, wanted, 217)
    np.testing.assert_allclose(inputs.moments, second_moments(x), rtol=1e-5)


def test_a_weight_of_zero_stays_zero():
    rng, x, rows, wanted = problem(4)
    rows[0, 1, 2] = rows[1, :, 0] = 0
    changed = (x * rng.uniform(0.7, 0.9, (2, 1, 6))).astype(np.float32)
    found, _ = compensated(rows, changed, wanted, 300)
    assert not np.array_equal(found, rows)
    np.testing.assert_array_equal(found == 0, rows == 0)


@pytest.mark.parametrize("half", [0, 1, 599, 600])
def test_without_other_images_to_judge_by_nothing_moves(half):
    _, x, rows, wanted = problem(5)
    found, inputs = compensated(rows, (0.8 * x).astype(np.float32), wanted, half)
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_array_equal(inputs.moments, second_moments((0.8 * x).astype(np.float32)))


def test_inputs_that_never_vary_move_nothing():
    _, x, rows, wanted = problem(6)
    found, inputs = compensated(rows, np.zeros_like(x), wanted, 300)
    np.testing.assert_array_equal(found, rows)
    assert not inputs.moments.any()


def test_a_few_clipped_values_do_not_decide(monkeypatch):
    """Large errors at a handful of places, as where a range clips: the others come out better with them bounded."""

    def left() -> float:
        rng, x, rows, wanted = problem(7)
        wild = wanted.copy()
        at = rng.choice(600, 12, replace=False)
        wild[:, at] += 40 * wanted[:, at]
        found, _ = compensated(rows, x, wild, 300)
        return power(np.delete(lacking(found, x, wanted), at, axis=1))

    bounded = left()
    monkeypatch.setattr(compensation, "_OUTLIER", np.inf)
    assert bounded < 0.2 * left()
