"""Sparse pruning: the weights of a layer that matter least become zero, and the others make good for them.

With H the covariance of the inputs, the weights with the least w^2 / (H^-1)_kk go, a part of them at a time; after each
part, what is left of every row is the best that it can be: w_S + H_SS^-1 H_SG w_G, S the weights left, G those gone.
Source: Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon" (NeurIPS 1992).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mz.errors import UserError
from mz.graph import Graph, Params, Weighted
from mz.optimize.dead_channels import channel_counts
from mz.optimize.reconstruction import held_out, reconstruct
from mz.quantize import Trial

_ROUNDS = 4
_MOST_ITERATIONS, _TOLERANCE = 200, 1e-14


@dataclass(frozen=True, slots=True)
class SparsityReport:
    """zeros: share of zero weights by layer, as it came out. float_db: mean output SNR against the dense network,
    on images that nothing was fitted to.
    """

    zeros: dict[str, float]
    float_db: float

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def sparsify(
    graph: Graph,
    params: Params,
    images: Mapping[str, np.ndarray],
    shares: Mapping[str, float],
    *,
    seed: int = 0,
) -> tuple[Params, SparsityReport]:
    """Parameters in which `shares` of the weights are zero, by layer; layers after them are fitted to the change.

    images: float32 [N, *shape] by Input layer. Raises UserError for a name that is no layer with weights.
    """
    for name in shares:
        layer = graph.by_name.get(name)
        if not isinstance(layer, Weighted) or layer.host:
            raise UserError(
                f"sparsity: {name} has no weights on the accelerator; select layers that have, as {{conv*}}"
            )
    kept = {name: np.ones(size, dtype=bool) for name, size in channel_counts(graph).items()}

    def zero_out(name: str, rows: np.ndarray, covariance: np.ndarray | None) -> np.ndarray:
        return sparse_rows(rows, covariance, shares[name]) if name in shares else rows

    rng, (images, judges) = np.random.default_rng(seed), held_out(images)
    sparse = reconstruct((graph, params), (graph, params), kept, images, rng, (set(shares), zero_out))
    zeros = {name: round(float((sparse[name]["kernel"] == 0).mean()), 4) for name in shares}
    db = Trial(graph, params, judges).float_db(graph, sparse)
    return sparse, SparsityReport(zeros, round(db, 2))


def sparse_rows(rows: np.ndarray, covariance: np.ndarray | None, share: float) -> np.ndarray:
    """`rows` [G, O, K] with at least `share` zeros. covariance: damped, [G, K, K]; None: the smallest weights go."""
    if covariance is None:
        return np.where(_least(np.abs(rows), share), 0.0, rows)
    slack = np.diagonal(np.linalg.inv(covariance), axis1=1, axis2=2)[:, None]
    found = rows
    for part in np.arange(1, _ROUNDS + 1) / _ROUNDS:
        gone = _least(np.where(found == 0, -1.0, np.square(found) / slack), share * part)
        found = _refit(rows, covariance, ~gone)
    return found


def _refit(rows: np.ndarray, covariance: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The weights nearest to `rows` in the layer's output, zero where not `left`: all rows at once, by conjugate
    gradients over the weights that are left.
    """
    scale = 1 / np.diagonal(covariance, axis1=1, axis2=2)[:, None]
    found = np.where(left, rows, 0.0)
    residual = np.where(left, (rows - found) @ covariance, 0.0)
    step = scale * residual
    size = (residual * step).sum(axis=2, keepdims=True)
    enough = size * _TOLERANCE
    for _ in range(min(rows.shape[2], _MOST_ITERATIONS)):
        active = size > enough
        if not active.any():
            break
        across = np.where(left, step @ covariance, 0.0)
        curvature = (step * across).sum(axis=2, keepdims=True)
        length = np.where(active, size / np.where(curvature > 0, curvature, 1.0), 0.0)
        found += length * step
        residual -= length * across
        turned = scale * residual
        old, size = size, (residual * turned).sum(axis=2, keepdims=True)
        step = turned + np.where(active, size / np.where(old > 0, old, 1.0), 0.0) * step
    return found


def _least(scores: np.ndarray, share: float) -> np.ndarray:
    """Where the smallest `share` of `scores` is, rounded up."""
    count = int(np.ceil(share * scores.size - 1e-9))
    chosen = np.zeros(scores.size, dtype=bool)
    chosen[np.argsort(scores, axis=None, kind="stable")[:count]] = True
    return chosen.reshape(scores.shape)
