"""Sums, differences and products of two tensors as torch functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mz.emulator import is_wide, layer_constants, numerics
from mz.emulator.constants import PreluSumConstants
from mz.graph import Add, Elementwise, Layer, Mul, Sub
from mz.quantize.learned.integers import Integers, bounds
from mz.quantize.learned.straight_through import instead, requantize


def elementwise(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    """Fixed-point ratios are powers of two below whole numbers: float types hold each product and sum exactly."""
    assert isinstance(layer, Elementwise)
    if isinstance(layer, Add) and layer.prelu:
        return _prelu_sum(layer, integers, inputs)
    a, b = inputs
    names = (*layer.inputs, layer.name)
    now = integers.present(*names)
    scale_a, scale_b, scale_y = (now.tensors[name].scale for name in names)
    real_a, real_b, real_y = (integers.scales[name].double() for name in names)
    wide = is_wide(layer, now)
    dtype = torch.float64 if wide else a.dtype
    if isinstance(layer, Mul):
        ratio = numerics.product_ratio(scale_a, scale_b, scale_y, wide)
        factor = instead(real_a * real_b / real_y, _fraction(ratio.factor, ratio.shift))
        total = a.to(dtype) * b.to(dtype) * factor.to(dtype)
    else:
        ratios = numerics.sum_ratios(scale_a, scale_b, scale_y, wide)
        first = instead(real_a / real_y, _fraction(ratios.a, ratios.shift)).to(dtype)
        second = instead(real_b / real_y, _fraction(ratios.b, ratios.shift)).to(dtype)
        total = a.to(dtype) * first
        total = total - b.to(dtype) * second if isinstance(layer, Sub) else total + b.to(dtype) * second
    zero = float(integers.tensors[layer.name].zero_point)
    return requantize(total, None, *bounds(layer, integers), offset=zero).to(a.dtype)


def _prelu_sum(layer: Add, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    """In output steps: units are powers of 2, so that the sums are the emulator's integers times them."""
    a, b = inputs
    names = (*layer.inputs, layer.name)
    now = integers.present(*names)
    constants = layer_constants(integers.graph, layer, integers.params, now)
    assert isinstance(constants, PreluSumConstants)
    real_a, real_b, real_y = (integers.scales[name].double() for name in names)
    channel = (-1, *(1,) * (a.ndim - 2))
    slope, factor, offset = (
        torch.from_numpy(integers.params[layer.name][name]).to(a.device).reshape(channel)
        for name in ("slope", "factor", "offset")
    )
    factor, offset = factor.double(), offset.double()  # a float32 would make all of them float32
    dtype = torch.float64 if is_wide(layer, now) else a.dtype

    def held(soft: Tensor, whole: np.ndarray) -> Tensor:
        hard = torch.from_numpy(whole * constants.sum.unit.astype(np.float64))
        return instead(soft, hard.to(a.device).reshape(channel)).to(dtype)

    total = a.to(dtype) * held(factor * (real_a / real_y), constants.sum.a)
    total = total + b.to(dtype) * held(factor * (real_b / real_y), constants.sum.b)
    total = total + held(offset / real_y, constants.sum.offset)
    m = torch.where(total.detach() < 0, slope, torch.ones_like(slope))
    return requantize(total, m, *bounds(layer, integers)).to(a.dtype)


def _fraction(numerator: int, shift: int) -> Tensor:
    return torch.tensor(numerator * 2.0**-shift, dtype=torch.float64)
