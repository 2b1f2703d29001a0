"""Weights that make good what quantization has done to a layer's input, before they are rounded.

With x' the integers that reach a layer and y what the float network's layer gives, both about their means, weights W
become W + a D, with D = (y - W x') x'^T (x' x'^T + r I)^-1: least squares with a ridge. In a sum of two branches the
last layer of the later one also takes up the error of the other.
Sources: He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks" (ICCV 2017), sections 3.1 and
3.2; before second-order rounding, Li et al., "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration"
(ICML 2025). Ours is how far to go: most of the error is noise that no weight can mend, but can be fitted to, so `a` and
`r` are those with which one half of the images makes good most of the error on the other.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mz.quantize.covariance import centred
from mz.quantize.ridge import halved, inputs_by_halves, joined
from mz.quantize.uptake import Inputs, inputs_of
from mz.threads import side_by_side

RIDGES = (1.0, 0.1)
"""Shares of the mean of the diagonal that they are added to; less is tried only where the half of more holds."""

_OUTLIER = 3.0
"""Times a channel's root mean square: a few values that a range clips would outweigh all others."""


def compensated(
    rows: np.ndarray, samples: np.ndarray, wanted: np.ndarray, half: int
) -> tuple[np.ndarray, Inputs]:
    """Weights float64 [G, O, K], and what rounding needs of `samples`.

    rows: float weights, float64 [G, O, K]. samples: what they multiply, float32 [G, P, K] about their mean; wanted:
    what that is to give, but for a constant, float32 [G, P, O]. half: so many samples are of other images than the
    rest. A weight of zero stays zero, so that what pruning has taken out stays out.
    """
    if min(half, samples.shape[1] - half) < 2:
        return rows, inputs_of(samples)
    kernel, errors = rows.transpose(0, 2, 1).astype(np.float32), np.empty_like(wanted)

    def miss(part: slice) -> None:
        np.subtract(wanted[:, part], np.matmul(samples[:, part], kernel), out=errors[:, part])

    side_by_side(miss, (slice(0, half), slice(half, None)))
    halves = halved(samples, _without_outliers(centred(errors)), half)
    present = (rows != 0).transpose(0, 2, 1)

    def on_the_other(here: int, ridge: float) -> tuple[float, float]:
        """What the fit to one half explains of the error on the other, and the power that it adds there."""
        return halves[1 - here].judge(halves[here].fit(ridge) * present)

    most, best = 0.0, (0.0, 0.0)
    for ridge in RIDGES:
        judged = side_by_side(partial(on_the_other, ridge=ridge), (0, 1))
        explained, added = (sum(one) for one in zip(*judged, strict=True))
        share = min(max(explained / added, 0.0), 1.0) if added > 0 else 0.0
        gain = 2 * share * explained - share * share * added
        if gain > most:
            most, best = gain, (share, ridge)
        if share < 0.5:
            break
    inputs, (share, ridge) = inputs_by_halves(halves, samples), best
    if share:
        change = joined(halves, samples, inputs).fit(ridge) * present
        rows = rows + share * change.transpose(0, 2, 1)
    return rows, inputs


def _without_outliers(errors: np.ndarray) -> np.ndarray:
    bound = _OUTLIER * np.sqrt(np.square(errors).mean(axis=1, keepdims=True))
    return centred(np.clip(errors, -bound, bound))
