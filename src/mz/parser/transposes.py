"""Transposes go behind layers that work value by value, cut or put side by side, where they meet others that undo them.

A network that keeps its channels last in between (ConvNeXt's normalizations, written out) then has no transpose left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mz.graph import Activation, Concat, Elementwise, Layer, Slice, Transpose
from mz.graph.functions import BY_CHANNEL
from mz.parser.draft import Affine, Draft

_COMMON = ("name", "inputs", "shape", "origin", "host")


def sink_transposes(draft: Draft) -> None:
    """f(T x, T y) is T f(x, y) for layers f whose axes, if they have any, are turned too. Done where fewer of them
    are left.
    """
    found = (layer.permutation for layer in draft.layers.values() if isinstance(layer, Transpose))
    for permutation in dict.fromkeys(found):
        for group in _groups(draft, permutation):
            if _saves(draft, group, permutation):
                for layer in [draft.layers[name] for name in group]:
                    if not isinstance(layer, Transpose):
                        _sink(draft, layer, permutation)
    draft.sweep()


def _groups(draft: Draft, permutation: tuple[int, ...]) -> list[list[str]]:
    """Transposes of this permutation and the layers that take what they give in any order, as far as these hang
    together; each in order.
    """
    group_of: dict[str, set[str]] = {}
    order = list(draft.in_order())
    for layer in order:
        starts = isinstance(layer, Transpose) and layer.permutation == permutation and not layer.host
        goes_on = _takes_any_order(layer) and layer.name not in draft.outputs
        if starts or (goes_on and all(source in group_of for source in layer.inputs)):
            joined = {layer.name}.union(*(group_of[source] for source in layer.inputs if not starts))
            group_of.update(dict.fromkeys(joined, joined))
    groups = {id(group): group for group in group_of.values()}.values()
    return [[layer.name for layer in order if layer.name in group] for group in groups]


def _saves(draft: Draft, group: Sequence[str], permutation: tuple[int, ...]) -> bool:
    """Whether the layers of a group, turned back, need fewer transposes behind them than then go."""
    gone, needed = 0, 0
    for name in group:
        readers = [draft.layers[reader] for reader in draft.readers(name) if reader not in group]
        undone = sum(
            isinstance(one, Transpose) and one.permutation == _inverse(permutation) for one in readers
        )
        stays = undone < len(readers) or name in draft.outputs
        if isinstance(draft.layers[name], Transpose):
            gone += not stays
        else:
            gone, needed = gone + undone, needed + stays
    return needed < gone


def _takes_any_order(layer: Layer) -> bool:
    function = isinstance(layer, Activation) and layer.function not in BY_CHANNEL
    return not layer.host and (function or isinstance(layer, Elementwise | Affine | Concat | Slice))


def _inverse(permutation: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(np.argsort(permutation).tolist())


def _sink(draft: Draft, layer: Layer, permutation: tuple[int, ...]) -> None:
    back = _inverse(permutation)
    sources = [draft.layers[source].inputs[0] for source in layer.inputs]
    fields = {
        field.name: getattr(layer, field.name)
        for field in dataclasses.fields(layer)
        if field.name not in _COMMON
    }
    if isinstance(layer, Concat):
        fields["axis"] = permutation[layer.axis]
    if isinstance(layer, Slice):
        fields |= {key: tuple(fields[key][axis] for axis in back) for key in ("starts", "stops", "steps")}
    params = draft.params.pop(layer.name, None)
    turned = params and {key: array.transpose(back) for key, array in params.items()}
    shape = tuple(layer.shape[axis] for axis in back)
    inner = draft.emit(type(layer), sources, shape, layer.origin, turned, **fields)
    transpose = Transpose(
        name="", inputs=(inner,), shape=layer.shape, origin=layer.origin, permutation=permutation
    )
    draft.substitute(layer.name, transpose)
