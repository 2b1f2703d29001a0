"""Average pools that must share a scale with other tensors become depthwise convolutions, which can be scaled.

A mean has the magnitude of its input. Concatenated with larger tensors it is left few integers or none: pooled pixels
beside a feature map of 500 times their size are all zero in 8 bits. As a convolution it has weights, by which
equalization makes its channels as large as the others.
"""

from __future__ import annotations

import math

import numpy as np

from mz.graph import AvgPool, Conv, Graph, Params
from mz.optimize.peaks import Peaks
from mz.quantize.groups import is_move, scale_groups

FAINT = 1 / 16
"""Of the largest value of its scale; a tensor below has fewer than 4 of its 8 bits left."""


def pools_to_convolutions(graph: Graph, params: Params, peaks: Peaks) -> tuple[Graph, Params, list[str]]:
    """The same function, and the names of the pools that are convolutions now: those that are faint in their group.

    peaks: of the float network.
    """
    faint: set[str] = set()
    for group in scale_groups(graph):
        largest = {name: _largest(peaks, name) for name in group if not is_move(graph[name])}
        faint |= {name for name, value in largest.items() if value < FAINT * max(largest.values())}
    pools = [
        layer
        for layer in graph.layers
        if isinstance(layer, AvgPool) and layer.name in faint and _is_convolution(layer)
    ]
    changes = {pool.name: _depthwise(pool) for pool in pools}
    weights = {pool.name: _weights(pool) for pool in pools}
    return graph.replace(changes), params | weights, list(changes)


def _largest(peaks: Peaks, name: str) -> float:
    return float(max(-peaks.low[name].min(), peaks.high[name].max()))


def _is_convolution(pool: AvgPool) -> bool:
    """Whether all its windows have one divisor."""
    return not pool.host and (pool.count_include_pad or not any(pool.pads))


def _depthwise(pool: AvgPool) -> Conv:
    return Conv(
        name=pool.name,
        inputs=pool.inputs,
        shape=pool.shape,
        origin=pool.origin,
        kernel_shape=pool.kernel_shape,
        strides=pool.strides,
        pads=pool.pads,
        groups=pool.shape[0],
    )


def _weights(pool: AvgPool) -> dict[str, np.ndarray]:
    channels, window = pool.shape[0], pool.kernel_shape
    kernel = np.full((channels, 1, *window), 1 / math.prod(window), np.float32)
    return {"kernel": kernel, "bias": np.zeros(channels, np.float32)}
