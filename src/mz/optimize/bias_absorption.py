"""Bias absorption: the part of a channel that is always there moves into the next layer's bias, out of the range.

A channel that never falls below a > 0 under its ReLU spends integers on [0, a]. x - a instead of x leaves them to the
rest, and W a joins the next bias. Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction" (ICCV 2019), section 4.1.3; there a comes from batch normalization, here from calibration images.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from mz.graph import Conv, Dense, Graph, Layer, Params, Weighted
from mz.optimize.peaks import Peaks
from mz.optimize.rescaling import by_channel, clip_bounds, from_channels, input_channels

_LEAST_SHARE = 1 / 64
"""Of the layer's range: what is less would not move an integer."""
_REACHED = 1e-5


@dataclass(frozen=True, slots=True)
class AbsorptionReport:
    """layers: channels whose lowest value was absorbed, by the layer that makes them."""

    layers: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        return {"layers": dict(self.layers)}


def absorb_bias(graph: Graph, params: Params, peaks: Peaks) -> tuple[Graph, Params, Peaks, AbsorptionReport]:
    """The same function, with the lowest value of channels absorbed where every reader is linear and without padding.

    peaks: of the float network on calibration images; those of the new network are returned. A channel that reaches
    its upper bound b as well is stretched to [0, b], so that integers may still clip all channels at one number.
    """
    absorbed = {key: dict(arrays) for key, arrays in params.items()}
    low, high = dict(peaks.low), dict(peaks.high)
    changes: dict[str, Layer] = {}
    found: dict[str, int] = {}
    for layer in graph.layers:
        if not _has_floor(graph, layer):
            continue
        assert isinstance(layer, Weighted)
        arrays = absorbed[layer.name]
        places = tuple(range(1, len(layer.shape)))
        least, most = low[layer.name].min(axis=places), high[layer.name].max(axis=places)
        shift = np.where(least > _LEAST_SHARE * most.max(), least, 0.0).astype(np.float64)
        top = layer.clip[1]
        stretch = np.ones(len(shift))
        reached = (shift > 0) & (most >= top * (1 - _REACHED)) & (top - shift > 0)
        stretch[reached] = top / (top - shift[reached])
        if not shift.any():
            continue
        found[layer.name] = int((shift > 0).sum())
        bounds = clip_bounds(layer, arrays)
        arrays["kernel"] = _stretched(layer, arrays["kernel"], stretch)
        arrays["bias"] = ((arrays["bias"] - shift) * stretch).astype(np.float32)
        for key, bound in zip(("clip_low", "clip_high"), bounds, strict=True):
            arrays[key] = ((bound - shift) * stretch).astype(np.float32)
        changes[layer.name] = dataclasses.replace(layer, clip_by_channel=True)
        for values in (low, high):
            shape = (-1,) + (1,) * (values[layer.name].ndim - 1)
            values[layer.name] = (values[layer.name] - shift.reshape(shape)) * stretch.reshape(shape)
        for reader in graph.consumers[layer.name]:
            assert isinstance(reader, Weighted)
            _hand_on(reader, absorbed[reader.name], shift, stretch)
    return graph.replace(changes), absorbed, Peaks(low, high), AbsorptionReport(found)


def _has_floor(graph: Graph, layer: Layer) -> bool:
    """Whether the layer clips at 0 from below, and every reader can take up a constant exactly."""
    if layer.host or not isinstance(layer, Weighted) or layer.clip[0] != 0 or layer.clip_by_channel:
        return False
    readers = graph.consumers[layer.name]
    return (
        bool(readers)
        and layer.name not in graph.outputs
        and (len(layer.shape) == 1 or not isinstance(layer, Dense))
        and all(_takes_constants(reader) for reader in readers)
    )


def _takes_constants(reader: Layer) -> bool:
    if reader.host:
        return False
    return isinstance(reader, Dense) or (isinstance(reader, Conv) and not any(reader.pads))


def _stretched(layer: Weighted, kernel: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    rows = by_channel(layer, kernel) * stretch[:, None, None]
    return from_channels(layer, rows, kernel.shape).astype(np.float32)


def _hand_on(reader: Weighted, arrays: dict[str, np.ndarray], shift: np.ndarray, stretch: np.ndarray) -> None:
    """Lets a reader of (x - shift) * stretch give what it gave for x."""
    rows = by_channel(reader, arrays["kernel"]).astype(np.float64)
    places = input_channels(reader, len(shift))
    arrays["bias"] = (arrays["bias"] + (rows.sum(axis=2) * shift[places]).sum(axis=1)).astype(np.float32)
    kernel = from_channels(reader, rows / stretch[places][:, :, None], arrays["kernel"].shape)
    arrays["kernel"] = kernel.astype(np.float32)
