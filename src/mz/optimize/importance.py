"""How much each channel of a group matters, by the measures of the literature; the one that matters least goes first.

l1, l2: norm of the weights that make the channel. Source: Li et al., "Pruning Filters for Efficient ConvNets" (ICLR
2017), section 3.1. energy: power that the channel brings into the layers that read it, variance times squared weights.
taylor: what its weights do to the outputs, see `taylor`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mz.graph import Params
from mz.optimize.moments import Moments
from mz.optimize.pruning_groups import PruningGroup
from mz.optimize.rescaling import by_channel


def channel_scores(
    group: PruningGroup,
    params: Params,
    moments: Mapping[str, Moments],
    importance: str,
    taylor: Mapping[str, np.ndarray],
) -> np.ndarray | None:
    """float64 [classes]; None for "reconstruction", whose costs change as channels go (see `elimination`).

    taylor: `taylor_scores`, where that is the importance.
    """
    if importance == "reconstruction":
        return None
    if importance == "taylor":
        return np.sum([taylor[use.layer.name][use.outputs].sum(axis=1) for use in group.producers], axis=0)
    if importance == "energy":
        return _energy(group, params, moments)
    order = {"l1": 1, "l2": 2}[importance]
    total = np.zeros(len(group.classes))
    for use in group.producers:
        kernel = by_channel(use.layer, params[use.layer.name]["kernel"])
        norms = np.linalg.norm(kernel.reshape(len(kernel), -1).astype(np.float64), ord=order, axis=1)
        total += norms[use.outputs].sum(axis=1) / (norms.mean() or 1.0)
    return total


def _energy(group: PruningGroup, params: Params, moments: Mapping[str, Moments]) -> np.ndarray:
    total = np.zeros(len(group.classes))
    for use in group.consumers:
        covariance = moments[use.layer.name].covariance
        variance = covariance if covariance.ndim == 1 else np.diagonal(covariance)
        kernel = by_channel(use.layer, params[use.layer.name]["kernel"]).astype(np.float64)
        power = np.square(kernel).sum(axis=0) * variance.reshape(kernel.shape[1:])
        channel = power.sum(axis=1)
        total += channel[use.inputs].sum(axis=1) / (channel.sum() or 1.0)
    return total
