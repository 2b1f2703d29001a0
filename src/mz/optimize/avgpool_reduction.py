"""Splits a global average pool over a large map in two: means of equal windows, then the mean of those. Exact in float.

An accelerator whose pooling unit has a bounded window, or an accumulator too narrow for the whole map, can run it then.
"""

from __future__ import annotations

import dataclasses

from mz.errors import UserError
from mz.graph import AvgPool, GlobalAvgPool, Graph, Layer


def reduce_global_avgpool(graph: Graph, *, layer: str, division_factors: tuple[int, int]) -> Graph:
    """Divides the map into rows x columns windows of equal size. Raises UserError where that leaves a rest."""
    pool = graph[layer]
    if not isinstance(pool, GlobalAvgPool):
        raise UserError(
            f"global_avgpool_reduction: {layer} is no global average pool, its kind is {pool.kind}"
        )
    channels, height, width = graph.input_shapes(pool)[0]
    rows, columns = division_factors
    if height % rows or width % columns:
        raise UserError(
            f"global_avgpool_reduction: {layer} is over a map of {height} x {width}, which division factors of "
            f"{rows} x {columns} do not divide"
        )
    window = (height // rows, width // columns)
    parts = AvgPool(
        name=f"{layer}_windows",
        inputs=pool.inputs,
        shape=(channels, rows, columns),
        kernel_shape=window,
        strides=window,
    )
    whole = dataclasses.replace(pool, inputs=(parts.name,))
    layers: list[Layer] = []
    for one in graph.layers:
        layers += [parts, whole] if one is pool else [one]
    return dataclasses.replace(graph, layers=tuple(layers))
