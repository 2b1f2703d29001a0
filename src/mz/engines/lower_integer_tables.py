"""Integer ONNX for activation functions: tables, and cheaper float forms where these are proven to be the same table.

Gather reads some 20 million integers a second and core; a few float32 operators read hundreds. A float form is emitted
only if enumerating all inputs shows that it gives the table, whether or not a runtime fuses multiply and add.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mz.emulator.constants import TableConstants
from mz.engines.lower_integer_tensors import Tensors
from mz.graph import Activation, TensorQuant

Array = np.ndarray


def lower_table(t: Tensors, layer: Activation, c: TableConstants) -> str:
    x, y = t.quantization.tensors[layer.inputs[0]], t.quantization.tensors[layer.name]
    if x.bits <= 8 and y.bits <= 8:
        low, high = int(c.table.min()), int(c.table.max())
        if np.array_equal(c.table, np.clip(np.arange(c.table.shape[1]), low, high)[None]):
            return t.clip(t[layer.inputs[0]], layer, low, high)
        if t.kernels.float_table and layer.function in _BOUNDS and float_form_is_exact(layer, x, y, c):
            return _float_form(t, layer, c, x, y)
    return _gather(t, layer, c, y)


def _gather(t: Tensors, layer: Activation, c: TableConstants, y: TensorQuant) -> str:
    w = t.writer
    index = w.node("Cast", [t[layer.inputs[0]]], f"{layer.name}_index", to=t.INT32)
    if c.choice is not None:
        offsets = c.starts(len(layer.shape) - 1)
        index = w.node("Add", [index, w.constant(offsets, f"{layer.name}_offsets")], f"{layer.name}_index")
    flat = c.table.reshape(-1).astype(np.uint8 if y.bits <= 8 else np.uint16)
    table = w.constant(flat, f"{layer.name}_table")
    if y.bits > 8:  # once, when the file is opened: half the bytes in it
        table = w.node("Cast", [table], f"{layer.name}_floats", to=t.FLOAT)
    return w.node("Gather", [table, index], f"{layer.name}_q")


def _float_form(t: Tensors, layer: Activation, c: TableConstants, x: TensorQuant, y: TensorQuant) -> str:
    w, name = t.writer, layer.name
    scale_x, scale_y = (w.constant(np.float32(q.scale), f"{name}_scale") for q in (x, y))
    v = w.node("DequantizeLinear", [t[layer.inputs[0]], scale_x, t.u8(x.zero_point)], f"{name}_x")
    axes = (1,) * (len(layer.shape) - 1)
    factor, gain = (array.reshape(-1, *axes) for array in c.scaling) if c.scaling else (None, None)
    if factor is not None:
        v = w.node("Mul", [v, w.constant(factor, f"{name}_factor")], f"{name}_scaled")
    if layer.function == "leaky_relu":
        real = w.node("LeakyRelu", [v], f"{name}_y", alpha=layer.constants[0])
    else:
        alpha, beta = _slope(layer)
        real = w.node("HardSigmoid", [v], f"{name}_gate", alpha=alpha, beta=beta)
        if layer.function == "hard_swish":
            real = w.node("Mul", [v, real], f"{name}_y")
    real = w.affine(real, *layer.affine, f"{name}_affine")
    if gain is not None:
        real = w.node("Mul", [real, w.constant(gain, f"{name}_gain")], f"{name}_rescaled")
    out = w.node("QuantizeLinear", [real, scale_y, t.u8(y.zero_point)], f"{name}_q")
    return t.clip(out, layer, 0, y.q_max)


def float_form_is_exact(layer: Activation, x: TensorQuant, y: TensorQuant, c: TableConstants) -> bool:
    """Whether every value that the float form can take, for each input integer, quantizes to the table's integer."""
    v = x.dequantize(np.arange(1 << x.bits))[None]
    factor, gain = (array[:, None] for array in c.scaling or (np.ones(1, np.float32),) * 2)
    return all(
        np.array_equal(
            np.clip(np.rint(real * gain / np.float32(y.scale)) + y.zero_point, 0, y.q_max), c.by_channel()
        )
        for bare in _BOUNDS[layer.function](layer, v * factor)
        for real in _affine(layer, bare)
    )


def _affine(layer: Activation, bare: Array) -> tuple[Array, ...]:
    """What the layer's affine makes of the function's values: with and without a fused multiply-add."""
    factor, offset = (np.float32(number) for number in layer.affine)
    if not offset:
        return (bare * factor,)
    return bare * factor + offset, (bare.astype(np.float64) * factor + offset).astype(np.float32)


def _slope(layer: Activation) -> tuple[float, float]:
    alpha, beta = (1 / 6, 0.5) if layer.function == "hard_swish" else layer.constants
    return float(np.float32(alpha)), float(np.float32(beta))


def _hard_sigmoid(layer: Activation, v: Array) -> tuple[Array, Array]:
    """Bounds of clip(alpha v + beta, 0, 1): with and without a fused multiply-add, and an ulp on either side."""
    alpha, beta = _slope(layer)
    separate = v * np.float32(alpha) + np.float32(beta)
    fused = (v.astype(np.float64) * alpha + beta).astype(np.float32)
    low = np.nextafter(np.minimum(separate, fused), np.float32(-np.inf))
    high = np.nextafter(np.maximum(separate, fused), np.float32(np.inf))
    one = np.float32(1)
    return np.clip(low, 0, one), np.clip(high, 0, one)


def _hard_swish(layer: Activation, v: Array) -> tuple[Array, ...]:
    return tuple(v * gate for gate in _hard_sigmoid(layer, v))


def _leaky_relu(layer: Activation, v: Array) -> tuple[Array, ...]:
    return (np.where(v >= 0, v, v * np.float32(layer.constants[0])),)


_BOUNDS: dict[str, Callable[[Activation, Array], tuple[Array, ...]]] = {
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "leaky_relu": _leaky_relu,
}
"""By function: float32 results between which its float form must lie for the real inputs `v`, in any runtime."""
