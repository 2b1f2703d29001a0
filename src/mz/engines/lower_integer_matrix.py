"""Integer ONNX for products of two tensors as matrices.

At most 8 bits go through the runtime's matrix kernels: QLinearMatMul, whose requantization is the formula of
`numerics.requantize`, or MatMulInteger where more bits leave. Everything else is summed in float64, which holds it.
"""

from __future__ import annotations

from mz.emulator.constants import MatrixConstants
from mz.engines.lower_integer_tensors import Tensors
from mz.graph import MatMul


def lower_matmul(t: Tensors, layer: MatMul, c: MatrixConstants) -> str:
    w, (a, b) = t.writer, layer.inputs
    bits_in = max(t.quantization.tensors[name].bits for name in layer.inputs)
    m = w.constant(c.multiplier, f"{layer.name}_m")
    if bits_in <= 8 and t.kernels.matrix:
        zeros = t.u8(c.zero_a), t.u8(c.zero_b)
        if t.quantization.tensors[layer.name].bits <= 8:
            one = t.f32(1)
            inputs = [t[a], one, zeros[0], t[b], m, zeros[1], one, t.u8(c.zero_out)]
            return t.clip(w.node("QLinearMatMul", inputs, f"{layer.name}_product"), layer, c.low, c.high)
        sums = w.node("MatMulInteger", [t[a], t[b], *zeros], f"{layer.name}_sums")
    elif t.kernels.rounded_sums:
        sums = w.node(
            "MatMul", [_centred32(t, a, c.zero_a), _centred32(t, b, c.zero_b)], f"{layer.name}_sums"
        )
    else:
        sums = w.node(
            "MatMul", [_centred64(t, a, c.zero_a), _centred64(t, b, c.zero_b)], f"{layer.name}_sums"
        )
    single = w.node("Cast", [sums], f"{layer.name}_f32", to=t.FLOAT)
    scaled = w.node("Mul", [single, m], f"{layer.name}_scaled")
    rounded = w.node("Round", [scaled], f"{layer.name}_round")
    return t.shift_and_clip(rounded, layer, c.zero_out, c.low, c.high)


def _centred32(t: Tensors, name: str, zero: int) -> str:
    return t.writer.node("Sub", [t.as_float32(name), t.f32(zero)], f"{name}_centred")


def _centred64(t: Tensors, name: str, zero: int) -> str:
    return t.writer.node("Sub", [t.as_float64(name), t.f64(zero)], f"{name}_centred")
