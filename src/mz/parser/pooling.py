"""Pools: MaxPool, AveragePool, their global forms, and means and maxima over height, width or both."""

from __future__ import annotations

from mz.graph import AvgPool, GlobalAvgPool, MaxPool
from mz.parser.draft import Draft
from mz.parser.geometry import pair, window
from mz.parser.movement import reshape_to
from mz.parser.node import ON_MAP, ON_TENSOR, Node, Rule, Value, constant_settings, first_output_only, on_map


def pads_below_kernel(node: Node) -> str | None:
    """Pads, with what ceil mode adds, are not negative, smaller than the kernel, and leave an output pixel."""
    placed = window(node, pair(node.x.shape[2:]), pair(node.attribute("kernel_shape")))
    fits = all(0 <= pad < size for pad, size in zip(placed.pads, placed.kernel * 2, strict=True))
    return None if fits and min(placed.out) > 0 else f"pads {list(placed.pads)}, kernel {list(placed.kernel)}"


def no_dilations(node: Node) -> str | None:
    """The window has no dilations."""
    dilations = node.attribute("dilations", [1, 1])
    return None if set(dilations) == {1} else f"{dilations}"


def divisor_is_certain(node: Node) -> str | None:
    """count_include_pad is not combined with ceil_mode where the last window leaves the padded map."""
    if not (node.attribute("ceil_mode", 0) and node.attribute("count_include_pad", 0)):
        return None
    placed = window(node, pair(node.x.shape[2:]), pair(node.attribute("kernel_shape")))
    return None if list(placed.pads) == list(node.attribute("pads", [0, 0, 0, 0])) else ""


def over_height_and_width(node: Node) -> str | None:
    """It runs over height, width or both, and the batch axis is the first."""
    found, shape = reduced_axes(node), list(node.x.shape)
    return None if found and {*found} <= {2, 3} and len(shape) == 4 else f"over axes {found} of {shape}"


def reduced_axes(node: Node) -> list[int]:
    """The axes that a reduction runs over, in order; all where none is given."""
    axes = node.setting("axes", 1)
    return sorted(node.axis(axis) for axis in axes) if axes else list(range(len(node.x.shape)))


def max_pool(node: Node, draft: Draft) -> Value:
    """2-D maximum; ceil mode becomes pads below and right."""
    placed = window(node, pair(node.x.shape[2:]), pair(node.attribute("kernel_shape")))
    shape = (node.x.shape[1], *placed.out)
    layer = draft.emit(
        MaxPool,
        [draft.view(node.x, 0, node.name)],
        shape,
        [node.name],
        kernel_shape=placed.kernel,
        strides=placed.strides,
        dilations=placed.dilations,
        pads=placed.pads,
    )
    return Value(layer, (1, *shape))


def avg_pool(node: Node, draft: Draft) -> Value:
    """2-D mean; ceil mode becomes pads below and right."""
    placed = window(node, pair(node.x.shape[2:]), pair(node.attribute("kernel_shape")))
    shape = (node.x.shape[1], *placed.out)
    layer = draft.emit(
        AvgPool,
        [draft.view(node.x, 0, node.name)],
        shape,
        [node.name],
        kernel_shape=placed.kernel,
        strides=placed.strides,
        pads=placed.pads,
        count_include_pad=bool(node.attribute("count_include_pad", 0)),
    )
    return Value(layer, (1, *shape))


def global_avg_pool(node: Node, draft: Draft) -> Value:
    """Mean over height and width."""
    shape = (node.x.shape[1], 1, 1)
    layer = draft.emit(GlobalAvgPool, [draft.view(node.x, 0, node.name)], shape, [node.name])
    return Value(layer, (1, *shape))


def global_max_pool(node: Node, draft: Draft) -> Value:
    """A maximum pool whose window is the whole map."""
    channels, rows, columns = node.x.shape[1:]
    source = draft.view(node.x, 0, node.name)
    layer = draft.emit(MaxPool, [source], (channels, 1, 1), [node.name], kernel_shape=(rows, columns))
    return Value(layer, (1, channels, 1, 1))


def reduce_mean(node: Node, draft: Draft) -> Value:
    """An average pool, global where it runs over both axes, and a reshape where the axes are dropped."""
    if len(reduced_axes(node)) == 2:
        return _without_reduced(node, draft, global_avg_pool(node, draft))
    return _pool_over_axes(node, draft, AvgPool)


def reduce_max(node: Node, draft: Draft) -> Value:
    """A maximum pool, and a reshape where the axes are dropped."""
    return _pool_over_axes(node, draft, MaxPool)


def _pool_over_axes(node: Node, draft: Draft, kind: type[AvgPool] | type[MaxPool]) -> Value:
    axes, (_, channels, rows, columns) = reduced_axes(node), node.x.shape
    kernel = (rows if 2 in axes else 1, columns if 3 in axes else 1)
    shape = (channels, rows // kernel[0], columns // kernel[1])
    source = draft.view(node.x, 0, node.name)
    layer = draft.emit(kind, [source], shape, [node.name], kernel_shape=kernel)
    return _without_reduced(node, draft, Value(layer, (1, *shape)))


def _without_reduced(node: Node, draft: Draft, pooled: Value) -> Value:
    """The pooled map, without the axes of size 1 if the node drops them."""
    if node.attribute("keepdims", 1):
        return pooled
    axes = reduced_axes(node)
    shape = [size for axis, size in enumerate(pooled.shape) if axis not in axes]
    return reshape_to(pooled, shape, draft, node.name)


RULES = {
    "MaxPool": Rule(max_pool, (*ON_MAP, first_output_only, pads_below_kernel)),
    "AveragePool": Rule(avg_pool, (*ON_MAP, no_dilations, pads_below_kernel, divisor_is_certain)),
    "GlobalAveragePool": Rule(global_avg_pool, ON_MAP),
    "GlobalMaxPool": Rule(global_max_pool, ON_MAP),
    "ReduceMean": Rule(reduce_mean, (*ON_TENSOR, constant_settings, over_height_and_width, on_map)),
    "ReduceMax": Rule(reduce_max, (*ON_TENSOR, constant_settings, over_height_and_width, on_map)),
}
