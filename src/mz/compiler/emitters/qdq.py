"""The quantized network as float ONNX with QuantizeLinear and DequantizeLinear around every layer, for other runtimes.

Such a runtime may fuse the pairs into integer kernels of its own, with its own rounding, so the file is not bit-exact:
`mz compile --verify` measures how far it is from the emulator. Inputs are the preprocessed float images, outputs real
values, the host's layers included.

A network whose weights have 8 bits and whose tensors have at most 8 is written at opset 17, any other at opset 21, the
first with INT4, INT16 and UINT16.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mz.engines.lower_float import LOWERINGS
from mz.engines.onnx_writer import OPSET, OnnxWriter
from mz.graph import Deconv, Dense, Graph, Input, Params, Pixels, Quantization, TensorQuant, Weighted

if TYPE_CHECKING:
    import onnx

WIDE_OPSET, WIDE_IR = 21, 10
_AXES_ARE_INPUTS = 18
_UINT8, _INT8, _UINT16, _INT16, _INT32, _INT4 = 2, 3, 4, 5, 6, 22  # of onnx.TensorProto
_WEIGHT_TYPES = {4: _INT4, 8: _INT8, 16: _INT16}


def emit(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    metadata: Mapping[str, str] | None = None,
    pixels: Pixels | None = None,
) -> bytes:
    """The serialized model, checked; the same graph gives the same bytes. metadata: for its `metadata_props`.

    pixels: what the file makes of the images first, where the network takes pixels.
    """
    model = qdq_model(graph, params, quantization, metadata, pixels)
    return bytes(model.SerializeToString(deterministic=True))


def qdq_model(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    metadata: Mapping[str, str] | None = None,
    pixels: Pixels | None = None,
) -> onnx.ModelProto:
    """Inputs and outputs: float32 [N, *shape], named like the layers, as in the float model.

    Every accelerator tensor, dequantized, is named like its layer. Weights are signed integers with one scale for each
    output channel; biases int32 in the scale of the accumulator, or a coarser one.
    """
    writer = _QdqWriter(graph, quantization, pixels)
    writer.reserve([layer.name for layer in graph.layers])
    for layer in graph.layers:
        if isinstance(layer, Input):
            continue
        if isinstance(layer, Weighted):  # integers have one bound a tensor
            layer = dataclasses.replace(layer, clip_by_channel=False)
        sources = {name: writer.source(name) for name in layer.inputs}
        renamed = dataclasses.replace(layer, inputs=tuple(sources[name] for name in layer.inputs))
        weight = quantization.weights.get(layer.name)
        integers = {"kernel": weight.kernel, "bias": weight.bias} if weight else {}
        arrays = params.get(layer.name, {}) | integers
        LOWERINGS[layer.kind](writer, renamed, arrays, graph.input_shapes(layer))
        if layer.host:
            writer.name_output(layer.name)
        else:
            writer.name_output(f"{layer.name}/float")
            writer.quantize(f"{layer.name}/float", layer.name)
    return writer.model(
        graph.name,
        {layer.name: (np.float32, layer.shape) for layer in graph.inputs},
        {name: (np.float32, graph[name].shape) for name in graph.outputs},
        metadata,
    )


class _QdqWriter(OnnxWriter):
    """Writes kernels and biases as integers that are dequantized, wherever a lowering asks for the float ones."""

    def __init__(self, graph: Graph, quantization: Quantization, images: Pixels | None) -> None:
        plain = all(weight.bits == 8 for weight in quantization.weights.values())
        plain &= all(tensor.bits <= 8 for tensor in quantization.tensors.values())
        super().__init__(*((OPSET, 8) if plain else (WIDE_OPSET, WIDE_IR)))
        self._graph, self._quantization, self._images = graph, quantization, images
        self._inputs: dict[str, str] = {}

    def source(self, name: str) -> str:
        """The dequantized tensor of a layer; an input of the network is quantized when it is first read."""
        layer = self._graph[name]
        if not isinstance(layer, Input):
            return name
        if name not in self._inputs:
            real = self.pixels(name, self._images) if self._images else name
            self._inputs[name] = self._pair(real, self._quantization.tensors[name], f"{name}/dequantized")
        return self._inputs[name]

    def quantize(self, tensor: str, name: str) -> None:
        """A float tensor, rounded to the integers of layer `name`; the result bears the layer's name."""
        self._pair(tensor, self._quantization.tensors[name], name)
        self.name_output(name)

    def constant(self, value: np.ndarray | np.generic, name: str) -> str:
        layer, _, role = name.rpartition("/")
        if layer in self._quantization.weights and role == "kernel":
            return self._kernel(layer, name)
        if layer in self._quantization.weights and role == "bias":
            return self._bias(layer, name)
        return super().constant(value, name)

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        if self.opset >= _AXES_ARE_INPUTS and op.startswith("Reduce") and "axes" in attributes:
            axes = np.asarray(attributes.pop("axes"), np.int64)
            inputs = [*inputs, self.constant(axes, f"{name}/axes")]
        return super().node(op, inputs, name, **attributes)

    def _pair(self, tensor: str, quant: TensorQuant, name: str) -> str:
        """QuantizeLinear and DequantizeLinear.

        Four bits travel as uint8 held to 0..15: onnxruntime does not load a UINT4 QuantizeLinear behind a Clip.
        """
        scale = self.constant(np.float32(quant.scale), f"{name}/scale")
        zero = self.typed_constant(
            np.array(quant.zero_point), _UINT16 if quant.bits > 8 else _UINT8, f"{name}/zero_point"
        )
        integers = self.node("QuantizeLinear", [tensor, scale, zero], f"{name}/integers")
        if quant.bits < 8:
            bounds = [self.constant(np.uint8(bound), f"{name}/{bound}") for bound in (0, quant.q_max)]
            integers = self.node("Clip", [integers, *bounds], f"{name}/clipped")
        return self.node("DequantizeLinear", [integers, scale, zero], name)

    def _kernel(self, name: str, wish: str) -> str:
        layer, weight = self._graph[name], self._quantization.weights[name]
        kernel, axis = weight.kernel, 0
        if (
            isinstance(layer, Dense) and len(layer.shape) > 1
        ):  # the lowering multiplies by the transposed matrix
            kernel, axis = kernel.T, 1
        if isinstance(layer, Deconv):
            if layer.groups > 1:  # [I, O/groups, ...] has no axis of output channels to dequantize along
                return super().constant(_grouped(layer, weight.kernel, weight.scale), wish)
            axis = 1
        kind = _WEIGHT_TYPES[weight.bits]
        integers = self.typed_constant(kernel, kind, f"{wish}/integers")
        scale = self.constant(weight.scale, f"{wish}/scale")
        # it could be left out, but onnxruntime then puts a single one where it turns int8 into uint8, and refuses it
        zero = self.typed_constant(np.zeros(weight.scale.shape, np.int8), kind, f"{wish}/zero_point")
        return self.node("DequantizeLinear", [integers, scale, zero], wish, axis=axis)

    def _bias(self, name: str, wish: str) -> str:
        weight = self._quantization.weights[name]
        scale = self._quantization.tensors[self._graph[name].inputs[0]].scale * weight.scale
        bits = int(np.abs(weight.bias).max(initial=0)).bit_length()
        # Those of a wide accumulator may need coarser steps. As float32 onnxruntime makes int32 of them, which wrap.
        coarser = np.float32(2.0 ** (bits - 30) if bits > 31 else 1.0)
        scale = scale * coarser
        steps = np.rint(weight.bias / coarser).astype(np.int64)
        integers = self.typed_constant(steps, _INT32, f"{wish}/integers")
        return self.node("DequantizeLinear", [integers, self.constant(scale, f"{wish}/scale")], wish, axis=0)


def _grouped(layer: Deconv, kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The real weights of a transposed convolution in groups: float32 [I, O/groups, kh, kw]."""
    inputs = kernel.shape[0] // layer.groups
    per_input = np.repeat(scale.reshape(layer.groups, -1), inputs, axis=0)
    return (kernel * per_input[:, :, None, None]).astype(np.float32)
