"""BatchNormalization, which becomes constants; the others, written out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mz.graph import Activation, Conv, Mul, Sub, Transpose
from mz.parser.draft import Draft
from mz.parser.elementwise import affine
from mz.parser.movement import reshape_to
from mz.parser.node import ON_MAP, ON_TENSOR, Node, Rule, Value, always, constant_settings, first_output_only
from mz.parser.reductions import TO_BACK, TO_FRONT, mean


def in_inference_mode(node: Node) -> str | None:
    """The normalization uses its stored mean and variance (training_mode is 0)."""
    return "training_mode 1" if node.attribute("training_mode", 0) else None


def batch_in_front(node: Node) -> str | None:
    """The batch axis is the first."""
    shape = node.x.shape
    return None if node.x.batch_axis == 0 and len(shape) > 1 else f"shape {list(shape)}"


def channels_behind_batch(node: Node) -> str | None:
    """The channels are the second axis, which is not the batch axis."""
    shape = node.x.shape
    return None if len(shape) > 1 and node.x.batch_axis != 1 else f"shape {list(shape)}"


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


def normalized_within_image(node: Node) -> str | None:
    """The batch axis is not among those that are normalized over."""
    axis = node.axis(node.attribute("axis", -1))
    return None if node.x.batch_axis is None or node.x.batch_axis < axis else f"from axis {axis} on"


def layer_normalization(node: Node, draft: Draft) -> Value:
    """(x - mean) / sqrt(variance + epsilon) over the last axes: two means, a difference, two products, a function."""
    x, axis = node.x, node.axis(node.attribute("axis", -1))
    if x.batch_axis is not None and len(x.layer_shape) == 3 and axis == len(x.shape) - 1:
        return _over_channels(node, draft, x)
    whole = _over_last_axes(node, draft, x, axis)
    return _with_constants(node, draft, whole, node.constant(1), node.constant(2))


def instance_normalization(node: Node, draft: Draft) -> Value:
    """As LayerNormalization, over each channel of each image."""
    return _by_channel(node, draft, _over_last_axes(node, draft, node.x, 2))


def group_normalization(node: Node, draft: Draft) -> Value:
    """As LayerNormalization, over each group of channels of each image."""
    shape, groups = node.x.shape, int(node.attribute("num_groups"))
    grouped = reshape_to(node.x, (1, groups, math.prod(shape) // groups), draft, node.name)
    whole = reshape_to(_over_last_axes(node, draft, grouped, 2), shape, draft, node.name)
    return _by_channel(node, draft, whole)


def _over_channels(node: Node, draft: Draft, x: Value) -> Value:
    """Of a map whose channels are its last axis: as one whose channels are its first, where means are convolutions."""
    rows, columns, channels = x.layer_shape
    shape = (channels, rows, columns)
    turned = draft.emit(Transpose, [x.layer], shape, [node.name], permutation=TO_FRONT)
    whole = _by_channel(node, draft, Value(_normalized(node, draft, turned, (0,)), (1, *shape)))
    back = draft.emit(Transpose, [whole.layer], x.layer_shape, [node.name], permutation=TO_BACK)
    return Value(back, x.shape, x.batch_axis)


def _over_last_axes(node: Node, draft: Draft, x: Value, first: int) -> Value:
    """Over all ONNX axes from `first` on: as a map for each that is left, whose mean is a pool's."""
    shape, before = x.layer_shape, first - (x.batch_axis is not None)
    size = shape[before:] if len(shape) == before + 2 else (math.prod(shape[before:]), 1)
    maps = (math.prod(shape[:before]), *size)
    found = _normalized(node, draft, draft.reshaped(x.layer, maps, [node.name]), (1, 2))
    return Value(draft.reshaped(found, shape, [node.name]), x.shape, x.batch_axis)


def _normalized(node: Node, draft: Draft, source: str, axes: Sequence[int]) -> str:
    """(x - mean) / sqrt(variance + epsilon) over axes of the layer, the variance a mean of squares."""
    shape, origin = draft.layers[source].shape, [node.name]
    centred = draft.emit(Sub, [source, mean(draft, source, axes, origin)], shape, origin)
    variance = mean(draft, draft.emit(Mul, [centred, centred], shape, origin), axes, origin)
    scale = draft.emit(
        Activation,
        [variance],
        draft.layers[variance].shape,
        origin,
        function="power",
        constants=(-0.5, float(node.attribute("epsilon", 1e-5))),
    )
    return draft.emit(Mul, [centred, scale], shape, origin)


def _by_channel(node: Node, draft: Draft, x: Value) -> Value:
    """Inputs 1 and 2 for each channel, or for each of equal groups of channels."""

    def along(array: np.ndarray | None) -> np.ndarray | None:
        if array is None:
            return None
        return np.repeat(array, x.shape[1] // len(array)).reshape(-1, *(1,) * (len(x.shape) - 2))

    return _with_constants(node, draft, x, along(node.constant(1)), along(node.constant(2)))


def _with_constants(
    node: Node, draft: Draft, x: Value, scale: np.ndarray | None, bias: np.ndarray | None
) -> Value:
    """scale, bias: in ONNX's shapes; None multiplies by 1, adds 0."""
    factor = np.ones(()) if scale is None else scale
    offset = np.zeros(()) if bias is None else bias
    idle = np.all(factor == 1) and not np.any(offset)
    return x if idle else affine(node, draft, x, factor, offset)


_BY_CHANNEL = (*ON_TENSOR, batch_in_front, constant_settings)

RULES = {
    "BatchNormalization": Rule(
        batch_normalization,
        (*ON_TENSOR, channels_behind_batch, constant_settings, in_inference_mode, first_output_only),
    ),
    "GroupNormalization": Rule(group_normalization, _BY_CHANNEL, written_out=always),
    "InstanceNormalization": Rule(instance_normalization, _BY_CHANNEL, written_out=always),
    "LayerNormalization": Rule(
        layer_normalization,
        (*ON_TENSOR, constant_settings, first_output_only, normalized_within_image),
        written_out=always,
    ),
    "LRN": Rule(local_response_normalization, (*ON_MAP, base_above_zero)),
}
