"""What quantization adds to a graph: integers, scales and zero points, by tensor and by layer.

Real value of an activation = scale * (q - zero_point), q unsigned; of a weight = scale[channel] * q, q signed and
symmetric; of a bias = s_x * s_w[channel] * q. Scales are float32 values throughout: no stage may widen them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mz.errors import UserError

BITS = (4, 8, 16)


@dataclass(frozen=True, slots=True)
class Precision:
    """Bits of a layer's output activations and of its weights; written `a8_w4`."""

    activation_bits: int = 8
    weight_bits: int = 8

    @property
    def above_8_bits(self) -> bool:
        """Whether both are more than 8."""
        return min(self.activation_bits, self.weight_bits) > 8

    def __str__(self) -> str:
        return f"a{self.activation_bits}_w{self.weight_bits}"

    @staticmethod
    def parse(text: str) -> Precision:
        """`a8_w4` -> Precision(8, 4). Raises UserError for anything else."""
        match = re.fullmatch(r"a(4|8|16)_w(4|8|16)", text)
        if not match:
            raise UserError(
                f"precision {text!r} is not of the form a<bits>_w<bits> with bits 4, 8 or 16, as in a8_w4"
            )
        return Precision(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class TensorQuant:
    """An activation tensor: unsigned `bits`-bit integers, one float32 scale, one zero point."""

    scale: np.float32
    zero_point: int
    bits: int

    @property
    def q_max(self) -> int:
        return (1 << self.bits) - 1

    @property
    def carrier(self) -> type[np.unsignedinteger[Any]]:
        """The narrowest type that holds the integers: uint8 of up to 8 bits, uint16 above."""
        return np.uint8 if self.bits <= 8 else np.uint16

    @property
    def reach(self) -> int:
        """The largest magnitude of an integer less the zero point."""
        return max(self.zero_point, self.q_max - self.zero_point)

    @property
    def real_range(self) -> tuple[float, float]:
        """The real values of the smallest and the largest integer."""
        scale = float(self.scale)
        return scale * -self.zero_point, scale * (self.q_max - self.zero_point)

    def dequantize(self, q: np.ndarray) -> np.ndarray:
        """Integers of any shape -> float32 of the same shape."""
        return (q.astype(np.int32) - self.zero_point).astype(np.float32) * self.scale


@dataclass(frozen=True, slots=True)
class WeightQuant:
    """A weighted layer's integers.

    kernel: int8 for up to 8 bits, else int16, in the layout of the float kernel, |q| <= 2^(bits-1) - 1.
    scale: float32 [O], one value per output channel (all alike where the hw_arch has one scale a layer).
    bias: int64 [O], in the scale s_x * scale[o].
    """

    kernel: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    bits: int


@dataclass
class Quantization:
    """Every accelerator tensor's `TensorQuant` and every weighted layer's `WeightQuant`, by layer name."""

    tensors: dict[str, TensorQuant] = field(default_factory=dict)
    weights: dict[str, WeightQuant] = field(default_factory=dict)

    def layer_precision(self, name: str) -> Precision:
        """Bits of the layer's output and, where it has weights, of its weights (else those of the output)."""
        activation_bits = self.tensors[name].bits
        weight = self.weights.get(name)
        return Precision(activation_bits, weight.bits if weight else activation_bits)
