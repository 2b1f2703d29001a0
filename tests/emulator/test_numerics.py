"""The formulas one by one: exact fractions, ties, saturation corners, and the bounds that the design rests on."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.emulator import naive

from mz.emulator import numerics
from mz.errors import UserError

QUIET = settings(max_examples=200, deadline=None, derandomize=True, database=None)
SCALES = st.floats(2.0**-30, 2.0**30, width=32).map(np.float32)


def test_ranges():
    assert [numerics.q_max(bits) for bits in (4, 8, 16)] == [15, 255, 65535]
    assert [numerics.weight_max(bits) for bits in (4, 8, 16)] == [7, 127, 32767]


@QUIET
@given(st.lists(st.integers(-(2**61), 2**61), min_size=1), st.integers(0, 40))
def test_shift_round_is_exact(values, shift):
    expected = [round(Fraction(value, 2**shift)) for value in values]
    assert numerics.shift_round(np.array(values), shift).tolist() == expected


def test_shift_round_sends_ties_to_even():
    halves = np.arange(-7, 8, 2)
    assert numerics.shift_round(halves, 1).tolist() == [-4, -2, -2, 0, 0, 2, 2, 4]


def test_quantize_rounds_ties_to_even_before_adding_the_zero_point():
    x = np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    assert numerics.quantize(x, np.float32(1), 3, 8).tolist() == [1, 3, 3, 5, 5]


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_quantize_saturates(bits):
    x = np.array([-np.inf, -3e38, 3e38, np.inf], np.float32)
    top = 2**bits - 1
    for zero in (0, 1, top):
        assert numerics.quantize(x, np.float32(1e-3), zero, bits).tolist() == [0, 0, top, top]


def test_quantize_refuses_what_is_no_number():
    with pytest.raises(AssertionError):
        numerics.quantize(np.array([np.nan], np.float32), np.float32(1), 0, 8)


@pytest.mark.parametrize(
    ("acc", "m", "zero", "expected"),
    [
        (1, 0.5, 0, 0),  # 0.5 -> 0
        (3, 0.5, 0, 2),  # 1.5 -> 2
        (5, 0.5, 0, 2),  # 2.5 -> 2
        (-1, 0.5, 3, 3),
        (-3, 0.5, 3, 1),
        (1, 0.5, 3, 3),  # the zero point is added after rounding
        (2**24 + 1, 2.0**-17, 0, 128),  # the accumulator becomes float32 first
        (2**24 + 3, 2.0**-24, 0, 1),
        (2**31 - 1, 1.0, 5, 255),
        (-(2**31), 1.0, 5, 0),
        (2**52, 3e38, 5, 255),  # the product overflows to infinity
        (-(2**52), 3e38, 5, 0),
        (2**52, 0.0, 5, 5),
        (2**31 - 1, 1e-45, 5, 5),
    ],
)
def test_requantize_corners(acc, m, zero, expected):
    m = np.float32(m)
    assert numerics.requantize(np.array([acc]), m, zero, 0, 255).tolist() == [expected]
    assert naive.requantize(acc, m, zero, 0, 255) == expected


@QUIET
@given(
    st.lists(st.integers(-(2**52), 2**52), min_size=1),
    st.floats(0, 2.0**40, width=32),
    st.integers(0, 65535),
    st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(sorted),
)
def test_requantize(accs, m, zero, bounds):
    got = numerics.requantize(np.array(accs), np.float32(m), zero, *bounds)
    assert got.tolist() == [naive.requantize(acc, np.float32(m), zero, *bounds) for acc in accs]


@pytest.mark.parametrize("wide", [False, True])
@QUIET
@given(SCALES, SCALES, st.floats(2.0**-14, 2.0**20))
def test_sum_ratios_keep_every_partial_sum_exact(wide, scale_a, scale_b, factor):
    scale_y = np.float32(max(float(scale_a), float(scale_b)) * factor)
    ratios = numerics.sum_ratios(scale_a, scale_b, scale_y, wide)
    top, exact = (65535, 2**53) if wide else (255, 2**24)
    terms = (ratios.a * top, -ratios.a * top, ratios.b * top, -ratios.b * top, top << ratios.shift)
    assert sum(term for term in terms if term > 0) < exact
    assert sum(term for term in terms if term < 0) > -exact
    for ratio, scale in ((ratios.a, scale_a), (ratios.b, scale_b)):
        assert ratio / 2**ratios.shift == pytest.approx(
            float(scale) / float(scale_y), abs=0.5 / 2**ratios.shift, rel=1e-15
        )


@QUIET
@given(st.floats(2.0**-6, 2.0), st.floats(2.0**-6, 2.0))
def test_sum_ratios_are_fine_enough_for_ordinary_scales(ra, rb):
    """Their error moves an 8-bit result by less than 1/32 of a step, a 16-bit one by less than 2^-16."""
    for wide, top, error in ((False, 255, 1 / 32), (True, 65535, 2.0**-16)):
        ratios = numerics.sum_ratios(np.float32(ra), np.float32(rb), np.float32(1), wide)
        assert top * (0.5 + 0.5) / 2**ratios.shift <= error


def test_sum_ratios_refuse_scales_that_dwarf_the_output():
    with pytest.raises(UserError, match="dwarf"):
        numerics.sum_ratios(np.float32(1e6), np.float32(1), np.float32(1), wide=False)


@pytest.mark.parametrize("seed", range(6))
def test_add_in_float32_is_exact_in_any_order_and_with_fused_multiply_add(seed):
    """All 65,536 pairs: the sum in float32, in every order of its five terms, rounds to the integer result.

    No partial sum was rounded, so a fused multiply-add, which rounds less often, cannot differ.
    """
    rng = np.random.default_rng(seed)
    scales = [np.float32(value) for value in 2.0 ** rng.uniform(-4, 2, 3)]
    r = numerics.sum_ratios(*scales, wide=False)
    za, zb, zero = (int(z) for z in rng.choice([0, 1, 127, 128, 254, 255], 3))
    qa, qb = np.meshgrid(np.arange(256), np.arange(256))
    expected = numerics.add(qa, za, qb, zb, r, zero, 0, 255)
    one = np.float32(2.0**-r.shift)
    fa, fb = np.float32(r.a) * one, np.float32(r.b) * one
    separate = [
        qa.astype(np.float32) * fa,
        np.float32(-za) * fa,
        qb.astype(np.float32) * fb,
        np.float32(-zb) * fb,
        np.float32(zero),
    ]
    for order in itertools.permutations(separate):
        total = np.float32(0)
        for term in order:
            total = total + term
        assert total.dtype == np.float32
        np.testing.assert_array_equal(np.clip(np.rint(total), 0, 255), expected)


@pytest.mark.parametrize("zero", [0, 2, 128, 254])
def test_an_even_zero_point_may_be_added_on_either_side_of_the_rounding(zero):
    values = np.arange(-1024, 1025) / 4
    np.testing.assert_array_equal(np.rint(values) + zero, np.rint(values + zero))


@pytest.mark.parametrize("wide", [False, True])
@QUIET
@given(SCALES, SCALES, st.floats(2.0**-6, 2.0**14))
def test_product_scale_makes_the_ratio_exact(wide, scale_a, scale_b, factor):
    """The new scale is at most 1/127 larger than asked for; its ratio is k / 2^shift to float32's rounding."""
    asked = np.float32(float(scale_a) * float(scale_b) * factor)
    scale = numerics.product_scale(scale_a, scale_b, asked, wide)
    ratio = numerics.product_ratio(scale_a, scale_b, scale, wide)
    assert 1 <= ratio.factor <= (2**20 - 1 if wide else 255)
    wanted = float(scale_a) * float(scale_b) / float(scale)
    assert ratio.factor / 2**ratio.shift == pytest.approx(wanted, rel=2.0**-23)
    assert numerics.product_scale(scale_a, scale_b, scale, wide) == scale
    if factor <= 2.0**8:  # with k of 8 significant bits, which 16 fraction bits leave up to here
        assert float(asked) * (1 - 2**-21) <= float(scale) <= float(asked) * (1 + 1 / 127)


@pytest.mark.parametrize(
    ("zero", "shift", "factor"), [(0, 16, 255), (1, 16, 255), (255, 16, 129), (77, 8, 255)]
)
def test_multiply_in_float32_is_exact(zero, shift, factor):
    """All 65,536 pairs: float32 with the zero point added before the rounding equals the integers."""
    qa, qb = np.meshgrid(np.arange(256), np.arange(256))
    for za, zb in itertools.product((0, 13, 255), repeat=2):
        ratio = numerics.ProductRatio(factor, shift)
        expected = numerics.multiply(qa, za, qb, zb, ratio, zero, 0, 255)
        scaled = (qa - za).astype(np.float32) * np.float32(factor / 2**shift)
        total = scaled * (qb - zb).astype(np.float32) + np.float32(zero)
        np.testing.assert_array_equal(np.clip(np.rint(total), 0, 255), expected)
        exact = [
            [
                min(255, max(0, round(Fraction(factor * (a - za) * (b - zb), 2**shift) + zero)))
                for a in (0, 1, 200, 255)
            ]
            for b in (0, 3, 255)
        ]
        np.testing.assert_array_equal(expected[np.ix_([0, 3, 255], [0, 1, 200, 255])], exact)


def test_product_ratio_refuses_an_output_scale_that_is_too_small():
    with pytest.raises(UserError, match="too small"):
        numerics.product_ratio(np.float32(100), np.float32(100), np.float32(1), wide=False)


@pytest.mark.parametrize(
    ("clip", "scale", "zero", "bits", "expected"),
    [
        ((-math.inf, math.inf), 1.0, 3, 8, (0, 255)),
        ((0.0, math.inf), 0.5, 3, 8, (3, 255)),
        ((0.0, 6.0), 0.5, 3, 8, (3, 15)),
        ((0.0, 6.0), 0.5, 10, 4, (10, 15)),
        ((0.25, 0.75), 0.5, 0, 8, (0, 2)),  # 0.5 -> 0, 1.5 -> 2
        ((-1e30, 1e30), 1e-20, 3, 16, (0, 65535)),
        ((-9.0, -8.0), 1.0, 0, 8, (0, 0)),
        ((300.0, 400.0), 1.0, 0, 8, (255, 255)),
    ],
)
def test_clip_bounds(clip, scale, zero, bits, expected):
    assert numerics.clip_bounds(clip, np.float32(scale), zero, bits) == expected


@QUIET
@given(SCALES, SCALES, SCALES)
def test_multiplier_is_two_float32_operations(scale_x, scale_w, scale_y):
    got = numerics.multiplier(scale_x, np.array([scale_w]), scale_y)
    assert got.dtype == np.float32
    assert got[0] == naive.multiplier(scale_x, scale_w, scale_y)
