"""Clips weights in floating point, so that a few large ones do not set the scale of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mz.errors import UserError
from mz.graph import Graph, Params, Weighted

Bounds = tuple[str, float, float]
"""('manual', low, high) in real values or ('percentile', low, high) in percent of the layer's weights."""


@dataclass(frozen=True, slots=True)
class WeightClippingReport:
    """shares: part of the weights that were clipped, by layer, 0..1."""

    shares: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return {"clipped_share": {name: round(share, 6) for name, share in self.shares.items()}}


def clip_weights(
    graph: Graph, params: Params, bounds: Mapping[str, Bounds]
) -> tuple[Graph, Params, WeightClippingReport]:
    """The same graph with clipped kernels. Raises UserError for a layer without weights."""
    clipped = dict(params)
    shares: dict[str, float] = {}
    for name, (mode, low, high) in bounds.items():
        if not isinstance(graph[name], Weighted):
            raise UserError(
                f"layer {name}: has no weights to clip, its kind is {graph[name].kind}; "
                "select layers that have, as {conv*}"
            )
        kernel = params[name]["kernel"]
        if mode == "percentile":
            low, high = (float(edge) for edge in np.percentile(kernel, (low, high)))
        shares[name] = float(((kernel < low) | (kernel > high)).mean())
        clipped[name] = params[name] | {"kernel": np.clip(kernel, low, high).astype(np.float32)}
    return graph, clipped, WeightClippingReport(shares)
