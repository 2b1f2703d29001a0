"""Largest values of every channel class on calibration images: what bounds how far a channel may grow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mz.engines.float_ort import TappedSession
from mz.graph import Graph, Params
from mz.optimize.channels import Channels, channel_classes, compact
from mz.threads import side_by_side


@dataclass(frozen=True, slots=True)
class Peaks:
    """Of every accelerator tensor, the smallest and the largest value of each place, float32 of the tensor's shape: of
    length 1 along an axis where all places are of one channel class.
    """

    low: Mapping[str, np.ndarray]
    high: Mapping[str, np.ndarray]

    def by_class(self, channels: Channels, tensor: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The classes in `tensor`, sorted [K], and the smallest and largest value of each, float64 [K]."""
        classes, place = np.unique(compact(channels.classes[tensor]), return_inverse=True)
        low, high = np.full(len(classes), np.inf), np.full(len(classes), -np.inf)
        np.minimum.at(low, place.reshape(-1), self.low[tensor].reshape(-1))
        np.maximum.at(high, place.reshape(-1), self.high[tensor].reshape(-1))
        return classes, low, high

    def merged(self, other: Peaks) -> Peaks:
        """The peaks of both sets of images."""
        return Peaks(
            {name: np.minimum(low, other.low[name]) for name, low in self.low.items()},
            {name: np.maximum(high, other.high[name]) for name, high in self.high.items()},
        )


class PeakGatherer:
    """Gathers peaks in a pass over images (`mz.quantize.collect`)."""

    def __init__(self, graph: Graph) -> None:
        classes = channel_classes(graph, "scale").classes
        self._same = {name: _same_axes(places) for name, places in classes.items()}
        self.peaks = Peaks({}, {})

    def update(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes in tensors [N, *shape] by layer."""

        def ends(name: str) -> tuple[np.ndarray, np.ndarray]:
            x, axes = tensors[name], self._same[name]
            return x.min(axis=axes, keepdims=True)[0], x.max(axis=axes, keepdims=True)[0]

        lows, highs = zip(*side_by_side(ends, self._same), strict=True)
        new = Peaks(dict(zip(self._same, lows, strict=True)), dict(zip(self._same, highs, strict=True)))
        self.peaks = self.peaks.merged(new) if self.peaks.low else new


def _same_axes(classes: np.ndarray) -> tuple[int, ...]:
    """The axes of a batch of tensors along which every place has the same class, that of the images among them."""
    return (0, *(axis for axis, stride in enumerate(classes.strides, start=1) if stride == 0))


def find_peaks(graph: Graph, params: Params, batches: Iterable[Mapping[str, np.ndarray]]) -> Peaks:
    """Runs the float network over all batches (float32 [N, *shape] by Input layer)."""
    session, gatherer = TappedSession(graph, params), PeakGatherer(graph)
    for batch in batches:
        gatherer.update(session.run(batch))
    return gatherer.peaks
