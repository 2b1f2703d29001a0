"""What second-order rounding asks of a layer's inputs X [P, K]: by X^T X, or by few samples without it.

With H = X^T X / P + d I, weights that are not yet rounded take up errors through the upper triangular U with
U^T U = H^-1, rows and columns in the order of rounding. Where samples are no more than half of K, nothing of K x K is
needed: with M = (X_r X_r^T / P + d I)^-1 over the weights r behind a block b of weights, and Y = M X_b,

    (U_bb^T U_bb)^-1 = d (I + X_b^T Y / P),    U_br = -V_b X_r,    V_b = U_bb Y^T / P

which is the matrix inversion lemma; b is then joined to r by M <- M - d P V_b^T V_b. A kernel of 3 x 3 on 512 channels
has 4,608 weights a channel, and 16 images of 7 x 7 show it 784 times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mz.quantize.covariance import chance, damping, second_moments
from mz.quantize.products import product

_BLOCK = 64

TakeUp = Callable[[np.ndarray, slice], None]


@dataclass(frozen=True, slots=True)
class Factor:
    """U, as rounding uses it: a block of weights at a time.

    order: of rounding, int64 [G, K]. within: of a block, U_bb, float64 [G, B, B]. passing: given what is left to round,
    float64 [G, O, K] in this order, the function that has what lies behind a block take up its errors [G, O, B].
    """

    order: np.ndarray
    within: Callable[[slice], np.ndarray]
    passing: Callable[[np.ndarray], TakeUp]


@dataclass(frozen=True, slots=True)
class Moments:
    """moments: X^T X / P, float64 [G, K, K]; d: float64 [G, 1, 1]."""

    moments: np.ndarray
    d: np.ndarray

    @property
    def groups(self) -> int:
        return len(self.moments)

    def weigh(self, rows: np.ndarray) -> np.ndarray:
        """`rows` H, float64 [G, O, K]."""
        return product(rows, self.moments) + self.d * rows

    def factorize(self) -> Factor:
        """What rounding needs, whatever the weights and their scales."""
        order = _falling(np.diagonal(self.moments, axis1=1, axis2=2))
        group, backwards = np.arange(len(order))[:, None, None], order[:, ::-1]
        reversed_ = self.moments[group, backwards[:, :, None], backwards[:, None, :]]
        index = np.arange(order.shape[1])
        reversed_[:, index, index] += self.d[:, 0]
        upper = _inverse_root(reversed_)[:, ::-1, ::-1]

        def passing(rest: np.ndarray) -> TakeUp:
            def take_up(errors: np.ndarray, block: slice) -> None:
                rest[:, :, block.stop :] -= product(errors, upper[:, block, block.stop :])

            return take_up

        return Factor(order, lambda block: upper[:, block, block], passing)


@dataclass(frozen=True, slots=True)
class FewSamples:
    """samples: X, float32 [G, P, K], P no more than half of K; d: float64 [G, 1, 1]."""

    samples: np.ndarray
    d: np.ndarray

    @property
    def groups(self) -> int:
        return len(self.samples)

    def weigh(self, rows: np.ndarray) -> np.ndarray:
        """As `Moments.weigh`."""
        outputs = product(rows, self.samples.transpose(0, 2, 1))
        return product(outputs / self.samples.shape[1], self.samples) + self.d * rows

    def factorize(self) -> Factor:
        """As `Moments.factorize`."""
        count, size = self.samples.shape[1:]
        order, d = _falling(np.square(self.samples, dtype=np.float64).mean(axis=1)), self.d
        seen = np.take_along_axis(self.samples, order[:, None, :], axis=2)
        inverse = np.eye(count) / d
        within: dict[int, np.ndarray] = {}
        passed: dict[int, np.ndarray] = {}
        for block in reversed(blocks(size)):
            x = seen[:, :, block].astype(np.float64)
            y = product(inverse, x)
            schur = d * (np.eye(x.shape[2]) + np.matmul(x.transpose(0, 2, 1), y) / count)
            u = _inverse_root(schur[:, ::-1, ::-1])[:, ::-1, ::-1]
            v = np.matmul(u, y.transpose(0, 2, 1)) / count
            inverse -= product(v.transpose(0, 2, 1) * (d * count), v)
            within[block.start], passed[block.start] = u, v

        def passing(rest: np.ndarray) -> TakeUp:
            outputs = np.zeros((*rest.shape[:2], count))

            def take_up(errors: np.ndarray, block: slice) -> None:
                nonlocal outputs
                outputs += product(errors, passed[block.start])
                following = slice(block.stop, block.stop + _BLOCK)
                rest[:, :, following] += product(outputs, seen[:, :, following])

            return take_up

        return Factor(order, lambda block: within[block.start], passing)


Inputs = Moments | FewSamples


def inputs_of(samples: np.ndarray) -> Inputs:
    """Of `samples`, float32 [G, P, K], what rounding needs in less time."""
    _, count, size = samples.shape
    if 2 * count > size:
        return inputs_by_moments(second_moments(samples), count)
    return FewSamples(samples, _damping(np.square(samples, dtype=np.float64).mean(axis=(1, 2)), count, size))


def inputs_by_moments(moments: np.ndarray, count: int) -> Moments:
    """moments: X^T X / P, float64 [G, K, K]; count: P."""
    diagonal = np.diagonal(moments, axis1=1, axis2=2)
    return Moments(moments, _damping(diagonal.mean(axis=1), count, moments.shape[1]))


def blocks(size: int) -> list[slice]:
    """So many weights are rounded before those behind them take up their errors."""
    return [slice(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK)]


def _damping(power: np.ndarray, count: int, size: int) -> np.ndarray:
    """d [G, 1, 1]; power: the mean of the diagonal of X^T X / P, [G]."""
    return damping(power, chance(count, size))[:, None, None]


def _falling(diagonal: np.ndarray) -> np.ndarray:
    return np.argsort(-diagonal, axis=1, kind="stable")


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
