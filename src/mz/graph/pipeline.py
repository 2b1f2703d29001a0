"""How many rows a dataflow accelerator must keep: line buffers of windows, and what waits where branches meet.

The model: rows of the image stream in from the top, each layer gives a row as soon as the rows that it needs are
there, and every layer keeps the rows of its inputs that it still needs. A tensor's `lag` is the number of image rows
that must have come in before its first row is there; its `pitch` is the number of image rows to each of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mz.graph.graph import Graph
from mz.graph.layers import (
    AvgPool,
    Concat,
    Conv,
    Deconv,
    Elementwise,
    GlobalAvgPool,
    Input,
    Layer,
    MatMul,
    MaxPool,
    Pad,
    Reshape,
    Resize,
    Slice,
    Transpose,
)


@dataclass(frozen=True, slots=True)
class Flow:
    """lag, pitch: see above, in rows of the image. rows: of the tensor. row_values: values in one of them."""

    lag: float
    pitch: float
    rows: int
    row_values: int


def pipeline_flows(graph: Graph) -> dict[str, Flow]:
    """How the rows of every accelerator tensor come along."""
    flows: dict[str, Flow] = {}
    for layer in graph.layers:
        if not layer.host:
            inputs = [flows[name] for name in layer.inputs]
            flows[layer.name] = _flow(layer, inputs, _lag(layer, inputs))
    return flows


def pipeline_rows(graph: Graph) -> dict[str, tuple[int, ...]]:
    """For every accelerator layer, how many rows it keeps of each of its inputs."""
    flows = pipeline_flows(graph)
    kept: dict[str, tuple[int, ...]] = {}
    for layer in graph.layers:
        if layer.host:
            continue
        inputs = [flows[name] for name in layer.inputs]
        lag = _lag(layer, inputs)
        own = [_rows_needed(layer, flow) for flow in inputs]
        if isinstance(layer, MatMul):
            own[1] = inputs[1].rows
        waiting = [math.ceil((lag - flow.lag) / flow.pitch) for flow in inputs]
        kept[layer.name] = tuple(
            min(flow.rows, need + wait) for flow, need, wait in zip(inputs, own, waiting, strict=True)
        )
    return kept


def pipeline_buffers(graph: Graph, value_bytes: int = 1) -> dict[str, int]:
    """Bytes that every accelerator layer keeps of its inputs, at `value_bytes` a value."""
    sizes = {}
    for name, kept in pipeline_rows(graph).items():
        shapes = graph.input_shapes(graph[name])
        sizes[name] = sum(
            rows * _geometry(shape)[1] * value_bytes for rows, shape in zip(kept, shapes, strict=True)
        )
    return sizes


def _geometry(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows of a tensor, and values in one: [C, H, W] has H of C x W; anything else is one row."""
    if len(shape) == 3:
        return shape[1], shape[0] * shape[2]
    return 1, math.prod(shape)


def _lag(layer: Layer, inputs: list[Flow]) -> float:
    """The rows of the image after which every input has a row, and the second matrix of a product all of its own."""
    lags = [flow.lag for flow in inputs]
    if isinstance(layer, MatMul):
        lags[1] += (inputs[1].rows - 1) * inputs[1].pitch
    return max(lags, default=0.0)


def _rows_needed(layer: Layer, flow: Flow) -> int:
    """Rows of one input that a layer looks at for one row of its output."""
    if isinstance(layer, Conv | MaxPool):
        return (layer.kernel_shape[0] - 1) * layer.dilations[0] + 1
    if isinstance(layer, Deconv):
        return -(-((layer.kernel_shape[0] - 1) * layer.dilations[0] + 1) // layer.strides[0])
    if isinstance(layer, Resize) and layer.mode == "bilinear":
        return 2
    if isinstance(layer, Reshape | Transpose):  # rows of the output are no rows of the input
        return flow.rows
    return 1  # pools of means add up as rows come in


def _flow(layer: Layer, inputs: list[Flow], lag: float) -> Flow:
    rows, values = _geometry(layer.shape)
    if isinstance(layer, Input):
        return Flow(0.0, 1.0, rows, values)
    flow = inputs[0] if isinstance(layer, MatMul) else max(inputs, key=lambda one: (one.rows, -one.pitch))
    pitch = flow.pitch
    if isinstance(layer, Conv | MaxPool | AvgPool):
        dilation = 1 if isinstance(layer, AvgPool) else layer.dilations[0]
        reach = (layer.kernel_shape[0] - 1) * dilation - layer.pads[0]
        return Flow(lag + max(reach, 0) * pitch, pitch * layer.strides[0], rows, values)
    if isinstance(layer, GlobalAvgPool | Reshape | Transpose):
        whole = flow.rows * pitch
        return Flow(lag + whole - pitch, whole / rows, rows, values)
    if isinstance(layer, Slice) and len(layer.shape) == 3:
        return Flow(lag + layer.starts[1] * pitch, pitch * layer.steps[1], rows, values)
    if isinstance(layer, Concat) and layer.axis == 1:
        return Flow(inputs[0].lag, inputs[0].pitch, rows, values)
    if isinstance(layer, Elementwise | Concat | Pad):
        return Flow(lag, pitch, rows, values)
    return Flow(lag, pitch * flow.rows / rows, rows, values)
