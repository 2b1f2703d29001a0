"""How long one image takes through a context of a dataflow target, row by row.

Rows of what the context reads come in at the speed of external memory. A layer makes its rows one after the other, each
as soon as the last row that it needs of every input is there, and takes the same time for each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mz.graph import (
    Activation,
    AvgPool,
    Concat,
    Conv,
    Deconv,
    Dense,
    Elementwise,
    Graph,
    Input,
    Layer,
    MaxPool,
    Pad,
    Resize,
    Slice,
)
from mz.graph.pipeline import pipeline_flows


def image_cycles(part: Graph, cycles: Mapping[str, float], transfer: Mapping[str, float]) -> int:
    """Cycles until the last row of every output is there.

    cycles: that each layer works on an image, on all its clusters. transfer: that each input takes to come in.
    """
    flows = pipeline_flows(part)
    done: dict[str, list[float]] = {}
    for layer in part.layers:
        rows = flows[layer.name].rows
        if isinstance(layer, Input):
            done[layer.name] = [transfer[layer.name] * (row + 1) / rows for row in range(rows)]
            continue
        step, now = cycles[layer.name] / rows, 0.0
        ready = []
        for row in range(rows):
            for name in layer.inputs:
                now = max(now, done[name][_last_row(layer, row, len(done[name]), rows)])
            now += step
            ready.append(now)
        done[layer.name] = ready
    return math.ceil(max((done[name][-1] for name in part.outputs), default=0.0))


def _last_row(layer: Layer, row: int, rows_in: int, rows: int) -> int:
    """The last row of an input of `rows_in` rows that the layer needs for one of its `rows`; all, where unsure."""
    need = rows_in - 1
    if isinstance(layer, Conv | MaxPool):
        reach = (layer.kernel_shape[0] - 1) * layer.dilations[0]
        need = row * layer.strides[0] - layer.pads[0] + reach
    elif isinstance(layer, AvgPool):
        need = row * layer.strides[0] - layer.pads[0] + layer.kernel_shape[0] - 1
    elif isinstance(layer, Deconv):
        need = (row + layer.pads[0]) // layer.strides[0]
    elif isinstance(layer, Resize):
        centre = (2 * row + 1) * rows_in // (2 * rows)
        need = centre if layer.mode == "nearest" else (row + 1) * rows_in // rows
    elif isinstance(layer, Pad):
        need = row - layer.pads[0]
    elif isinstance(layer, Slice) and len(layer.shape) == 3:
        need = layer.starts[1] + row * layer.steps[1]
    elif rows == rows_in and isinstance(layer, Activation | Elementwise | Concat | Dense):
        need = row
    return min(max(need, 0), rows_in - 1)
