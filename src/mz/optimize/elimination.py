"""In which order the channels of a group go, what each costs, and what the remaining weights become.

Removing the weights J of a layer's inputs, and letting all others adapt, raises the squared error of its output by
tr(W_J [(H^-1)_JJ]^-1 W_J^T), with H the covariance of its inputs; the others change by -W_J [(H^-1)_JJ]^-1 (H^-1)_J.
Source: Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon" (NeurIPS 1992), for
sets of weights as in Kurtic, Frantar and Alistarh, "ZipLM" (NeurIPS 2023), section 3; here for channels that several
layers share, each layer's error in units of its output's power.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mz.graph import Params
from mz.optimize.moments import Moments
from mz.optimize.pruning_groups import PruningGroup, Use
from mz.optimize.rescaling import by_channel, from_channels
from mz.quantize.covariance import chance, damped

_STEPS = 48
_FEWEST_KEPT = 1 / 8
_TRIAL = 1 / 4


@dataclass(frozen=True, slots=True)
class Elimination:
    """chunks: places in `group.classes`, in the order in which they go. errors: float64 [chunks], of the first, the
    first two, ...: noise over power at the outputs of the layers that read them, summed over those layers.

    trial: kernel and bias of those layers after `trial_chunks` chunks, the columns that went at zero.
    """

    group: PruningGroup
    chunks: tuple[np.ndarray, ...]
    errors: np.ndarray
    trial: Params
    trial_chunks: int


def eliminate(
    group: PruningGroup,
    params: Params,
    moments: Mapping[str, Moments],
    scores: np.ndarray | None = None,
) -> Elimination:
    """scores: float64 [classes]; those with the lowest go first. None lets those go that cost least at each step."""
    readers = [_Reader(use, params, moments[use.layer.name]) for use in group.consumers]
    size = len(group.classes)
    most = size - max(1, round(size * _FEWEST_KEPT))
    step = max(1, -(-size // _STEPS))
    left = np.arange(size)
    chunks: list[np.ndarray] = []
    errors: list[float] = []
    trial: Params = {}
    trial_chunks = 0
    removed, total = 0, 0.0
    while removed < most:
        costs = (
            scores[left] if scores is not None else np.sum([reader.costs(left) for reader in readers], axis=0)
        )
        order = np.argsort(costs, kind="stable")[: min(step, most - removed)]
        chunk, left = left[np.sort(order)], np.delete(left, order)
        total += sum(reader.remove(chunk) for reader in readers)
        removed += len(chunk)
        chunks.append(chunk)
        errors.append(total)
        if not trial and removed >= size * _TRIAL:
            trial, trial_chunks = {r.name: r.arrays() for r in readers}, len(chunks)
    return Elimination(group, tuple(chunks), np.array(errors), trial, trial_chunks)


class _Reader:
    """One layer that sums over the group's channels, as channels are taken away from it."""

    def __init__(self, use: Use, params: Params, moments: Moments) -> None:
        self.name, self.layer, self.old = use.layer.name, use.layer, params[use.layer.name]
        kernel = by_channel(use.layer, self.old["kernel"]).astype(np.float64)
        outputs, channels, taps = kernel.shape
        self.rows, self.mean = kernel.reshape(outputs, channels * taps), moments.mean
        self.start = self.rows.copy()
        covariance = moments.covariance
        if covariance.ndim == 1:
            covariance = np.diag(covariance)
        self.power = float(np.einsum("ok,kl,ol->", self.rows, covariance, self.rows, optimize=True)) or 1.0
        share = chance(moments.count, len(covariance))
        self.inverse = np.linalg.inv(damped(covariance[None], share)[0])
        places = use.inputs[:, :, None] * taps + np.arange(taps)
        self.places = places.reshape(len(places), -1)

    def costs(self, left: np.ndarray) -> np.ndarray:
        places = self.places[left]
        blocks = np.linalg.inv(self.inverse[places[:, :, None], places[:, None, :]])
        rows = self.rows[:, places].transpose(1, 0, 2)
        return np.asarray(np.einsum("noj,noj->n", rows @ blocks, rows) / self.power)

    def remove(self, chunk: np.ndarray) -> float:
        """The error added, as a share of the output's power."""
        places = self.places[chunk].reshape(-1)
        going, across = self.rows[:, places], self.inverse[places]
        taken = np.linalg.solve(across[:, places], np.column_stack([going.T, across]))
        error = float(np.sum(going.T * taken[:, : len(going)]))
        self.rows -= going @ taken[:, len(going) :]
        self.inverse -= across.T @ taken[:, len(going) :]
        self.rows[:, places] = 0
        # What has gone must not come back through rounding errors, and its block stays invertible.
        self.inverse[places], self.inverse[:, places] = 0, 0
        return max(error, 0.0) / self.power

    def arrays(self) -> dict[str, np.ndarray]:
        outputs = len(self.rows)
        kernel = from_channels(
            self.layer, self.rows.reshape(outputs, -1, self._taps()), self.old["kernel"].shape
        )
        bias = self.old["bias"] + (self.start - self.rows) @ self.mean
        return self.old | {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}

    def _taps(self) -> int:
        return int(np.prod(self.old["kernel"].shape[2:], dtype=int))
