"""Second-order rounding: what it must keep, and that it pays where inputs are alike."""

from __future__ import annotations

import numpy as np
import pytest

from mz.quantize import rounding, uptake
from mz.quantize.uptake import inputs_by_moments

SAMPLES = 400


def correlated(rng: np.random.Generator, size: int, strength: float, samples: int = SAMPLES) -> np.ndarray:
    """Second moments [size, size] of inputs that share one signal."""
    shared = rng.normal(0, 1, (samples, 1))
    x = strength * shared + (1 - strength) * rng.normal(0, 1, (samples, size))
    return x.T @ x / samples


def round_second_order(rows, scale, moments, top):
    return rounding.round_second_order(rows, scale, inputs_by_moments(moments, SAMPLES).factorize(), top)


def problem(seed: int, top: int, out: int = 6, size: int = 40):
    """Weights [1, O, K] and the scales [1, O] of their largest."""
    rows = np.random.default_rng(seed).normal(0, 1, (1, out, size))
    return rows, np.abs(rows).max(axis=2) / top


def nearest(rows, scale, top):
    return np.clip(np.rint(rows / scale[..., None]), -top, top).astype(np.int64)


def output_error(rows, scale, q, moments) -> float:
    rest = rows - scale[..., None] * q
    return float(np.einsum("gok,gkl,gol->", rest, moments, rest))


@pytest.mark.parametrize("top", [7, 127])
def test_it_beats_nearest_on_correlated_inputs(top):
    ratios = []
    for seed in range(12):
        rows, scale = problem(seed, top)
        moments = correlated(np.random.default_rng(seed + 100), 40, 0.7)[None]
        found = output_error(rows, scale, round_second_order(rows, scale, moments, top), moments)
        ratios.append(found / output_error(rows, scale, nearest(rows, scale, top), moments))
    assert np.mean(ratios) < 0.6
    assert max(ratios) < 1


def test_it_is_no_worse_on_average_on_nearly_independent_inputs():
    ratios = []
    for seed in range(12):
        rows, scale = problem(seed, 7)
        moments = correlated(np.random.default_rng(seed + 200), 40, 0.05)[None]
        found = output_error(rows, scale, round_second_order(rows, scale, moments, 7), moments)
        ratios.append(found / output_error(rows, scale, nearest(rows, scale, 7), moments))
    assert np.mean(ratios) < 1


@pytest.mark.parametrize("top", [7, 127, 32767])
def test_independent_inputs_round_to_nearest(top):
    rows, scale = problem(3, top)
    moments = np.diag(np.random.default_rng(4).uniform(0.1, 9, 40))[None]
    np.testing.assert_array_equal(round_second_order(rows, scale, moments, top), nearest(rows, scale, top))


def test_dead_inputs_round_to_nearest_and_disturb_nothing():
    rows, scale = problem(5, 7)
    moments = correlated(np.random.default_rng(6), 40, 0.7)[None]
    dead = np.arange(0, 40, 3)
    alive = np.setdiff1d(np.arange(40), dead)
    moments[:, dead, :] = moments[:, :, dead] = 0
    q = round_second_order(rows, scale, moments, 7)
    np.testing.assert_array_equal(q[:, :, dead], nearest(rows, scale, 7)[:, :, dead])
    assert output_error(rows, scale, q, moments) < output_error(rows, scale, nearest(rows, scale, 7), moments)
    assert (q[:, :, alive] != nearest(rows, scale, 7)[:, :, alive]).any()


def test_without_any_input_all_is_nearest():
    rows, scale = problem(7, 7)
    q = round_second_order(rows, scale, np.zeros((1, 40, 40)), 7)
    np.testing.assert_array_equal(q, nearest(rows, scale, 7))


@pytest.mark.parametrize("size", [1, 9, 64, 65, 150])
def test_groups_are_rounded_each_alone(size):
    """150 weights span three blocks."""
    rng = np.random.default_rng(8)
    rows = rng.normal(0, 1, (3, 4, size))
    scale = np.abs(rows).max(axis=2) / 7
    moments = np.stack([correlated(rng, size, strength) for strength in (0.2, 0.6, 0.9)])
    together = round_second_order(rows, scale, moments, 7)
    for g in range(3):
        alone = round_second_order(rows[g : g + 1], scale[g : g + 1], moments[g : g + 1], 7)
        np.testing.assert_array_equal(together[g : g + 1], alone)


def test_blocks_change_nothing(monkeypatch):
    rows, scale = problem(9, 7, size=100)
    moments = correlated(np.random.default_rng(10), 100, 0.5)[None]
    found = round_second_order(rows, scale, moments, 7)
    monkeypatch.setattr(uptake, "_BLOCK", 1000)
    np.testing.assert_array_equal(round_second_order(rows, scale, moments, 7), found)


def test_it_equals_least_squares_done_one_weight_at_a_time():
    """The judge: after each rounding solve anew for all weights left, with no Cholesky factor."""
    rows, scale = problem(11, 7, out=40, size=12)
    moments = correlated(np.random.default_rng(12), 12, 0.6)
    damped = moments + 12 / SAMPLES * np.diag(moments).mean() * np.eye(12)
    order = np.argsort(-np.diag(moments), kind="stable")
    q = np.zeros((40, 12))
    for row in range(40):
        target = rows[0, row] / scale[0, row]
        current = target.copy()
        for done in range(12):
            q[row, order[done]] = np.clip(np.rint(current[order[done]]), -7, 7)
            fixed, free = order[: done + 1], order[done + 1 :]
            error = q[row, fixed] - target[fixed]
            current[free] = target[free] - np.linalg.solve(
                damped[np.ix_(free, free)], damped[np.ix_(free, fixed)] @ error
            )
    np.testing.assert_array_equal(round_second_order(rows, scale, moments[None], 7)[0], q)


def test_magnitudes_stay_within_the_largest_and_inputs_untouched():
    rows, scale = problem(13, 7)
    scale = scale * 0.4
    moments = correlated(np.random.default_rng(14), 40, 0.9)[None]
    before = rows.copy(), scale.copy(), moments.copy()
    q = round_second_order(rows, scale, moments, 7)
    assert q.dtype == np.int64 and np.abs(q).max() == 7
    for kept, given in zip(before, (rows, scale, moments), strict=True):
        np.testing.assert_array_equal(kept, given)
    np.testing.assert_array_equal(round_second_order(rows, scale, moments, 7), q)
