"""Rounding that gradients pass: exact integers forward, the function without its rounding backward.

The straight-through estimator (Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013).
A clipped value passes no gradient to what was clipped, but to the bound that clipped it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class Instead(torch.autograd.Function):
    """`hard` forward, to the bit; backward as if it were `soft`."""

    @staticmethod
    def forward(ctx: Any, soft: Tensor, hard: Tensor) -> Tensor:
        return hard.to(soft.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def instead(soft: Tensor, hard: Tensor) -> Tensor:
    """`hard` [*soft.shape], with the gradient of `soft`."""
    found: Tensor = Instead.apply(soft, hard)
    return found


def rounded(soft: Tensor) -> Tensor:
    """rne(soft), with the gradient of `soft`."""
    return instead(soft, torch.round(soft.detach()))


class Requantize(torch.autograd.Function):
    """clip(rne(sums * m + offset) - offset, low, high): one node, so that no step but the product is kept."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor, m: Tensor | None, offset: float, low: Tensor, high: Tensor) -> Tensor:
        # The bounds of m's kind are float32 operations, as numerics.requantize says, whatever type the sums have.
        p = sums if m is None else sums.to(torch.float32) * m
        y = torch.round(p + offset).sub_(offset) if offset else torch.round(p)
        y = y.clamp_(float(low), float(high))
        ctx.save_for_backward(p, m, low, high)
        return y.to(sums.dtype)

    @staticmethod
    def backward(
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, Tensor | None, Tensor | None]:
        p, m, low, high = ctx.saved_tensors
        needs_sums, needs_m, _, needs_low, needs_high = ctx.needs_input_grad
        g = grads[0].to(p.dtype)
        inside = torch.ops.aten.hardtanh_backward(g, p, float(low), float(high))
        to_m = None
        if needs_m:  # of a slope of 0 nothing is learned
            to_m = torch.where(m == 0, 0.0, (inside * p).sum_to_size(m.shape) / m)
        to_low = torch.where(p <= low, g, 0.0).sum().to(low.dtype) if needs_low else None
        to_high = torch.where(p >= high, g, 0.0).sum().to(high.dtype) if needs_high else None
        to_sums = None
        if needs_sums:
            to_sums = (inside if m is None else inside.mul_(m)).to(grads[0].dtype)
        return to_sums, to_m, None, to_low, to_high


def requantize(sums: Tensor, m: Tensor | None, low: Tensor, high: Tensor, offset: float = 0.0) -> Tensor:
    """Centred integers clip(rne(sums * m + offset) - offset, low, high).

    m: float32 that broadcasts to sums; None is 1. offset: a zero point that takes part in the rounding.
    low, high: bounds [] less the zero point.
    """
    found: Tensor = Requantize.apply(sums, m, offset, low, high)
    return found


class Lookup(torch.autograd.Function):
    """table[index] forward; backward by tables of derivatives: to the integers, the input's scale, the output's."""

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, scale_x: Tensor, scale_y: Tensor, index: Tensor, table: Tensor, slopes: Tensor
    ) -> Tensor:
        ctx.save_for_backward(index, slopes)
        return table.index_select(0, index.reshape(-1)).reshape(index.shape).to(h.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        index, slopes = ctx.saved_tensors
        flat = index.reshape(-1)
        to_h = None
        if ctx.needs_input_grad[0]:
            to_h = slopes[0].index_select(0, flat).reshape(index.shape).to(grads[0].dtype) * grads[0]
        if not ctx.needs_input_grad[1] and not ctx.needs_input_grad[2]:
            return to_h, None, None, None, None, None
        weight = grads[0].reshape(-1).to(torch.float64)
        counts = torch.bincount(flat, weight, minlength=slopes.shape[1])
        to_x, to_y = ((counts * slope.to(torch.float64)).sum().to(torch.float32) for slope in slopes[1:])
        return to_h, to_x, to_y, None, None, None


def lookup(
    h: Tensor, scale_x: Tensor, scale_y: Tensor, index: Tensor, table: np.ndarray, slopes: np.ndarray
) -> Tensor:
    """Centred integers of a tabled function.

    h: centred input integers; index: int64, their places in `table` [T]. slopes [3, T]: derivatives of the output
    integer by the input integer, by scale_x and by scale_y.
    """
    found: Tensor = Lookup.apply(
        h,
        scale_x,
        scale_y,
        index,
        torch.from_numpy(table.astype(np.float32)).to(h.device),
        torch.from_numpy(slopes.astype(np.float32)).to(h.device),
    )
    return found
