"""Passes over a draft: folding constants into weights, fusing clips, folding pads and strides, dropping idle moves.

Each pass requires a draft that computes the network and ensures that it still does, with fewer layers. Arithmetic on
weights is float64. `PASSES` is the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from mz.graph import (
    Activation,
    AvgPool,
    Conv,
    Deconv,
    Dense,
    Elementwise,
    HostOp,
    Layer,
    Pad,
    Reshape,
    Slice,
    Transpose,
    Weighted,
)
from mz.graph.layers import UNBOUNDED
from mz.parser.draft import Affine, Draft, per_channel
from mz.parser.moves import simplify_moves
from mz.parser.parallel import merge_parallel
from mz.parser.placement import decode_boxes_on_host, leave_to_host


def merge_affines(draft: Draft) -> None:
    """b * (a * x + c) + d, read by nothing else on the way, is (b a) * x + (b c + d)."""
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Affine):
            continue
        (source,) = draft.layers[layer.name].inputs
        if isinstance(draft.layers[source], Affine) and draft.sole_reader(source, layer.name):
            first, second = draft.params[source], draft.params[layer.name]
            first["offset"] = first["offset"] * second["factor"] + second["offset"]
            first["factor"] = first["factor"] * second["factor"]
            draft.absorb(layer.name, source)


def fold_affines(draft: Draft) -> None:
    """a * (w x + b) + c is (a w) x + (a b + c), where a and c have one value per output channel of w.

    The layer with weights must be unclipped and read by nothing else.
    """
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Affine):
            continue
        source = _behind_reshapes(draft, layer.name)
        before = draft.layers[source]
        if _not_foldable(draft, before, layer):
            continue
        constants = _per_channel(draft, before, layer)
        assert isinstance(before, Weighted) and constants is not None
        factor, params = constants["factor"], draft.params[source]
        params["kernel"] = _scaled(before, params["kernel"].astype(np.float64), factor)
        params["bias"] = params["bias"].astype(np.float64) * factor + constants["offset"]
        draft.note(source, f"{', '.join(layer.origin)} folded into its weights")
        draft.absorb(layer.name, draft.layers[layer.name].inputs[0])


def lower_affines(draft: Draft) -> None:
    """An affine that is left becomes a depthwise 1x1 convolution; on the host, a product and a sum.

    Its channels are the axes up to the last along which the constants vary; a reshape around it makes them one.
    """
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Affine):
            continue
        if reason := _not_foldable(draft, draft.layers[_behind_reshapes(draft, layer.name)], layer):
            draft.note(layer.name, f"{', '.join(layer.origin)} stays a layer: {reason}")
        shape, params = layer.shape, draft.params.pop(layer.name)
        if layer.host:
            _apply_on_host(draft, layer, params)
            continue
        varying = [axis for array in params.values() for axis in range(len(shape)) if array.shape[axis] > 1]
        depth = max([axis + 1 for axis in varying] or [1])
        channels = math.prod(shape[:depth])
        direct = len(shape) == 3 and depth == 1
        full = (*shape[:depth], *(1,) * (len(shape) - depth))
        factor, offset = (
            np.broadcast_to(params[name], full).reshape(channels) for name in ("factor", "offset")
        )
        target = shape if direct else (channels, math.prod(shape[depth:]), 1)
        arrays = {"kernel": factor.reshape(channels, 1, 1, 1), "bias": offset}
        source = layer.inputs[0] if direct else draft.emit(Reshape, layer.inputs, target, layer.origin)
        conv = draft.emit(Conv, [source], target, layer.origin, arrays, kernel_shape=(1, 1), groups=channels)
        draft.normalizations.add(conv)
        draft.substitute(
            layer.name, Reshape(name="", inputs=(conv,), shape=shape, origin=layer.origin, host=layer.host)
        )
        if direct:
            draft.absorb(layer.name, conv)


def _apply_on_host(draft: Draft, layer: Affine, params: Mapping[str, np.ndarray]) -> None:
    """`factor * x + offset` by the operators Mul and Add."""
    factor, offset = params["factor"], params["offset"]
    origin = layer.origin
    product = draft.emit(
        HostOp,
        layer.inputs,
        layer.shape,
        origin,
        {"input1": factor},
        operator="Mul",
        constants=((1, factor.shape),),
    )
    total = HostOp(
        name="",
        inputs=(product,),
        shape=layer.shape,
        origin=origin,
        host=True,
        operator="Add",
        constants=((1, offset.shape),),
    )
    draft.substitute(layer.name, total)
    draft.params[layer.name] = {"input1": offset}
    for name, idle in ((layer.name, not np.any(offset)), (product, bool(np.all(factor == 1.0)))):
        (source,) = draft.layers[name].inputs
        if idle and name not in draft.outputs:
            draft.absorb(name, source)


def fuse_clips(draft: Draft) -> None:
    """A clip becomes the bounds of the layer before it: a weighted or element-wise one, unbounded, read by it alone.

    Moves between the two are no hindrance.
    """
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Activation) or layer.function != "clip":
            continue
        source = _behind_moves(draft, layer.name)
        before = draft.layers[source]
        if not isinstance(before, Weighted | Elementwise):
            draft.note(layer.name, f"stays a layer: no bounds can be put on the {before.kind} before it")
        elif before.clip != UNBOUNDED or len(draft.readers(source)) > 1 or source in draft.outputs:
            draft.note(
                layer.name,
                f"stays a layer: the {before.kind} before it is clipped already or read elsewhere too",
            )
        else:
            low, high = layer.constants
            draft.update(source, clip=(low, high))
            draft.note(source, f"{', '.join(layer.origin)} fused as its bounds")
            draft.absorb(layer.name, draft.layers[layer.name].inputs[0])


def fold_pads(draft: Draft) -> None:
    """Zeros around a map become the pads of the convolution or mean that reads it."""
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Conv | AvgPool):
            continue
        before = draft.layers[layer.inputs[0]]
        if not isinstance(before, Pad):
            continue
        pads = tuple(a + b for a, b in zip(layer.pads, before.pads, strict=True))
        origin = (*before.origin, *layer.origin)
        if isinstance(layer, Conv):
            draft.update(layer.name, pads=pads, inputs=before.inputs, origin=origin)
        elif (layer.count_include_pad or not any(layer.pads)) and all(
            pad < size for pad, size in zip(pads, layer.kernel_shape * 2, strict=True)
        ):
            draft.update(layer.name, pads=pads, inputs=before.inputs, origin=origin, count_include_pad=True)
        else:
            continue
        draft.note(layer.name, f"{', '.join(before.origin)} folded into its pads")


def fold_strided_slices(draft: Draft) -> None:
    """Every n-th row and column, then a 1x1 convolution: the same convolution with strides n."""
    for layer in list(draft.layers.values()):
        if not isinstance(layer, Conv) or layer.kernel_shape != (1, 1) or any(layer.pads):
            continue
        before = draft.layers[layer.inputs[0]]
        if not isinstance(before, Slice) or layer.strides != (1, 1):
            continue
        source = draft.layers[before.inputs[0]].shape
        strided = tuple(-(-size // step) for size, step in zip(source, before.steps, strict=True))
        if any(before.starts) or before.steps[0] != 1 or before.shape != strided:
            continue
        origin = (*before.origin, *layer.origin)
        draft.update(layer.name, strides=before.steps[1:], inputs=before.inputs, origin=origin)
        draft.note(layer.name, f"{', '.join(before.origin)} folded into its strides")


PASSES: tuple[Callable[[Draft], None], ...] = (
    simplify_moves,
    merge_affines,
    fold_affines,
    merge_parallel,
    fold_affines,
    decode_boxes_on_host,
    leave_to_host,
    lower_affines,
    fuse_clips,
    fold_pads,
    fold_strided_slices,
    simplify_moves,
    Draft.sweep,
)
"""In this order: bounds come last because constants fold only into an unclipped layer."""


def _behind_moves(draft: Draft, name: str) -> str:
    """The layer whose numbers `name` reads through reshapes and transposes that nothing else reads."""
    (source,) = draft.layers[name].inputs
    while isinstance(layer := draft.layers[source], Reshape | Transpose) and draft.sole_reader(source, name):
        name, (source,) = source, layer.inputs
    return source


def _behind_reshapes(draft: Draft, name: str) -> str:
    """The convolution behind reshapes that leave its channels in front and that nothing else reads; else the input."""
    (source,) = draft.layers[name].inputs
    found = source
    while isinstance(layer := draft.layers[found], Reshape) and draft.sole_reader(found, name):
        name, (found,) = found, layer.inputs
        if draft.layers[found].shape[:1] != layer.shape[:1]:
            return source
    return found if isinstance(draft.layers[found], Conv | Deconv) else source


def _not_foldable(draft: Draft, before: Layer, layer: Affine) -> str | None:
    """Why the affine cannot go into the layer before it; None where it can."""
    if not isinstance(before, Weighted):
        return f"the {before.kind} before it has no weights"
    if before.clip != UNBOUNDED:
        return f"the {before.kind} before it is clipped"
    if len(draft.readers(before.name)) > 1 or before.name in draft.outputs:
        return f"the {before.kind} before it is read elsewhere too"
    if _per_channel(draft, before, layer) is None:
        return "its constants vary within a channel"
    return None


def _per_channel(draft: Draft, before: Layer, layer: Affine) -> dict[str, np.ndarray] | None:
    """The affine's constants by the output channels of the layer before it."""
    axis = len(before.shape) - 1 if isinstance(before, Dense) else 0
    return per_channel(draft.params[layer.name], axis, before.shape[axis])


def _scaled(layer: Weighted, kernel: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The kernel with every output channel multiplied by its factor."""
    if isinstance(layer, Deconv):
        per_group = (layer.groups, -1, *kernel.shape[1:])
        factors = factor.reshape(layer.groups, 1, kernel.shape[1], 1, 1)
        return (kernel.reshape(per_group) * factors).reshape(kernel.shape)
    return kernel * factor.reshape(-1, *(1,) * (kernel.ndim - 1))
