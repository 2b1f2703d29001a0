"""Second-order rounding: each weight's rounding error is made good by the weights not yet rounded.

With H the second moments of a layer's inputs, the squared error of its output is (w - s q)^T H (w - s q) per channel.
Weights are rounded in the order of falling H[k, k]; the rest take up the error through the Cholesky factor of H^-1.
Source: Frantar et al., "GPTQ" (ICLR 2023), section 3, after Frantar and Alistarh, "Optimal Brain Compression" (NeurIPS
2022); here for convolutions in groups, depthwise ones included, all groups at once.
"""

from __future__ import annotations

import numpy as np

from mz.quantize.uptake import Factor, blocks


def round_second_order(rows: np.ndarray, scale: np.ndarray, factor: Factor, top: int) -> np.ndarray:
    """Integers of `rows` that keep the layer's output, rather than its weights, close.

    rows: real weights [G, O, K]; scale [G, O] real values per integer; top: largest magnitude.
    Returns int64 [G, O, K]. Inputs that never vary from zero round to nearest; a weight of zero stays zero, so that
    what pruning has taken out stays out.
    """
    order = factor.order
    rest = np.take_along_axis(rows, order[:, None, :], axis=2) / scale[:, :, None]
    q = np.empty_like(rest)
    take_up = factor.passing(rest)
    absent = rest == 0
    for block in blocks(rows.shape[2]):
        q[:, :, block], errors = _round_block(
            rest[:, :, block], absent[:, :, block], factor.within(block), top
        )
        take_up(errors, block)
    restored = np.empty_like(q)
    np.put_along_axis(restored, np.broadcast_to(order[:, None, :], q.shape), q, axis=2)
    return restored.astype(np.int64)


def _round_block(
    rest: np.ndarray, absent: np.ndarray, upper: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Integers of a block of weights and what those behind it take up: [G, O, B] all, `upper` [G, B, B]."""
    # Channels side by side in memory: a weight of each is rounded at a time.
    left, absent = (np.ascontiguousarray(x.transpose(0, 2, 1)) for x in (rest, absent))
    q = np.empty_like(left)
    for k in range(left.shape[1]):
        q[:, k] = np.where(absent[:, k], 0.0, np.clip(np.rint(left[:, k]), -top, top))
        left[:, k] = (left[:, k] - q[:, k]) / upper[:, k, k, None]
        left[:, k + 1 :] -= upper[:, k, k + 1 :, None] * left[:, k, None]
    return q.transpose(0, 2, 1), np.ascontiguousarray(left.transpose(0, 2, 1))
