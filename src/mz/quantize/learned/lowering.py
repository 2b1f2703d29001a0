"""The integer network as a torch function: one small function per layer kind, the formulas of `emulator.numerics`.

A tensor holds centred integers q - z in a float type: of 8-bit layers float32 holds every sum that really occurs, so
that the forward pass is the emulator's, integer by integer; float64 does so for all. Backward, rounding is
straight-through.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mz.emulator import layer_constants, numerics
from mz.emulator.constants import (
    AverageConstants,
    BilinearConstants,
    NearestConstants,
    TableConstants,
)
from mz.graph import (
    Activation,
    AvgPool,
    Concat,
    Conv,
    Deconv,
    Dense,
    Graph,
    Input,
    Layer,
    MatMul,
    MaxPool,
    Pad,
    Params,
    Quantization,
    Resize,
    Slice,
    TensorQuant,
    Transpose,
    Weighted,
)
from mz.graph.functions import along_channels, apply
from mz.graph.layers import Pads
from mz.quantize.learned.elementwise import elementwise
from mz.quantize.learned.integers import Integers, bounds, quantize_input
from mz.quantize.learned.straight_through import lookup, requantize


def run(
    integers: Integers, layers: Sequence[Layer], known: Mapping[str, Tensor], wanted: Sequence[str]
) -> dict[str, Tensor]:
    """Centred integers of the `wanted` tensors.

    layers: to be run, in topological order, none of them an Input or on the host. known: centred integers
    [N, *shape] of everything else that they read.
    """
    last_reader = {name: layer.name for layer in layers for name in layer.inputs}
    live = dict(known)
    found = {name: live[name] for name in wanted if name in live}
    for layer in layers:
        value = LOWERINGS[layer.kind](layer, integers, [live[name] for name in layer.inputs])
        if layer.name in wanted:
            found[layer.name] = value
        if layer.name in last_reader:
            live[layer.name] = value
        for name in layer.inputs:
            if last_reader[name] == layer.name:
                live.pop(name, None)
    return found


def runnable(graph: Graph) -> list[Layer]:
    """The accelerator's layers but the inputs, in topological order."""
    return [layer for layer in graph.layers if not layer.host and not isinstance(layer, Input)]


def _padded(h: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    top, left, bottom, right = pads
    return F.pad(h, (left, right, top, bottom), value=value) if any(pads) else h


def _linear(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    assert isinstance(layer, Weighted)
    (h,) = inputs
    kernel, bias = integers.kernels[layer.name], integers.biases[layer.name]
    x, y = integers.scales[layer.inputs[0]], integers.scales[layer.name]
    m = (x * integers.weight_scales[layer.name]) / y
    if isinstance(layer, Dense):
        sums = F.linear(h, kernel, bias)
    else:
        sums = _convolved(layer, h, kernel, bias)
        m = m.reshape(-1, 1, 1)
    if layer.prelu:
        slope = torch.from_numpy(integers.params[layer.name]["slope"]).to(m.device).reshape(m.shape)
        m = torch.where(sums.detach() < 0, m * slope, m)
    return requantize(sums, m, *bounds(layer, integers))


def _convolved(layer: Weighted, h: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    if isinstance(layer, Conv):
        top, left, bottom, right = layer.pads
        own = (top, left) if (top, left) == (bottom, right) else (0, 0)
        h = h if any(own) else _padded(h, layer.pads)
        return F.conv2d(h, kernel, bias, layer.strides, own, layer.dilations, layer.groups)
    assert isinstance(layer, Deconv)
    full = F.conv_transpose2d(h, kernel, None, layer.strides, groups=layer.groups, dilation=layer.dilations)
    # The whole map, and behind it what output_padding adds; places that nothing reaches hold the bias alone.
    full = F.pad(full, (0, layer.output_padding[1], 0, layer.output_padding[0]))
    top, left, _, _ = layer.pads
    rows, columns = layer.shape[1:]
    return full[:, :, top : top + rows, left : left + columns] + bias.reshape(-1, 1, 1)


def _average(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    (h,) = inputs
    source = layer.inputs[0]
    if isinstance(layer, AvgPool):
        sums = F.avg_pool2d(_padded(h, layer.pads), layer.kernel_shape, layer.strides, divisor_override=1)
    else:
        sums = h.sum(dim=(2, 3), keepdim=True)
    m = (integers.scales[source] * _shares(layer, integers).to(h.device)) / integers.scales[layer.name]
    return requantize(sums, m, *bounds(layer, integers))


def _shares(layer: Layer, integers: Integers) -> Tensor:
    """f32(1 / pixels) of every window: the multiplier between tensors of scale 1."""
    ones = {
        name: dataclasses.replace(integers.tensors[name], scale=np.float32(1))
        for name in (layer.name, *layer.inputs)
    }
    constants = layer_constants(integers.graph, layer, integers.params, Quantization(tensors=ones))
    assert isinstance(constants, AverageConstants)
    return torch.from_numpy(np.array(constants.multiplier))


def _matmul(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    assert isinstance(layer, MatMul)
    a, b = inputs
    reach = a.shape[-1]
    for name in layer.inputs:
        t = integers.tensors[name]
        reach *= t.reach
    dtype = a.dtype if reach < numerics.FLOAT32_EXACT else torch.float64
    scale_a, scale_b = (integers.scales[name] for name in layer.inputs)
    m = (scale_a * (scale_b * float(np.float32(layer.factor)))) / integers.scales[layer.name]
    return requantize(torch.matmul(a.to(dtype), b.to(dtype)), m, *bounds(layer, integers)).to(a.dtype)


def _activation(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    assert isinstance(layer, Activation)
    (h,) = inputs
    now = integers.present(*layer.inputs, layer.name)
    x, y = now.tensors[layer.inputs[0]], now.tensors[layer.name]
    constants = layer_constants(integers.graph, layer, integers.params, now)
    assert isinstance(constants, TableConstants)
    # Channels that have the same integers may yet differ in their slopes.
    channels = max((len(array) for array in integers.params.get(layer.name, {}).values()), default=1)
    table = np.broadcast_to(constants.by_channel(), (channels, 1 << x.bits)).astype(np.int64) - y.zero_point
    slopes = _table_slopes(layer, integers.params, x, y, table)
    index = h.detach().to(torch.int64) + x.zero_point
    if len(table) > 1:
        channel = torch.arange(len(table), device=h.device).reshape(-1, *(1,) * (h.ndim - 2))
        index = index + (channel << x.bits)
    scale_x, scale_y = integers.scales[layer.inputs[0]], integers.scales[layer.name]
    return lookup(h, scale_x, scale_y, index, table.reshape(-1), slopes.reshape(3, -1))


def _table_slopes(
    layer: Activation, params: Params, x: TensorQuant, y: TensorQuant, table: np.ndarray
) -> np.ndarray:
    """Derivatives [3, *table.shape] of f(s_x h) / s_y by h, s_x and s_y; 0 where the table is clipped."""
    arrays = along_channels(params.get(layer.name, {}), 1)
    h = np.arange(1 << x.bits, dtype=np.float64)[None, :] - x.zero_point
    scale_x, scale_y = float(x.scale), float(y.scale)

    def f(at: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return apply(layer.function, scale_x * at, layer.constants, arrays, layer.affine)

    step = 2.0**-10
    with np.errstate(over="ignore", invalid="ignore"):
        by_h = (f(h + step) - f(h - step)) / (2 * step * scale_y)
        value = f(h) / scale_y
        found = np.stack(np.broadcast_arrays(by_h, by_h * h / scale_x, -value / scale_y))
    clipped = (value < -y.zero_point - 0.5) | (value > y.q_max - y.zero_point + 0.5)
    return np.where(clipped | ~np.isfinite(found), 0.0, found).reshape(3, *table.shape)


def _maximum(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    assert isinstance(layer, MaxPool)
    padded = _padded(inputs[0], layer.pads, -numerics.FLOAT32_EXACT)  # never wins
    return F.max_pool2d(padded, layer.kernel_shape, layer.strides, dilation=layer.dilations)


def _concat(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    assert isinstance(layer, Concat)
    return torch.cat(list(inputs), dim=layer.axis + 1)


def _cut(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    assert isinstance(layer, Slice)
    (h,) = inputs
    for axis, span in enumerate(zip(layer.starts, layer.stops, layer.steps, strict=True)):
        places = np.arange(h.shape[axis + 1])[slice(*span)]
        if len(places) != h.shape[axis + 1] or span[2] < 0:
            h = h.index_select(axis + 1, torch.from_numpy(places.copy()).to(h.device))
    return h


def _pad(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    assert isinstance(layer, Pad)
    (h,) = inputs
    fill = quantize_input(integers, layer.name, torch.tensor(layer.fill, device=h.device), h.dtype)
    fill = fill.reshape(-1, 1, 1)
    return _padded(h - fill, layer.pads) + fill


def _reshape(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].reshape(len(inputs[0]), *layer.shape)


def _transpose(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    assert isinstance(layer, Transpose)
    return inputs[0].permute(0, *(axis + 1 for axis in layer.permutation))


def _resize(layer: Layer, integers: Integers, inputs: Sequence[Tensor]) -> Tensor:
    assert isinstance(layer, Resize)
    (h,) = inputs
    t = integers.tensors[layer.name]
    constants = layer_constants(
        integers.graph, layer, integers.params, integers.present(layer.name, *layer.inputs)
    )
    if isinstance(constants, NearestConstants):
        rows, columns = (
            torch.from_numpy(places).to(h.device) for places in (constants.rows, constants.columns)
        )
        return h.index_select(2, rows).index_select(3, columns)
    assert isinstance(constants, BilinearConstants)
    dtype = torch.float64 if t.bits > 8 else h.dtype
    rows, columns = (
        torch.from_numpy(weights * 2.0**-constants.fraction_bits).to(h.device, dtype)
        for weights in (constants.rows, constants.columns)
    )
    total = torch.matmul(torch.matmul(rows, h.to(dtype)), columns.T)
    return requantize(total, None, *bounds(layer, integers), offset=float(t.zero_point)).to(h.dtype)


Lowering = Callable[[Layer, Integers, Sequence[Tensor]], Tensor]

LOWERINGS: dict[str, Lowering] = {
    "conv": _linear,
    "deconv": _linear,
    "dense": _linear,
    "activation": _activation,
    "add": elementwise,
    "sub": elementwise,
    "mul": elementwise,
    "matmul": _matmul,
    "maxpool": _maximum,
    "avgpool": _average,
    "global_avgpool": _average,
    "concat": _concat,
    "slice": _cut,
    "pad": _pad,
    "reshape": _reshape,
    "transpose": _transpose,
    "resize": _resize,
}
"""By layer kind; what runs on the host is left out."""


def forward(
    integers: Integers, feeds: Mapping[str, np.ndarray], wanted: Sequence[str], device: str
) -> dict[str, Tensor]:
    """Real values of the `wanted` tensors, with gradients; feeds: float32 [N, *shape] by Input layer."""
    known = {
        name: quantize_input(integers, name, torch.from_numpy(x).to(device), torch.float32)
        for name, x in feeds.items()
    }
    found = run(integers, runnable(integers.graph), known, wanted)
    return {name: integers.real(name, h) for name, h in found.items()}
