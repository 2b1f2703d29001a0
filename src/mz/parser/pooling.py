"""Pools: MaxPool, AveragePool and their global forms."""

from __future__ import annotations

from mz.graph import AvgPool, GlobalAvgPool, MaxPool
from mz.parser.draft import Draft
from mz.parser.geometry import pair, window
from mz.parser.node import ON_MAP, Node, Rule, Value, first_output_only


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


RULES = {
    "MaxPool": Rule(max_pool, (*ON_MAP, first_output_only, pads_below_kernel)),
    "AveragePool": Rule(avg_pool, (*ON_MAP, no_dilations, pads_below_kernel, divisor_is_certain)),
    "GlobalAveragePool": Rule(global_avg_pool, ON_MAP),
    "GlobalMaxPool": Rule(global_max_pool, ON_MAP),
}
