"""Counts the integers that the ends of a tensor's range clipped: too small a range shows here, layer by layer.

A layer runs with bounds so wide that they clip nothing which matters, is counted, and clipped then: the integers are
the same. What sits on a bound without having passed it is not counted, nor what a fused ReLU or Clip takes away, which
is the layer's function. Tables hold clipped integers, and layers that only move integers clip none: neither is counted.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mz.emulator.constants import (
    AverageConstants,
    Constants,
    LinearConstants,
    MatrixConstants,
    PreluSumConstants,
    ProductConstants,
    SumConstants,
)
from mz.emulator.kernels import run_kernel
from mz.emulator.numerics import FLOAT32_EXACT
from mz.graph import Layer, Quantization, TensorQuant
from mz.graph.layers import UNBOUNDED

Array = np.ndarray

_CLIPPING = (
    LinearConstants | AverageConstants | SumConstants | PreluSumConstants | ProductConstants | MatrixConstants
)


@dataclass(frozen=True, slots=True)
class Clipped:
    """Of one layer's output integers: how many there were, and how many came from below 0 and above 2^bits - 1."""

    total: int = 0
    low: int = 0
    high: int = 0

    @property
    def share(self) -> float:
        """The clipped part, 0 .. 1."""
        return (self.low + self.high) / self.total if self.total else 0.0


class Saturation:
    """Counters by layer; several threads may count."""

    def __init__(self, quantization: Quantization) -> None:
        self.layers: dict[str, Clipped] = {}
        self._quantization = quantization
        self._lock = threading.Lock()

    def run(self, layer: Layer, constants: Constants, inputs: Sequence[Array]) -> Array:
        """`run_kernel`, counted."""
        if not isinstance(constants, _CLIPPING):
            return run_kernel(layer, constants, inputs)
        wide = dataclasses.replace(constants, low=-FLOAT32_EXACT, high=FLOAT32_EXACT)
        value = run_kernel(layer, wide, inputs)
        q, clip = self._quantization.tensors[layer.name], getattr(layer, "clip", UNBOUNDED)
        real = [bound / float(q.scale) + q.zero_point for bound in clip]
        bounds = (
            constants.low if real[0] < -0.5 else -np.inf,
            constants.high if real[1] > q.q_max + 0.5 else np.inf,
        )
        self._count(layer.name, value, *bounds)
        return np.clip(value, constants.low, constants.high)

    def count_input(self, name: str, x: Array, quant: TensorQuant) -> None:
        """Counts the real values that an input's integers cannot hold."""
        with np.errstate(over="ignore"):
            steps = np.rint(np.asarray(x, np.float32) / np.float32(quant.scale))
        self._count(name, steps, -quant.zero_point, quant.q_max - quant.zero_point)

    def _count(self, name: str, value: Array, low: float, high: float) -> None:
        below, above = int((value < low).sum()), int((value > high).sum())
        with self._lock:
            old = self.layers.get(name, Clipped())
            self.layers[name] = Clipped(old.total + value.size, old.low + below, old.high + above)
