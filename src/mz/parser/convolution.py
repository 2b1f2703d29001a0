"""Layers with weights: Conv, ConvTranspose, Gemm."""

from __future__ import annotations

import numpy as np

from mz.graph import Conv, Deconv, Dense, Transpose
from mz.parser.draft import Draft
from mz.parser.geometry import pair, transposed_window, window
from mz.parser.node import ON_MAP, ON_TENSOR, Node, Rule, Value, constant_settings


def channels_divide(node: Node) -> str | None:
    """The kernel has four axes and fits the input's channels and the groups."""
    kernel, channels, groups = node.constant(1), node.x.shape[1], node.attribute("group", 1)
    assert kernel is not None
    if kernel.ndim != 4:
        return f"kernel of shape {list(kernel.shape)}"
    per_group = kernel.shape[1] if node.op_type == "Conv" else kernel.shape[0] // groups
    fits = per_group * groups == channels and kernel.shape[0] % groups == 0
    return None if fits else f"kernel of shape {list(kernel.shape)}, {channels} channels, {groups} groups"


def no_negative_pads(node: Node) -> str | None:
    """Pads are not negative and leave at least one output pixel."""
    kernel = node.constant(1)
    assert kernel is not None
    size, hw = pair(kernel.shape[2:]), pair(node.x.shape[2:])
    placed = window(node, hw, size) if node.op_type == "Conv" else transposed_window(node, hw, size)
    if min(placed.pads) >= 0 and min(placed.out) > 0:
        return None
    return f"pads {list(placed.pads)}, output {list(placed.out)}"


def matrix_weights(node: Node) -> str | None:
    """The second input is a constant matrix."""
    weights = node.operand(1)
    if not isinstance(weights, np.ndarray):
        return "a tensor of the network"
    return None if weights.ndim == 2 else f"a constant of shape {list(weights.shape)}"


def bias_per_column(node: Node) -> str | None:
    """The third input, where there is one, is a constant with one value per output column or one for all."""
    bias = node.operand(2)
    if bias is None:
        return None
    if isinstance(bias, Value):
        return "a tensor of the network"
    return (
        None if bias.size == 1 or bias.size == bias.shape[-1] else f"a constant of shape {list(bias.shape)}"
    )


def two_axes(node: Node) -> str | None:
    """The input has two axes."""
    return None if len(node.x.shape) == 2 else f"shape {list(node.x.shape)}"


def last_axis_is_data(node: Node) -> str | None:
    """The multiplied axis is not the batch axis."""
    rank = len(node.x.shape)
    axis = 0 if node.attribute("transA", 0) else rank - 1
    return None if rank > 1 and node.x.batch_axis != axis else f"shape {list(node.x.shape)}"


def conv(node: Node, draft: Draft) -> Value:
    """2-D convolution: grouped, depthwise, dilated, with any pads, explicit or automatic."""
    kernel = node.constant(1)
    assert kernel is not None
    placed = window(node, pair(node.x.shape[2:]), pair(kernel.shape[2:]))
    shape = (kernel.shape[0], *placed.out)
    layer = draft.emit(
        Conv,
        [draft.view(node.x, 0, node.name)],
        shape,
        [node.name],
        {"kernel": kernel, "bias": _bias(node, kernel.shape[0])},
        kernel_shape=placed.kernel,
        strides=placed.strides,
        dilations=placed.dilations,
        pads=placed.pads,
        groups=node.attribute("group", 1),
    )
    return Value(layer, (1, *shape))


def deconv(node: Node, draft: Draft) -> Value:
    """2-D transposed convolution: grouped, dilated, with pads, output padding or output shape."""
    kernel = node.constant(1)
    assert kernel is not None
    groups = node.attribute("group", 1)
    placed = transposed_window(node, pair(node.x.shape[2:]), pair(kernel.shape[2:]))
    shape = (kernel.shape[1] * groups, *placed.out)
    layer = draft.emit(
        Deconv,
        [draft.view(node.x, 0, node.name)],
        shape,
        [node.name],
        {"kernel": kernel, "bias": _bias(node, shape[0])},
        kernel_shape=pair(kernel.shape[2:]),
        strides=placed.strides,
        dilations=placed.dilations,
        pads=placed.pads,
        output_padding=placed.output_padding,
        groups=groups,
    )
    return Value(layer, (1, *shape))


def gemm(node: Node, draft: Draft) -> Value:
    """Fully connected layer: `alpha` and `beta` go into weights and bias, `transA` becomes a transpose."""
    x, weights = node.x, node.constant(1)
    assert weights is not None
    if node.attribute("transA", 0):
        x = _transposed(node, draft)
    kernel = weights if node.attribute("transB", 0) else weights.T
    bias = _bias(node, kernel.shape[0]) * np.float64(node.attribute("beta", 1.0))
    return dense(node, draft, x, kernel * np.float64(node.attribute("alpha", 1.0)), bias)


def dense(node: Node, draft: Draft, x: Value, kernel: np.ndarray, bias: np.ndarray) -> Value:
    """A fully connected layer over the last axis; kernel [O, I], bias [O]."""
    out = Value("", (*x.shape[:-1], kernel.shape[0]), x.batch_axis)
    layer = draft.emit(Dense, [x.layer], out.layer_shape, [node.name], {"kernel": kernel, "bias": bias})
    return Value(layer, out.shape, out.batch_axis)


def _transposed(node: Node, draft: Draft) -> Value:
    """A matrix with its two axes exchanged: only where the batch axis is merged does a number move."""
    x = node.x
    shape = x.shape[::-1]
    if x.batch_axis is not None:
        return Value(x.layer, shape, 1 - x.batch_axis)
    return Value(draft.emit(Transpose, [x.layer], shape, [node.name], permutation=(1, 0)), shape, None)


def _bias(node: Node, channels: int) -> np.ndarray:
    bias = node.constant(2)
    return np.zeros(channels, np.float32) if bias is None else np.broadcast_to(bias.reshape(-1), (channels,))


_WINDOWED = (*ON_MAP, constant_settings, channels_divide, no_negative_pads)

RULES = {
    "Conv": Rule(conv, _WINDOWED),
    "ConvTranspose": Rule(deconv, _WINDOWED),
    "Gemm": Rule(gemm, (*ON_TENSOR, two_axes, matrix_weights, bias_per_column, last_axis_is_data)),
}
