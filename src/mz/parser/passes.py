"""Passes over a draft: fusing clips, folding pads and strides; and the order of all passes.

Each pass requires a draft that computes the network and ensures that it still does, with fewer layers. Arithmetic on
weights is float64.
"""

from __future__ import annotations

from collections.abc import Callable

from mz.graph import Activation, AvgPool, Conv, Elementwise, Pad, Reshape, Slice, Transpose, Weighted
from mz.graph.layers import UNBOUNDED
from mz.parser.affines import (
    fold_affines,
    fold_into_functions,
    fold_into_products,
    fold_into_readers,
    lower_affines,
    merge_affines,
)
from mz.parser.draft import Draft
from mz.parser.moves import simplify_moves
from mz.parser.parallel import merge_parallel
from mz.parser.placement import decode_boxes_on_host, join_on_host, leave_to_host
from mz.parser.powers import merge_powers
from mz.parser.transposes import sink_transposes


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
    sink_transposes,
    simplify_moves,
    merge_affines,
    merge_powers,
    fold_affines,
    merge_parallel,
    fold_affines,
    fold_into_readers,
    fold_into_products,
    decode_boxes_on_host,
    leave_to_host,
    join_on_host,
    fold_into_functions,
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
