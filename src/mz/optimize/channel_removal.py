"""Takes channels out of a network: every tensor, kernel and bias that holds one gets smaller."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mz.graph import Conv, Deconv, Dense, Graph, Layer, Params, Slice, Weighted
from mz.optimize.channels import Channels, compact


def remove_channels(
    graph: Graph, params: Params, channels: Channels, removed: np.ndarray
) -> tuple[Graph, Params]:
    """The network without the classes that `removed` (bool by class) marks; what they contributed is lost.

    channels: `channel_classes(graph, "removal")`. Raises ValueError for a fixed class, or where a tensor would end up
    without channels.
    """
    if (removed & channels.fixed).any():
        raise ValueError("a fixed channel cannot be removed")
    kept = {
        name: np.broadcast_to(~removed[compact(classes)], classes.shape)
        for name, classes in channels.classes.items()
    }
    changes: dict[str, Layer] = {}
    new_params = dict(params)
    for layer in graph.layers:
        if layer.host or all(compact(kept[name]).all() for name in (layer.name, *layer.inputs)):
            continue
        changes[layer.name] = dataclasses.replace(layer, **_fields(layer, kept))
        if layer.name in params:
            new_params[layer.name] = _params(layer, params[layer.name], kept)
    return graph.replace(changes), new_params


def _fields(layer: Layer, kept: dict[str, np.ndarray]) -> dict[str, Any]:
    fields: dict[str, Any] = {"shape": _shape(layer, kept[layer.name])}
    if isinstance(layer, Conv | Deconv) and _depthwise(layer, kept):
        fields["groups"] = int(_along(kept[layer.inputs[0]], 0).sum())
    if isinstance(layer, Slice):
        fields |= _bounds(layer, kept[layer.inputs[0]])
    return fields


def _shape(layer: Layer, kept: np.ndarray) -> tuple[int, ...]:
    shape = tuple(int(_along(kept, axis).sum()) for axis in range(kept.ndim))
    if np.prod(shape) != kept.sum() or 0 in shape:
        raise ValueError(f"layer {layer.name!r}: {list(kept.shape)} cannot lose those channels")
    return shape


def _along(kept: np.ndarray, axis: int) -> np.ndarray:
    """Which places of an axis keep anything."""
    return np.asarray(kept.any(axis=tuple(a for a in range(kept.ndim) if a != axis)))


def _depthwise(layer: Conv | Deconv, kept: dict[str, np.ndarray]) -> bool:
    return 1 < layer.groups == len(kept[layer.inputs[0]])


def _bounds(layer: Slice, kept: np.ndarray) -> dict[str, Any]:
    starts, stops = list(layer.starts), list(layer.stops)
    for axis, step in enumerate(layer.steps):
        along = _along(kept, axis)
        if not along.all():
            taken = np.arange(len(along))[layer.starts[axis] : layer.stops[axis] : step]
            place = (np.cumsum(along) - 1)[taken[along[taken]]]
            if (np.diff(place) != step).any():
                raise ValueError(f"layer {layer.name!r}: its stride {step} would no longer be even")
            starts[axis], stops[axis] = int(place[0]), int(place[-1]) + 1
    return {"starts": tuple(starts), "stops": tuple(stops)}


def _params(layer: Layer, old: dict[str, np.ndarray], kept: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not isinstance(layer, Weighted):  # the slopes of a PReLU
        return {key: value[_along(kept[layer.name], 0)] for key, value in old.items()}
    axis = kept[layer.name].ndim - 1 if isinstance(layer, Dense) else 0
    outputs, inputs = _along(kept[layer.name], axis), _along(kept[layer.inputs[0]], axis)
    new = {key: value[outputs] for key, value in old.items() if key != "kernel"}
    kernel = old["kernel"]
    if isinstance(layer, Conv | Deconv) and layer.groups > 1:
        if _depthwise(layer, kept):
            kernel = kernel[inputs if isinstance(layer, Deconv) else outputs]
    else:
        first, second = (inputs, outputs) if isinstance(layer, Deconv) else (outputs, inputs)
        kernel = kernel[first][:, second]
    return new | {"kernel": kernel}
