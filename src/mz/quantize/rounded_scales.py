"""Weight scales and second-order rounding together: the scale whose rounded weights keep the layer's output closest.

Clipping the largest weights buys finer steps for the rest. What that does to the output, only the second moments of the
inputs can tell: by the error of the weights alone it looks far better than it is (docs/quantization-evidence.md).

Least squares also shrinks: what rounding loses of a channel's signal is lost in the same direction in every layer, and
adds up along the network, where rounding noise does not. So every scale is finally set to where the integers carry
the whole of the channel's signal.
"""

from __future__ import annotations

import numpy as np

from mz.emulator.numerics import weight_max
from mz.quantize.rounding import round_second_order
from mz.quantize.uptake import Inputs

SHARES = {4: (1.0, 0.9, 0.8, 0.7), 8: (1.0,), 16: (1.0,)}
"""Of the scale of the largest weight, by bits."""

_LEAST_SIGNAL = 0.5
"""Integers that carry a smaller share of a channel's signal are not blown up to carry it all."""


def round_with_scales(
    rows: np.ndarray, scale: np.ndarray, inputs: Inputs, bits: int, *, per_layer: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Integers int64 [G, O, K] and scales float64 [G, O].

    rows: real weights [G, O, K]; scale [G, O]: of the largest weight. per_layer: one scale for all.
    """
    factor, top = inputs.factorize(), weight_max(bits)
    weighed = inputs.weigh(rows)
    signal = (weighed * rows).sum(axis=2)
    best_q, best_scale = np.zeros(rows.shape, np.int64), scale
    best_error = np.full(scale.shape, np.inf)
    for share in SHARES[bits]:
        q = round_second_order(rows, share * scale, factor, top)
        carried = (weighed * q).sum(axis=2)
        power = (inputs.weigh(q.astype(np.float64)) * q).sum(axis=2)
        found = _whole(signal, carried, share * scale, per_layer)
        error = signal - 2 * found * carried + found**2 * power
        if per_layer:
            error[:] = error.sum()
        better = error < best_error
        best_q = np.where(better[:, :, None], q, best_q)
        best_scale = np.where(better, found, best_scale)
        best_error = np.where(better, error, best_error)
    return best_q, best_scale


def _whole(signal: np.ndarray, carried: np.ndarray, scale: np.ndarray, per_layer: bool) -> np.ndarray:
    """The scale [G, O] with which the integers' output has all of the real output in it: s w'Hq = w'Hw."""
    if per_layer:
        signal, carried = np.full_like(signal, signal.sum()), np.full_like(carried, carried.sum())
    enough = (signal > 0) & (scale * carried >= _LEAST_SIGNAL * signal)
    return np.where(enough, signal / np.where(enough, carried, 1.0), scale)
