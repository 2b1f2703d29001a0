"""Weight scales found together with second-order rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mz.quantize import rounded_scales
from mz.quantize.rounded_scales import round_with_scales
from mz.quantize.rounding import round_second_order
from mz.quantize.uptake import Moments, inputs_by_moments


def problem(seed: int, groups: int = 2, out: int = 5, size: int = 24, heavy: float = 3.0):
    """Weights [G, O, K] with a few large ones, scales [G, O] of the largest at 4 bits, second moments [G, K, K] of 300
    samples.
    """
    rng = np.random.default_rng(seed)
    rows = rng.standard_t(heavy, (groups, out, size))
    x = rng.normal(0, 1, (groups, 300, 1)) + rng.normal(0, 1, (groups, 300, size))
    return rows, np.abs(rows).max(axis=2) / 7, x.transpose(0, 2, 1) @ x / 300


def damped(moments):
    return moments + inputs_by_moments(moments, 300).d * np.eye(moments.shape[1])


def output_error(rows, scale, q, moments) -> np.ndarray:
    rest = rows - scale[..., None] * q
    return np.einsum("gok,gkl,gol->go", rest, moments, rest)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), heavy=st.floats(1.5, 30))
def test_the_integers_carry_the_whole_signal(seed, heavy):
    """The real output's regression on the integers' leaves nothing of it out, wherever they carry half of it."""
    rows, scale, moments = problem(seed, heavy=heavy)
    q, found = round_with_scales(rows, scale, inputs_by_moments(moments, 300), 4)
    moments = damped(moments)
    signal = np.einsum("gok,gkl,gol->go", rows, moments, rows)
    carried = found * np.einsum("gok,gkl,gol->go", rows, moments, q)
    np.testing.assert_allclose(carried, signal, rtol=1e-9)
    assert (found <= scale / rounded_scales._LEAST_SIGNAL).all()


def test_clipping_is_taken_where_the_output_gains():
    gained = []
    for seed in range(12):
        rows, scale, moments = problem(seed, heavy=2.0)
        q, found = round_with_scales(rows, scale, inputs_by_moments(moments, 300), 4)
        plain = round_second_order(rows, scale, inputs_by_moments(moments, 300).factorize(), 7)
        gained.append(output_error(rows, found, q, moments) / output_error(rows, scale, plain, moments))
    assert np.mean(gained) < 1


@pytest.mark.parametrize("bits", [8, 16])
def test_fine_weights_keep_the_scale_of_the_largest_but_for_a_trifle(bits):
    rows, scale, moments = problem(3)
    top = 2 ** (bits - 1) - 1
    scale = scale * 7 / top
    q, found = round_with_scales(rows, scale, inputs_by_moments(moments, 300), bits)
    np.testing.assert_allclose(found, scale, rtol=1 / top)  # the largest weight moves by less than a step
    assert np.abs(q).max() <= top


def test_one_scale_for_all():
    rows, scale, moments = problem(4)
    scale[:] = scale.max()
    q, found = round_with_scales(rows, scale, inputs_by_moments(moments, 300), 4, per_layer=True)
    assert len(np.unique(found)) == 1
    moments = damped(moments)
    signal = np.einsum("gok,gkl,gol->", rows, moments, rows)
    assert found[0, 0] * np.einsum("gok,gkl,gol->", rows, moments, q) == pytest.approx(signal, rel=1e-9)


def test_channels_without_weights_keep_their_scale_and_inputs_without_variance_keep_weights_close():
    rows, scale, moments = problem(5)
    rows[0, 1] = 0
    moments[1] = 0
    q, found = round_with_scales(rows, scale, inputs_by_moments(moments, 300), 4)
    assert not q[0, 1].any() and found[0, 1] == scale[0, 1]
    nearest = np.clip(np.rint(rows[1] / scale[1][:, None]), -7, 7)
    errors = [
        np.square(rows[1] - s[1][:, None] * n).sum(axis=1) for s, n in ((found, q[1]), (scale, nearest))
    ]
    assert (errors[0] <= errors[1]).all() and np.abs(q).max() <= 7


def test_integers_that_miss_most_of_the_signal_are_not_blown_up():
    """One huge weight on an input that never varies leaves nothing but zeros for the rest."""
    rows = np.array([[[1000.0, 0.3, -0.2, 0.25]]])
    moments = np.diag([0.0, 1.0, 1.0, 1.0])[None]
    q, found = round_with_scales(rows, np.array([[1000 / 7]]), Moments(moments, np.full((1, 1, 1), 1e-9)), 4)
    assert not q[0, 0, 1:].any() and found[0, 0] == pytest.approx(1000 / 7)
