"""Lowers a quantized graph to ONNX whose integers, run by plain onnxruntime, are those of the numpy emulator.

Tensors of at most 8 bits are uint8; 16-bit ones travel as float32 holding integers (few operators take uint16), and
leave as uint16. Only operators of the standard domain are used, each in a form in which no runtime's
rounding, fusion or multiply-add can change a bit: see docs/numerics.md. Linear layers are in
`lower_integer_linear`, products of matrices in `lower_integer_matrix`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mz.emulator import is_wide, layer_constants
from mz.emulator.constants import (
    BilinearConstants,
    MoveConstants,
    NearestConstants,
    PadConstants,
    PreluSumConstants,
    ProductConstants,
    SumConstants,
)
from mz.engines.lower_integer_linear import (
    as_float32,
    cut_before,
    lower_average,
    lower_conv,
    lower_deconv,
    lower_dense,
    lower_global_average,
    requantize,
)
from mz.engines.lower_integer_matrix import lower_matmul
from mz.engines.lower_integer_tables import lower_table
from mz.engines.lower_integer_tensors import PORTABLE, Kernels, Tensors
from mz.graph import (
    Concat,
    Elementwise,
    Graph,
    Input,
    Layer,
    MaxPool,
    Pad,
    Params,
    Pixels,
    Quantization,
    Resize,
    Slice,
    Transpose,
)

if TYPE_CHECKING:
    import onnx


def integer_model(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    taps: Iterable[str] = (),
    kernels: Kernels = PORTABLE,
    pixels: Pixels | None = None,
) -> onnx.ModelProto:
    """The accelerator's part of `graph` in ONNX, built of the runtime's `kernels`. With `pixels` it takes the images
    and makes those of them first.

    Inputs: float32 [N, *shape], named like the Input layers, quantized inside. Outputs: uint8 (at most 8
    bits) or uint16, named like the layers: `graph.accelerator_outputs()`, then `taps`. Metadata holds each
    output's scale and zero point.
    Raises UserError, naming the layer, for what the arithmetic cannot hold.
    """
    wanted = tuple(dict.fromkeys((*graph.accelerator_outputs(), *taps)))
    return _lower(graph, params, quantization, kernels, wanted, pixels).finish(wanted)


def tensor_names(graph: Graph, params: Params, quantization: Quantization) -> dict[str, str]:
    """By layer of the accelerator: the tensor that holds its integers in the portable `integer_model`.

    A slice that the convolution after it takes in has none.
    """
    t = _lower(graph, params, quantization, PORTABLE, graph.accelerator_outputs())
    return {layer.name: t[layer.name] for layer in graph.layers if layer.name in t}


def _lower(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    kernels: Kernels,
    wanted: Sequence[str],
    pixels: Pixels | None = None,
) -> Tensors:
    t = Tensors(graph, quantization, kernels)
    for layer in graph.layers:
        if layer.host or (layer.name not in wanted and _is_taken_in(t, layer)):
            continue
        if isinstance(layer, Input):
            real = t.writer.pixels(layer.name, pixels) if pixels else layer.name
            t.place(layer, _lower_input(t, layer, real))
        else:
            constants = layer_constants(graph, layer, params, quantization)
            t.place(layer, LOWERINGS[layer.kind](t, layer, constants))
    return t


def _is_taken_in(t: Tensors, layer: Layer) -> bool:
    """Whether every reader of the slice is a convolution that cuts for itself."""
    readers = t.graph.consumers.get(layer.name, ())
    return isinstance(layer, Slice) and bool(readers) and all(cut_before(t, reader) for reader in readers)


def _lower_input(t: Tensors, layer: Input, real: str) -> str:
    q = t.quantization.tensors[layer.name]
    w = t.writer
    scale = w.constant(np.float32(q.scale), f"{layer.name}_scale")
    if q.bits <= 8 and t.kernels.quantize:
        out = w.node("QuantizeLinear", [real, scale, t.u8(q.zero_point)], f"{layer.name}_q")
        return t.clip(out, layer, 0, q.q_max)
    steps = w.node("Round", [w.node("Div", [real, scale], f"{layer.name}_div")], f"{layer.name}_round")
    return t.shift_and_clip(steps, layer, q.zero_point, 0, q.q_max)


def _lower_elementwise(
    t: Tensors, layer: Elementwise, c: SumConstants | PreluSumConstants | ProductConstants
) -> str:
    """Both operands scaled by exact binary fractions, so that the float result is exact before the one rounding."""
    if isinstance(c, PreluSumConstants):
        return _lower_prelu_sum(t, layer, c)
    if isinstance(c, SumConstants):
        factors = (c.ratios.a / 2**c.ratios.shift, abs(c.ratios.b) / 2**c.ratios.shift)
        op = "Sub" if c.ratios.b < 0 or layer.kind == "sub" else "Add"
    else:
        factors, op = (c.ratio.factor / 2**c.ratio.shift, 1.0), "Mul"
    w, zeros = t.writer, (c.zero_a, c.zero_b)
    if is_wide(layer, t.quantization) or not t.kernels.elementwise:
        operands = []
        for name, factor, zero in zip(layer.inputs, factors, zeros, strict=True):
            centred = w.node("Sub", [t.as_float64(name), t.f64(zero)], f"{layer.name}_centred")
            operands.append(w.node("Mul", [centred, t.f64(factor)], f"{layer.name}_scaled"))
        total = w.node(
            "Add", [w.node(op, operands, f"{layer.name}_{op}"), t.f64(c.zero_out)], f"{layer.name}_zero"
        )
        rounded = w.node(
            "Cast", [w.node("Round", [total], f"{layer.name}_round")], f"{layer.name}_f32", to=t.FLOAT
        )
        return t.shift_and_clip(rounded, layer, 0, c.low, c.high)
    operands = [
        w.node(
            "DequantizeLinear",
            [t[name], w.constant(np.float32(factor), f"{layer.name}_ratio"), t.u8(zero)],
            f"{layer.name}_scaled",
        )
        for name, factor, zero in zip(layer.inputs, factors, zeros, strict=True)
    ]
    total, zero_out = w.node(op, operands, f"{layer.name}_{op}"), c.zero_out
    if zero_out % 2:  # QuantizeLinear adds the zero point after rounding, which moves ties if it is odd
        total = w.node("Add", [total, t.f32(zero_out)], f"{layer.name}_zero")
        zero_out = 0
    out = w.node("QuantizeLinear", [total, t.f32(1), t.u8(zero_out)], f"{layer.name}_q")
    return t.clip(out, layer, c.low, c.high)


def _lower_prelu_sum(t: Tensors, layer: Elementwise, c: PreluSumConstants) -> str:
    """Integers of each channel, summed in the float type that holds every partial sum, then requantized."""
    w, wide = t.writer, is_wide(layer, t.quantization)
    dtype, real, number = (np.float64, t.as_float64, t.f64) if wide else (np.float32, t.as_float32, t.f32)

    def by_channel(array: np.ndarray) -> np.ndarray:
        return array.reshape(-1, *(1,) * (len(layer.shape) - 1))

    total = w.constant(by_channel(c.sum.offset).astype(dtype), f"{layer.name}_offset")
    for name, zero, factor in zip(layer.inputs, (c.zero_a, c.zero_b), (c.sum.a, c.sum.b), strict=True):
        centred = w.node("Sub", [real(name), number(zero)], f"{layer.name}_centred")
        factors = w.constant(by_channel(factor).astype(dtype), f"{layer.name}_factors")
        scaled = w.node("Mul", [centred, factors], f"{layer.name}_scaled")
        total = w.node("Add", [scaled, total], f"{layer.name}_sum")
    single = as_float32(t, layer, total) if wide else total
    unit, below = by_channel(c.sum.unit), by_channel(c.below)
    return requantize(t, layer, single, unit, c.zero_out, c.low, c.high, below)


def _lower_maxpool(t: Tensors, layer: MaxPool, c: MoveConstants) -> str:
    return t.writer.node(
        "MaxPool",
        [t[layer.inputs[0]]],
        f"{layer.name}_q",
        kernel_shape=layer.kernel_shape,
        strides=layer.strides,
        dilations=layer.dilations,
        pads=layer.pads,
    )


def _lower_concat(t: Tensors, layer: Concat, c: MoveConstants) -> str:
    return t.writer.node("Concat", [t[name] for name in layer.inputs], f"{layer.name}_q", axis=layer.axis + 1)


def _lower_slice(t: Tensors, layer: Slice, c: MoveConstants) -> str:
    parts = (layer.starts, layer.stops, layer.steps)
    axes = tuple(range(1, len(layer.starts) + 1))
    starts, stops, steps = (t.i64(part) for part in parts)
    return t.writer.node("Slice", [t[layer.inputs[0]], starts, stops, t.i64(axes), steps], f"{layer.name}_q")


def _lower_pad(t: Tensors, layer: Pad, c: PadConstants) -> str:
    fill = c.fill.astype(np.uint8 if t.quantization.tensors[layer.name].bits <= 8 else np.float32)
    return t.writer.padded(t[layer.inputs[0]], layer.pads, fill, f"{layer.name}_q")


def _lower_reshape(t: Tensors, layer: Layer, c: MoveConstants) -> str:
    return t.reshape(t[layer.inputs[0]], layer.shape, f"{layer.name}_q")


def _lower_transpose(t: Tensors, layer: Transpose, c: MoveConstants) -> str:
    return t.writer.node(
        "Transpose",
        [t[layer.inputs[0]]],
        f"{layer.name}_q",
        perm=(0, *(axis + 1 for axis in layer.permutation)),
    )


def _lower_resize(t: Tensors, layer: Resize, c: NearestConstants | BilinearConstants) -> str:
    w, name = t.writer, layer.inputs[0]
    if isinstance(c, NearestConstants):
        height, width = t.graph[name].shape[1:]
        factors = (layer.shape[1] // height, layer.shape[2] // width)
        plain = all(
            np.array_equal(indices, np.repeat(np.arange(size), factor))
            for indices, size, factor in zip((c.rows, c.columns), (height, width), factors, strict=True)
        )
        if plain:
            scales = w.constant(np.array((1, 1, *factors), np.float32), f"{layer.name}_scales")
            attributes: dict[str, Any] = {
                "coordinate_transformation_mode": "asymmetric",
                "nearest_mode": "floor",
            }
            return w.node("Resize", [t[name], "", scales], f"{layer.name}_q", mode="nearest", **attributes)
        rows = w.node("Gather", [t[name], t.i64(c.rows)], f"{layer.name}_rows", axis=2)
        return w.node("Gather", [rows, t.i64(c.columns)], f"{layer.name}_q", axis=3)
    wide = t.quantization.tensors[layer.name].bits > 8
    dtype, x = (np.float64, t.as_float64(name)) if wide else (np.float32, t.as_float32(name))
    row_weights = w.constant(c.rows.astype(dtype), f"{layer.name}_row_weights")
    column_weights = w.constant(
        np.ascontiguousarray(c.columns.T).astype(dtype), f"{layer.name}_column_weights"
    )
    total = w.node("MatMul", [row_weights, x], f"{layer.name}_rows")
    total = w.node("MatMul", [total, column_weights], f"{layer.name}_sum")
    share = w.constant(np.array(0.25**c.fraction_bits, dtype), f"{layer.name}_share")
    rounded = w.node("Round", [w.node("Mul", [total, share], f"{layer.name}_mean")], f"{layer.name}_round")
    return w.node("Cast", [rounded], f"{layer.name}_q", to=t.FLOAT if wide else t.UINT8)


LOWERINGS: dict[str, Callable[[Tensors, Any, Any], str]] = {
    "conv": lower_conv,
    "deconv": lower_deconv,
    "dense": lower_dense,
    "avgpool": lower_average,
    "global_avgpool": lower_global_average,
    "activation": lower_table,
    "add": _lower_elementwise,
    "sub": _lower_elementwise,
    "mul": _lower_elementwise,
    "matmul": lower_matmul,
    "maxpool": _lower_maxpool,
    "concat": _lower_concat,
    "slice": _lower_slice,
    "pad": _lower_pad,
    "reshape": _lower_reshape,
    "transpose": _lower_transpose,
    "resize": _lower_resize,
}
"""By layer kind: (tensors so far, layer, its constants) -> the name of its output tensor."""
