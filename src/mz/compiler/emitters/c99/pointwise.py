"""Sums, differences and products in C: integers that meet place by place."""

from __future__ import annotations

from typing import Any

import numpy as np

from mz.compiler.emitters.c99.layout import merged, storage_order, strides
from mz.compiler.emitters.c99.part import Context, Part, output_range
from mz.emulator.constants import PreluSumConstants, ProductConstants, SumConstants, is_wide


def add(context: Context, c: SumConstants | PreluSumConstants) -> Part:
    """A sum, or with a negative ratio a difference; the zero points are one constant."""
    if isinstance(c, PreluSumConstants):
        return _prelu_sum(context, c)
    part, ratios = Part(context), c.ratios
    fields = {
        "loops": _loops(context),
        "factor_a": _wide_number(ratios.a),
        "factor_b": _wide_number(ratios.b),
        "offset": _wide_number((c.zero_out << ratios.shift) - ratios.a * c.zero_a - ratios.b * c.zero_b),
        "wide": int(is_wide(context.layer, context.quantization)),
        "shift": ratios.shift,
        "low": c.low,
        "high": c.high,
    }
    part.call("mz_sum_run", "mz_sum", "layer", fields, "{x0}", "{x1}", "{y}")
    return part


def _prelu_sum(context: Context, c: PreluSumConstants) -> Part:
    part = Part(context)
    wide = is_wide(context.layer, context.quantization)
    number = np.int64 if wide else np.int32
    offset = c.sum.offset - c.sum.a * c.zero_a - c.sum.b * c.zero_b
    fields = {
        "loops": _loops(context, by_channel=True),
        "factor_a": part.constant("factor_a", c.sum.a.astype(number)),
        "factor_b": part.constant("factor_b", c.sum.b.astype(number)),
        "offset": part.constant("offset", offset.astype(number)),
        "unit": part.constant("unit", c.sum.unit),
        "below": part.constant("below", c.below),
        "wide": int(wide),
        "range": output_range(c.low, c.high, c.zero_out),
    }
    part.call("mz_prelu_sum_run", "mz_prelu_sum", "layer", fields, "{x0}", "{x1}", "{y}")
    return part


def multiply(context: Context, c: ProductConstants) -> Part:
    part, ratio = Part(context), c.ratio
    fields = {
        "loops": _loops(context),
        "factor": _wide_number(ratio.factor),
        "offset": _wide_number(c.zero_out << ratio.shift),
        "zero_a": c.zero_a,
        "zero_b": c.zero_b,
        "wide": int(is_wide(context.layer, context.quantization)),
        "shift": ratio.shift,
        "low": c.low,
        "high": c.high,
    }
    part.call("mz_product_run", "mz_product", "layer", fields, "{x0}", "{x1}", "{y}")
    return part


def _wide_number(value: int) -> str:
    return f"INT64_C({value})"


def _loops(context: Context, by_channel: bool = False) -> dict[str, Any]:
    """by_channel: the innermost loop is that of the channels, and of nothing else."""
    shape = context.layer.shape
    steps = []
    for operand in context.shapes:
        own = strides(operand)
        steps.append([0 if operand[axis] == 1 else own[axis] for axis in range(len(shape))])
    walk = [(shape[axis], steps[0][axis], steps[1][axis]) for axis in storage_order(shape)]
    loops = [*merged(walk[:-1]), walk[-1]] if by_channel else merged(walk)
    sizes, a, b = zip(*loops, strict=True)
    bits = [tensor.bits for tensor in context.inputs]
    return {
        "rank": len(loops),
        "size": sizes,
        "a": a,
        "b": b,
        "a_bits": bits[0],
        "b_bits": bits[1],
        "out_bits": context.tensor.bits,
    }
