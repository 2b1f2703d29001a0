"""One streaming pass of the float network over the calibration set; memory does not grow with the number of images.

A histogram spans [-2^e, 2^e) in a fixed number of bins. A value beyond it doubles the span by merging
neighbouring bins, so no earlier image is ever looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mz.errors import UserError
from mz.graph import Graph
from mz.quantize.visible import Ends, as_seen
from mz.threads import side_by_side

BINS = 8192
_TAPS_BYTES = 192 << 20
_SAMPLES_PER_TENSOR, _SAMPLES_PER_IMAGE = 1 << 18, 1 << 16
_MANY_VALUES = 1 << 25
"""A histogram of so many values is known well; from then on it takes a quarter of the samples."""


class Gatherer(Protocol):
    """What an algorithm wants to know of the tensors of a pass, each float32 [N, *shape], a few images at a time.

    The next images may come in the same memory.
    """

    def update(self, tensors: Mapping[str, np.ndarray]) -> None: ...


class FloatRunner(Protocol):
    """What a calibration pass runs: a float session with the wanted tensors tapped."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


@dataclass(slots=True)
class TensorStatistics:
    """What is known of one tensor: exact extremes, and a histogram of (a regular sample of) its values."""

    low: float = math.inf
    high: float = -math.inf
    exponent: int = -64
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def update(self, values: np.ndarray) -> None:
        """Takes in float32 values [N, ...]. Raises ValueError for one that is not finite."""
        low, high = float(values.min()), float(values.max())
        if not math.isfinite(low) or not math.isfinite(high):
            raise ValueError("not a finite number")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow(max(-low, high))
        flat = values.reshape(-1)
        samples = min(_SAMPLES_PER_TENSOR, _SAMPLES_PER_IMAGE * len(values))
        step = _step(flat.size, samples >> (2 if self.counts.sum() >= _MANY_VALUES else 0))
        # |value| < 2^exponent, and scaling by a power of two is exact: every bin is one of the BINS.
        bins = flat[::step] * np.float32(math.ldexp(BINS // 2, -self.exponent))
        np.floor(bins, out=bins)
        bins += BINS // 2
        # Each sample stands for `step` values: a last, shorter batch weighs no more than its share.
        self.counts += step * np.bincount(bins.astype(np.intp), minlength=BINS)

    def _grow(self, magnitude: float) -> None:
        needed = math.frexp(magnitude)[1] if magnitude > 0 else -64
        if not self.counts.any():
            self.exponent = max(self.exponent, needed)
        for _ in range(needed - self.exponent):
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros_like(self.counts)
            self.counts[BINS // 4 : BINS // 4 + BINS // 2] = merged
            self.exponent += 1

    @property
    def centres(self) -> np.ndarray:
        """Middle of every bin, float64 [BINS]."""
        return (np.arange(BINS) - BINS // 2 + 0.5) * math.ldexp(2 / BINS, self.exponent)


def _step(size: int, samples: int) -> int:
    """Without a common divisor with the size, and so with no axis: all channels and columns are visited in turn."""
    step = max(1, size // samples)
    while math.gcd(step, size) > 1:
        step += 1
    return step


Statistics = dict[str, TensorStatistics]
"""By tensor (layer) name."""


def image_bytes(graph: Graph, names: Collection[str] | None = None) -> int:
    """Size of one image's accelerator tensors in float32, or of those that are named."""
    tensors = (layer for layer in graph.layers if not layer.host and (names is None or layer.name in names))
    return 4 * sum(math.prod(layer.shape) for layer in tensors)


def layer_bytes(graph: Graph) -> list[int]:
    """Size of every layer's inputs and output together for one image in float32."""
    return [
        4 * (math.prod(layer.shape) + sum(math.prod(shape) for shape in graph.input_shapes(layer)))
        for layer in graph.layers
    ]


def in_chunks(
    batch: Mapping[str, np.ndarray], bytes_per_image: int, most: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """The batch cut into even pieces of at most `most` images, so that what the images in one take (so many bytes an
    image) stays below 192 MiB.
    """
    size = len(next(iter(batch.values())))
    largest = max(1, _TAPS_BYTES // max(bytes_per_image, 1))
    pieces = -(-size // (largest if most is None else min(largest, most)))
    for piece in range(pieces):
        start, stop = piece * size // pieces, (piece + 1) * size // pieces
        yield {name: value[start:stop] for name, value in batch.items()}


def collect(
    session: FloatRunner,
    batches: Iterable[Mapping[str, np.ndarray]],
    tensor_bytes: int,
    gatherers: Sequence[Gatherer] = (),
    ends: Mapping[str, Ends] | None = None,
) -> Statistics:
    """Statistics of every tensor that `session` returns, over all batches (float32 [N, *shape] by Input layer).

    gatherers: who else looks at the tensors of this pass. ends: values beyond them, which gatherers see, count as the
    ends in statistics (`scaled_ends`). tensor_bytes: size of all those tensors for one image;
    batches are cut so that they stay below 192 MiB.
    Raises UserError, naming the tensor, where the network gives a number that is not finite, or there is no image.
    """
    statistics: Statistics = {}
    for batch in batches:
        for part in in_chunks(batch, tensor_bytes):
            tensors = session.run(part)
            for gatherer in gatherers:
                gatherer.update(tensors)
            _update(statistics, tensors, ends or {})
    if not statistics:
        raise UserError("the calibration set is empty")
    return statistics


def _update(statistics: Statistics, tensors: Mapping[str, np.ndarray], ends: Mapping[str, Ends]) -> None:
    def one(name: str) -> None:
        try:
            statistics[name].update(as_seen(tensors[name], ends.get(name)))
        except ValueError as error:
            raise UserError(f"layer {name}: the calibration images make it output {error}") from error

    for name in tensors:
        statistics.setdefault(name, TensorStatistics())
    side_by_side(one, tensors)
