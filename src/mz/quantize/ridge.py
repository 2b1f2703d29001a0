"""Ridge regression of what a layer's output lacks on what the layer multiplies, by the smaller of two equal systems.

With X [P, K] and E [P, O] the samples, (X^T X / P + r m I)^-1 X^T E / P, m the mean of the diagonal of X^T X / P, is
X^T (X X^T / K + r m P / K I)^-1 E / K: K equations or P. A kernel of 3 x 3 on 512 channels has 4,608 weights a channel,
and 16 images of 7 x 7 show it 784 times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mz.quantize.covariance import correlation, damped, second_moments
from mz.quantize.uptake import Inputs, Moments, inputs_by_moments, inputs_of
from mz.threads import side_by_side


@dataclass(frozen=True, slots=True)
class ByWeights:
    """moments: X^T X / P, float64 [G, K, K]; crossed: X^T E / P, float64 [G, K, O]; count: P."""

    moments: np.ndarray
    crossed: np.ndarray
    count: int

    def fit(self, ridge: float) -> np.ndarray:
        """float64 [G, K, O]. ridge: as a share of the mean of the diagonal of the moments."""
        return np.asarray(np.linalg.solve(damped(self.moments, ridge), self.crossed))

    def judge(self, found: np.ndarray) -> tuple[float, float]:
        """What `found` [G, K, O] explains of E, and the power that it adds: sums of X D E / P and of (X D)^2 / P."""
        added = (found * np.matmul(self.moments, found)).sum()
        return float((found * self.crossed).sum()), float(added)


@dataclass(frozen=True, slots=True)
class BySamples:
    """samples: X, float32 [G, P, K]; errors: E, float32 [G, P, O]; products: X X^T / K, float64 [G, P, P]."""

    samples: np.ndarray
    errors: np.ndarray
    products: np.ndarray

    def fit(self, ridge: float) -> np.ndarray:
        """As `ByWeights.fit`."""
        count, size = self.samples.shape[1:]
        shares = np.linalg.solve(damped(self.products, ridge * count / size), self.errors / np.float64(size))
        return np.matmul(self.samples.transpose(0, 2, 1), shares.astype(np.float32)).astype(np.float64)

    def judge(self, found: np.ndarray) -> tuple[float, float]:
        """As `ByWeights.judge`."""
        made = np.matmul(self.samples, found.astype(np.float32))
        explained, added = (np.multiply(made, one, dtype=np.float64).sum() for one in (self.errors, made))
        return float(explained / self.count), float(added / self.count)

    @property
    def count(self) -> int:
        return self.samples.shape[1]


Regression = ByWeights | BySamples


def halved(samples: np.ndarray, errors: np.ndarray, half: int) -> list[Regression]:
    """A regression on the first `half` of the samples and one on the rest.

    samples: float32 [G, P, K]; errors: float32 [G, P, O].
    """

    def regression(part: slice) -> Regression:
        x, e = samples[:, part], errors[:, part]
        if _enough(samples):
            return ByWeights(second_moments(x), correlation(x, e), x.shape[1])
        return BySamples(x, e, second_moments(x.transpose(0, 2, 1)))

    return side_by_side(regression, (slice(0, half), slice(half, None)))


def joined(halves: Sequence[Regression], samples: np.ndarray, inputs: Inputs) -> Regression:
    """The regression on all `samples`, of which `halves` were made; inputs: by `inputs_by_halves`."""
    if isinstance(inputs, Moments) and _enough(samples):
        return ByWeights(inputs.moments, _average(halves, "crossed"), samples.shape[1])
    errors = np.concatenate([half.errors for half in halves if isinstance(half, BySamples)], axis=1)
    if isinstance(inputs, Moments) and samples.shape[1] >= samples.shape[2]:
        return ByWeights(inputs.moments, correlation(samples, errors), samples.shape[1])
    return BySamples(samples, errors, second_moments(samples.transpose(0, 2, 1)))


def inputs_by_halves(halves: Sequence[Regression], samples: np.ndarray) -> Inputs:
    """What rounding needs of all `samples`, of which `halves` were made."""
    if _enough(samples):
        return inputs_by_moments(_average(halves, "moments"), samples.shape[1])
    return inputs_of(samples)


def _enough(samples: np.ndarray) -> bool:
    """Whether a half of the samples is no less than there are weights, so that halves are `ByWeights`."""
    return samples.shape[1] >= 2 * samples.shape[2]


def _average(halves: Sequence[Regression], name: str) -> np.ndarray:
    return np.average(
        [getattr(half, name) for half in halves], axis=0, weights=[half.count for half in halves]
    )
