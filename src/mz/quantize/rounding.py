"""Second-order rounding: each weight's rounding error is made good by the weights not yet rounded.

With H the second moments of a layer's inputs, the squared error of its output is (w - s q)^T H (w - s q) per channel.
Weights are rounded in the order of falling H[k, k]; the rest take up the error through the Cholesky factor of H^-1.
Source: Frantar et al., "GPTQ" (ICLR 2023), section 3, after Frantar and Alistarh, "Optimal Brain Compression" (NeurIPS
2022); here for convolutions in groups, depthwise ones included, all groups at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mz.quantize.covariance import damped
from mz.quantize.products import product

_DAMPING = 0.01
_BLOCK = 64


class Factor(NamedTuple):
    """In which order weights are rounded, int64 [G, K], and what the rest takes up, upper triangular [G, K, K]."""

    order: np.ndarray
    upper: np.ndarray


def factorize(moments: np.ndarray) -> Factor:
    """What rounding needs of second moments [G, K, K], whatever the weights and their scales."""
    diagonal = np.diagonal(moments, axis1=1, axis2=2)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    group = np.arange(len(moments))[:, None]
    backwards = order[:, ::-1]
    reversed_ = damped(moments, _DAMPING)[group[:, :, None], backwards[:, :, None], backwards[:, None, :]]
    return Factor(order, _inverse_root(reversed_)[:, ::-1, ::-1])


def _inverse_root(matrix: np.ndarray) -> np.ndarray:
    """The inverse of the lower triangular L with L L^T = `matrix` [G, K, K], by halves: products, which all processors
    share, and no factor whose inverse would be needed next.
    """
    size = matrix.shape[1]
    if size <= _BLOCK:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(matrix)))
    half, found = size // 2, np.zeros_like(matrix)
    found[:, :half, :half] = first = _inverse_root(matrix[:, :half, :half])
    across = product(matrix[:, half:, :half], first.transpose(0, 2, 1))
    rest = matrix[:, half:, half:] - product(across, across.transpose(0, 2, 1))
    found[:, half:, half:] = second = _inverse_root(rest)
    found[:, half:, :half] = -product(second, product(across, first))
    return found


def round_second_order(rows: np.ndarray, scale: np.ndarray, factor: Factor, top: int) -> np.ndarray:
    """Integers of `rows` that keep the layer's output, rather than its weights, close.

    rows: real weights [G, O, K]; scale [G, O] real values per integer; top: largest magnitude.
    Returns int64 [G, O, K]. Inputs that never vary from zero round to nearest; a weight of zero stays zero, so that
    what pruning has taken out stays out.
    """
    order, upper = factor
    size = rows.shape[2]
    rest = np.take_along_axis(rows, order[:, None, :], axis=2) / scale[:, :, None]
    absent = rest == 0
    q = np.zeros(rest.shape)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        errors = np.zeros((*rest.shape[:2], stop - start))
        for k in range(start, stop):
            nearest = np.clip(np.rint(rest[:, :, k]), -top, top)
            q[:, :, k] = np.where(absent[:, :, k], 0.0, nearest)
            error = (rest[:, :, k] - q[:, :, k]) / upper[:, k, k, None]
            rest[:, :, k + 1 : stop] -= error[:, :, None] * upper[:, None, k, k + 1 : stop]
            errors[:, :, k - start] = error
        rest[:, :, stop:] -= product(errors, upper[:, start:stop, stop:])
    restored = np.empty_like(q)
    np.put_along_axis(restored, np.broadcast_to(order[:, None, :], q.shape), q, axis=2)
    return restored.astype(np.int64)
