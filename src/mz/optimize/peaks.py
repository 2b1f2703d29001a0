"""Largest values of every channel class on calibration images: what bounds how far a channel may grow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mz.engines.float_ort import tapped_session
from mz.graph import Graph, Params
from mz.optimize.channels import Channels


@dataclass(frozen=True, slots=True)
class Peaks:
    """Of every accelerator tensor, the smallest and the largest value of each place, float32 of the tensor's shape."""

    low: Mapping[str, np.ndarray]
    high: Mapping[str, np.ndarray]

    def by_class(self, channels: Channels, tensor: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The classes in `tensor`, sorted [K], and the smallest and largest value of each, float64 [K]."""
        classes, place = np.unique(channels.classes[tensor], return_inverse=True)
        low, high = np.full(len(classes), np.inf), np.full(len(classes), -np.inf)
        np.minimum.at(low, place.reshape(-1), self.low[tensor].reshape(-1))
        np.maximum.at(high, place.reshape(-1), self.high[tensor].reshape(-1))
        return classes, low, high


def find_peaks(graph: Graph, params: Params, batches: Iterable[Mapping[str, np.ndarray]]) -> Peaks:
    """Runs the float network over all batches (float32 [N, *shape] by Input layer)."""
    inside = [layer.name for layer in graph.layers if not layer.host]
    session = tapped_session(graph, params)
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    for batch in batches:
        found = session.run(batch)
        for name in inside:
            least, most = found[name].min(axis=0), found[name].max(axis=0)
            low[name] = np.minimum(low[name], least) if name in low else least
            high[name] = np.maximum(high[name], most) if name in high else most
    return Peaks(low, high)
