"""What runs on the host though an integer layer could do it: box decoding, and what the host alone would read.

Passes over a draft, to be run while constants that did not fold are still `Affine`: they only mark layers. The host
gets nothing that would cost it much, and the integers are spared a rounding.
"""

from __future__ import annotations

from mz.graph import (
    Activation,
    AvgPool,
    Concat,
    GlobalAvgPool,
    Layer,
    MatMul,
    MaxPool,
    Mul,
    Reshape,
    Slice,
    Transpose,
    Weighted,
)
from mz.parser.draft import Affine, Draft


def decode_boxes_on_host(draft: Draft) -> None:
    """Constants that differ from place to place, without weights, matrix products or pools behind them, and the rest.

    These are anchors and priors. Eight bits for a coordinate would be a pixel or two.
    """
    feeds_work: set[str] = set()
    order = list(draft.in_order())
    for layer in reversed(order):
        readers = [draft.layers[name] for name in draft.readers(layer.name)]
        if any(_works(reader) or reader.name in feeds_work for reader in readers):
            feeds_work.add(layer.name)
    for layer in order:
        if layer.host or layer.name in feeds_work:
            continue
        if any(draft.layers[source].host for source in layer.inputs):
            draft.update(layer.name, host=True)
        elif isinstance(layer, Affine) and _differs_by_place(draft, layer):
            draft.update(layer.name, host=True)
            draft.host_reasons[layer.name] = (
                f"{', '.join(layer.origin)}: its constants differ from place to place, "
                "after the last layer with weights"
            )


def leave_to_host(draft: Draft) -> None:
    """A move, a function of one tensor or plain constants that nothing but host layers read."""
    for layer in reversed(list(draft.in_order())):
        readers = draft.readers(layer.name)
        function = isinstance(layer, Activation) and layer.function not in ("clip", "prelu")
        square = isinstance(layer, Mul) and layer.is_square
        light = isinstance(layer, Reshape | Transpose | Slice | Concat | Affine) or function or square
        if layer.host or not light or not readers or layer.name in draft.outputs:
            continue
        if all(draft.layers[name].host for name in readers):
            draft.update(layer.name, host=True)
            draft.note(layer.name, "runs on the host, where all its readers run")


def _works(layer: Layer) -> bool:
    return isinstance(layer, Weighted | MatMul | MaxPool | AvgPool | GlobalAvgPool)


def _differs_by_place(draft: Draft, layer: Affine) -> bool:
    """Whether the constants vary along two axes, or along one that is not the channel of a map or the last."""
    varying = {
        axis
        for array in draft.params[layer.name].values()
        for axis, size in enumerate(array.shape)
        if size > 1
    }
    channel = {0} if len(layer.shape) == 3 else {0, len(layer.shape) - 1}
    return len(varying) > 1 or not varying <= channel
