"""Sums, differences and products in C: integers that meet place by place."""

from __future__ import annotations

from typing import Any

from mz.compiler.emitters.c99.layout import merged, storage_order, strides
from mz.compiler.emitters.c99.part import Context, Part
from mz.emulator.constants import ProductConstants, SumConstants, is_wide


def add(context: Context, c: SumConstants) -> Part:
    """A sum, or with a negative ratio a difference; the zero points are one constant."""
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


def _loops(context: Context) -> dict[str, Any]:
    shape = context.layer.shape
    steps = []
    for operand in context.shapes:
        own = strides(operand)
        steps.append([0 if operand[axis] == 1 else own[axis] for axis in range(len(shape))])
    loops = merged([(shape[axis], steps[0][axis], steps[1][axis]) for axis in storage_order(shape)])
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
