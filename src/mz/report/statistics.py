"""How sure a measured accuracy is, and how far two outputs are apart. Shares and differences are in % (points).

E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927) 209-212.
R. G. Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired data,
Statistics in Medicine 17 (1998) 2635-2650: method 10.
B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: percentile intervals.
"""

from __future__ import annotations

import math

import numpy as np

Z95 = 1.959963984540054
"""The standard normal quantile of a two-sided 95 % interval."""


def wilson_interval(correct: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval in % for `correct` of `n` > 0; it always holds 100 * correct / n."""
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"{correct} of {n} is no share")
    share = correct / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if correct == 0 else (centre - spread) / scale
    high = 1.0 if correct == n else (centre + spread) / scale
    return 100 * low, 100 * high


def paired_difference(
    correct_a: np.ndarray, correct_b: np.ndarray, z: float = Z95
) -> tuple[float, float, float]:
    """Accuracy of a minus accuracy of b on the same images, and Newcombe's interval: (difference, low, high) in points.

    correct_a, correct_b: bool [N], the same images in the same order. Images that both get right or both wrong
    narrow the interval: it says how sure the difference is, not how sure the accuracies are.
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"no pairs: {a.shape} and {b.shape}")
    n = a.size
    both, only_a, only_b = int(np.sum(a & b)), int(np.sum(a & ~b)), int(np.sum(~a & b))
    neither = n - both - only_a - only_b
    share_a, share_b = (both + only_a) / n, (both + only_b) / n
    low_a, high_a = (bound / 100 for bound in wilson_interval(both + only_a, n, z))
    low_b, high_b = (bound / 100 for bound in wilson_interval(both + only_b, n, z))
    phi = _correlation(both, only_a, only_b, neither)
    below = _hypotenuse(share_a - low_a, high_b - share_b, phi)
    above = _hypotenuse(high_a - share_a, share_b - low_b, phi)
    difference = (only_a - only_b) / n
    return 100 * difference, 100 * (difference - below), 100 * (difference + above)


def _correlation(both: int, only_a: int, only_b: int, neither: int) -> float:
    """Newcombe's phi of the two-by-two table, with his continuity correction where it is positive."""
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins == 0:
        return 0.0
    product = float(both * neither - only_a * only_b)
    if product > 0:
        product = max(product - (both + only_a + only_b + neither) / 2, 0.0)
    return product / math.sqrt(margins)


def _hypotenuse(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))


RESAMPLES = 1000
"""How often the images are drawn anew for a metric that is no share of images."""


def resampling_weights(count: int, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each of `count` images is drawn, with replacement, in each resample: float32 [resamples, count].

    The same for the same count, so that two networks judged on the same images are compared in pairs.
    """
    rng = np.random.default_rng(0)
    return rng.multinomial(count, np.full(count, 1 / count), resamples).astype(np.float32)


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of a metric's values over the resamples; undefined ones (NaN) are left out."""
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def share_interval(parts: np.ndarray, wholes: np.ndarray) -> tuple[float, float]:
    """95 % interval in % of sum(parts) / sum(wholes) over images, float [N] each, 0 <= parts <= wholes, wholes > 0.

    Wilson's where each image counts wholly or not at all; otherwise percentiles over resampled images.
    """
    if np.all((parts == 0) | (parts == wholes)):
        return wilson_interval(round(len(parts) * parts.sum() / wholes.sum()), len(parts))
    weights = resampling_weights(len(parts))
    return percentile_interval(100 * (weights @ parts) / (weights @ wholes))


_BLOCK = 1 << 13
"""Values in float64 at a time: they stay in the processor's caches, and too few for BLAS to wake its threads for."""


class SnrMeter:
    """Signal-to-noise ratio of a test signal against its reference, summed up over any number of updates."""

    def __init__(self) -> None:
        self._signal = 0.0
        self._noise = 0.0

    def update(self, reference: np.ndarray, test: np.ndarray) -> None:
        """Take in two arrays of one shape; their squares are summed in float64."""
        if reference.shape != test.shape:
            raise ValueError(f"shapes {reference.shape} and {test.shape} differ")
        one, other = np.asarray(reference).reshape(-1), np.asarray(test).reshape(-1)
        for start in range(0, one.size, _BLOCK):
            wanted = one[start : start + _BLOCK].astype(np.float64)
            error = wanted - other[start : start + _BLOCK].astype(np.float64)
            self._signal += float(wanted @ wanted)
            self._noise += float(error @ error)

    @property
    def share(self) -> float:
        """sum (ref - test)^2 / sum ref^2: nan where the reference is nothing but zeros."""
        return self._noise / self._signal if self._signal > 0 else math.nan

    @property
    def db(self) -> float:
        """10 log10(sum ref^2 / sum (ref - test)^2): inf without any error, nan before any update of non-zeros,
        -inf for an error against a reference of zeros."""
        if self._noise == 0:
            return math.inf if self._signal > 0 else math.nan
        return 10 * (math.log10(self._signal) - math.log10(self._noise)) if self._signal > 0 else -math.inf
