"""BatchNormalization, which becomes constants; LRN, written out; Softmax, with which the host's part begins."""

from __future__ import annotations

import math

import numpy as np

from mz.graph import Activation, Conv, Mul, Reshape, Softmax
from mz.parser.draft import Draft
from mz.parser.elementwise import affine
from mz.parser.node import ON_MAP, ON_TENSOR, Node, Rule, Value, constant_settings, first_output_only


def in_inference_mode(node: Node) -> str | None:
    """The normalization uses its stored mean and variance (training_mode is 0)."""
    return "training_mode 1" if node.attribute("training_mode", 0) else None


def batch_in_front(node: Node) -> str | None:
    """The batch axis is the first."""
    shape = node.x.shape
    return None if node.x.batch_axis == 0 and len(shape) > 1 else f"shape {list(shape)}"


def softmax_within_image(node: Node) -> str | None:
    """The softmax does not run over the batch axis."""
    return "" if node.x.batch_axis is not None and node.x.batch_axis in _softmax_axes(node) else None


def batch_normalization(node: Node, draft: Draft) -> Value:
    """Folded into the layer with weights before it; elsewhere a depthwise 1x1 convolution. Computed in float64."""
    scale, bias, mean, variance = (np.asarray(node.constant(index), np.float64) for index in (1, 2, 3, 4))
    factor = scale / np.sqrt(variance + node.attribute("epsilon", 1e-5))
    along_channels = (-1,) + (1,) * (len(node.x.shape) - 2)
    offset = bias - mean * factor
    return affine(node, draft, node.x, factor.reshape(along_channels), offset.reshape(along_channels))


def base_above_zero(node: Node) -> str | None:
    """The constant `bias` is above 0."""
    bias = node.attribute("bias", 1.0)
    return None if bias > 0 else f"{bias}"


def local_response_normalization(node: Node, draft: Draft) -> Value:
    """x * (bias + alpha/size * sum of x^2 over nearby channels)^-beta: two products, a convolution with a band of
    constants, an activation.
    """
    x, size = draft.view(node.x, 0, node.name), int(node.attribute("size"))
    shape = node.x.shape[1:]
    before, after = (size - 1) // 2, size // 2
    distance = np.arange(shape[0]) - np.arange(shape[0])[:, None]
    band = np.where((-before <= distance) & (distance <= after), node.attribute("alpha", 1e-4) / size, 0.0)
    arrays = {"kernel": band[:, :, None, None], "bias": np.zeros(shape[0])}
    constants = (-float(node.attribute("beta", 0.75)), float(node.attribute("bias", 1.0)))
    origin = [node.name]
    square = draft.emit(Mul, [x, x], shape, origin)
    near = draft.emit(Conv, [square], shape, origin, arrays, kernel_shape=(1, 1))
    draft.normalizations.add(near)
    scale = draft.emit(Activation, [near], shape, origin, function="power", constants=constants)
    return Value(draft.emit(Mul, [x, scale], shape, origin), node.x.shape)


def softmax(node: Node, draft: Draft) -> Value:
    """Softmax along an axis, on the host: it and all that follows it run in float."""
    x, axes = node.x, _softmax_axes(node)
    long = [axis for axis in axes if x.shape[axis] > 1] or [axes[0]]
    if len(long) == 1:
        layer_axis = long[0] - (x.batch_axis is not None and x.batch_axis < long[0])
        layer = draft.emit(Softmax, [x.layer], x.layer_shape, [node.name], axis=layer_axis)
        return Value(layer, x.shape, x.batch_axis)
    head = x.layer_shape[: len(x.layer_shape) - len(axes)]
    flat = (*head, math.prod(x.shape[axis] for axis in axes))
    joined = draft.emit(Reshape, [x.layer], flat, [node.name])
    layer = draft.emit(Softmax, [joined], flat, [node.name], axis=len(head))
    return Value(draft.emit(Reshape, [layer], x.layer_shape, [node.name]), x.shape, x.batch_axis)


def _softmax_axes(node: Node) -> list[int]:
    """The axes that one softmax covers: before opset 13 all from `axis` on."""
    rank = len(node.x.shape)
    if node.opset >= 13:
        return [node.axis(node.attribute("axis", -1))]
    return list(range(node.axis(node.attribute("axis", 1)), rank))


RULES = {
    "BatchNormalization": Rule(
        batch_normalization,
        (*ON_TENSOR, batch_in_front, constant_settings, in_inference_mode, first_output_only),
    ),
    "LRN": Rule(local_response_normalization, (*ON_MAP, base_above_zero)),
    "Softmax": Rule(softmax, (*ON_TENSOR, softmax_within_image)),
}
