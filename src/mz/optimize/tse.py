"""Tiled squeeze-and-excite: the gate of a row is made of the rows around it, so that the map need not wait for its end.

Source: Vosco, Shenkler and Grobman, "Tiled Squeeze-and-Excite: Channel Attention With Local Spatial Context" (ICCV
workshops 2021), sections 3 and 4: the global pool becomes one over tiles, the block's weights are used as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from mz.errors import UserError
from mz.graph import Activation, AvgPool, Conv, Graph, Layer, Params, Reshape, Resize, Slice
from mz.graph.pipeline import pipeline_buffers
from mz.optimize.squeeze_excite import SqueezeExcite, find_squeeze_excite


@dataclass(frozen=True, slots=True)
class TseReport:
    """tiled: pools that were tiled. untouched: those whose maps have no more rows than a tile.

    buffer_before, buffer_after: bytes that a dataflow accelerator keeps in line buffers, at a byte a value.
    """

    tile_height: int
    tiled: tuple[str, ...]
    untouched: tuple[str, ...]
    buffer_before: int
    buffer_after: int

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"tiled": list(self.tiled), "untouched": list(self.untouched)}


def tiled_squeeze_excite(
    graph: Graph,
    params: Params,
    *,
    tile_height: int,
    count: int | None = None,
    layers: Collection[str] | None = None,
) -> tuple[Graph, Params, TseReport]:
    """Blocks pool over tiles of `tile_height` full-width rows; the last tile's mean is over the rows that it has.

    count: only the first blocks. layers: only the blocks with a layer of that name (the pool, say). Raises UserError
    where the network has no such block.
    """
    found = find_squeeze_excite(graph)
    blocks = found[:count]
    if layers is not None:
        blocks = [block for block in found if set(layers) & {part.name for part in _parts(block)}]
        known = {part.name for block in blocks for part in _parts(block)}
        if strange := [name for name in layers if name not in known]:
            raise UserError(
                f"se_optimization: {', '.join(strange)} is in no squeeze-and-excite block of {graph.name}; "
                f"the pools of those are {', '.join(block.pool.name for block in found) or 'none'}"
            )
    if not blocks:
        raise UserError(f"se_optimization: {graph.name} has no squeeze-and-excite block")
    before = sum(pipeline_buffers(graph).values())
    tiled, untouched = [], []
    for block in blocks:
        if graph.input_shapes(block.pool)[0][1] <= tile_height:
            untouched.append(block.pool.name)
        else:
            graph, params = _tile(graph, params, block, tile_height)
            tiled.append(block.pool.name)
    after = sum(pipeline_buffers(graph).values())
    return graph, params, TseReport(tile_height, tuple(tiled), tuple(untouched), before, after)


def _parts(block: SqueezeExcite) -> tuple[Layer, ...]:
    return (block.pool, *block.between, block.product)


def _tile(graph: Graph, params: Params, block: SqueezeExcite, tile: int) -> tuple[Graph, Params]:
    channels, height, width = graph.input_shapes(block.pool)[0]
    tiles = -(-height // tile)
    name = block.pool.name
    new: dict[str, list[Layer]] = {
        name: [
            AvgPool(
                name=name,
                inputs=block.pool.inputs,
                shape=(channels, tiles, 1),
                origin=block.pool.origin,
                kernel_shape=(tile, width),
                strides=(tile, width),
                pads=(0, 0, tiles * tile - height, 0),
            )
        ]
    }
    params = dict(params)
    last = name
    for layer in block.between:
        if isinstance(layer, Reshape):
            new[layer.name] = []
            continue
        if isinstance(layer, Activation):
            made: Layer = dataclasses.replace(layer, inputs=(last,), shape=(_channels(layer), tiles, 1))
        else:
            made = _as_conv(layer, last, tiles)
            arrays = params[layer.name]
            kernel = arrays["kernel"]
            params[layer.name] = arrays | {"kernel": kernel.reshape(*kernel.shape[:2], 1, 1)}
        new[layer.name] = [made]
        last = layer.name
    gates = _channels(block.between[-1])
    new[last].append(
        Resize(
            name=f"{name}_rows",
            inputs=(last,),
            shape=(gates, tiles * tile, 1),
            mode="nearest",
            scales=(float(tile), 1.0),
            coordinates="asymmetric",
            nearest_mode="floor",
        )
    )
    if tiles * tile > height:
        new[last].append(
            Slice(
                name=f"{name}_cut",
                inputs=(f"{name}_rows",),
                shape=(gates, height, 1),
                starts=(0, 0, 0),
                stops=(gates, height, 1),
                steps=(1, 1, 1),
            )
        )
    gate = new[last][-1].name
    old = block.between[-1].name
    inputs = tuple(gate if source == old else source for source in block.product.inputs)
    new[block.product.name] = [dataclasses.replace(block.product, inputs=inputs)]
    layers = [part for layer in graph.layers for part in new.get(layer.name, [layer])]
    return dataclasses.replace(graph, layers=tuple(layers)), params


def _channels(layer: Layer) -> int:
    return max(layer.shape)


def _as_conv(layer: Layer, source: str, tiles: int) -> Conv:
    """A 1x1 convolution or a dense layer as a 1x1 convolution over the tiles."""
    groups = layer.groups if isinstance(layer, Conv) else 1
    clip = getattr(layer, "clip", (float("-inf"), float("inf")))
    return Conv(
        name=layer.name,
        inputs=(source,),
        shape=(_channels(layer), tiles, 1),
        origin=layer.origin,
        kernel_shape=(1, 1),
        groups=groups,
        clip=clip,
        clip_by_channel=getattr(layer, "clip_by_channel", False),
    )
