"""The arithmetic of mz: one pure function per formula of docs/numerics.md, over numpy arrays.

Every engine and every artefact is judged by these functions. They hold no state, know no layers, and assert the ranges
for which they are exact. Rounding is always to nearest, ties to even (rne). "One float32 operation" means one IEEE 754
binary32 operation with its result rounded to binary32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mz.errors import UserError

FLOAT32_EXACT = 1 << 24
"""All integers of smaller magnitude are float32 values."""
FLOAT64_EXACT = 1 << 53
INT32_LIMIT = 1 << 31

_NARROW_SUM = 65_793
"""255 * 65793 = 2^24 - 1: what keeps every partial sum of an 8-bit addition a float32 integer."""
_NARROW_SHIFT, _NARROW_FACTOR = 16, (1 << 8) - 1
_WIDE_SHIFT, _WIDE_FACTOR = 34, (1 << 20) - 1


def q_max(bits: int) -> int:
    """Largest unsigned integer of `bits` bits."""
    return (1 << bits) - 1


def weight_max(bits: int) -> int:
    """Largest magnitude of a symmetric signed weight of `bits` bits: 7, 127, 32767."""
    return (1 << (bits - 1)) - 1


def quantize(x: np.ndarray, scale: np.float32, zero_point: int, bits: int) -> np.ndarray:
    """q = clip(rne(x / s) + z, 0, 2^bits - 1); x float32 of any shape -> int32.

    The division is one float32 operation. Values that are not numbers are refused (AssertionError).
    """
    assert not np.isnan(x).any(), "not a number in a tensor to be quantized"
    with np.errstate(over="ignore"):  # infinity saturates like any large value
        ratio = np.rint(np.asarray(x, np.float32) / np.float32(scale))
    return np.clip(ratio, -zero_point, q_max(bits) - zero_point).astype(np.int32) + zero_point


def multiplier(scale_x: np.float32, scale_w: np.ndarray, scale_y: np.float32) -> np.ndarray:
    """m = (s_x * s_w) / s_y, two float32 operations in this order; s_w of any shape -> float32 of that shape.

    Raises UserError where it is no number or infinite.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        product = np.float32(scale_x) * np.asarray(scale_w, np.float32)
        m = np.asarray(product / np.float32(scale_y), np.float32)
    if not np.isfinite(m).all():
        raise UserError(f"the output's scale ({scale_y:g}) is too small for an input's of {scale_x:g}")
    return m


def matrix_scale(scale_b: np.float32, factor: float) -> np.ndarray:
    """s_b f of a product of matrices, one float32 operation on the factor as float32 has it; its multiplier is that of
    weights with this scale.
    """
    return np.asarray(np.float32(scale_b) * np.float32(factor))


def requantize(
    acc: np.ndarray, m: np.ndarray, zero_point: int, low: int, high: int, below: np.ndarray | None = None
) -> np.ndarray:
    """q = clip(rne(f32(acc) * m) + z, low, high); acc exact integers of any type, m float32 that broadcasts to acc
    -> int32. below: what stands for m where acc < 0 (of a PReLU).

    f32(acc) rounds to nearest even; the product is one float32 operation; |low|, |high| <= 2^24.
    """
    assert -FLOAT32_EXACT <= low <= high <= FLOAT32_EXACT
    single = acc.astype(np.float32, copy=False)
    with np.errstate(over="ignore"):  # infinity saturates like any large value
        product = np.asarray(single * (m if below is None else np.where(single < 0, below, m)))
    np.rint(product, out=product)
    np.clip(product, low - zero_point, high - zero_point, out=product)
    product += np.float32(zero_point)  # exact within 16 bits, and nothing beyond comes in by it
    return product.astype(np.int32)


def shift_round(value: np.ndarray, shift: int) -> np.ndarray:
    """rne(value / 2^shift) in integers alone; value int64 of any shape, |value| < 2^62, 0 <= shift <= 40 -> int64."""
    assert 0 <= shift <= 40
    if shift == 0:
        return value
    odd = (value >> shift) & 1
    return (value + ((1 << (shift - 1)) - 1) + odd) >> shift


@dataclass(frozen=True, slots=True)
class SumRatios:
    """s_a / s_y ~ a / 2^shift and s_b / s_y ~ b / 2^shift."""

    a: int
    b: int
    shift: int


def sum_ratios(scale_a: np.float32, scale_b: np.float32, scale_y: np.float32, wide: bool) -> SumRatios:
    """Fixed-point ratios of an addition: the largest shift for which no partial sum can leave the exact range.

    Narrow (every tensor at most 8 bits): a + b + 2^shift <= 65793, so that all partial sums of
    a (q_a - z_a) + b (q_b - z_b) + 2^shift z_y, in any order, are float32 integers. Wide: a, b and 2^shift
    below 2^34, so that the same holds in float64. Raises UserError where an input's scale is so much larger
    than the output's that no shift will do.
    """
    ra, rb = float(scale_a) / float(scale_y), float(scale_b) / float(scale_y)
    for shift in range(_WIDE_SHIFT if wide else _NARROW_SHIFT, -1, -1):
        a, b = round(ra * (1 << shift)), round(rb * (1 << shift))
        if max(a, b) < 1 << _WIDE_SHIFT if wide else a + b + (1 << shift) <= _NARROW_SUM:
            return SumRatios(a, b, shift)
    raise UserError(f"the inputs' scales ({scale_a:g}, {scale_b:g}) dwarf the output's ({scale_y:g})")


def add(
    qa: np.ndarray, za: int, qb: np.ndarray, zb: int, ratios: SumRatios, zero_point: int, low: int, high: int
) -> np.ndarray:
    """q = clip(rne((a (q_a - z_a) + b (q_b - z_b)) / 2^shift + z), low, high); integers, broadcast -> int32.

    The rounding takes in the zero point. A subtraction passes -b.
    """
    total = ratios.a * (qa.astype(np.int64) - za) + ratios.b * (qb.astype(np.int64) - zb)
    rounded = shift_round(total + (zero_point << ratios.shift), ratios.shift)
    return np.clip(rounded, low, high).astype(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class AffineSum:
    """a (q_a - z_a) + b (q_b - z_b) + offset, by channel: integers, in units of `unit` output steps each.

    a, b, offset: int64 [C]. unit: float32 [C], powers of 2.
    """

    a: np.ndarray
    b: np.ndarray
    offset: np.ndarray
    unit: np.ndarray


def affine_sum(
    ratio_a: np.ndarray, ratio_b: np.ndarray, offset: np.ndarray, reach_a: int, reach_b: int, wide: bool
) -> AffineSum:
    """Fixed-point numbers of a sum with a factor and an offset for each channel.

    ratio_a, ratio_b, offset: float64 [C], in output steps. reach_a, reach_b: the largest |q - z| of the operands.
    A channel's unit is the smallest power of 2, not below 2^-16 (narrow) or 2^-34 (wide), with which the largest sum of
    magnitudes is at most 2^23 or 2^51: every partial sum is below 2^24 or 2^53 then, whatever a, b and offset were
    rounded to, so that float32 or float64 holds it exactly. Raises UserError where no float32 is such a unit.
    """
    most = np.abs(ratio_a) * reach_a + np.abs(ratio_b) * reach_b + np.abs(offset)
    limit, finest = (FLOAT64_EXACT / 4, _WIDE_SHIFT) if wide else (FLOAT32_EXACT / 2, _NARROW_SHIFT)
    if not (most < limit * 2.0**100).all():
        raise UserError("the output's scale is too small for its inputs' scales and its offsets")
    fraction, exponent = np.frexp(np.maximum(most / limit, 2.0**-finest))
    unit = np.ldexp(1.0, exponent - (fraction == 0.5))
    a, b, steps = (np.rint(value / unit).astype(np.int64) for value in (ratio_a, ratio_b, offset))
    return AffineSum(a, b, steps, unit.astype(np.float32))


def below_zero(multiplier: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """What a PReLU makes of multipliers where sums are below 0: one float32 operation, both [C].

    Raises UserError where it is infinite.
    """
    with np.errstate(over="ignore"):
        below = multiplier * slope
    if not np.isfinite(below).all():
        raise UserError(f"its PReLU has a slope of {np.abs(slope).max():g}, too large for the output's scale")
    return below


@dataclass(frozen=True, slots=True)
class ProductRatio:
    """s_a s_b / s_y ~ factor / 2^shift."""

    factor: int
    shift: int


def product_ratio(scale_a: np.float32, scale_b: np.float32, scale_y: np.float32, wide: bool) -> ProductRatio:
    """Fixed-point ratio of a multiplication: 8 significant bits where all tensors have at most 8, else 20.

    The quantizer picks s_y such that this ratio is exact (`product_scale`). Raises UserError where s_y is too small.
    """
    ratio = float(scale_a) * float(scale_b) / float(scale_y)
    limit, most = (_WIDE_FACTOR, _WIDE_SHIFT) if wide else (_NARROW_FACTOR, _NARROW_SHIFT)
    for shift in range(most, -1, -1):
        factor = round(ratio * (1 << shift))
        if factor <= limit:
            return ProductRatio(factor, shift)
    raise UserError(
        f"the output's scale ({scale_y:g}) is too small for the product of {scale_a:g} and {scale_b:g}"
    )


def product_scale(scale_a: np.float32, scale_b: np.float32, scale_y: np.float32, wide: bool) -> np.float32:
    """The smallest output scale not below `scale_y` for which s_a s_b / s_y is a fixed-point ratio k / 2^shift.

    Exact up to the rounding of a float32 scale; applied to its own result it changes nothing.
    """
    product = float(scale_a) * float(scale_b)
    limit, most = (_WIDE_FACTOR, _WIDE_SHIFT) if wide else (_NARROW_FACTOR, _NARROW_SHIFT)
    ratio = product / float(scale_y) * (1 + 2**-22)  # what the rounding of scales to float32 takes away
    shift = max(0, min(most, math.floor(math.log2(limit / ratio))))
    factor = max(1, min(limit, math.floor(ratio * (1 << shift))))
    return np.float32(product * (1 << shift) / factor)


def multiply(
    qa: np.ndarray,
    za: int,
    qb: np.ndarray,
    zb: int,
    ratio: ProductRatio,
    zero_point: int,
    low: int,
    high: int,
) -> np.ndarray:
    """q = clip(rne(k (q_a - z_a)(q_b - z_b) / 2^shift + z), low, high); integers, broadcast -> int32."""
    product = (qa.astype(np.int64) - za) * (qb.astype(np.int64) - zb) * ratio.factor
    rounded = shift_round(product + (zero_point << ratio.shift), ratio.shift)
    return np.clip(rounded, low, high).astype(np.int32)


def clip_bounds(clip: tuple[float, float], scale: np.float32, zero_point: int, bits: int) -> tuple[int, int]:
    """The integers [low, high] that a fused clip to real bounds leaves: rne(bound / s) + z, within the bits' range."""
    top = q_max(bits)
    bounds = [
        (0 if bound < 0 else top) if math.isinf(bound) else round(bound / float(scale)) + zero_point
        for bound in clip
    ]
    return min(max(bounds[0], 0), top), min(max(bounds[1], 0), top)


def interpolation_bits(bits: int) -> int:
    """Fraction bits of a bilinear weight along one axis, so that 2^bits * 4^fraction stays exact (24 or 53 bits)."""
    return 8 if bits <= 8 else 16


def interpolate(q: np.ndarray, rows: np.ndarray, columns: np.ndarray, fraction_bits: int) -> np.ndarray:
    """rne(R q C^T / 4^fraction_bits): q [N, C, H, W], rows [OH, H], columns [OW, W] integers -> int32 [N, C, OH, OW].

    Every row of R and C sums to 2^fraction_bits, so the zero point passes through unchanged.
    """
    total = rows.astype(np.float64) @ q.astype(np.float64) @ columns.astype(np.float64).T
    return shift_round(total.astype(np.int64), 2 * fraction_bits).astype(np.int32)
