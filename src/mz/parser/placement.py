"""What runs on the host though an integer layer could do it: box decoding, and what the host alone would read.

Passes over a draft, to be run while constants that did not fold are still `Affine`: they only mark layers. The host
gets nothing that would cost it much, and the integers are spared a rounding.
"""

from __future__ import annotations

from collections.abc import Callable

from mz.graph import (
    Activation,
    AvgPool,
    Concat,
    GlobalAvgPool,
    Layer,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    Reshape,
    Resize,
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


def join_on_host(draft: Draft) -> None:
    """A concatenation behind which nothing but moves and functions of one tensor lead to outputs and the host, these,
    and the moves before it.

    Integers that are joined share a scale: boxes would drown the confidences beside them.
    """
    order = list(draft.in_order())
    last: set[str] = set()
    for layer in reversed(order):
        light = _moves(layer) or _is_function(layer)
        if light and all(name in last or draft.layers[name].host for name in draft.readers(layer.name)):
            last.add(layer.name)
    for layer in order:
        behind = any(draft.layers[source].host for source in layer.inputs)
        if layer.name in last and not layer.host and (behind or _joins(draft, layer)):
            draft.update(layer.name, host=True)
            draft.note(layer.name, "runs on the host, where what it joins has scales of its own")
    _leave(draft, _moves)


def leave_to_host(draft: Draft) -> None:
    """A move, a function of one tensor or plain constants that nothing but host layers read."""

    def light(layer: Layer) -> bool:
        square = isinstance(layer, Mul) and layer.is_square
        return _moves(layer) or isinstance(layer, Affine) or _is_function(layer) or square

    _leave(draft, light)


def _leave(draft: Draft, light: Callable[[Layer], bool]) -> None:
    """To the host what nothing but host layers read, if it is light."""
    for layer in reversed(list(draft.in_order())):
        readers = draft.readers(layer.name)
        if layer.host or not light(layer) or not readers or layer.name in draft.outputs:
            continue
        if all(draft.layers[name].host for name in readers):
            draft.update(layer.name, host=True)
            draft.note(layer.name, "runs on the host, where all its readers run")


def _joins(draft: Draft, layer: Layer) -> bool:
    """Whether the layer puts what different layers have computed into one tensor."""
    return isinstance(layer, Concat) and len(_makers(draft, layer.name)) > 1


def _makers(draft: Draft, name: str) -> set[str]:
    """The nearest layers before a tensor that make numbers, not move them."""
    layer = draft.layers[name]
    if not (_moves(layer) or isinstance(layer, MaxPool | Pad | Resize)):
        return {name}
    return set().union(*(_makers(draft, source) for source in layer.inputs))


def _moves(layer: Layer) -> bool:
    return isinstance(layer, Reshape | Transpose | Slice | Concat)


def _is_function(layer: Layer) -> bool:
    """Whether it is a function of one tensor that does not become another layer's bounds, nor has parameters."""
    return isinstance(layer, Activation) and layer.function not in ("clip", "prelu")


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
