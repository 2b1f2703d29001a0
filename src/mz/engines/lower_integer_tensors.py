"""The tensors of an integer ONNX graph under construction: who carries what, and conversions between carriers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mz.engines.onnx_writer import OnnxWriter
from mz.graph import Graph, Input, Layer, Quantization, Shape

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Kernels:
    """Which of a runtime's kernels the graph may be built of; what is False goes the exact road through floats.

    unsigned_conv: QLinearConv uint8 x uint8. signed_conv: uint8 x int8 where no 16-bit sum can saturate.
    any_signed_conv: uint8 x int8 for all weights, exact where the processor adds products in 32 bits. quantize:
    QuantizeLinear on inputs. elementwise: sums and products between DequantizeLinear and QuantizeLinear. average:
    global means likewise. float_table: activation functions likewise. matrix: QLinearMatMul and MatMulInteger.

    rounded_sums: more than 8 bits are summed in a single float32 convolution, three times as fast, whose sums may
    round: now and then an integer is one off. Good for trials that compare networks, and for nothing else.
    """

    unsigned_conv: bool = True
    signed_conv: bool = True
    any_signed_conv: bool = False
    quantize: bool = True
    elementwise: bool = True
    average: bool = True
    float_table: bool = True
    matrix: bool = True
    rounded_sums: bool = False


PORTABLE = Kernels()
"""Exact on every processor: what compiled files are built of."""
FLOAT_ROAD = Kernels(*(False,) * 8)
"""Exact convolutions in float32 alone: for runtimes without integer kernels, such as GPUs."""


class Tensors:
    """Maps layer names to ONNX tensors. uint8 carries up to 8 bits; float32 holding integers carries 16."""

    FLOAT, UINT8, UINT16, INT32, DOUBLE = 1, 2, 4, 6, 11  # onnx.TensorProto.DataType

    def __init__(self, graph: Graph, quantization: Quantization, kernels: Kernels = PORTABLE) -> None:
        self.graph = graph
        self.kernels = kernels
        self.quantization = quantization
        self.writer = OnnxWriter()
        self._tensors: dict[str, str] = {}
        self._converted: dict[tuple[str, int], str] = {}
        self.writer.reserve([layer.name for layer in graph.layers])

    def __getitem__(self, layer_name: str) -> str:
        return self._tensors[layer_name]

    def __contains__(self, layer_name: object) -> bool:
        return layer_name in self._tensors

    def place(self, layer: Layer, tensor: str) -> None:
        self._tensors[layer.name] = tensor

    def u8(self, value: int) -> str:
        return self.writer.constant(np.uint8(value), f"u8_{value}")

    def f32(self, value: float) -> str:
        return self.writer.constant(np.float32(value), f"f32_{value:g}")

    def f64(self, value: float) -> str:
        return self.writer.constant(np.float64(value), f"f64_{value:g}")

    def i64(self, values: Sequence[int] | np.ndarray) -> str:
        return self.writer.constant(np.asarray(values, np.int64), "indices")

    def _cast(self, layer_name: str, to: int) -> str:
        if (layer_name, to) not in self._converted:
            self._converted[layer_name, to] = self.writer.node(
                "Cast", [self[layer_name]], f"{layer_name}_cast", to=to
            )
        return self._converted[layer_name, to]

    def as_float32(self, layer_name: str) -> str:
        """The layer's integers in float32 (exact: at most 16 bits)."""
        return (
            self[layer_name]
            if self.quantization.tensors[layer_name].bits > 8
            else self._cast(layer_name, self.FLOAT)
        )

    def as_float64(self, layer_name: str) -> str:
        return self._cast(layer_name, self.DOUBLE)

    def clip(self, tensor: str, layer: Layer, low: int, high: int) -> str:
        """A uint8 tensor clipped to [low, high]; nothing is written where uint8 saturates there by itself."""
        if low <= 0 and high >= 255:
            return tensor
        return self.writer.node("Clip", [tensor, self.u8(low), self.u8(high)], f"{layer.name}_clip")

    def shift_and_clip(self, tensor: str, layer: Layer, zero: int, low: int, high: int) -> str:
        """A float32 tensor of rounded values, zero point added, clipped, and put into the layer's carrier."""
        w = self.writer
        if zero:
            # Clipped first: beyond 2^24 adding the zero point would round.
            tensor = w.node(
                "Clip", [tensor, self.f32(low - zero), self.f32(high - zero)], f"{layer.name}_bound"
            )
            tensor = w.node("Add", [tensor, self.f32(zero)], f"{layer.name}_zero")
        else:
            tensor = w.node("Clip", [tensor, self.f32(low), self.f32(high)], f"{layer.name}_bound")
        if self.quantization.tensors[layer.name].bits > 8:
            return tensor
        return w.node("Cast", [tensor], f"{layer.name}_q", to=self.UINT8)

    def reshape(self, tensor: str, shape: Shape, name: str) -> str:
        """`tensor` in `shape`, the batch axis kept."""
        return self.writer.node("Reshape", [tensor, self.i64((0, *shape))], name)

    def finish(self, wanted: Sequence[str]) -> onnx.ModelProto:
        """The model with the integers of the layers `wanted` as its outputs, in order."""
        outputs: dict[str, tuple[type, Shape]] = {}
        described = {}
        for name in wanted:
            q = self.quantization.tensors[name]
            layer = self.graph[name]
            final = f"{name}_integers" if isinstance(layer, Input) else name
            if q.bits > 8:
                self.writer.node("Cast", [self[name]], f"{name}_u16", to=self.UINT16)
            else:
                self.writer.node("Identity", [self[name]], f"{name}_u8")
            self.writer.name_output(final)
            outputs[final] = (q.carrier, layer.shape)
            described[final] = {"scale": float(q.scale), "zero_point": q.zero_point, "bits": q.bits}
        inputs = {layer.name: (np.float32, layer.shape) for layer in self.graph.inputs}
        return self.writer.model(self.graph.name, inputs, outputs, {"mz_outputs": json.dumps(described)})
